"""A client of the site agent's store, where the ranks of an island meet
(runtime/StoreServer.h)."""

import socket
import struct
import threading
import time

from .errors import Error, PeerError

_MOST_VALUE = 1 << 20


class StoreClient:
    def __init__(self, address, timeout_seconds):
        self.address = address
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise Error(f"expected an address like 127.0.0.1:7000, got '{address}'")
        self.lock = threading.Lock()
        end = time.monotonic() + timeout_seconds
        while True:
            try:
                self.socket = socket.create_connection((host, int(port)), timeout_seconds)
                return
            except OSError as error:
                if time.monotonic() >= end:
                    raise PeerError(f"store at {address}: cannot connect: {error}")
                time.sleep(0.02)

    def set(self, key, value):
        self._ask(1, key, value.encode())

    def look(self, key):
        """The value, or None when nobody has set it."""
        return self._ask(2, key, b"")

    def _ask(self, operation, key, value):
        name = key.encode()
        with self.lock:
            try:
                self.socket.sendall(struct.pack("<BII", operation, len(name), len(value))
                                    + name + value)
                found, size = struct.unpack("<BI", self._receive(5))
                if size > _MOST_VALUE:
                    raise PeerError(f"store at {self.address}: it answers nonsense")
                answer = self._receive(size)
            except OSError as error:
                raise PeerError(f"store at {self.address}: the connection is lost: {error}")
        return answer.decode(errors="replace") if found else None

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise PeerError(f"store at {self.address}: the connection is lost")
            data += part
        return data


class RollCall:
    """All ranks of an island say who they are, before anything starts, and each looks at
    what the others say. Whoever finds something wrong tells all."""

    def __init__(self, store, scope, rank, ranks, timeout_seconds):
        self.store, self.scope, self.rank, self.ranks = store, scope, rank, ranks
        self.end = time.monotonic() + timeout_seconds
        self.timeout_seconds = timeout_seconds

    def get(self, key):
        """Waits until the key is there, or somebody has refused to start."""
        pause = 0.001
        while True:
            value = self.store.look(self.scope + key)
            refusal = self.store.look(self.scope + "refused")
            if refusal is not None:
                raise PeerError(refusal)
            if value is not None:
                return value
            if time.monotonic() >= self.end:
                raise PeerError(f"store at {self.store.address}: nobody set "
                                f"'{self.scope + key}' within {self.timeout_seconds:g} seconds")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def refuse(self, message):
        self.store.set(self.scope + "refused", message)
        raise Error(message)

    def call(self, identity, describe):
        """`identity`: a text with a part of this process alone, a space, and what must be
        the same on all ranks. `describe(mine, theirs, rank)` says what differs."""
        mine = f"roll-call/{self.rank}"
        before = self.store.look(self.scope + mine)
        if before is not None:
            self._twice()
        self.store.set(self.scope + mine, identity)
        for rank in range(self.ranks):
            said = self.get(f"roll-call/{rank}")
            if rank != self.rank and said.split(" ", 1)[1:] != identity.split(" ", 1)[1:]:
                self.refuse(describe(identity.split(" ", 1)[1], said.split(" ", 1)[-1], rank))
        # Two that came at the same moment: one has overwritten what the other said.
        if self.get(mine) != identity:
            self._twice()
        self.store.set(f"{self.scope}present/{self.rank}", "yes")
        for rank in range(self.ranks):
            self.get(f"present/{rank}")

    def _twice(self):
        self.refuse(f"rank {self.rank} of the island was started twice: two processes claim to "
                    "be it; give each --rank of its own")
