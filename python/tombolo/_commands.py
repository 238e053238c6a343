"""tombolo-plan, tombolo-sim and tombolo-run as functions. A keyword is the option of that
name (`lr_schedule` is `--lr-schedule`); what is None the program decides."""

from __future__ import annotations

import collections.abc
import dataclasses
import json as json_module
import os
import pathlib
import signal
import tempfile
from typing import Any, Literal, TypeVar

from ._convert import Mismatch, build, checked, convert, plain
from ._errors import TomboloError
from ._planfile import read_plan
from ._programs import execute, operand, words
from .results import (Event, Plan, Prediction, Run, Search, SimulatedIsland, SimulatedLine,
                      SimulatedPool, Simulation, Step, Strategy)

StrPath = str | os.PathLike[str]
Told = TypeVar("Told")
Words = str | collections.abc.Sequence[str]


def plan(
    model: StrPath,
    topology: StrPath | collections.abc.Mapping[str, Any],
    global_batch: int,
    output: StrPath | None = None,
    *,
    strategy: StrPath | Strategy | collections.abc.Mapping[str, Any] | None = None,
    bind: collections.abc.Mapping[str, int] | None = None,
    batch_dim: str | None = None,
    freeze: Words | None = None,
    loss: Literal["cross-entropy", "mse", "bce", "output"] | None = None,
    label: str | None = None,
    dropout: float | None = None,
    loss_mask: str | None = None,
    ignore_index: int | None = None,
    optimizer: Literal["sgd", "adamw"] | None = None,
    lr: float | None = None,
    beta1: float | None = None,
    beta2: float | None = None,
    eps: float | None = None,
    weight_decay: float | None = None,
    weight_decay_exclude: Words | None = None,
    momentum: float | None = None,
    lr_schedule: Literal["constant", "cosine", "linear"] | None = None,
    warmup_steps: int | None = None,
    decay_steps: int | None = None,
    clip_grad_norm: float | None = None,
    precision: Literal["f32", "bf16"] | None = None,
    baseline: bool = False,
    objective: Literal["throughput", "cost"] | None = None,
    max_inner_steps: int | None = None,
    max_overlap: int | None = None,
    max_compression: Literal["none", "bf16", "int8", "int4"] | None = None,
    max_wan_gbits: float | None = None,
    simulate: int | None = None,
    search_nodes: int | None = None,
    search_seconds: float | None = None,
    explain: bool = False,
    json: StrPath | None = None,
    dump_problem: StrPath | None = None,
    dump_phases_to: StrPath | None = None,
) -> Plan:
    """Plans the training of an ONNX model on the sites of a topology (tombolo-plan).

    `topology` and `strategy` are files, or what would stand in them; a `Strategy` is what an
    earlier plan has. The plan is written to `output`, by default beside the model, with the
    ending .plan. Ctrl-C during the search takes the best found so far, as in a shell.
    """
    given = checked(plan, locals())
    target = pathlib.Path(given.pop("output") or pathlib.Path(model).with_suffix(".plan"))
    figures = given.pop("json")
    del given["model"]
    with tempfile.TemporaryDirectory(prefix="tombolo-") as folder:
        for name in ("topology", "strategy"):
            if not isinstance(given[name], (str, os.PathLike, type(None))):
                path = pathlib.Path(folder, name + ".yaml")  # of which JSON is a part
                path.write_text(_json(name, given[name]), "utf-8")
                given[name] = path
        figures = figures or pathlib.Path(folder, "plan.json")
        finished = execute("tombolo-plan", [operand(model),
                                            *words({**given, "output": target, "json": figures})])
        told = _read_json(figures)
    made = read_plan(target)
    return dataclasses.replace(
        made, text=finished.stdout, predicted=_told(Prediction, told, "predicted"),
        search=_told(Search, told, "search"), strategy=_told(Strategy, told, "strategy"))


def simulate(
    plan: StrPath | Plan,
    *,
    rounds: int | None = None,
    steps: int | None = None,
    fail: Words | None = None,
    restart_seconds: float | None = None,
    snapshot_steps: int | None = None,
    slow: Words | None = None,
    jitter: float | None = None,
    seed: int | None = None,
    line_trace: StrPath | None = None,
    trace: StrPath | None = None,
    json: StrPath | None = None,
    unfolded: bool = False,
    no_replay: bool = False,
) -> Simulation:
    """Runs a plan on a virtual clock (tombolo-sim); three rounds (without a server one step), where nothing is said."""
    given = checked(simulate, locals())
    source = _path_of(given.pop("plan"))
    with tempfile.TemporaryDirectory(prefix="tombolo-") as folder:
        figures = given.pop("json") or pathlib.Path(folder, "sim.json")
        finished = execute("tombolo-sim", [operand(source), *words({**given, "json": figures})])
        if finished.interrupted:
            raise KeyboardInterrupt
        told = _read_json(figures)
    simulated = told.get("simulated")
    if not isinstance(simulated, dict):
        raise TomboloError("tombolo-sim --json: expected an object 'simulated'; programs and "
                           "package differ in version")
    lines = [{**line, "source": line.get("from"), "target": line.get("to")}
             for line in simulated.get("lines", [])]
    return _told(Simulation, {"all": {**simulated, "lines": lines,
                                      "predicted": told.get("predicted")}}, "all")


def run(
    plan: StrPath | Plan,
    model: StrPath,
    data: StrPath,
    steps: int,
    *,
    metrics: StrPath | None = None,
    metrics_port: int | None = None,
    metrics_host: str | None = None,
    dashboard: int | None = None,
    dashboard_host: str | None = None,
    init: int | None = None,
    checkpoint_dir: StrPath | None = None,
    checkpoint_copy: StrPath | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    export_onnx: StrPath | None = None,
    plaintext: bool = False,
    restarts: int | None = None,
    detection_seconds: float | None = None,
    line_connections: int | None = None,
    line_limit_gbits: float | None = None,
    gateway: bool = False,
    eval_data: StrPath | None = None,
    eval_every: int | None = None,
    shuffle: int | None = None,
    seed: int | None = None,
    token_bytes: int | None = None,
    threads: int | None = None,
    pin: bool = False,
    check_numerics: bool = False,
    timeout_seconds: float | None = None,
    stall_seconds: float | None = None,
    executor: Words | None = None,
    device: Words | None = None,
) -> Run:
    """Trains a plan on this machine (tombolo-run local): every rank, agent and server of it.

    On a terminal the progress is seen. Ctrl-C ends the run, with `checkpoint_dir` after the
    step it is in is saved, and is then raised; a second one ends it at once. What it had
    written by then is in the file `metrics`.
    """
    given = checked(run, locals())
    source = _path_of(given.pop("plan"))
    asked = given["metrics"]
    with tempfile.TemporaryDirectory(prefix="tombolo-") as folder:
        given["metrics"] = asked or pathlib.Path(folder, "metrics.jsonl")
        del given["model"], given["data"], given["steps"]
        finished = execute(
            "tombolo-run",
            ["local", operand(source),
             *words({"model": model, "data": data, "steps": steps, **given})],
            progress=True,
            interrupt=signal.SIGTERM if checkpoint_dir is not None else signal.SIGINT)
        if finished.interrupted:
            raise KeyboardInterrupt
        steps_done, events = _read_metrics(given["metrics"])
    return Run(steps_done, events, pathlib.Path(asked) if asked else None)


def _path_of(plan: StrPath | Plan) -> StrPath:
    return plan.path if isinstance(plan, Plan) else plan


def _json(name: str, value: Any) -> str:
    try:
        return json_module.dumps(plain(value), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected what can stand in {name}.yaml: {error}") from None


def _read_json(path: StrPath) -> dict[str, Any]:
    try:
        told = json_module.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TomboloError(f"'{path}': expected the figures as JSON: {error}") from None
    if not isinstance(told, dict):
        raise TomboloError(f"'{path}': expected an object with the figures")
    return told


def _told(cls: type[Told], told: dict[str, Any], part: str) -> Told:
    try:
        result: Told = convert(told.get(part), cls, part)
        return result
    except Mismatch as mismatch:
        raise TomboloError(f"{mismatch}; programs and package differ in version") from None


def _read_metrics(path: StrPath) -> tuple[tuple[Step, ...], tuple[Event, ...]]:
    steps: list[Step] = []
    events: list[Event] = []
    # Without a step and an event there is no file.
    lines = pathlib.Path(path).read_bytes().splitlines() if os.path.exists(path) else []
    for number, line in enumerate(lines, 1):
        try:
            told = json_module.loads(line)
            if not isinstance(told, dict):
                raise Mismatch("line", "object", told)
            if "event" not in told:
                steps.append(build(Step, told, ""))
            else:
                known = {name: told.get(name) for name in ("event", "island", "step", "message")}
                events.append(build(Event, {**known, "fields": told}, ""))
        except (ValueError, Mismatch) as error:
            raise TomboloError(f"{path}:{number}: not a line of metrics: {error}") from None
    return tuple(steps), tuple(events)
