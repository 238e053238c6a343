#!/usr/bin/env python3
"""Small problems planned by the search and run on this machine, against the even
split of the same chips, measured alternately:
  utils/build && benchmarks/small_searches.py [CASE ...]
The chip's figures are a profile of this machine, of no model in particular.
The even split: one pipeline with the same number of blocks in each stage (a rest goes
to the first ones), of microbatches what the cost model likes best; of two sites half
of the batch each. A ratio above 1: the search's plan is faster."""
import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("TOMBOLO_BIN", os.path.join(ROOT, "build/dev/bin"))
# Model, global batch, sites and their chips, memory of a chip in GiB.
CASES = {
    "room": (["gpt", "--layers", 6, "--hidden", 256, "--heads", 8, "--vocab", 256, "--seq", 128], 8, [2], 4),
    "tight": (["gpt", "--layers", 6, "--hidden", 256, "--heads", 8, "--vocab", 256, "--seq", 128], 8, [2], 0.085),
    "head": (["gpt", "--layers", 4, "--hidden", 256, "--heads", 8, "--vocab", 8192, "--seq", 128], 8, [2], 0.13),
    "odd": (["gpt", "--layers", 5, "--hidden", 192, "--heads", 6, "--vocab", 4096, "--seq", 64], 12, [2], 0.08),
    "llama": (["llama", "--layers", 3, "--hidden", 256, "--heads", 8, "--kv-heads", 4, "--ffn", 704, "--vocab", 2048,
               "--seq", 128], 8, [2], 0.12),
    "sites": (["gpt", "--layers", 4, "--hidden", 128, "--heads", 4, "--vocab", 256, "--seq", 64], 16, [1, 1], 4),
}
TOPOLOGY = """\
chips:
  - {{name: core, memory_gib: {memory}, profile: {{file: core.yaml}}}}
sites:
"""
SITE = """\
  - name: s{n}
    pools:
      - {{name: cpu, chip: core, nodes: 1, chips_per_node: {chips}}}
"""
LINK = "links: [{sites: [s0, s1], gbits_per_second: 5, rtt_ms: 1}]\n"


def run(program, *arguments, check=True):
    done = subprocess.run([os.path.join(BIN, program), *map(str, arguments)], text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode and check:
        sys.exit(f"{program} {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.returncode


class Case:
    def __init__(self, name, folder):
        model, self.batch, self.sites, memory = CASES[name]
        self.folder = folder
        self.onnx = os.path.join(folder, f"{name}.onnx")
        self.topology = os.path.join(folder, f"{name}.yaml")
        self.data = os.path.join(folder, f"{name}.bin")
        run("tombolo-model", *model, "-o", self.onnx)
        with open(self.topology, "w") as file:
            file.write(TOPOLOGY.format(memory=memory))
            for n, chips in enumerate(self.sites):
                file.write(SITE.format(n=n, chips=chips))
            if len(self.sites) > 1:
                file.write(LINK)
        vocabulary = model[model.index("--vocab") + 1]
        draw = random.Random(0)
        with open(self.data, "wb") as file:
            file.write(struct.pack("<65536H", *(draw.randrange(vocabulary) for _ in range(65536))))
        self.found = os.path.join(folder, f"{name}-found.plan")
        self.strategy, self.predicted = self.plan(self.found)
        self.blocks = sum(stage["blocks"] for stage in self.strategy["islands"][0]["stages"])
        self.even = os.path.join(folder, f"{name}-even.plan")
        best = None
        for microbatch in (n for n in range(1, self.batch + 1) if self.batch % n == 0):
            plan = os.path.join(folder, f"{name}-even-{microbatch}.plan")
            planned = self.plan(plan, self.even_strategy(microbatch))
            if planned and (best is None or planned[1] < best):
                best = planned[1]
                os.replace(plan, self.even)
        if best is None:
            sys.exit(f"{name}: the even split does not fit")

    def even_strategy(self, microbatch):
        lines = ["islands:"]
        for n, chips in enumerate(self.sites):
            batch = self.batch // len(self.sites)
            lines += [f"  - sites: [s{n}]", f"    batch: {batch}", f"    microbatch: {min(microbatch, batch)}",
                      "    schedule: 1f1b", "    stages:"]
            for stage in range(chips):
                blocks = self.blocks // chips + (stage < self.blocks % chips)
                lines.append(f"      - {{pool: s{n}/cpu, data_parallel: 1, tensor_parallel: 1, blocks: {blocks}}}")
        if len(self.sites) > 1:
            lines.append("server: {inner_steps: %d}" % self.strategy["server"]["inner_steps"])
        return "\n".join(lines) + "\n"

    def plan(self, path, strategy=None):
        summary = os.path.join(self.folder, "summary.json")
        given = []
        if strategy:
            given = ["--strategy", os.path.join(self.folder, "strategy.yaml")]
            with open(given[1], "w") as file:
                file.write(strategy)
        if run("tombolo-plan", self.onnx, "--topology", self.topology, "--global-batch", self.batch, *given,
               "--max-inner-steps", 8, "-o", path, "--json", summary, check=not strategy):
            return None
        with open(summary) as file:
            result = json.load(file)
        return result["strategy"], result["predicted"]["step_seconds"]

    def seconds(self, plan, steps):
        """Median seconds of an inner step, of the slowest island."""
        metrics = os.path.join(self.folder, "metrics.jsonl")
        run("tombolo-run", "local", plan, "--model", self.onnx, "--data", self.data, "--steps", steps,
            "--metrics", metrics, "--threads", 1)
        islands = {}
        with open(metrics) as file:
            for line in map(json.loads, file):
                if "event" not in line:
                    islands.setdefault(line["island"], []).append(line["seconds"])
        return max(statistics.median(values[steps // 4:]) for values in islands.values())


def shape(strategy):
    return "; ".join(
        f"{island['batch']}/{island['microbatch']} {island['schedule']} " + ", ".join(
            f"{stage['blocks']} blocks x {sum(group['count'] for group in stage['replicas'])}"
            + (" tp" if any(group["tensor_parallel"] > 1 for group in stage["replicas"]) else "")
            for stage in island["stages"]) for island in strategy["islands"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("cases", nargs="*", default=list(CASES))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=24)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run("tombolo-profile", "--ranks", 2, "--threads", 1, "--chip", "core", "-o", os.path.join(folder, "core.yaml"))
        for name in options.cases:
            case = Case(name, folder)
            pairs = [(case.seconds(case.even, options.steps), case.seconds(case.found, options.steps))
                     for _ in range(options.rounds)]
            ratios = [even / found for even, found in pairs]
            print(f"{name}: even split {statistics.median(even for even, _ in pairs) * 1e3:.1f} ms, search "
                  f"{statistics.median(found for _, found in pairs) * 1e3:.1f} ms (predicted "
                  f"{case.predicted * 1e3:.1f}), ratio {statistics.median(ratios):.2f} "
                  f"({min(ratios):.2f} to {max(ratios):.2f}); {shape(case.strategy)}", flush=True)


main()
