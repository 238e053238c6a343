#!/usr/bin/env python3
"""What tombolo-sim foretells of a run in which one island is run natively and the other by
PyTorch, against the run on this machine:
  utils/build && benchmarks/mixed_prediction.py
Each executor is a chip of its own. Its constants are fitted (tombolo-profile --fit) to
iterations of other shapes than those foretold, measured while both islands run, with a
core each. Needs an otherwise idle machine."""
import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("TOMBOLO_BIN", os.path.join(ROOT, "build/dev/bin"))
MODEL = ["gpt", "--layers", 4, "--hidden", 256, "--heads", 4, "--vocab", 2048, "--seq", 128]
INNER_STEPS = 16
# (batch, microbatch) of the native island and of PyTorch's.
FITTED = [((4, 1), (4, 1)), ((4, 4), (4, 4)), ((16, 2), (16, 2)), ((16, 8), (16, 8))]
FORETOLD = [((8, 2), (8, 2)), ((12, 4), (4, 2)), ((16, 4), (8, 8))]
SITES = ("native", "torch")
TOPOLOGY = """\
chips:
  - {{name: core-native, tflops: {{f32: 0.3}}, memory_gib: 6, memory_gbytes_per_second: 40, {native}}}
  - {{name: core-torch, tflops: {{f32: 0.3}}, memory_gib: 6, memory_gbytes_per_second: 40, {torch}}}
sites:
  - name: native
    pools: [{{name: core, chip: core-native, nodes: 1, chips_per_node: 1, {wire}}}]
    hosts: {{count: 1, memory_gib: 8}}
  - name: torch
    pools: [{{name: core, chip: core-torch, nodes: 1, chips_per_node: 1, {wire}}}]
    hosts: {{count: 1, memory_gib: 8}}
links: [{{sites: [native, torch], gbits_per_second: 5, rtt_ms: 0.1}}]
"""
WIRE = "intra_node: {gbits_per_second: 10, latency_us: 50}"
GUESS = "efficiency: {matmul: 0.3, memory: 0.3}"


def run(program, *arguments):
    done = subprocess.run([os.path.join(BIN, program), *map(str, arguments)], text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{program} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, folder, steps):
        self.folder, self.steps = folder, steps
        self.model = self.path("model.onnx")
        run("tombolo-model", *MODEL, "-o", self.model)
        with open(self.path("tokens.bin"), "wb") as file:
            file.write(struct.pack("<262144H", *(i * 7919 * (i // 97) % 2048 for i in range(262144))))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def plan(self, shares, chips):
        sites = self.write("sites.yaml", TOPOLOGY.format(wire=WIRE, **chips))
        lines = ["islands:"]
        for site, (batch, microbatch) in zip(SITES, shares):
            lines += [f"  - sites: [{site}]", f"    batch: {batch}", f"    microbatch: {microbatch}",
                      "    schedule: 1f1b", "    stages:",
                      f"      - {{pool: {site}/core, blocks: 6, data_parallel: 1, tensor_parallel: 1}}"]
        lines.append(f"server: {{inner_steps: {INNER_STEPS}, fragments: 1, overlap_steps: 0, compression: none, quorum: 2}}")
        strategy = self.write("strategy.yaml", "\n".join(lines) + "\n")
        run("tombolo-plan", self.model, "--topology", sites, "--strategy", strategy, "--global-batch",
            sum(batch for batch, _ in shares), "--simulate", 0, "-o", self.path("p.plan"), "--json",
            self.path("plan.json"))

    def measure(self):
        """By island the median inner step, and the mean inner step of the median round of the slower one."""
        steps = self.steps - self.steps % INNER_STEPS
        run("tombolo-run", "local", self.path("p.plan"), "--model", self.model, "--data", self.path("tokens.bin"),
            "--steps", steps, "--threads", 1, "--pin", "--executor", "torch=torch", "--metrics", self.path("m.jsonl"))
        seconds = {}
        with open(self.path("m.jsonl")) as file:
            for line in map(json.loads, file):
                if "event" not in line:
                    seconds.setdefault(line["island"], []).append(line["seconds"])
        rounds = [max(statistics.mean(own[at:at + INNER_STEPS]) for own in seconds.values())
                  for at in range(INNER_STEPS, steps, INNER_STEPS)]
        # What an exchange waits for is in the last step of a round alone.
        inner = {island: statistics.median(s for i, s in enumerate(own) if i >= INNER_STEPS and (i + 1) % INNER_STEPS)
                 for island, own in seconds.items()}
        return inner, statistics.median(rounds)

    def fit(self, site, runs):
        lines = ["model,global_batch,microbatch,data_parallel,tensor_parallel,pipeline_parallel,pool,seconds"]
        lines += [f"model.onnx,{batch},{microbatch},1,1,1,{site}/core,{seconds}" for (batch, microbatch), seconds in runs]
        run("tombolo-profile", "--fit", self.write(f"{site}.csv", "\n".join(lines) + "\n"), "--topology",
            self.path("sites.yaml"), "--chip", f"core-{site}", "--precision", "f32", "--folds", 1, "-o", self.path(f"{site}.yaml"))
        return f"profile: {{file: {site}.yaml}}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--steps", type=int, default=48)
    arguments.add_argument("--rounds", type=int, default=2, help="each plan is measured so often, in turn")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder, options.steps)
        guess = dict.fromkeys(SITES, GUESS)
        runs = {site: [] for site in SITES}
        measured = {shares: [] for shares in FORETOLD}
        # In turn, so that a machine whose speed changes is the same to all.
        for _ in range(options.rounds):
            for shares in FITTED + FORETOLD:
                bench.plan(shares, guess)
                inner, round_mean = bench.measure()
                if shares in measured:
                    measured[shares].append(round_mean)
                else:
                    for island, site in enumerate(SITES):
                        runs[site].append((shares[island], inner[island]))
        for site in SITES:
            print(f"{site}: fitted to " + ", ".join(f"batch {batch} by {microbatch}: {seconds * 1e3:.1f} ms"
                                                    for (batch, microbatch), seconds in runs[site]))
        chips = {site: bench.fit(site, runs[site]) for site in SITES}
        worst = 0
        for shares, times in measured.items():
            bench.plan(shares, chips)
            run("tombolo-sim", bench.path("p.plan"), "--json", bench.path("sim.json"))
            with open(bench.path("sim.json")) as file:
                foretold = json.load(file)["predicted"]["step_seconds"]
            with open(bench.path("plan.json")) as file:
                planned = json.load(file)["predicted"]["step_seconds"]
            seconds = statistics.median(times)
            worst = max(worst, abs(foretold / seconds - 1))
            print(f"native {shares[0]}, torch {shares[1]}: foretold {foretold * 1e3:.1f} ms, measured "
                  f"{seconds * 1e3:.1f} ms ({min(times) * 1e3:.1f} to {max(times) * 1e3:.1f}), off "
                  f"{100 * (foretold / seconds - 1):+.1f} % (planner {planned * 1e3:.1f} ms, "
                  f"{100 * (planned / seconds - 1):+.1f} %)", flush=True)
        print(f"off at most {100 * worst:.1f} %")


main()
