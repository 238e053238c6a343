#!/usr/bin/env python3
"""Iterations of mixed and uniform clusters of chips that others have measured layer by layer,
foretold without fitting anything:

  utils/build && benchmarks/measured_clusters.py LAYER_TIMES.csv

For each plan the seconds of an iteration by tombolo-plan and by tombolo-sim, beside the formula of
the simulator that the times come with: iteration = (m - 1) x slowest stage + sum of stages + update +
gradient ring. It sends nothing between stages and overlaps nothing; so a second table takes all wires
for infinitely fast, where the clock must agree with the formula. Measured iterations of these clusters
are not with the table, so neither is compared with them here. Optimizer state is not sharded: the
measured updates are of whole layers.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

from measured_layers import BIN, CHIPS, MODELS, Times, score, topology, write_model

BATCH = 256
# Of one type of chip: stages, replicas, tensor parallelism, microbatch.
UNIFORM = {
    "OPT-350M": {
        "A100-40": [(1, 8, 1, 2), (2, 4, 1, 4), (4, 2, 1, 2), (2, 2, 2, 4)],
        "A100-80": [(1, 8, 1, 4), (4, 2, 1, 4), (2, 2, 2, 8)],
        "V100-16": [(2, 4, 1, 2), (4, 2, 1, 1), (2, 2, 2, 2)],
        "GH-96": [(1, 8, 1, 8), (2, 4, 1, 8), (2, 2, 2, 16)],
        "RTX-3090": [(1, 16, 1, 2), (2, 8, 1, 2), (4, 2, 2, 4)],
        "Titan-RTX": [(1, 16, 1, 2), (2, 8, 1, 2), (4, 2, 2, 4)],
        "RTX-2080": [(2, 8, 1, 1), (4, 4, 1, 1), (4, 2, 2, 2)],
    },
    "GPT-Neo-2.7B": {
        "A100-40": [(4, 2, 1, 1), (2, 2, 2, 1), (2, 1, 4, 2)],
        "A100-80": [(2, 4, 1, 2), (2, 2, 2, 4)],
        "GH-96": [(2, 4, 1, 4), (1, 4, 2, 4)],
        "V100-16": [(8, 1, 2, 1), (4, 1, 4, 1)],
    },
}
# Rows of (chip, replicas, tensor parallelism) and a microbatch: a stage each.
MIXED = {
    "OPT-350M": [
        ([("A100-40", 8, 1), ("V100-16", 8, 1)], 2),
        ([("A100-40", 4, 2), ("V100-16", 4, 2)], 4),
        ([("GH-96", 4, 1), ("A100-80", 4, 1)], 8),
        ([("GH-96", 4, 1), ("V100-16", 4, 1)], 2),
        ([("RTX-3090", 8, 1), ("Titan-RTX", 8, 1)], 2),
        ([("RTX-3090", 4, 1), ("Titan-RTX", 4, 1), ("RTX-2080", 4, 1)], 2),
        ([("RTX-3090", 4, 2), ("RTX-2080", 4, 2)], 4),
    ],
    "GPT-Neo-2.7B": [
        ([("A100-40", 4, 1), ("A100-40", 4, 1), ("V100-16", 4, 1), ("V100-16", 4, 1)], 1),
        ([("A100-40", 4, 2), ("V100-16", 4, 2)], 1),
        ([("GH-96", 4, 1), ("A100-80", 4, 1)], 2),
        ([("GH-96", 2, 2), ("A100-40", 2, 2), ("A100-40", 2, 2)], 2),
    ],
}


def blocks_of(stages, microbatch, times, layers):
    """Layers in proportion to the chips' rates; the embedding is with the first, the head with the last."""
    rates = [1 / sum(times.of(chip, microbatch, degree, 2)[:2]) for chip, _, degree in stages]
    counts = [max(1, round(layers * rate / sum(rates))) for rate in rates]
    counts[rates.index(max(rates))] += layers - sum(counts)
    counts[0] += 1
    counts[-1] += 1
    return counts


def strategy(stages, microbatch, blocks):
    lines = ["islands:", "  - sites: [s]", f"    batch: {BATCH}", f"    microbatch: {microbatch}",
             "    schedule: 1f1b", "    stages:"]
    for (chip, replicas, degree), count in zip(stages, blocks):
        lines.append(f"      - {{pool: s/{chip}, data_parallel: {replicas}, tensor_parallel: {degree}, "
                     f"blocks: {count}, recompute: none, optimizer_sharding: false}}")
    return "\n".join(lines) + "\n"


def nodes_of(stages):
    chips = {}
    for chip, replicas, degree in stages:
        chips[chip] = chips.get(chip, 0) + replicas * degree
    return {chip: -(-count // CHIPS[chip][4]) for chip, count in chips.items()}


class Clusters:
    def __init__(self, table, folder):
        self.table, self.folder = table, folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def foretell(self, name, model, stages, microbatch, wires):
        """Seconds by formula, planner and simulator, and the bytes of the fullest chip; None where it does not fit."""
        shape = MODELS[name]
        times = Times(self.table, shape[0])
        blocks = blocks_of(stages, microbatch, times, shape[1])
        for file, text in (("s.yaml", topology(self.table, shape[0], nodes_of(stages), wires)),
                           ("st.yaml", strategy(stages, microbatch, blocks))):
            with open(self.path(file), "w") as out:
                out.write(text)
        done = subprocess.run([f"{BIN}/tombolo-plan", model, "--topology", self.path("s.yaml"), "--strategy",
                               self.path("st.yaml"), "--global-batch", str(BATCH), "--simulate", "0", "-o",
                               self.path("p.plan"), "--json", self.path("p.json")], capture_output=True, text=True)
        if done.returncode:
            print(f"{name}, {stages}: {done.stderr.splitlines()[0]}")
            return None
        subprocess.run([f"{BIN}/tombolo-sim", self.path("p.plan"), "--json", self.path("sim.json")], check=True,
                       stdout=subprocess.DEVNULL)
        with open(self.path("p.json")) as file:
            planned = json.load(file)
        with open(self.path("sim.json")) as file:
            simulated = json.load(file)["predicted"]["step_seconds"]
        rate = score(planned["strategy"], times, shape, wires)
        memory = max(stage for island in planned["predicted"]["peak_memory_bytes"] for stage in island)
        return (1 / rate if rate else None, planned["predicted"]["step_seconds"], simulated, memory, blocks,
                planned["predicted"]["time_sources"][0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="layer times, CSV")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clusters = Clusters(os.path.abspath(options.table), folder)
        models = {name: write_model(folder, name) for name in MODELS}
        plans = [(name, [(chip, d, t)] * p, u) for name, chips in UNIFORM.items()
                 for chip, layouts in chips.items() for p, d, t, u in layouts]
        plans += [(name, stages, u) for name, rows in MIXED.items() for stages, u in rows]
        for wires in (True, False):
            print("\n" + ("With wires" if wires else "All wires infinitely fast") + ":\n")
            print("| model | stages: chips, blocks | microbatch | formula, s | planner, s | off, % | simulator, s | off, % "
                  "| fullest chip, GiB |")
            print("|---|---|---|---|---|---|---|---|---|")
            offs = {"planner": [], "simulator": []}
            for name, stages, microbatch in plans:
                one = clusters.foretell(name, models[name], stages, microbatch, wires)
                if not one:
                    continue
                formula, planned, simulated, memory, blocks, sources = one
                rows = ", ".join(f"{d} {chip}" + (f" tp {t}" if t > 1 else "") + f": {count}"
                                 for (chip, d, t), count in zip(stages, blocks))
                flag = "" if set(sources) == {"measured"} else " ~"
                if not formula:
                    print(f"| {name} | {rows} | {microbatch} | no times | {planned:.3f}{flag} | | {simulated:.3f} | | "
                          f"{memory / 2**30:.1f} |", flush=True)
                    continue
                off = [100 * (value / formula - 1) for value in (planned, simulated)]
                for key, value in zip(offs, off):
                    offs[key].append(abs(value))
                print(f"| {name} | {rows} | {microbatch} | {formula:.3f} | {planned:.3f}{flag} | {off[0]:+.1f} | "
                      f"{simulated:.3f} | {off[1]:+.1f} | {memory / 2**30:.1f} |", flush=True)
            for key, values in offs.items():
                print(f"\n{key}: {len(values)} plans, {statistics.mean(values):.1f} % from the formula on average, "
                      f"{max(values):.1f} % at most")


if __name__ == "__main__":
    main()
