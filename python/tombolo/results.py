"""What the programs tell, as frozen dataclasses. Fields are named as in `--json`, in
`metrics.jsonl` and in `strategy.yaml`, with the same units."""

from __future__ import annotations

import collections.abc
import pathlib
from dataclasses import dataclass, field
from typing import Any

from ._convert import plain

# ------------------------------------------------------------------ strategy --


@dataclass(frozen=True)
class Replicas:
    """Like replicas of a stage on the chips of one pool."""

    pool: str
    count: int = 1
    tensor_parallel: int = 1
    share: int = 1


@dataclass(frozen=True)
class StageStrategy:
    blocks: int
    recompute: str | int
    optimizer_sharding: bool
    replicas: tuple[Replicas, ...]


@dataclass(frozen=True)
class IslandStrategy:
    sites: tuple[str, ...]
    batch: int
    microbatch: int
    schedule: str
    chunks: int
    stages: tuple[StageStrategy, ...]
    inner_steps: int | None = None


@dataclass(frozen=True)
class OuterOptimizer:
    optimizer: str
    lr: float
    momentum: float  # adamw: beta 1
    # Of adamw alone:
    beta2: float | None = None
    eps: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True)
class Placement:
    primary: str
    backup: str | None = None


@dataclass(frozen=True)
class ServerStrategy:
    inner_steps: int
    fragments: int
    overlap_steps: int
    compression: str
    outer: OuterOptimizer
    quorum: int
    deadline_seconds: float
    placement: collections.abc.Mapping[str, Placement] = field(default_factory=dict)
    witness: str | None = None


@dataclass(frozen=True)
class Strategy:
    """Who does what: `strategy.yaml` in its long form. `dataclasses.replace` makes another
    one, which `tombolo.plan(..., strategy=)` takes."""

    islands: tuple[IslandStrategy, ...]
    server: ServerStrategy | None = None
    sharding: tuple[collections.abc.Mapping[str, Any], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `strategy.yaml` has it."""
        values: dict[str, Any] = plain(self)
        return values


# ---------------------------------------------------------------------- plan --


@dataclass(frozen=True)
class Prediction:
    """What a planner or a simulation foretells; memory by island and stage, of the rank
    that needs most."""

    step_seconds: float
    tokens_per_second: float
    wan_bytes_per_round: float
    bubble_fraction: float
    peak_memory_bytes: tuple[tuple[int, ...], ...]
    host_memory_bytes: tuple[tuple[int, ...], ...]
    equivalent_compute: float | None = None
    equivalent_compute_of_used_chips: float | None = None
    # Of tombolo.plan:
    tensor_parallel_seconds: tuple[tuple[float, ...], ...] | None = None
    time_sources: tuple[tuple[str, ...], ...] | None = None
    # Of tombolo.simulate:
    exchange_seconds: float | None = None
    goodput: float | None = None


@dataclass(frozen=True)
class SimulatedCandidate:
    """One of the best strategies, run on a virtual clock before one was taken."""

    predicted_step_seconds: float
    simulated_step_seconds: float


@dataclass(frozen=True)
class Alternative:
    """A strategy that the search kept; `strategy` is in short."""

    strategy: str
    step_seconds: float
    tokens_per_second: float
    memory_fraction: float
    peak_memory_bytes: float
    wan_bytes_per_round: float
    wan_bytes_per_second: float
    simulated_step_seconds: float | None = None


@dataclass(frozen=True)
class Search:
    candidates: int
    optimal: bool
    lower_bound: float | None = None
    simulated: tuple[SimulatedCandidate, ...] = ()
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class PlannedIsland:
    """Chips that hold one complete copy of the model and train synchronously."""

    sites: tuple[str, ...]
    batch: int
    microbatch: int
    step_seconds: float
    schedule: str | None  # None: a plan made before plans said it


@dataclass(frozen=True)
class PlannedStage:
    """The replicas of one stage on one pool, and what each of their ranks needs."""

    island: int
    stage: int
    pool: str
    replicas: int
    tensor_parallel: int
    share: int
    ranks: int
    arena_bytes: int
    memory_bytes: collections.abc.Mapping[str, int]  # the arena, by kind
    host_bytes: int
    # None: a plan made before plans said it
    blocks: int | None
    recomputed_blocks: int | None
    optimizer_sharding: bool | None


@dataclass(frozen=True)
class Plan:
    """A plan file and what it says; `search`, `strategy` and `text` only from tombolo.plan."""

    path: pathlib.Path
    checksum: str
    model_hash: str
    topology_hash: str
    global_batch: int
    tokens_per_sample: int
    islands: tuple[PlannedIsland, ...]
    stages: tuple[PlannedStage, ...]
    predicted: Prediction
    search: Search | None = None
    strategy: Strategy | None = None
    text: str = field(default="", repr=False)  # the table that tombolo-plan prints


# ---------------------------------------------------------------- simulation --


@dataclass(frozen=True)
class SimulatedClass:
    """Like ranks of an island: where the time of their steps goes."""

    stage: int
    rank: int
    ranks: int
    pool: str
    compute_seconds: float
    exposed_seconds: collections.abc.Mapping[str, float]


@dataclass(frozen=True)
class SimulatedIsland:
    step_seconds: float
    steps: int
    steps_lost: int
    rounds: int
    down_seconds: float
    classes: tuple[SimulatedClass, ...]


@dataclass(frozen=True)
class SimulatedPool:
    pool: str
    chips: int
    used: int
    utilisation: float


@dataclass(frozen=True)
class SimulatedLine:
    """One direction of a line between sites."""

    source: str
    target: str
    bytes: float
    utilisation: float


@dataclass(frozen=True)
class Simulation:
    """What came out of a plan on a virtual clock."""

    predicted: Prediction
    seconds: float
    steps: int
    steps_simulated: int
    events: int
    islands: tuple[SimulatedIsland, ...]
    pools: tuple[SimulatedPool, ...]
    lines: tuple[SimulatedLine, ...]
    log: tuple[str, ...]


# ----------------------------------------------------------------------- run --


@dataclass(frozen=True)
class Step:
    """One inner step of one island; a loss that was not finite is NaN."""

    step: int
    island: int
    loss: float
    seconds: float
    tokens: int
    grad_norm: float | None = None


@dataclass(frozen=True)
class Event:
    """Anything else that happened; docs/Operations.md has the kinds and their fields."""

    event: str
    island: int | None
    step: int | None
    message: str | None
    fields: collections.abc.Mapping[str, Any]  # all of them


@dataclass(frozen=True)
class Run:
    """A run that came to its end, or was told to end and saved (`stopped`)."""

    steps: tuple[Step, ...]
    events: tuple[Event, ...]
    metrics: pathlib.Path | None  # the file, where one was asked for

    @property
    def stopped(self) -> bool:
        return any(event.event == "stopped" for event in self.events)

    def island(self, island: int) -> tuple[Step, ...]:
        """The steps of one island."""
        return tuple(step for step in self.steps if step.island == island)
