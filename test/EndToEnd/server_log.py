"""Reads what a parameter server keeps on disk and checks it, with nothing of the server's own:
records as docs/Server.md (Durability) and server.proto have them, the outer step in numpy.

That each push counts once, that a version's members had pushed all of the fragment, that every
version and its hash follow from the ones before, to the bit, and that islands were told what
came of their pushes."""

import collections
import dataclasses
import glob
import hashlib
import os
import re
import struct
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAGIC = b"TOMBLOG1"
LOG_HEADER, PUSH, REFUSED, TOLD, VERSION = 1, 2, 3, 4, 5
SNAPSHOT_HEADER, FRAGMENT, DATA, END = 16, 17, 18, 19
BLOCK = 256


def load_messages():
    """server.proto, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        schema = os.path.join(ROOT, "runtime/schema")
        subprocess.run(["protoc", "-I", schema, f"--python_out={folder}",
                        os.path.join(schema, "server.proto")], check=True)
        sys.path.insert(0, folder)
        try:
            import server_pb2
        finally:
            sys.path.remove(folder)
    return server_pb2


wire = load_messages()


class Damage(AssertionError):
    """The server's files say what cannot have been."""


def require(holds, *what):
    if not holds:
        raise Damage(" ".join(map(str, what)))


def records(path, most=None):
    """(type, head, body) of the whole records in the first `most` bytes of a file."""
    with open(path, "rb") as file:
        data = file.read() if most is None else file.read(most)
    at = 0
    while len(data) - at >= 72 and data[at:at + 8] == MAGIC:
        kind, head, body = struct.unpack_from("<QQQ", data, at + 8)
        head_at = at + 72
        body_at = head_at + -head % 8 + head
        end = body_at + -body % 8 + body
        if end > len(data):
            break
        both = data[head_at:head_at + head], data[body_at:body_at + body]
        if hashlib.sha256(data[at:at + 40] + both[0] + both[1]).digest() != data[at + 40:at + 72]:
            break
        yield (kind, *both)
        at = end
    require(most is None or at == most, path, "ends at", at, "though", most, "bytes of it count")


# -------------------------------------------------------------------------- arithmetic


def decode(data, count):
    """int8: blocks of a scale and up to 256 elements."""
    values = np.empty(count, np.float32)
    at = 0
    for first in range(0, count, BLOCK):
        size = min(BLOCK, count - first)
        scale = np.frombuffer(data, "<f4", 1, at)[0]
        values[first:first + size] = np.frombuffer(data, np.int8, size, at + 4) * scale
        at += 4 + size
    require(at == len(data), "a push or update of", len(data), "bytes, expected", at)
    return values


def encode(values):
    data = b""
    for first in range(0, len(values), BLOCK):
        block = values[first:first + BLOCK]
        scale = np.float32(np.abs(block).max() / np.float32(127))
        steps = np.rint(block / scale) if scale else np.zeros_like(block)
        data += scale.tobytes() + np.clip(steps, -127, 127).astype(np.int8).tobytes()
    return data


# ------------------------------------------------------------------------------- state


@dataclasses.dataclass
class Push:
    header: object = None
    data: np.ndarray = None
    covered: np.ndarray = None  # how often

    @property
    def is_whole(self):
        return self.covered is not None and (self.covered == 1).all()


class Fragment:
    """One fragment as the records so far have made it. `sizes`: {tensor: elements}."""

    def __init__(self, number, sizes, lr, momentum):
        self.number, self.sizes = number, dict(sorted(sizes.items()))
        self.lr, self.m = np.float32(lr), np.float32(momentum)
        self.offsets, self.elements = {}, 0
        for name, size in self.sizes.items():
            self.offsets[name] = self.elements
            self.elements += size
        self.version = None
        self.parameters, self.velocity, self.owed = (np.zeros(self.elements, np.float32)
                                                     for _ in range(3))
        self.pushes = collections.defaultdict(Push)  # of the open round, by island
        self.start = Push()
        self.made = {}  # Made by version

    def tensor(self, name):
        return self.parameters[self.offsets[name]:self.offsets[name] + self.sizes[name]]

    def places(self, slices):
        """By slice, which elements it is."""
        for one in slices:
            yield np.concatenate([
                (self.offsets[one.tensor] + r.begin + np.arange(r.count)[:, None] * r.stride
                 + np.arange(r.length)).reshape(-1).astype(np.int64) for r in one.ranges])

    def add(self, push, header, body, compressed):
        if push.header is None or header.sender.incarnation > push.header.sender.incarnation:
            push.header = header
            push.data = np.zeros(self.elements, np.float32)
            push.covered = np.zeros(self.elements, np.int32)
        at = 0
        for places in self.places(header.slices):
            size = len(places)
            count = size + 4 * -(-size // BLOCK) if compressed else 4 * size
            piece = body[at:at + count]
            push.data[places] = decode(piece, size) if compressed else np.frombuffer(piece, "<f4")
            np.add.at(push.covered, places, 1)
            at += count
        require(at == len(body), "a push of", len(body), "bytes, expected", at)
        require(push.covered.max() == 1, "island", header.sender.island, "pushed an element twice")

    def take(self, header, body):
        if header.content == wire.CONTENT_START_PARAMETERS:
            self.add(self.start, header, body, compressed=False)
            return
        require(header.content == wire.CONTENT_DELTA, "a push of content", header.content)
        require(header.round == header.base_version == self.version, "a push for round",
                header.round, "in round", self.version)
        self.add(self.pushes[header.sender.island], header, body, compressed=True)

    def make(self, record, update):
        if record.start:
            require(self.start.is_whole, "a first version before its parameters were there")
            self.parameters, self.version = self.start.data, record.version
        else:
            self.step(record, update)
        digest = hashlib.sha256()
        for name, size in self.sizes.items():
            digest.update(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<Q", size))
            digest.update(self.tensor(name).tobytes())
        require(digest.digest() == record.hash, "version", self.version, "has another hash")
        self.made[self.version] = Made(record.hash.hex(), {
            island: (push.header.step - push.header.inner_steps, push.header.step)
            for island, push in self.pushes.items() if push.header and island in record.members})
        self.pushes.clear()

    def step(self, record, update):
        require(record.version == self.version + 1, "version", record.version, "after", self.version)
        pushes = [self.pushes.get(island) for island in record.members]
        for island, push in zip(record.members, pushes):
            require(push and push.is_whole, "island", island, "is a member of version",
                    record.version, "without having pushed all of it")
        active = [push for push in pushes if push.header.inner_steps]
        tokens = sum(push.header.tokens for push in active)
        require(tokens == record.tokens, "version", record.version, "of", record.tokens, "tokens")
        total = np.zeros(self.elements, np.float32)
        if active:
            mean = sum(push.header.inner_steps for push in active) / len(active)
            for number, push in enumerate(active):
                factor = np.float32(push.header.tokens / tokens * (mean / push.header.inner_steps))
                part = factor * push.data
                total = part if number == 0 else total + part
            self.velocity = self.m * self.velocity + total
            total = self.lr * (total + self.m * self.velocity)
        wanted, published = total + self.owed, b""
        for name, size in self.sizes.items():
            piece = slice(self.offsets[name], self.offsets[name] + size)
            data = encode(wanted[piece])
            published += data
            sent = decode(data, size)
            self.owed[piece] = wanted[piece] - sent
            self.parameters[piece] -= sent
        require(published == update, "version", record.version, "was published with other bytes")
        self.version += 1

    def told(self, record):
        """What an island was told came of its push for a round."""
        version = self.made.get(record.round + 1)
        if not record.join and version:
            isMember = record.island in version.steps
            require(isMember == (record.receipt == wire.RECEIPT_MEMBER), "island", record.island,
                    "was told", wire.Receipt.Name(record.receipt), "of round", record.round)

    def restore(self, saved, floats):
        """From a snapshot: `floats(count)` gives the next ones of it."""
        newest = saved.newest
        self.pushes.clear()
        self.version, self.start = None, Push()
        if saved.HasField("newest"):
            self.version = newest.number
            require(not newest.second_moment, "a second moment without AdamW")
            zeros = np.zeros(self.elements, np.float32)
            self.parameters = floats(self.elements)
            self.velocity = floats(self.elements) if newest.momentum else zeros.copy()
            self.owed = floats(self.elements) if newest.error else zeros.copy()
        for _ in saved.updates:
            floats(None)
        for directive in saved.directives:
            if directive.HasField("version"):
                for _ in range(1 + directive.version.momentum + directive.version.error):
                    floats(self.elements)
        if not saved.HasField("newest"):
            self.restore_push(self.start, saved.start_parameters, floats)
        for island, given in enumerate(saved.contributions):
            self.restore_push(self.pushes[island], given, floats)

    def restore_push(self, push, given, floats):
        if not given.parts:
            return
        push.header = wire.PushHeader(tokens=given.tokens, inner_steps=given.inner_steps, step=given.step)
        push.header.sender.incarnation = given.incarnation
        push.data = floats(self.elements)
        push.covered = np.zeros(self.elements, np.int32)
        for part in given.parts:
            for places in self.places(part.slices):
                np.add.at(push.covered, places, 1)


@dataclasses.dataclass
class Made:
    """A version: its hash, and the steps (from, to) that it takes in, by island."""
    hash: str
    steps: dict


class ServerLog:
    """Replays all files that a server has ever had; Damage when they contradict themselves.
    `tensors`: {fragment: {name: elements}}, as `tensors_of` finds them. `histories`: what it
    has made in one go, [{(fragment, version): Made}]; where it took up another server's state
    the next one begins, and the end of the one before may have been given up."""

    def __init__(self, folder, tensors, lr=0.7, momentum=0.9):
        self.tensors, self.settings = tensors, (lr, momentum)
        self.histories = []
        logs, snapshots = numbered(folder, "log"), numbered(folder, "snapshot")
        self.begin()
        for number in sorted(logs.keys() | snapshots.keys()):
            if number in snapshots:
                self.take_up(records(snapshots[number]))
            if number in logs:
                self.replay(logs[number], counting_bytes(logs, number))
        self.end()

    def begin(self):
        self.fragments = {number: Fragment(number, sizes, *self.settings)
                          for number, sizes in self.tensors.items()}

    def end(self):
        self.histories.append({(number, version): made for number, fragment in self.fragments.items()
                               for version, made in fragment.made.items()})

    def take_up(self, read):
        """A snapshot. One of what is here must be the same."""
        saved = collections.deque(read)
        require(saved and saved.popleft()[0] == SNAPSHOT_HEADER, "a snapshot without its header")

        def floats(count):
            """None: bytes of one update, which are not looked at."""
            kind, _, body = saved.popleft()
            require(kind == DATA and (count is None or len(body) == 4 * count), "a snapshot lacks data")
            return None if count is None else np.frombuffer(body, "<f4").copy()

        before = self.fragments
        versions = {number: fragment.version for number, fragment in before.items()}
        self.begin()
        while saved and saved[0][0] == FRAGMENT:
            fields = wire.SavedFragment.FromString(saved.popleft()[1])
            self.fragments[fields.fragment].restore(fields, floats)
        require(saved and saved[0][0] == END, "a snapshot without its end")
        same = all(fragment.version == versions[number] and (fragment.version is None or np.array_equal(
            fragment.parameters, before[number].parameters)) for number, fragment in self.fragments.items())
        if same:
            for number, fragment in self.fragments.items():
                fragment.made = before[number].made
        else:
            after, self.fragments = self.fragments, before
            self.end()
            self.fragments = after

    def replay(self, path, most):
        for kind, head, body in records(path, most):
            if kind == PUSH:
                header = wire.LogPush.FromString(head).header
                self.fragments[header.fragment].take(header, body)
            elif kind == REFUSED:
                refused = wire.LogRefused.FromString(head)
                self.fragments[refused.fragment].pushes.pop(refused.island, None)
            elif kind == TOLD:
                told = wire.LogTold.FromString(head)
                self.fragments[told.fragment].told(told)
            elif kind == VERSION:
                version = wire.LogVersion.FromString(head)
                self.fragments[version.fragment].make(version, body)


def check_history(told, logs):
    """Of a run: `told` are (fragment, version, hash) as servers have announced them, `logs`
    their ServerLog. Gives the versions."""
    hashes = {}
    for fragment, version, digest in told:
        require(hashes.setdefault((fragment, version), digest) == digest,
                "two different versions", version, "of fragment", fragment, "were shown")
    found = {}
    for log in logs:
        for history in log.histories:
            given_up = {}
            for (fragment, version), made in sorted(history.items()):
                if hashes.get((fragment, version), made.hash) != made.hash:
                    require(history is not log.histories[-1], "a server has kept another version",
                            version, "of fragment", fragment, "than was shown")
                    given_up[fragment] = version
                elif (fragment, version) in hashes:
                    require(fragment not in given_up, "version", version, "of fragment", fragment,
                            "follows from one that was given up")
                    found[fragment, version] = made
    counted = {}
    for fragment, version in sorted(hashes):
        require((fragment, version) in found, "no log has version", version, "of fragment", fragment)
        for island, (first, last) in found[fragment, version].steps.items():
            before = counted.get((fragment, island), 0)
            require(first >= before, "steps from", first, "of island", island, "count in version",
                    version, "of fragment", fragment, "though those to", before, "have counted")
            counted[fragment, island] = last
    return found


def numbered(folder, kind):
    """{number: path} of its logs or snapshots."""
    return {int(found[1]): path for path in glob.glob(os.path.join(folder, kind + "-*"))
            if (found := re.fullmatch(kind + r"-(\d+)", os.path.basename(path)))}


def counting_bytes(logs, number):
    """Of a log, as the next one says; None: all whole records of it. Also where the next one
    says none: it begins with another server's state, and what the server had told until then
    - as a primary that was replaced, without being started again - is in this one alone."""
    for kind, head, _ in records(logs[number + 1]) if number + 1 in logs else ():
        require(kind == LOG_HEADER, logs[number + 1], "does not begin as a log")
        return wire.LogHeader.FromString(head).previous_bytes or None
    return None


def tensors_of(folder):
    """{fragment: {name: elements}} of a folder that has the run's beginning."""
    found = collections.defaultdict(dict)
    for kind, head, _ in records(os.path.join(folder, "log-0")):
        if kind != PUSH:
            continue
        header = wire.LogPush.FromString(head).header
        if header.content == wire.CONTENT_START_PARAMETERS:
            for one in header.slices:
                end = max(r.begin + (r.count - 1) * r.stride + r.length for r in one.ranges)
                sizes = found[header.fragment]
                sizes[one.tensor] = max(end, sizes.get(one.tensor, 0))
    return dict(found)
