"""Who is who in an island, and where a program's parameters lie: pure functions of a plan
(runtime/plan/Layout.h, runtime/plan/Parameters.h)."""

import bisect
import dataclasses
import math

from .errors import Error
from .schema import plan_pb2 as pb


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """Where a rank stands in its island."""
    stage: int
    replica: int  # in the stage, over all its groups
    tensor_index: int
    program: int


class Deal:
    """Which replica of a stage computes which microbatch: in one turn each replica, in
    order, takes its share of consecutive microbatches."""

    def __init__(self, stage):
        self.starts = [0]
        for group in stage.groups:
            for _ in range(group.count):
                self.starts.append(self.starts[-1] + group.share)

    @property
    def turn(self):
        return self.starts[-1]

    def share(self, replica):
        return self.starts[replica + 1] - self.starts[replica]

    def microbatch(self, replica, local):
        """The island's number of the replica's own `local`-th microbatch."""
        own = self.share(replica)
        return local // own * self.turn + self.starts[replica] + local % own

    def replica_of(self, microbatch):
        return bisect.bisect_right(self.starts, microbatch % self.turn) - 1


class Layout:
    """Rank numbers of one island: by stage, group, replica, tensor-parallel index."""

    def __init__(self, island):
        self.island = island
        self.deals = [Deal(stage) for stage in island.stages]
        self.ranks = []  # Coordinates of each
        self.places = {}  # (stage, replica, tensor index): rank
        for s, stage in enumerate(island.stages):
            replica = 0
            for group in stage.groups:
                for _ in range(group.count):
                    for index in range(group.tensor_parallel):
                        self.places[s, replica, index] = len(self.ranks)
                        self.ranks.append(Coordinates(s, replica, index, group.program))
                    replica += 1

    def coordinates(self, rank):
        if not 0 <= rank < len(self.ranks):
            raise Error(f"rank {rank} does not exist: the island has {len(self.ranks)} ranks, "
                        "counted from 0")
        return self.ranks[rank]

    def peer(self, me, transfer, local):
        """The other side of a transfer of `me`'s own `local`-th microbatch."""
        j = self.deals[me.stage].microbatch(me.replica, local)
        index = me.tensor_index
        if transfer.HasField("tensor_index"):
            index = expression(transfer.tensor_index, me)(())
        return self.places[transfer.stage, self.deals[transfer.stage].replica_of(j), index]

    def group(self, me, collective):
        """The members of a collective of `me`, ascending."""
        kind = collective.group
        if kind == pb.Collective.GROUP_ISLAND:
            return tuple(range(len(self.ranks)))
        if kind == pb.Collective.GROUP_TENSOR:
            return tuple(rank for rank, other in enumerate(self.ranks)
                         if (other.stage, other.replica) == (me.stage, me.replica))
        stages = collective.stages if kind == pb.Collective.GROUP_STAGES else [me.stage]
        return tuple(rank for rank, other in enumerate(self.ranks)
                     if other.stage in stages and other.tensor_index == me.tensor_index)


def expression(expr, me):
    """`Expr` as a function of the loop variables, the rank's coordinates put in."""
    constant, terms = expr.constant, []
    for term in expr.terms:
        value = {pb.COORDINATE_TENSOR_INDEX: me.tensor_index,
                 pb.COORDINATE_REPLICA: me.replica}.get(term.coordinate)
        if value is None:
            terms.append((term.variable, term.factor, term.offset, term.modulus))
        else:
            value += term.offset
            constant += term.factor * (value % term.modulus if term.modulus else value)
    divisor = max(1, expr.divisor)

    def evaluate(variables):
        total = constant
        for variable, factor, offset, modulus in terms:
            value = variables[variable] + offset
            total += factor * (value % modulus if modulus else value)
        return total // divisor
    if not terms:
        value = constant // divisor
        return lambda variables: value
    return evaluate


# ------------------------------------------------------------------ parameters


@dataclasses.dataclass
class LocalParameter:
    """What of one parameter lies in the rank's arena."""
    name: str         # in checkpoints
    initializer: str  # in the ONNX file
    dims: tuple
    ranges: list      # (begin, length, count, stride) of the row-major whole, in memory order
    address: int      # arena byte of the first element
    trainable: bool
    fragment: int
    owner: bool       # replica 0 of the class pushes and saves it
    split: bool       # each tensor-parallel index holds another part, not the same

    @property
    def elements(self):
        return math.prod(self.dims)

    @property
    def local_elements(self):
        return sum(length * count for _, length, count, _ in self.ranges)

    def owned_by(self, me):
        return self.owner and me.replica == 0 and (self.split or me.tensor_index == 0)


def name_at(names, i):
    if names.listed:
        return names.listed[i]
    return f"{names.prefix}{names.first + i * names.step}{names.suffix}"


def expand_parameters(program, tensor_index):
    parameters = []
    for family in program.parameters:
        elements = math.prod(family.dims)
        slices = [(s.begin + tensor_index * s.tensor_stride, s.length, s.count, s.stride)
                  for s in family.slices] or [(0, elements, 1, elements)]
        fragments = [members.fragment for members in family.fragments
                     for _ in range(members.count)]
        for i in range(family.count):
            parameters.append(LocalParameter(
                name_at(family.names, i), name_at(family.initializers, i), tuple(family.dims),
                slices, family.address + i * family.stride, family.trainable,
                fragments[i] if fragments else 0, family.owner,
                any(s.tensor_stride for s in family.slices)))
    return parameters


def cut_ranges(ranges, first, count):
    """The ranges of the local elements [first, first + count)."""
    cut, local, end = [], 0, first + count

    def add(begin, length, runs, stride):
        if length and runs:
            cut.append((begin, length, runs, stride))
    for begin, length, runs, stride in ranges:
        elements = length * runs
        start = max(first, local) - local
        stop = min(max(end, local) - local, elements)
        local += elements
        if start >= stop:
            continue
        # A piece of a run, whole runs, a piece of another.
        head, tail = start // length, stop // length
        if head == tail:
            add(begin + head * stride + start % length, stop - start, 1, stop - start)
            continue
        if start % length:
            rest = length - start % length
            add(begin + head * stride + start % length, rest, 1, rest)
            head += 1
        add(begin + head * stride, length, tail - head, stride)
        add(begin + tail * stride, stop % length, 1, stop % length)
    return cut


def state_part(program, state, parameter, replica):
    """What of a parameter's optimizer state lies here, as a parameter; None: nothing."""
    region = next((r.offset for r in program.regions if r.name == "parameters"), 0)
    at = parameter.address - region
    if at < state.begin or (state.bytes and at >= state.begin + state.bytes):
        return None  # the state of other parameters
    at -= state.begin
    name = f"{parameter.name}/{state.name}"
    if not state.part_bytes:
        return dataclasses.replace(parameter, name=name, address=state.offset + at)
    begin = replica * state.part_bytes
    start = max(at, begin)
    stop = max(start, min(at + parameter.local_elements * 4, begin + state.part_bytes))
    if start == stop:
        return None
    ranges = cut_ranges(parameter.ranges, (start - at) // 4, (stop - start) // 4)
    return dataclasses.replace(parameter, name=name, ranges=ranges,
                               address=state.offset + start - begin)


# --------------------------------------------------------------- steps, samples


class IslandSteps:
    """How an island's inner steps lie in the job's, which are those of an island with the
    server's H; without `inner_steps` of its own, or a server, they are the job's."""

    def __init__(self, plan, island):
        self._job = plan.server.inner_steps if plan.HasField("server") else 1
        self.in_round = plan.islands[island].inner_steps or self._job

    def of_job(self, steps):
        """The island's steps when the job has done so many: as many whole rounds, and as many
        steps behind them."""
        return steps // self._job * self.in_round + steps % self._job

    def to_job(self, steps):
        """The inverse, where what lies behind whole rounds is less than either H."""
        return (steps // self.in_round * self._job
                + min(steps % self.in_round, self._job - 1))

    def progress(self, steps):
        """How far the job is, in its steps, when the island has done so many: rounded down."""
        return steps * self._job // self.in_round


def has_own_inner_steps(plan):
    return any(island.inner_steps not in (0, plan.server.inner_steps) for island in plan.islands)


def check_steps(plan, steps):
    """Islands with inner steps of their own end together after whole rounds."""
    in_round = plan.server.inner_steps
    if has_own_inner_steps(plan) and steps % in_round:
        raise Error(f"--steps {steps}: expected whole rounds, a multiple of the server's "
                    f"inner_steps {in_round}, since an island has inner_steps of its own; give "
                    f"{(steps // in_round + 1) * in_round}")


def _samples_per_round(plan):
    return sum(IslandSteps(plan, i).in_round * island.batch
               for i, island in enumerate(plan.islands))


def first_sample(plan, island, step):
    """Of all samples, the first that the island takes in inner step `step`."""
    batch = plan.islands[island].batch
    if not plan.HasField("server"):
        return step * batch
    in_round = IslandSteps(plan, island).in_round
    before = sum(IslandSteps(plan, i).in_round * plan.islands[i].batch for i in range(island))
    return step // in_round * _samples_per_round(plan) + before + step % in_round * batch


def leased_samples(plan, steps):
    """How many samples are dealt to some island when `steps` of the job are done."""
    in_round = plan.server.inner_steps if plan.HasField("server") else 1
    return -(-steps // in_round) * _samples_per_round(plan)
