"""A rank's side of the exchange with the parameter server: the algorithm of docs/Server.md,
A rank (the C++ one is runtime/lib/server/ExchangeClient.cpp)."""

import threading
import time

import torch

from . import codec
from .checkpoint import FragmentPoint
from .client import PROTOCOL, ServerClient
from .elements import take
from .errors import Error, FAILED, MOST_MESSAGE
from .layout import IslandSteps
from .schema import server_pb2 as wire

_WAIT_MILLISECONDS = 5000
_NO_PUSH = 2**64 - 1


class _Held:
    """What is held of one trainable parameter: the base, and of an owned one that travels
    compressed the error, what that has lost so far."""

    def __init__(self, parameter, owner, compression):
        self.parameter, self.owner, self.compression = parameter, owner, compression
        self.elements = parameter.local_elements
        self.base = self.momentum = self.pushed = None
        self.error = (torch.zeros(self.elements)
                      if owner and compression != codec.NONE else None)
        self._cover()

    def _cover(self):
        """Which blocks of a published update touch the ranges, and where in them each local
        element is."""
        places = take(torch.arange(self.parameter.elements), self.parameter.ranges)
        blocks = torch.unique(places // codec.BLOCK)
        last = (self.parameter.elements - 1) // codec.BLOCK
        # All blocks are whole but the tensor's last one.
        self.update_elements = blocks.numel() * codec.BLOCK
        if int(blocks[-1]) == last:
            self.update_elements -= -self.parameter.elements % codec.BLOCK
        self.update_bytes = codec.encoded_bytes(self.compression, self.update_elements)
        self.places = (torch.searchsorted(blocks, places // codec.BLOCK) * codec.BLOCK
                       + places % codec.BLOCK)

    def encode_delta(self, local):
        """base - local + error, encoded; what that loses becomes the error."""
        delta = self.base - local
        if self.error is None:
            return codec.encode(self.compression, delta)
        total = delta + self.error
        data = codec.encode(self.compression, total)
        self.error = total - codec.decode(self.compression, data, self.elements)
        return data

    def apply_update(self, data):
        """base := base - update."""
        values = codec.decode(self.compression, data, self.update_elements)
        self.base = self.base - values[self.places]

    def slice(self):
        return wire.TensorSlice(tensor=self.parameter.name, ranges=[
            wire.TensorSlice.Range(begin=begin, length=length, count=count, stride=stride)
            for begin, length, count, stride in self.parameter.ranges])


class _Flight:
    """A push whose receipt has not been taken."""

    def __init__(self, base, step, inner_steps):
        self.base, self.step, self.inner_steps = base, step, inner_steps
        self.encoded = b""
        # By tensor of the fragment: local then, when training goes on meanwhile, and the
        # error before, should the push not count.
        self.at_push, self.error_before = [], []
        # Set by the thread.
        self.receipt = self.version = self.failure = None
        self.updates, self.state = [], None


class _Fragment:
    def __init__(self):
        self.tensors = []
        self.version = 0     # what the base is
        self.steps_done = 0  # that no later delta contains
        self.reset = False   # to be told by the next `apply`
        self.flight = self.thread = None


class Exchange:
    """`read(parameter)` and `write(parameter, values)` are the arena's elements of a
    parameter, as tensors of the host. `parameters`: (parameter, whether this rank owns it).
    """

    def __init__(self, plan, options, parameters, read, write, tell):
        self.island, self.rank = options.island, options.rank
        self.tell = tell
        self.incarnation = options.incarnation
        server = plan.server
        self.inner_steps = IslandSteps(plan, options.island).in_round
        self.overlap_steps = server.overlap_steps
        self.tokens_per_step = (plan.islands[options.island].batch
                                * max(1, plan.model.tokens_per_sample))
        self.compression = server.compression
        self.read, self.write = read, write
        self.tensors = {}
        self.fragments = [_Fragment() for _ in range(server.fragments)]
        for parameter, owner in parameters:
            held = self.tensors[parameter.name] = _Held(parameter, owner, server.compression)
            self.fragments[parameter.fragment].tensors.append(held)
        self.resumed, self.begun = [], False
        self.stop_round, self.wants_stop = 0, threading.Event()
        self.removed_step = None  # behind which the island takes no part
        self.ended = threading.Event()
        self.client = ServerClient(options.server, options.tls, wire.Sender(
            run_id=options.run_id.encode(), contract=options.contract, island=options.island,
            incarnation=options.incarnation, rank=options.rank, protocol=PROTOCOL),
            options.line_limit, self._tell_unreachable if options.await_server else None)

    def _tell_unreachable(self, why, seconds):
        event = {"event": "server_unreachable" if why else "server_back", "island": self.island,
                 "rank": self.rank, "seconds": round(seconds)}
        if why:
            event["message"] = why[:MOST_MESSAGE]
        self.tell(event)

    def abort(self):
        self.ended.set()
        self.client.abort()

    def _error(self, message):
        return Error(f"parameter server at {self.client.addresses}: {message}", FAILED)

    # ---------------------------------------------------------------- the begin

    def _offset(self, fragment):
        return fragment * self.inner_steps // len(self.fragments)

    def _first_version(self, fragment, steps_done):
        """How often the fragment has been synchronised after so many steps."""
        shift = (self.inner_steps - self._offset(fragment)) % self.inner_steps
        return (steps_done + shift) // self.inner_steps

    def _steps_before(self, fragment, version):
        """The inner steps that are done when a fragment has come to a version."""
        offset = self._offset(fragment)
        if version == 0 or offset == 0:
            return version * self.inner_steps
        return (version - 1) * self.inner_steps + offset

    def _push_start(self, number, version, with_momentum, content):
        header = wire.PushHeader(content=content, fragment=number, round=version,
                                 base_version=version, with_momentum=with_momentum)
        data = []
        for held in self.fragments[number].tensors:
            if not held.owner:
                continue
            header.slices.append(held.slice())
            if content == wire.CONTENT_START_MOMENTUM:
                values = held.momentum
            else:  # of a snapshot the base
                values = held.base if held.base is not None else self.read(held.parameter)
            data.append(values)
        if not data:
            return  # another rank owns all that is here
        reply = self.client.push(header, _to_bytes(torch.cat(data)))
        # Started already: this island has been started again, and joins.
        if reply.outcome not in (wire.OUTCOME_ACCEPTED, wire.OUTCOME_REPEATED,
                                 wire.OUTCOME_ALREADY_STARTED):
            self.client.refused("start", reply.outcome, reply.message)

    def _begin_start(self, steps_done):
        owned = [held for held in self.tensors.values() if held.owner]
        given = [held for held in owned if held.momentum is not None]
        if given and len(given) != len(owned):
            raise Error(f"rank {self.rank} owns {len(owned)} tensors but has the outer momentum "
                        f"of {len(given)}", FAILED)
        for number in range(len(self.fragments)):
            version = self._first_version(number, steps_done)
            self._push_start(number, version, bool(given), wire.CONTENT_START_PARAMETERS)
            if given:
                self._push_start(number, version, True, wire.CONTENT_START_MOMENTUM)
        for held in owned:
            held.momentum = None

    def _join(self, number, steps_done):
        request = wire.WaitRequest(fragment=number, join=True, milliseconds=_WAIT_MILLISECONDS)
        reply = self._wait_until_known(request)
        if reply.receipt == wire.RECEIPT_REMOVED:
            raise Error(f"island {self.island} has been removed from the run; 'tombolo-run admin' "
                        "with 'add' lets it in again")
        expected = self._first_version(number, steps_done)
        if self.incarnation == 0 and steps_done > 0 and reply.first_version != expected:
            raise Error(f"island {self.island} begins after step {steps_done} with version "
                        f"{expected}, but the server began with version {reply.first_version}: "
                        "all islands resume from the same step; one without checkpoints joins "
                        "there", FAILED)
        return reply

    def begin(self, steps_done):
        """Agrees with the other islands on the first version and installs it. Called again
        until all ranks of the island get the same answer: the inner steps that are done now.
        """
        if self.resumed and self.begun:
            raise Error(f"island {self.island}: its ranks were told to go on from different "
                        "versions", FAILED)
        if self.island == 0 and not self.begun:
            self._begin_start(steps_done)
        replies = [self._join(number, steps_done) for number in range(len(self.fragments))]
        # A restarted island, or one that joins a resumed run with nothing of its own, goes on
        # no earlier than where it, or the others, pushed what counts: steps that count are not
        # done again, and all push in the same order.
        before = steps_done
        if self.incarnation > 0 or steps_done == 0 and any(
                reply.first_version > 0 for reply in replies):
            steps_done = max([steps_done] + [
                max(self._steps_before(number, max(reply.go_on_from, reply.counted_rounds)),
                    reply.counted_steps)
                for number, reply in enumerate(replies)])
        for point in self.resumed:  # as if it had done all of these
            point.steps_done += steps_done - before
            if point.pushed_step is not None:
                point.pushed_step += steps_done - before
        for number, reply in enumerate(replies):
            version, fragment = reply.go_on_from, self.fragments[number]
            state = self._pull(number, version, wire.PullRequest.PARAMETERS)
            if state is None:
                raise self._error(f"it does not keep version {version} of fragment {number}, "
                                  "which it told to begin with")
            if self.resumed:
                self._go_on(number, self.resumed[number], reply, state, steps_done)
                continue
            for held, base in zip(fragment.tensors, self._split(number, state)):
                held.base = base
                self.write(held.parameter, base)
            fragment.version, fragment.steps_done = version, steps_done
        if not self.begun and self.rank == 0:
            threading.Thread(target=self._beat, daemon=True).start()
        self.begun = True
        return steps_done

    def _go_on(self, number, point, reply, state, steps_done):
        """From a snapshot: what of its delta the server has counted is in `state`, the rest
        lives on in local."""
        fragment = self.fragments[number]
        counted, newest = reply.counted_rounds, reply.go_on_from
        under_way = point.pushed_step is not None
        fragment.version, fragment.steps_done = point.version, point.steps_done
        if under_way and counted <= point.version + 1 and newest <= point.version + 1:
            # The same push again, should it not be there; then as if nothing had been.
            saved = [held.pushed for held in fragment.tensors]
            self._start_push(number, point.pushed_step, True, saved)
            return
        # A later push than the snapshot's contained all there is of it; it may be in the
        # round that is still open.
        all_counts = counted > point.version + under_way
        is_open = all_counts and counted > newest
        push_counts = not all_counts and under_way and counted == point.version + 1
        fragment.version = newest
        if all_counts:
            fragment.steps_done = steps_done
        elif push_counts:
            fragment.steps_done = point.pushed_step
        for held, base in zip(fragment.tensors, self._split(number, state)):
            if push_counts and held.error is not None:
                held.encode_delta(held.pushed)
            reference = held.pushed if push_counts else held.base
            held.pushed, held.base = None, base
            if all_counts and held.error is not None:
                held.error = torch.zeros_like(held.error)
            if reference is None or (all_counts and newest != point.version):
                self.write(held.parameter, base)
            elif not all_counts and not torch.equal(reference, base):
                self._move_on(held, reference)
        if is_open:
            saved = [self.read(held.parameter) for held in fragment.tensors]
            self._start_push(number, steps_done, True, saved, sends=False)

    def _beat(self):
        asked, pause = False, 0  # the first one at once: its answer says how often
        while not self.ended.is_set():
            # At once when there is something to ask for.
            (self.ended if asked else self.wants_stop).wait(pause)
            pause = self.client.beat_seconds
            asked = self.wants_stop.is_set()
            self.client.try_heartbeat(asked)

    # --------------------------------------------------------------- push, apply

    def _move_on(self, held, reference):
        """local := base + (local - reference)."""
        self.write(held.parameter, held.base + (self.read(held.parameter) - reference))

    def _start_push(self, number, steps_done, trains_on, saved=None, sends=True):
        """`saved`: what local was when the push was made, by tensor; None: as it is now. Not
        `sends`: the server has it."""
        fragment = self.fragments[number]
        flight = _Flight(fragment.version, steps_done, steps_done - fragment.steps_done)
        encoded = []
        for i, held in enumerate(fragment.tensors):
            needed = saved is not None or trains_on or held.owner
            local = saved[i] if saved is not None else self.read(held.parameter) if needed else None
            flight.at_push.append(local if saved is not None or trains_on else None)
            flight.error_before.append(held.error)
            if held.owner and sends:
                encoded.append(held.encode_delta(local))
        if encoded:
            flight.encoded = _to_bytes(torch.cat(encoded))
        fragment.flight = flight
        fragment.thread = threading.Thread(target=self._follow, args=(number, flight), daemon=True)
        fragment.thread.start()

    def _follow(self, number, flight):
        """The life of a push's thread."""
        try:
            if flight.encoded:
                self._send(number, flight)
            reply = self._wait_until_known(wire.WaitRequest(
                fragment=number, round=flight.base, step=flight.step,
                milliseconds=_WAIT_MILLISECONDS))
            flight.receipt, flight.version = reply.receipt, reply.go_on_from
            if reply.receipt == wire.RECEIPT_REMOVED:
                return
            flight.updates, flight.state = self._fetch(number, flight.base, flight.version)
        except Exception as error:  # told to whoever applies
            flight.failure = error

    def _send(self, number, flight):
        header = wire.PushHeader(
            content=wire.CONTENT_DELTA, fragment=number, round=flight.base,
            base_version=flight.base, step=flight.step, inner_steps=flight.inner_steps,
            tokens=flight.inner_steps * self.tokens_per_step,
            slices=[held.slice() for held in self.fragments[number].tensors if held.owner])
        reply = self.client.push(header, flight.encoded)
        # Of all these the receipt tells all ranks alike.
        if reply.outcome not in (wire.OUTCOME_ACCEPTED, wire.OUTCOME_REPEATED,
                                 wire.OUTCOME_CLOSED_ROUND, wire.OUTCOME_WRONG_BASE,
                                 wire.OUTCOME_NOT_FINITE, wire.OUTCOME_REMOVED):
            self.client.refused("push", reply.outcome, reply.message)
        flight.encoded = b""

    def _pull(self, number, version, what):
        fragment = self.fragments[number]
        expected = sum(held.update_bytes if what == wire.PullRequest.UPDATE else held.elements * 4
                       for held in fragment.tensors)
        if not fragment.tensors:
            return bytearray()
        return self.client.pull(wire.PullRequest(
            fragment=number, version=version, what=what,
            slices=[held.slice() for held in fragment.tensors]), expected)

    def _fetch(self, number, start, to):
        """What leads from version `start` to `to`: updates, or the whole state."""
        if to < start:
            raise self._error(f"it went back from version {start} to {to} of fragment {number}")
        tensors = self.fragments[number].tensors
        # More are dearer than the state, in memory and on the line.
        update = sum(held.update_bytes for held in tensors)
        state = sum(held.elements * 4 for held in tensors)
        if to - start <= 1 or update * (to - start) <= state:
            updates = []
            for version in range(start + 1, to + 1):
                updates.append(self._pull(number, version, wire.PullRequest.UPDATE))
                if updates[-1] is None:
                    break
            else:
                return updates, None
        whole = self._pull(number, to, wire.PullRequest.PARAMETERS)
        if whole is None:
            raise self._error(f"it does not keep version {to} of fragment {number}, which it told "
                              "to go on from")
        return [], whole

    def _split(self, number, state):
        """The f32 elements of each tensor of a fragment."""
        if not state:
            return []
        return [part.clone() for part in _from_bytes(state).view(torch.float32).split(
            [held.elements for held in self.fragments[number].tensors])]

    def _advance(self, number, updates, state):
        """base := the version that was fetched."""
        tensors = self.fragments[number].tensors
        if state is not None:
            for held, base in zip(tensors, self._split(number, state)):
                held.base = base
        for update in updates:
            if tensors:
                for held, part in zip(tensors, _from_bytes(update).split(
                        [held.update_bytes for held in tensors])):
                    held.apply_update(part)

    def begin_push(self, number, steps_done):
        if self.is_removed():
            return
        fragment = self.fragments[number]
        # A push that came too late was made once more: it goes first.
        if fragment.flight:
            fragment.reset |= self.apply(number, steps_done)
        # The run ends right after a synchronisation: another would move the state by its
        # momentum alone.
        if fragment.flight or steps_done == fragment.steps_done or self.is_removed():
            return
        self._start_push(number, steps_done, self.overlap_steps > 0)

    def apply(self, number, steps_done):
        """Goes on from how the last push has ended. Returns whether the inner optimizer's
        state of the fragment must become zero."""
        if self.is_removed():
            return False
        fragment = self.fragments[number]
        reset, fragment.reset = fragment.reset, False
        flight, fragment.flight = fragment.flight, None
        if flight is None:
            return reset
        fragment.thread.join()
        if flight.failure:
            raise flight.failure
        if flight.receipt == wire.RECEIPT_REMOVED:
            self._leave(fragment, flight, steps_done)
            return reset
        late = flight.receipt == wire.RECEIPT_LATE
        discarded = flight.receipt == wire.RECEIPT_DISCARDED
        bases = [held.base for held in fragment.tensors]
        self._advance(number, flight.updates, flight.state)
        moved = steps_done != flight.step
        for i, held in enumerate(fragment.tensors):
            if late:
                held.error = flight.error_before[i]
            elif discarded and held.error is not None:
                held.error = torch.zeros_like(held.error)
            if discarded or not (late or moved):
                self.write(held.parameter, held.base)
            else:
                self._move_on(held, bases[i] if late else flight.at_push[i])
        fragment.version = flight.version
        if late:
            self._start_push(number, steps_done, True)
        else:
            fragment.steps_done = steps_done if discarded else flight.step
        return reset or discarded

    def _leave(self, fragment, flight, steps_done):
        """A push has ended so that the island takes part no more: all is as if it had not been
        made. Of those that are still under way a snapshot holds what local was; where that has
        not been kept no step has been taken since."""
        self.removed_step = steps_done
        for held, error in zip(fragment.tensors, flight.error_before):
            held.error = error
        for other in self.fragments:
            if other.flight:
                other.flight.at_push = [
                    self.read(held.parameter) if local is None else local
                    for held, local in zip(other.tensors, other.flight.at_push)]

    def is_removed(self):
        return self.removed_step is not None

    # ------------------------------------------------------------------- the end

    def _wait(self, request):
        """Every reply says whether the run is to end."""
        reply = self.client.wait(request)
        self.stop_round = reply.stop_round or self.stop_round
        return reply

    def _wait_until_known(self, request):
        while True:  # how long another island may take is the server's decision
            reply = self._wait(request)
            if reply.receipt != wire.RECEIPT_OPEN:
                return reply

    def request_stop(self):
        self.wants_stop.set()

    def stop_step(self):
        if self.is_removed():
            return self.removed_step
        return self.stop_round * self.inner_steps if self.stop_round else None

    def end(self, steps_done):
        """Waits until no island trains any more and installs the final versions."""
        if self.is_removed():
            return
        for number, fragment in enumerate(self.fragments):
            while fragment.flight or fragment.steps_done != steps_done:
                if not fragment.flight:
                    self._start_push(number, steps_done, False)
                self.apply(number, steps_done)
                if self.is_removed():  # nobody waits for it, and it waits for nobody
                    return
        while not self.client.heartbeat(done=True).finished:
            time.sleep(0.05)
        for number, fragment in enumerate(self.fragments):
            newest = self._newest_version(number)
            self._advance(number, *self._fetch(number, fragment.version, newest))
            for held in fragment.tensors:
                self.write(held.parameter, held.base)
            fragment.version = newest

    def _newest_version(self, number):
        return self._wait(wire.WaitRequest(fragment=number, round=_NO_PUSH)).version

    # ------------------------------------------------------------------ snapshots

    def outer_momentum(self, name):
        held = self.tensors[name]
        while True:  # another island may go on meanwhile
            data = self.client.pull(wire.PullRequest(
                fragment=held.parameter.fragment, what=wire.PullRequest.MOMENTUM,
                version=self._newest_version(held.parameter.fragment), slices=[held.slice()]),
                held.elements * 4)
            if data is not None:
                return _from_bytes(data).view(torch.float32)

    def set_outer_momentum(self, name, values):
        self.tensors[name].momentum = values

    def points(self):
        return [FragmentPoint(fragment.version, fragment.steps_done,
                              fragment.flight.step if fragment.flight else None)
                for fragment in self.fragments]

    def kept(self, what, name):
        """What is kept of a tensor beside the arena: outer_base, outer_error (as it was before
        a push under way), outer_pushed (local at that push)."""
        held = self.tensors[name]
        fragment = self.fragments[held.parameter.fragment]
        place = fragment.tensors.index(held)
        if what == "outer_base":
            return held.base
        if what == "outer_pushed":
            return fragment.flight.at_push[place]
        return fragment.flight.error_before[place] if fragment.flight else held.error

    def set_points(self, points):
        self.resumed = points

    def set_kept(self, what, name, values):
        attribute = {"outer_base": "base", "outer_error": "error", "outer_pushed": "pushed"}[what]
        setattr(self.tensors[name], attribute, values)


def _to_bytes(tensor):
    return memoryview(tensor.contiguous().view(torch.uint8).numpy())


def _from_bytes(data):
    return torch.frombuffer(data, dtype=torch.uint8)
