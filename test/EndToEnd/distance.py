"""A laboratory for distance: sites on this machine that only lines with delay, rate,
jitter, loss and cuts join.

A site is a network namespace. Its way out is a TUN device, and a process in user space, the
relay, carries each packet from one device to the other when a real line would have: the
kernel needs no netem. Sites have addresses as machines do, so nothing in a run knows that it
is in a laboratory. Needs root. Nothing stays behind: the namespaces and devices go with the
relay, and the relay with whoever started it.

Tests and benchmarks use it alike:

    with Laboratory(["north", "south"], {("north", "south"): Line(rtt_ms=30, mbits=100)}) as lab:
        subprocess.run(lab.command("south", "ping", "-c", "1", lab.address("north")))
"""

import collections
import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass
class Line:
    """What joins two sites, the same in both directions and shared by all of their traffic."""

    rtt_ms: float
    mbits: float
    jitter_ms: float = 0  # each way, at most; packets keep their order
    loss: float = 0  # part of the packets
    buffer_ms: float = 200  # that packets may wait for the line before one is dropped
    is_cut: bool = False


def why_not():
    """Why there can be no laboratory here, or None."""
    if os.geteuid() != 0:
        return "a laboratory for distance needs root, for network namespaces"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "a laboratory for distance needs /dev/net/tun"
    if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode:
        return "a laboratory for distance needs network namespaces, which are forbidden here"
    return None


class Laboratory:
    """Sites and the lines {(site, site): Line} between them. `mtu`: a line that is to carry
    hundreds of Mbit/s needs large packets, since the relay handles some 10,000 a second; a
    lost packet is then one that large. `nice`: of the relay."""

    def __init__(self, sites, lines, mtu=9000, nice=0, seed=0):
        self.sites = list(sites)
        self.lines = {frozenset(ends): line for ends, line in lines.items()}
        self.settings = {"sites": self.sites, "mtu": mtu, "seed": seed}
        self.nice = nice

    def __enter__(self):
        self.relay = subprocess.Popen(
            ["nice", "-n", str(self.nice), sys.executable, os.path.abspath(__file__)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.namespaces = self._ask(self.settings)["namespaces"]
            for ends in self.lines:
                self._set(*ends)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.relay.stdin.close()
        self.relay.wait()
        self.relay.stdout.close()

    def _ask(self, request):
        self.relay.stdin.write(json.dumps(request) + "\n")
        self.relay.stdin.flush()
        reply = self.relay.stdout.readline()
        if not reply:
            raise RuntimeError("the relay of the laboratory has ended")
        return json.loads(reply)

    def _set(self, first, second):
        self._ask({"line": [self.sites.index(first), self.sites.index(second)],
                   **dataclasses.asdict(self.line(first, second))})

    def line(self, first, second):
        return self.lines[frozenset((first, second))]

    def change(self, first, second, **what):
        """Of a line, from the next packet on: change("a", "b", is_cut=True)."""
        for name, value in what.items():
            setattr(self.line(first, second), name, value)
        self._set(first, second)

    @contextlib.contextmanager
    def cut(self, first, second):
        """The line carries nothing meanwhile."""
        self.change(first, second, is_cut=True)
        try:
            yield
        finally:
            self.change(first, second, is_cut=False)

    def traffic(self):
        """What lines have carried since the beginning: {(from, to): bytes}, and the seconds
        of a core that the relay has used."""
        reply = self._ask({"traffic": True})
        carried = {(self.sites[a], self.sites[b]): count for a, b, count in reply["carried"]}
        return carried, reply["seconds"]

    def address(self, site):
        return f"10.77.0.{self.sites.index(site) + 1}"

    def _namespace(self, site):
        return f"/proc/{self.relay.pid}/fd/{self.namespaces[self.sites.index(site)]}"

    def command(self, site, *words):
        """The command that runs `words` at a site. It dies with the caller."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self._namespace(site)}",
                *map(str, words)]

    def socket(self, site, *arguments):
        """A socket of a site, for use here."""
        made = []

        def make():  # a thread of its own goes there and does not come back
            with open(self._namespace(site)) as namespace:
                check(libc.setns(namespace.fileno(), CLONE_NEWNET), "setns")
            made.append(socket.socket(*arguments))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


# ------------------------------------------------------------------------- the relay


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


class Way:
    """One direction of a line."""

    def __init__(self, target):
        self.target = target  # device
        self.free = 0.0  # when the line has sent all that waits for it
        self.flying = collections.deque()  # (when it arrives, packet)
        self.carried = 0  # bytes

    def set(self, rtt_ms, mbits, jitter_ms, loss, buffer_ms, is_cut):
        self.delay, self.jitter, self.buffer = rtt_ms / 2e3, jitter_ms / 1e3, buffer_ms / 1e3
        self.seconds_per_byte, self.loss, self.is_cut = 8e-6 / mbits, loss, is_cut

    def send(self, packet, now, draw):
        start = max(now, self.free)
        if self.is_cut or start - now > self.buffer or (self.loss and draw() < self.loss):
            return
        self.free = start + len(packet) * self.seconds_per_byte
        arrives = self.free + self.delay + (self.jitter * draw() if self.jitter else 0)
        if self.flying:
            arrives = max(arrives, self.flying[-1][0])
        self.flying.append((arrives, packet))

    def deliver(self, now):
        """What has come; gives when the next does, or None."""
        while self.flying and self.flying[0][0] <= now:
            packet = self.flying.popleft()[1]
            with contextlib.suppress(OSError):  # the site's own queue is full
                os.write(self.target, packet)
                self.carried += len(packet)
        return self.flying[0][0] if self.flying else None


class Relay:
    """Carries packets until its stdin is closed."""

    def __init__(self, sites, mtu, seed):
        self.mtu = mtu
        self.draw = random.Random(seed).random
        self.devices, self.namespaces = [], []
        for number in range(len(sites)):
            check(libc.unshare(CLONE_NEWNET), "unshare")
            self.namespaces.append(os.open("/proc/self/ns/net", os.O_RDONLY))
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"line", IFF_TUN | IFF_NO_PI))
            self.devices.append(device)
            for words in (f"address add 10.77.0.{number + 1}/24 dev line",
                          f"link set line mtu {mtu} up", "link set lo up"):
                subprocess.run(["ip", *words.split()], check=True, stdout=sys.stderr)
        self.ways = {}  # {(from, to): Way}

    def command(self, request):
        if "traffic" in request:
            used = resource.getrusage(resource.RUSAGE_SELF)
            return {"seconds": used.ru_utime + used.ru_stime,
                    "carried": [(a, b, way.carried) for (a, b), way in self.ways.items()]}
        first, second = request.pop("line")
        for a, b in ((first, second), (second, first)):
            self.ways.setdefault((a, b), Way(self.devices[b])).set(**request)
        return {}

    def take(self, site):
        """What a site has sent; whether there may be more. In small turns: what arrives must
        not wait for long."""
        for _ in range(32):
            try:
                packet = os.read(self.devices[site], self.mtu + 64)
            except BlockingIOError:
                return False
            if packet[0] >> 4 != 4:
                continue  # IPv6 looks for neighbours by itself
            way = self.ways.get((site, packet[19] - 1))
            if way:
                way.send(packet, time.monotonic(), self.draw)
        return True

    def run(self, commands):
        sources = {device: site for site, device in enumerate(self.devices)}
        waiting = [commands, *self.devices]
        while True:
            now = time.monotonic()
            due = [at for way in self.ways.values() if (at := way.deliver(now)) is not None]
            ready, _, _ = select.select(waiting, [], [], max(0, min(due) - now) if due else None)
            for source in ready:
                if source is not commands:
                    self.take(sources[source])
                    continue
                line = commands.readline()
                if not line:
                    return
                for site in sources.values():  # what was sent before finds the line as it was
                    while self.take(site):
                        pass
                print(json.dumps(self.command(json.loads(line))), flush=True)


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of stdin tells when
    # No buffer, which select would not see.
    commands = os.fdopen(0, "rb", buffering=0)
    relay = Relay(**json.loads(commands.readline()))
    print(json.dumps({"namespaces": relay.namespaces}), flush=True)
    relay.run(commands)


if __name__ == "__main__":
    main()
