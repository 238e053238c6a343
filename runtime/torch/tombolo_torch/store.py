"""The site agent's store, where the ranks of an island meet (runtime/StoreServer.h)."""

import socket
import struct
import threading
import time

import torch.distributed as dist

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
        self._ask(1, key, value)

    def claim(self, key, value):
        """Sets what nobody has set before; False when somebody has."""
        return self._ask(3, key, value) is None

    def look(self, key):
        """The bytes, or None when nobody has set them."""
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
        return answer if found else None

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise PeerError(f"store at {self.address}: the connection is lost")
            data += part
        return data


class IslandStore:
    """What of the store is one incarnation's of an island. Whoever finds something wrong
    tells all: then no wait ends well."""

    def __init__(self, client, scope, timeout_seconds):
        self.client, self.scope, self.timeout_seconds = client, scope, timeout_seconds

    def set(self, key, value):
        self.client.set(self.scope + key, value)

    def claim(self, key, value):
        return self.client.claim(self.scope + key, value)

    def look(self, key):
        return self.client.look(self.scope + key)

    def get(self, key):
        """Waits until the key is there."""
        end, pause = time.monotonic() + self.timeout_seconds, 0.001
        while True:
            value, refusal = self.look(key), self.look("refused")
            if refusal is not None:
                raise PeerError(refusal.decode())
            if value is not None:
                return value
            if time.monotonic() >= end:
                raise PeerError(f"store at {self.client.address}: nobody set "
                                f"'{self.scope + key}' within {self.timeout_seconds:g} seconds")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def refuse(self, message):
        self.set("refused", message.encode())
        raise Error(message)


def call_the_roll(store, rank, ranks, shared):
    """All ranks of an island say who they are before anything starts, and the first looks at
    what the others say: `shared` is the same on all. As RollCall of the native runtime."""
    if not store.claim(f"roll-call/{rank}", shared.encode()):
        store.refuse(f"rank {rank} of the island was started twice: two processes claim to be it; "
                     "give each a --rank of its own")
    if rank == 0:
        for other in range(1, ranks):
            theirs = store.get(f"roll-call/{other}").decode()
            if theirs != shared:
                store.refuse("expected all ranks of the island to run the same: rank 0 has "
                             f"{shared}, rank {other} has {theirs}")
        store.set("begin", b"yes")
    store.get("begin")


class TorchStore(dist.Store):
    """The store as torch.distributed wants it. It opens no port of its own."""

    def __init__(self, store, rank, ranks):
        super().__init__()
        self.store, self.rank, self.ranks, self.counts = store, rank, ranks, {}

    def set(self, key, value):
        self.store.set("torch/" + key, value if isinstance(value, bytes) else value.encode())

    def get(self, key):
        return self.store.get("torch/" + key)

    def wait(self, keys, timeout=None):
        for key in keys:
            self.get(key)

    def add(self, key, amount):
        """Of a counter that only rises: each rank keeps its part of it."""
        self.counts[key] = self.counts.get(key, 0) + amount
        self.set(f"{key}/{self.rank}", str(self.counts[key]))
        parts = (self.store.look(f"torch/{key}/{rank}") for rank in range(self.ranks))
        return sum(int(part) for part in parts if part is not None)
