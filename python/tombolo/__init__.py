"""Plans, simulates and runs the training of one model on unlike chips in distant data centres.

    import tombolo

    model = tombolo.export(module, sample, "model.onnx")     # a PyTorch module
    plan = tombolo.plan(model, "sites.yaml", global_batch=16, lr=1e-3)
    print(plan.predicted.step_seconds, plan.strategy.islands)
    simulation = tombolo.simulate(plan, rounds=100, fail=["jinan@600+120"])
    run = tombolo.run(plan, model, "tokens.bin", steps=200)
    print(run.steps[-1].loss)

Each function but `export` and `read_plan` starts one of Tombolo's programs, which it finds in
the folder TOMBOLO_BIN or on PATH, and gives its results as frozen dataclasses; `frame` makes
a pandas data frame of a sequence of them. docs/Python.md tells more.
"""

from ._commands import plan, run, simulate
from ._errors import (BadInput, ProgramNotFound, ProgramWarning, RunFailed, TomboloError,
                      WrongUsage)
from ._export import export
from ._frame import frame
from ._planfile import read_plan
from .results import Plan, Run, Simulation, Strategy

__all__ = [
    "BadInput", "Plan", "ProgramNotFound", "ProgramWarning", "Run", "RunFailed", "Simulation",
    "Strategy", "TomboloError", "WrongUsage", "export", "frame", "plan", "read_plan", "run",
    "simulate",
]
