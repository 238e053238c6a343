"""The calls to the parameter server (runtime/schema/server.proto): tried again for a while,
by turns with each server, and ended by `abort`."""

import hashlib
import ipaddress
import threading
import time

import grpc

from .errors import Error, PeerError, FAILED
from .files import read_file
from .schema import server_pb2 as wire

PROTOCOL = 2  # of the talk, as kServerProtocol of the native runtime
RETRY_SECONDS = 30.0
IDLE_SECONDS = 60.0
SERVER_NAME = "tombolo-server"
_CHUNK = 1 << 20
_MOST_MESSAGE = 4 << 20
_CALL_SECONDS = 20.0
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED,
              grpc.StatusCode.CANCELLED}


def _is_local(address):
    if address.startswith("unix:"):
        return len(address) > 5
    host = address.rpartition(":")[0]
    try:
        return host in ("localhost", "[::1]") or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False


def _connect(address, tls, impatient):
    if not tls and not _is_local(address):
        raise Error(f"server address '{address}': expected a loopback address with a port or "
                    "unix:PATH, or certificates")
    keepalive = 3000 if impatient else 20000
    options = [
        ("grpc.max_receive_message_length", _MOST_MESSAGE),
        ("grpc.keepalive_time_ms", keepalive), ("grpc.keepalive_timeout_ms", keepalive),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000 if impatient else 2000),
        ("grpc.enable_http_proxy", 0)]
    if impatient:
        options.append(("grpc.min_reconnect_backoff_ms", 3000))
    if not tls:
        return grpc.insecure_channel(address, options)
    certificate, key, authority = (read_file(path, 1 << 20) for path in tls)
    options.append(("grpc.ssl_target_name_override", SERVER_NAME))
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(authority, key, certificate), options)


class RateLimit:
    """Lets bytes go one after the other, so many a second; 0: any number."""

    def __init__(self, bytes_per_second):
        self.rate, self.free, self.lock = bytes_per_second, 0.0, threading.Lock()
        self.piece = _CHUNK  # so much at a time, so that nobody waits for long
        if self.rate:
            self.piece = int(min(max(self.rate * 0.02, 4096), _CHUNK))

    def take(self, count):
        if not self.rate:
            return
        with self.lock:
            self.free = max(self.free, time.monotonic()) + count / self.rate
            end = self.free
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)


class _Stub:
    def __init__(self, channel, limit):
        self.limit = limit

        def method(kind, name, request, reply):
            return getattr(channel, kind)(
                f"/tombolo.server.v1.ParameterServer/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString)
        self.push = method("stream_unary", "Push", wire.PushRequest, wire.PushReply)
        self.wait = method("unary_unary", "Wait", wire.WaitRequest, wire.WaitReply)
        self.pull = method("unary_stream", "Pull", wire.PullRequest, wire.PullReply)
        self.heartbeat = method("unary_unary", "Heartbeat", wire.HeartbeatRequest,
                                wire.HeartbeatReply)


class _Refused(Exception):
    """Another server may answer, or the same one later."""


class _Watch:
    """Cancels a call in which nothing moves."""

    def __init__(self, call):
        self.call, self.touched, self.ended = call, time.monotonic(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self.ended.wait(max(0.1, self.touched + IDLE_SECONDS - time.monotonic())):
            if time.monotonic() >= self.touched + IDLE_SECONDS:
                self.call.cancel()
                return

    def touch(self):
        self.touched = time.monotonic()


class _Outage:
    """Calls that are tried on and on since no server answers; of all that are in it at once it
    tells as of one: `tell(why, seconds)`, with an empty `why` when it is over."""

    def __init__(self, tell):
        self.tell, self.lock, self.calls = tell, threading.Lock(), set()
        self.since = self.next = 0.0

    def still_fails(self, call, why):
        with self.lock:
            now = time.monotonic()
            if not self.calls:
                self.since, self.next = now - RETRY_SECONDS, now
            self.calls.add(call)
            if now >= self.next:
                self.next = now + 2 * RETRY_SECONDS
                self.tell(why, now - self.since)

    def leaves(self, call, is_over):
        with self.lock:
            if call in self.calls:
                self.calls.discard(call)
                if is_over and not self.calls:
                    self.tell("", time.monotonic() - self.since)


class ServerClient:
    """`who`: a Sender without its epoch; `tls`: (certificate, key, authority), or None;
    `limits`: of pushes to each server in bytes per second, none for those that are missing;
    `on_unreachable`: as of _Outage, and then servers are waited for without end."""

    def __init__(self, addresses, tls, who, limits=(), on_unreachable=None):
        self.addresses, self.who = addresses, who
        self.outage = _Outage(on_unreachable) if on_unreachable else None
        servers = [server for server in addresses.split(",") if server]
        if not servers:
            raise Error("server address: expected one, got none")
        limits = [*limits, *[0] * len(servers)]
        self.stubs = [_Stub(_connect(server, tls, len(servers) > 1), RateLimit(limit))
                      for server, limit in zip(servers, limits)]
        self.current, self.epoch = 0, 0
        self.beat_seconds = 1.0  # how often to send a heartbeat: as the server has said last
        self.lock, self.running, self.aborted = threading.Lock(), set(), False

    def abort(self):
        """Ends the calls that other threads are in, and all later ones."""
        with self.lock:
            self.aborted = True
            running = list(self.running)
        for call in running:
            call.cancel()

    def failure(self, what, why):
        return (f"parameter server at {self.addresses}: {what} of rank {self.who.rank} of "
                f"island {self.who.island} failed: {why}")

    def fail(self, what, why):
        raise Error(self.failure(what, why), FAILED)

    def refused(self, what, outcome, message):
        try:
            name = wire.Outcome.Name(outcome)[len("OUTCOME_"):].lower().replace("_", " ")
        except ValueError:
            name = str(outcome)
        raise Error(f"parameter server at {self.addresses} refused the {what} of rank "
                    f"{self.who.rank} of island {self.who.island} ({name}): {message}", FAILED)

    def _sender(self):
        sender = wire.Sender()
        sender.CopyFrom(self.who)
        sender.epoch = self.epoch
        return sender

    def _settle(self, reply):
        """What a reply of any kind comes to."""
        self.epoch = max(self.epoch, reply.epoch)
        if reply.outcome in (wire.OUTCOME_BUSY, wire.OUTCOME_NOT_PRIMARY):
            raise _Refused(reply.message)

    def _call(self, call, read):
        """`read(call)` while `abort` may end the call."""
        with self.lock:
            self.running.add(call)
            aborted = self.aborted
        if aborted:
            call.cancel()
        try:
            return read(call)
        finally:
            with self.lock:
                self.running.discard(call)

    def _retry(self, what, attempt):
        call, is_over = object(), False
        try:
            result = self._try_on(what, attempt, call)
            is_over = True
            return result
        finally:
            if self.outage:
                self.outage.leaves(call, is_over)

    def _try_on(self, what, attempt, call):
        end, pause = None, 0.05
        most = 0.2 if len(self.stubs) > 1 else 1.0
        while True:
            server = self.current
            try:
                return attempt(self.stubs[server])
            except _Refused as refusal:
                why, transient = str(refusal), True
            except grpc.RpcError as error:
                why, transient = error.details(), error.code() in _TRANSIENT
            if self.current == server:  # no other thread has found a better one
                self.current = (server + 1) % len(self.stubs)
            if self.aborted:  # what made somebody abort explains more
                raise PeerError("the exchange with the parameter server was aborted")
            # From the first failure on: an attempt may take long and be well.
            end = end or time.monotonic() + RETRY_SECONDS
            is_late = time.monotonic() >= end
            if not transient or (is_late and not self.outage):
                self.fail(what, why)
            if is_late:
                self.outage.still_fails(call, self.failure(what, why))
            time.sleep(pause)
            pause = min(2 * pause, most)

    def push(self, header, data):
        def attempt(stub):
            header.sender.CopyFrom(self._sender())
            watch = None

            def requests():
                yield wire.PushRequest(header=header)
                piece = stub.limit.piece
                for at in range(0, len(data), piece):
                    chunk = bytes(data[at:at + piece])
                    stub.limit.take(len(chunk))
                    yield wire.PushRequest(data=chunk)
                    if watch:
                        watch.touch()
                yield wire.PushRequest(trailer=wire.Trailer(sha256=hashlib.sha256(data).digest()))
            call = stub.push.future(requests())
            watch = _Watch(call)
            try:
                reply = self._call(call, lambda call: call.result())
            except grpc.FutureCancelledError:
                raise _Refused("the call was cancelled")
            finally:
                watch.ended.set()
            self._settle(reply)
            return reply
        return self._retry("push", attempt)

    def _unary(self, name, request, seconds=_CALL_SECONDS):
        def attempt(stub):
            request.sender.CopyFrom(self._sender())
            call = getattr(stub, name).future(request, timeout=seconds)
            try:
                reply = self._call(call, lambda call: call.result())
            except grpc.FutureCancelledError:
                raise _Refused("the call was cancelled")
            self._settle(reply)
            return reply
        return attempt

    def wait(self, request):
        reply = self._retry("wait", self._unary("wait", request))
        if reply.outcome != wire.OUTCOME_ACCEPTED:
            self.refused("wait", reply.outcome, reply.message)
        return reply

    def heartbeat(self, done):
        reply = self._retry("heartbeat", self._unary(
            "heartbeat", wire.HeartbeatRequest(done=done)))
        if reply.outcome != wire.OUTCOME_ACCEPTED:
            self.refused("heartbeat", reply.outcome, reply.message)
        return reply

    def try_heartbeat(self, stop):
        """One try, whatever comes of it."""
        try:
            reply = self._unary("heartbeat", wire.HeartbeatRequest(stop=stop), 2 * self.beat_seconds)(
                self.stubs[self.current])
            if reply.beat_milliseconds:
                self.beat_seconds = min(max(reply.beat_milliseconds / 1e3, 0.05), 60.0)
        except (grpc.RpcError, _Refused):
            pass

    def pull(self, request, expected):
        """`expected` bytes; None when the server does not keep that version any more."""
        def attempt(stub):
            request.sender.CopyFrom(self._sender())
            call = stub.pull(request)
            watch = _Watch(call)
            try:
                return self._call(call, lambda call: self._read(call, watch, expected))
            finally:
                watch.ended.set()
                call.cancel()
        return self._retry("pull", attempt)

    def _read(self, call, watch, expected):
        def broken(why):
            self.fail("pull", f"malformed answer: {why}")
        first = next(call, None)
        if first is None or first.WhichOneof("part") != "header":
            broken("expected a header first")
        self._settle(first.header)
        if first.header.outcome == wire.OUTCOME_UNKNOWN_VERSION:
            return None
        if first.header.outcome != wire.OUTCOME_ACCEPTED:
            self.refused("pull", first.header.outcome, first.header.message)
        data, digest = bytearray(), hashlib.sha256()
        for reply in call:
            watch.touch()
            if reply.WhichOneof("part") == "trailer":
                if reply.trailer.sha256 != digest.digest():
                    broken("the data does not have its SHA-256")
                if len(data) != expected:
                    broken("less data than asked for")
                return data
            digest.update(reply.data)
            data += reply.data
            if len(data) > expected:
                broken("more data than asked for")
        broken("no trailer")
