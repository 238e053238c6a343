"""Reads plan files."""

from __future__ import annotations

import hashlib
import os
import pathlib

from ._convert import convert
from ._errors import TomboloError
from .results import Plan, PlannedIsland, PlannedStage, Prediction
from .schema import plan_pb2

FORMAT_VERSION = 1
# The last field of the message is the SHA-256 of what is before it.
_CHECKSUM_HEAD = b"\xc2\x3e\x20"
_CHECKSUM_BYTES = len(_CHECKSUM_HEAD) + 32


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """What a plan file says, without `search`, `strategy` and `text`, which are not in it."""
    try:
        path = convert(path, str | os.PathLike[str], "path")
    except Exception as mismatch:
        raise TypeError(str(mismatch)) from None
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise TomboloError(f"'{path}': cannot read the plan: {error.strerror}") from None
    body, end = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if len(data) < _CHECKSUM_BYTES or not end.startswith(_CHECKSUM_HEAD):
        raise TomboloError(f"'{path}': not a plan, or cut off: expected a checksum at the end; "
                           "write it again with tombolo-plan")
    checksum = end[len(_CHECKSUM_HEAD):]
    if checksum != hashlib.sha256(body).digest():
        raise TomboloError(f"'{path}': the checksum does not match, the file is damaged; "
                           "write it again with tombolo-plan")
    message = plan_pb2.Plan()
    try:
        message.ParseFromString(data)
    except Exception:  # DecodeError, of one of several implementations
        raise TomboloError(f"'{path}': not a plan: the message cannot be read") from None
    if message.format_version != FORMAT_VERSION:
        raise TomboloError(f"'{path}': expected plan format version {FORMAT_VERSION}, got "
                           f"{message.format_version}; programs and package differ in version")
    try:
        return _plan(pathlib.Path(path), message)
    except IndexError:
        raise TomboloError(f"'{path}': not a valid plan: a stage has a program or a prediction "
                           "that is not there") from None


def _schedule(island: plan_pb2.Island) -> str | None:
    """The word of strategy.yaml."""
    if not island.HasField("pipeline"):
        return None
    name: str = plan_pb2.Pipeline.Schedule.Name(island.pipeline.schedule)
    return name.removeprefix("SCHEDULE_").lower().replace("_", "-")


def _plan(path: pathlib.Path, message: plan_pb2.Plan) -> Plan:
    islands, stages = [], []
    for number, island in enumerate(message.islands):
        foretold = message.prediction.islands[number]
        islands.append(PlannedIsland(tuple(island.sites), island.batch, island.microbatch,
                                     foretold.step_seconds, _schedule(island)))
        made_from = island.pipeline.stages  # empty where the plan does not say it
        for place, stage in enumerate(island.stages):
            said = made_from[place] if place < len(made_from) else None
            blocks = said and sum(run.count for chunk in said.chunks for run in chunk.runs)
            for group in stage.groups:
                program = message.programs[group.program]
                memory: dict[str, int] = {}
                for region in program.regions:
                    memory[region.name] = memory.get(region.name, 0) + region.bytes
                stages.append(PlannedStage(
                    island=number, stage=place, pool=f"{group.site}/{group.pool}",
                    replicas=group.count, tensor_parallel=group.tensor_parallel,
                    share=group.share, ranks=group.count * group.tensor_parallel,
                    arena_bytes=program.arena_bytes, memory_bytes=memory,
                    host_bytes=program.host_bytes, blocks=blocks,
                    recomputed_blocks=said and said.recomputed_blocks,
                    optimizer_sharding=said and said.optimizer_sharding))

    def most(number: int, bytes_of: str) -> tuple[int, ...]:
        peaks = [0] * len(message.islands[number].stages)
        for stage in stages:
            if stage.island == number:
                peaks[stage.stage] = max(peaks[stage.stage], getattr(stage, bytes_of))
        return tuple(peaks)

    foretold = message.prediction
    optional = {name: getattr(foretold, name)
                for name in ("equivalent_compute", "equivalent_compute_of_used_chips")
                if foretold.HasField(name)}
    return Plan(
        path=path, checksum=message.checksum.hex(), model_hash=message.model_hash.hex(),
        topology_hash=message.topology_hash.hex(), global_batch=message.training.global_batch,
        tokens_per_sample=message.model.tokens_per_sample, islands=tuple(islands),
        stages=tuple(stages),
        predicted=Prediction(
            step_seconds=foretold.step_seconds, tokens_per_second=foretold.tokens_per_second,
            wan_bytes_per_round=foretold.wan_bytes_per_round,
            bubble_fraction=foretold.bubble_fraction,
            peak_memory_bytes=tuple(most(i, "arena_bytes") for i in range(len(islands))),
            host_memory_bytes=tuple(most(i, "host_bytes") for i in range(len(islands))),
            **optional))
