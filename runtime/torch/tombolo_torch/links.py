"""The communication of a rank: torch.distributed over any of its backends.

Transfers of one direction go over process groups of their own, one for those to higher
ranks and one for those to lower ones: so on each pair of ranks a group carries transfers
one way only, in order, as the plan has them, and a backend that has neither tags nor
buffers cannot wait for itself. Every rank makes all groups of the island, in one order, as
torch.distributed wants it.
"""

import datetime
import fcntl
import os
import socket
import struct

import torch
import torch.distributed as dist

from .errors import PeerError
from .planfile import all_instructions
from .schema import plan_pb2 as pb
from .segment import ELEMENT_BYTES
from .store import IslandStore, StoreClient, TorchStore, call_the_roll

# What the ranks of an island say to each other; another one may be misunderstood.
VERSION = 1
_CONNECT_SECONDS = 120.0
_SIOCGIFADDR = 0x8915
_FORWARD = {pb.LANE_SEND_FORWARD, pb.LANE_RECEIVE_FORWARD}


def _interface_of(host):
    """The network interface that has an address; None where it is not found."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # has none
            if socket.inet_ntoa(answer[20:24]) == host:
                return name
    return None


class Links:
    """`identity`: what all ranks of the island must have alike."""

    def __init__(self, plan, layout, options, device, identity):
        self.layout, self.rank, self.device = layout, options.rank, device.torch
        self.me = layout.coordinates(options.rank)
        self.ranks = len(layout.ranks)
        self.peers = {}    # by transfer and microbatch
        self.members = {}  # by collective
        self.groups, self.channels = {}, {}
        if self.ranks == 1:
            return
        try:
            self._connect(options, device.backend, identity)
            self._make_groups(plan)
        except (RuntimeError, ValueError) as error:
            raise PeerError(f"rank {self.rank}: cannot connect to its island: {error}")

    def _connect(self, options, backend, identity):
        store = IslandStore(StoreClient(options.rendezvous, _CONNECT_SECONDS),
                            f"island-{options.island}.{options.incarnation}/", _CONNECT_SECONDS)
        call_the_roll(store, self.rank, self.ranks, identity)
        interface = _interface_of(options.host)
        if interface:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        self.timeout = datetime.timedelta(seconds=options.timeout_seconds)
        dist.init_process_group(backend, store=TorchStore(store, self.rank, self.ranks),
                                rank=self.rank, world_size=self.ranks, timeout=self.timeout)
        self.island = dist.group.WORLD

    def _make_groups(self, plan):
        members, channels = set(), set()
        for coordinates in self.layout.ranks:
            for instruction in all_instructions(plan.programs[coordinates.program]):
                kind = instruction.WhichOneof("action")
                if kind == "collective":
                    members.add(self.layout.group(coordinates, instruction.collective))
                elif kind in ("send", "receive"):
                    channels.add(instruction.lane in _FORWARD)
        whole = tuple(range(self.ranks))
        self.groups[whole] = self.island
        for ranks in sorted(members - {whole}):
            if len(ranks) > 1:
                self.groups[ranks] = dist.new_group(list(ranks), self.timeout)
        for forward in sorted(channels):
            for upward in (False, True):
                self.channels[forward, upward] = dist.new_group(list(whole), self.timeout)

    def _peer(self, instruction, local):
        key = id(instruction), local
        if key not in self.peers:
            self.peers[key] = self.layout.peer(self.me, instruction.action, local)
        return self.peers[key]

    def send(self, instruction, local, data):
        peer = self._peer(instruction, local)
        group = self.channels[instruction.lane in _FORWARD, peer > self.rank]
        self._guard(lambda: dist.send(data, peer, group), f"sending to rank {peer}")

    def receive(self, instruction, local, data):
        peer = self._peer(instruction, local)
        group = self.channels[instruction.lane in _FORWARD, peer < self.rank]
        self._guard(lambda: dist.recv(data, peer, group), f"receiving from rank {peer}")

    def _guard(self, action, what):
        try:
            action()
        except RuntimeError as error:
            raise PeerError(f"rank {self.rank}: {what} failed: {error}")

    def collective(self, collective, arena, address):
        members = self.members.get(id(collective))
        if members is None:
            members = self.members[id(collective)] = self.layout.group(self.me, collective)
        if len(members) == 1 or self.rank not in members:
            return  # stages that share a program need not share all of a parameter's copies
        group = self.groups[members]
        size = collective.elements * ELEMENT_BYTES[collective.dtype]
        kind = pb.Collective
        if collective.kind == kind.KIND_ALL_GATHER:
            parts = arena.raw(address, size).chunk(len(members))
            own = parts[members.index(self.rank)].clone()
            self._guard(lambda: dist.all_gather(list(parts), own, group), "an all-gather")
        elif collective.kind == kind.KIND_ALL_TO_ALL:
            whole = arena.raw(address, size)
            out = whole.clone()
            self._guard(lambda: dist.all_to_all_single(whole, out, group=group), "an all-to-all")
        else:
            # A reduce-scatter leaves the other parts undefined, so a sum over all is one:
            # Debian's gloo has no other.
            data = arena.flat(address, collective.elements, collective.dtype)
            wide = data.float()  # the same memory where it is f32
            self._guard(lambda: dist.all_reduce(wide, group=group), "an all-reduce")
            if wide is not data:
                data.copy_(wide)

    # ------------------------------------------------------------- whole island

    def barrier(self):
        self.agree(0)

    def agree(self, number):
        """Whether all ranks of the island, which call it together, have the same number."""
        if self.ranks == 1:
            return True
        mine = torch.tensor([number], device=self.device)
        all_of = [torch.empty_like(mine) for _ in range(self.ranks)]
        self._guard(lambda: dist.all_gather(all_of, mine, self.island), "a barrier")
        return all(int(each) == number for each in all_of)

    def from_first(self, mine):
        """What rank 0 of the island says; all call it together."""
        if self.ranks == 1:
            return mine
        answer = torch.tensor([int(mine)], device=self.device)
        self._guard(lambda: dist.broadcast(answer, 0, self.island), "a broadcast")
        return bool(answer)
