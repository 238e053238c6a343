#!/usr/bin/python3
"""Training throughput of one rank against PyTorch eager, same model, data, batch
and thread count, measured alternately.

    utils/build && benchmarks/single_rank_throughput.py [--executor torch]

Prints tokens/s of both in every round, and the median ratio (above 1: Tombolo
is faster). PyTorch's AdamW is measured with its default and its `foreach` form
and the faster one counts."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test", "EndToEnd"))

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
arguments.add_argument("--bin", default=os.path.join(ROOT, "build", "dev", "bin"))
arguments.add_argument("--layers", type=int, default=6)
arguments.add_argument("--hidden", type=int, default=256)
arguments.add_argument("--heads", type=int, default=8)
arguments.add_argument("--length", type=int, default=128)
arguments.add_argument("--vocab", type=int, default=256)
arguments.add_argument("--batch", type=int, default=4)
arguments.add_argument("--threads", type=int, default=1)
arguments.add_argument("--steps", type=int, default=40)
arguments.add_argument("--rounds", type=int, default=5)
arguments.add_argument("--executor", default="native", help="what runs Tombolo's rank")
arguments.add_argument("--torch-child", help=argparse.SUPPRESS)
options = arguments.parse_args()

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
os.environ.setdefault("TOMBOLO_BIN", options.bin)
os.environ.setdefault("TOMBOLO_PYTHON", sys.executable)

WARM_UP_STEPS = 10


def make_model():
    import reference
    return reference.GPT(layers=options.layers, hidden=options.hidden, heads=options.heads,
                         vocab=options.vocab, length=options.length, mask="buffer")


def torch_child():
    """One PyTorch run: prints seconds per step."""
    import time

    import numpy as np
    import torch

    import reference
    torch.set_num_threads(options.threads)
    model = make_model()
    folder, foreach = options.torch_child.rsplit(":", 1)
    samples = reference.Samples(np.fromfile(os.path.join(folder, "tokens.bin"), np.uint16),
                                options.length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=foreach == "foreach")
    seconds = []
    for n in range(options.steps):
        start = time.perf_counter()
        inputs, labels = samples.batch(n * options.batch, options.batch)
        optimizer.zero_grad()
        loss = reference.token_losses(model, inputs, labels) / labels.numel()
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[WARM_UP_STEPS:]))


def run_torch(folder, form):
    output = subprocess.run(
        [sys.executable, "-W", "ignore", *sys.argv, "--torch-child", f"{folder}:{form}"],
        check=True, capture_output=True, text=True).stdout
    return statistics.median(json.loads(output))


def run_tombolo(folder, plan, onnx):
    import support
    metrics = os.path.join(folder, "metrics.jsonl")
    support.run("tombolo-run", "local", plan, "--model", onnx, "--data",
                os.path.join(folder, "tokens.bin"), "--steps", options.steps, "--metrics", metrics,
                "--threads", options.threads, "--executor", options.executor)
    with open(metrics) as lines:
        entries = [json.loads(line) for line in lines]
    return statistics.median(e["seconds"] for e in entries[WARM_UP_STEPS:] if "event" not in e)


def main():
    import numpy as np

    import reference
    import support
    with tempfile.TemporaryDirectory() as folder:
        onnx, plan = os.path.join(folder, "m.onnx"), os.path.join(folder, "p.plan")
        np.random.default_rng(0).integers(options.vocab, size=1 << 18).astype(np.uint16).tofile(
            os.path.join(folder, "tokens.bin"))
        reference.export_onnx(make_model(), onnx, 17, True)
        with open(os.path.join(folder, "sites.yaml"), "w") as file:
            file.write(support.topology({"here": 1}, memory_gib=8))
        with open(os.path.join(folder, "strategy.yaml"), "w") as file:
            file.write(support.strategy([support.island(
                "here", options.batch, options.batch, [options.layers + 2])]))
        support.run("tombolo-plan", onnx, "--topology", file.name.replace("strategy", "sites"),
                    "--strategy", file.name, "--global-batch", options.batch, "--lr", 1e-3, "-o", plan)
        tokens = options.batch * options.length
        print(f"{'round':>6} {'tombolo':>12} {'torch':>12} {'torch foreach':>14} {'ratio':>8}   tokens/s")
        ratios = []
        for n in range(options.rounds):
            ours = run_tombolo(folder, plan, onnx)
            plain, foreach = run_torch(folder, "default"), run_torch(folder, "foreach")
            ratios.append(min(plain, foreach) / ours)
            print(f"{n:>6} {tokens / ours:>12.0f} {tokens / plain:>12.0f} {tokens / foreach:>14.0f} "
                  f"{ratios[-1]:>8.3f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f}, "
              f"from {min(ratios):.3f} to {max(ratios):.3f}")


torch_child() if options.torch_child else main()
