#!/usr/bin/python3
"""What islands that meet now and then cost in loss, against synchronous training on the same
tokens; docs/LossStudy.md tells of it:

    sudo apt-get install bible-kjv python3-matplotlib
    utils/build && nice -n 19 benchmarks/loss_study.py [--work FOLDER] [SETTING ...]

Trains a GPT of 3.3 M parameters with tombolo-run on the King James Bible, byte by byte, with
each of the settings below and each seed. A run that is done is a row of
benchmarks/loss_study/results.csv, with its evaluation loss after every 100 steps; what has a
row is not done again. At the end - or, with --report, at once - the table and the picture of
docs/LossStudy.md are made from the rows. With names of settings only these are run."""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "benchmarks", "loss_study", "results.csv")
PAGE = os.path.join(ROOT, "docs", "LossStudy.md")
PICTURE = os.path.join(ROOT, "docs", "pictures", "loss.png")
MARKS = "<!-- made by benchmarks/loss_study.py -->", "<!-- end -->"

SEEDS = [1, 2, 3]
STEPS, WARM_UP, EVERY = 1500, 300, 100
BATCH, LENGTH = 8, 64  # samples of an inner step over all islands, tokens of a sample
POINTS = range(EVERY, STEPS + 1, EVERY)
LAYERS, HIDDEN, HEADS = 4, 256, 8
# AdamW as the planner's default; the rate falls to a tenth of a percent of itself at the end.
TRAINING = ["--lr", "1e-3", "--lr-schedule", "cosine", "--warmup-steps", "100",
            "--decay-steps", str(STEPS), "--clip-grad-norm", "1.0"]
HELD_OUT, BLOCK = 128, 1024  # of so many blocks of so many bytes, one

# The defaults of strategy.yaml. Nobody is ever late here: what is measured is the algorithm,
# not this machine.
DEFAULT = {"islands": 2, "warm": True, "inner_steps": 16, "fragments": 8, "overlap_steps": 2,
           "compression": "int8", "optimizer": "nesterov", "lr": 0.7, "momentum": 0.5}
# One thing at a time, the most telling first.
SETTINGS = {
    "synchronous": None,
    "default": {},
    "outer momentum 0.9": {"momentum": 0.9},
    "mean of parameters": {"optimizer": "sgd", "lr": 1.0, "momentum": 0.0},
    "H 64": {"inner_steps": 64},
    "no warm start": {"warm": False},
    "H 4": {"inner_steps": 4},
    "outer lr 0.4": {"lr": 0.4},
    "outer lr 1": {"lr": 1.0},
    "outer momentum 0": {"momentum": 0.0},
    "compression none": {"compression": "none"},
    "compression int4": {"compression": "int4"},
    "islands 4": {"islands": 4},
    "overlap 0": {"overlap_steps": 0},
    "compression bf16": {"compression": "bf16"},
}


class Study:
    def __init__(self, work, bin_folder):
        self.work, self.bin = work, bin_folder
        os.makedirs(work, exist_ok=True)
        text = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True).stdout
        # Each line is a verse behind its number.
        text = b"\n".join(line.split(b" ", 1)[1] for line in text.splitlines() if b" " in line)
        blocks = [text[at:at + BLOCK] for at in range(0, len(text), BLOCK)]
        held = blocks[HELD_OUT // 2::HELD_OUT]
        del blocks[HELD_OUT // 2::HELD_OUT]
        for name, part in ("train", blocks), ("held", held):
            with open(self.path(name + ".bin"), "wb") as file:
                file.write(b"".join(bytes((byte, 0)) for byte in b"".join(part)))

    def path(self, name):
        return os.path.join(self.work, name)

    def program(self, name, *args):
        result = subprocess.run([os.path.join(self.bin, name), *map(str, args)], capture_output=True, text=True,
                                stdin=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        if result.returncode:
            sys.exit(f"{name} {' '.join(map(str, args))}\nexit status {result.returncode}\n{result.stderr}")

    def model(self, seed):
        path = self.path(f"model-{seed}.onnx")
        if not os.path.exists(path):
            self.program("tombolo-model", "gpt", "--layers", LAYERS, "--hidden", HIDDEN, "--heads", HEADS,
                         "--vocab", 256, "--seq", LENGTH, "--seed", seed, "-o", path)
        return path

    def plan(self, seed, setting):
        """Of one chip at each site; synchronous training is one island."""
        sites = [f"site{i}" for i in range(setting["islands"] if setting else 1)]
        with open(self.path("sites.yaml"), "w") as file:
            file.write("chips: [{name: core, tflops: {f32: 0.1, bf16: 0.1}, memory_gib: 4, "
                       "memory_gbytes_per_second: 20, efficiency: {matmul: 0.7, memory: 0.7}}]\nsites:\n")
            for site in sites:
                file.write(f"  - {{name: {site}, pools: [{{name: core, chip: core, nodes: 1, chips_per_node: 1}}],\n"
                           "     fabric: {gbits_per_second: 10, latency_us: 30}}\n")
            if setting:
                file.write("links:\n")
            for i, a in enumerate(sites):
                for b in sites[i + 1:]:
                    file.write(f"  - {{sites: [{a}, {b}], gbits_per_second: 1, rtt_ms: 30}}\n")
        each = BATCH // len(sites)
        with open(self.path("strategy.yaml"), "w") as file:
            file.write("islands:\n")
            for site in sites:
                file.write(f"  - {{sites: [{site}], batch: {each}, microbatch: {each}, schedule: 1f1b, stages: "
                           f"[{{pool: {site}/core, data_parallel: 1, tensor_parallel: 1, blocks: {LAYERS + 2}}}]}}\n")
            if setting:
                file.write("server:\n  outer: {" + ", ".join(
                    f"{key}: {setting[key]}" for key in ("optimizer", "lr", "momentum")) + "}\n")
                for key in ("inner_steps", "fragments", "overlap_steps", "compression"):
                    file.write(f"  {key}: {setting[key]}\n")
                file.write(f"  quorum: {len(sites)}\n  deadline_seconds: 100000\n")
        self.program("tombolo-plan", self.model(seed), "--topology", self.path("sites.yaml"), "--strategy",
                     self.path("strategy.yaml"), "--global-batch", BATCH, "--simulate", 0, *TRAINING,
                     "-o", self.path("p.plan"))

    def train(self, seed, steps, *flags):
        self.program("tombolo-run", "local", self.path("p.plan"), "--model", self.model(seed), "--data",
                     self.path("train.bin"), "--steps", steps, "--shuffle", seed, "--threads", 1,
                     "--checkpoint-dir", self.path("saved"), "--eval-data", self.path("held.bin"),
                     "--eval-every", EVERY, "--metrics", self.path("metrics.jsonl"), *flags)

    def common(self, seed):
        """The checkpoint after the first fifth, which is synchronous."""
        folder = self.path(f"common-{seed}")
        if not os.path.exists(folder):
            self.plan(seed, None)
            self.train(seed, WARM_UP)
            os.rename(self.path("saved"), folder)
            os.rename(self.path("metrics.jsonl"), self.path(f"common-{seed}.jsonl"))
        return folder

    def measure(self, name, seed):
        """Evaluation losses by step: the mean over islands, whose parameters are the same at
        the end."""
        setting = None if SETTINGS[name] is None else {**DEFAULT, **SETTINGS[name]}
        shutil.rmtree(self.path("saved"), ignore_errors=True)
        if os.path.exists(self.path("metrics.jsonl")):
            os.remove(self.path("metrics.jsonl"))
        resume = []
        if not setting or setting["warm"]:
            common = self.common(seed)
            shutil.copytree(common, self.path("saved"))
            resume = ["--resume"]
        self.plan(seed, setting)
        self.train(seed, STEPS, *resume)
        losses = {}
        files = [self.path("metrics.jsonl")] + ([] if setting else [self.path(f"common-{seed}.jsonl")])
        for path in files:
            with open(path) as file:
                for line in file:
                    entry = json.loads(line)
                    if entry.get("event") == "eval":
                        losses.setdefault(entry["step"], []).append(entry["loss"])
        if max(losses[STEPS]) - min(losses[STEPS]) > 1e-6 * losses[STEPS][0]:
            sys.exit(f"{name}, seed {seed}: islands end with unlike losses: {losses[STEPS]}")
        return {step: statistics.mean(found) for step, found in losses.items()}


# ------------------------------------------------------------------------------- results


def read_results():
    """Losses by step, of each setting and seed."""
    if not os.path.exists(RESULTS):
        return {}
    with open(RESULTS, newline="") as file:
        return {(row["setting"], int(row["seed"])): {step: float(row[str(step)]) for step in POINTS if row[str(step)]}
                for row in csv.DictReader(file)}


def add_result(name, seed, seconds, losses):
    is_new = not os.path.exists(RESULTS)
    with open(RESULTS, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["setting", "seed", "seconds", *POINTS])
        writer.writerow([name, seed, round(seconds), *(f"{losses[step]:.5f}" if step in losses else "" for step in POINTS)])


def against_synchronous(results, name):
    """Of each seed that has both: how much larger the last loss is."""
    return {seed: results[name, seed][STEPS] / results["synchronous", seed][STEPS] - 1 for seed in SEEDS
            if (name, seed) in results and ("synchronous", seed) in results}


def table(results):
    lines = ["| setting | evaluation loss, by seed | against synchronous: mean (least to most) |", "|---|---|---|"]
    for name in SETTINGS:
        gaps = against_synchronous(results, name)
        losses = ", ".join(f"{results[name, seed][STEPS]:.4f}" if (name, seed) in results else "not run" for seed in SEEDS)
        gap = (f"{statistics.mean(gaps.values()):+.2%} ({min(gaps.values()):+.2%} to {max(gaps.values()):+.2%})"
               if gaps and name != "synchronous" else "")
        lines.append(f"| {name} | {losses} | {gap} |")
    return "\n".join(lines)


def draw(results):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (whole, end) = pyplot.subplots(1, 2, figsize=(11, 4.6))
    for number, name in enumerate(SETTINGS):
        runs = [results[name, seed] for seed in SEEDS if (name, seed) in results]
        if not runs:
            continue
        steps = [step for step in POINTS if all(step in run for run in runs)]
        means = [statistics.mean(run[step] for run in runs) for step in steps]
        style = {"color": "black", "linewidth": 2.5} if name == "synchronous" else {"color": pyplot.cm.tab20(number % 20)}
        label = f"{name} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
        whole.plot(steps, means, label=label, **style)
        end.plot(steps, means, **style)
    last = [run[STEPS] for run in results.values()]
    end.set_xlim(STEPS * 0.7, STEPS)
    end.set_ylim(min(last) * 0.99, max(last) * 1.03)
    for axes, title in (whole, "the whole run"), (end, "its end"):
        axes.set(title=title, xlabel="inner steps", ylabel="evaluation loss, nats per byte")
        axes.axvline(WARM_UP, color="grey", linestyle=":")
        axes.grid(alpha=0.3)
    figure.legend(loc="center right", fontsize=8)
    figure.tight_layout(rect=(0, 0, 0.8, 1))
    figure.savefig(PICTURE, dpi=100, metadata={"Software": None})


def report(results):
    print(table(results))
    draw(results)
    with open(PAGE) as file:
        before, rest = file.read().split(MARKS[0], 1)
    _, after = rest.split(MARKS[1], 1)
    with open(PAGE, "w") as file:
        file.write(f"{before}{MARKS[0]}\n{table(results)}\n{MARKS[1]}{after}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("settings", nargs="*", metavar="SETTING")
    arguments.add_argument("--bin", default=os.path.join(ROOT, "build", "dev", "bin"))
    arguments.add_argument("--work", help="where checkpoints after the first fifth stay, for another call")
    arguments.add_argument("--report", action="store_true", help="run nothing")
    options = arguments.parse_args()
    if unknown := set(options.settings) - set(SETTINGS):
        arguments.error(f"unknown setting '{unknown.pop()}', expected some of '{', '.join(SETTINGS)}'")
    if not options.report:
        with tempfile.TemporaryDirectory() as temporary:
            study = Study(options.work or temporary, options.bin)
            for seed in SEEDS:
                for name in options.settings or SETTINGS:
                    if (name, seed) in read_results():
                        continue
                    begin = time.monotonic()
                    losses = study.measure(name, seed)
                    add_result(name, seed, time.monotonic() - begin, losses)
                    print(f"{name}, seed {seed}: {losses[STEPS]:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
    report(read_results())


if __name__ == "__main__":
    main()
