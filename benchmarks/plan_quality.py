#!/usr/bin/env python3
"""The plans of the search against what people do without one, on the examples,
under one cost model; writes docs/PlanQuality.md:
  utils/build && benchmarks/plan_quality.py [EXAMPLE ...]
With names of examples only these are measured and the table is printed."""
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("TOMBOLO_BIN", os.path.join(ROOT, "build/dev/bin"))
PAGE = os.path.join(ROOT, "docs/PlanQuality.md")

LLAMA_7B = ["llama-7b"]
LLAMA_13B = ["llama", "--layers", "40", "--hidden", "5120", "--heads", "40", "--kv-heads", "40",
             "--ffn", "13824", "--vocab", "32000", "--seq", "4096"]
# Example: model, global batch.
CASES = {
    "two-cities": (["llama-100b"], 2048),
    "four-vendors": (LLAMA_13B, 256),
    "fast-and-roomy": (["llama-70b"], 256),
    "slow-site": (LLAMA_7B, 256),
    "small-site": (LLAMA_13B, 128),
    "chain-of-sites": (["llama-70b"], 256),
    "two-equal-sites": (LLAMA_7B, 256),
}
BASELINES = {
    "even": "even split",
    "homogeneous": "homogeneous",
    "proportional": "proportional",
}
MICROBATCHES = (1, 2)
DEGREES = (1, 2, 4, 8)


class Pool:
    def __init__(self, site, entry, chips):
        self.site = site
        self.name = f"{site}/{entry['name']}"
        self.per_node = entry["chips_per_node"]
        self.count = entry["nodes"] * self.per_node
        self.tflops = chips[entry["chip"]]["tflops"]["bf16"]


class Case:
    """A saved problem, of which strategies are evaluated one by one."""

    def __init__(self, name, folder):
        model, self.batch = CASES[name]
        self.problem = os.path.join(folder, f"{name}.problem.yaml")
        self.strategy = os.path.join(folder, "strategy.yaml")
        self.json = os.path.join(folder, "summary.json")
        sites = os.path.join(ROOT, "examples", f"{name}.yaml")
        onnx = os.path.join(folder, "-".join(model).replace("/", "") + ".onnx")
        if not os.path.exists(onnx):
            run("tombolo-model", *model, "--no-weights", "-o", onnx)
        run("tombolo-plan", onnx, "--topology", sites, "--global-batch", self.batch, "--precision",
            "bf16", "--max-overlap", 5, "--simulate", 0, "-o", os.path.join(folder, "p.plan"), "--json",
            self.json, "--dump-problem", self.problem)
        with open(self.json) as file:
            self.found = json.load(file)
        self.blocks = sum(stage["blocks"] for stage in self.found["strategy"]["islands"][0]["stages"])
        with open(sites) as file:
            topology = yaml.safe_load(file)
        chips = {chip["name"]: chip for chip in topology["chips"]}
        self.pools = [Pool(site["name"], pool, chips)
                      for site in topology["sites"] for pool in site["pools"]]
        self.sites = [site["name"] for site in topology["sites"]]

    def fitting(self, layout):
        """Tokens per second of a layout that is made for a kind of recomputation: all
        blocks run again only where the layout does not fit otherwise."""
        for recompute in ("none", "full"):
            islands = layout(recompute)
            tokens = self.tokens(islands) if islands else 0
            if tokens:
                return tokens
        return 0

    def tokens(self, islands):
        """Tokens per second of a strategy, 0 where it is impossible."""
        with open(self.strategy, "w") as file:
            yaml.safe_dump({"islands": islands}, file)
        if run("tombolo-plan", "--problem", self.problem, "--strategy", self.strategy, "--json",
               self.json, check=False):
            return 0
        with open(self.json) as file:
            return json.load(file)["predicted"]["tokens_per_second"]


def run(program, *arguments, check=True):
    done = subprocess.run([os.path.join(BIN, program), *map(str, arguments)], text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode and check:
        sys.exit(done.stderr)
    return done.returncode


def shared(total, weights):
    """A total in whole parts near proportion to the weights, each one or more."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [max(1, math.floor(part)) for part in exact]
    by_rest = sorted(range(len(parts)), key=lambda i: exact[i] - parts[i], reverse=True)
    for i in itertools.islice(itertools.cycle(by_rest), max(0, total - sum(parts))):
        parts[i] += 1
    while sum(parts) > total:
        parts[parts.index(max(parts))] -= 1
    return parts


def island(case, pools, batch, degree, stages_of, microbatch, recompute, by_speed=False,
           schedule="1f1b", chunks=1):
    """A pipeline through pools, each cut into stages of equal replicas; None where
    chips, batch or blocks cannot be dealt out so."""
    stages, speeds = [], []
    for pool, count in zip(pools, stages_of):
        replicas = pool.count // (degree * count)
        if replicas == 0 or pool.per_node % degree or (batch // microbatch) % replicas:
            return None
        for _ in range(count):
            stages.append({"pool": pool.name, "data_parallel": replicas, "tensor_parallel": degree,
                           "recompute": recompute})
            speeds.append(pool.tflops * replicas if by_speed else 1)
    if len(stages) > case.blocks or batch % microbatch:
        return None
    for stage, blocks in zip(stages, shared(case.blocks, speeds)):
        stage["blocks"] = blocks
        if blocks < chunks:
            return None
    sites = list(dict.fromkeys(pool.site for pool in pools))
    return {"sites": sites, "batch": batch, "microbatch": microbatch, "schedule": schedule,
            "chunks": chunks, "stages": stages}


def batches(case, groups, by_speed):
    speeds = [sum(pool.count * pool.tflops for pool in group) for group in groups]
    unit = max(1, case.batch // 64)
    parts = shared(case.batch // unit, speeds if by_speed else [1] * len(groups))
    sizes = [part * unit for part in parts]
    sizes[0] += case.batch - sum(sizes)
    return sizes


def layouts(case, by_speed):
    """Each site an island, or all of them one; in an island every pool has the same
    number of stages. The smallest degrees and the fewest stages come first."""
    per_site = [[pool for pool in case.pools if pool.site == site] for site in case.sites]
    for groups in ([per_site] if len(per_site) == 1 else [per_site, [case.pools]]):
        sizes = batches(case, groups, by_speed)
        for degree, count, microbatch in itertools.product(DEGREES, (1, 2, 4, 8), MICROBATCHES):
            def layout(recompute):
                islands = [island(case, group, size, degree, [count] * len(group), microbatch,
                                  recompute, by_speed) for group, size in zip(groups, sizes)]
                return islands if all(islands) else None
            yield (len(groups), degree, count), layout


def even(case):
    """Even split: equal batches of the sites, equal blocks of the stages, the best of
    all degrees, numbers of stages and microbatches."""
    return max((case.fitting(layout) for _, layout in layouts(case, False)), default=0)


def proportional(case):
    """Greedy: batches and blocks in proportion to peak FLOP/s; of the degrees and
    numbers of stages the first that fits, then the best microbatch."""
    best, taken = 0, None
    for key, layout in layouts(case, True):
        if taken and key != taken:
            break
        tokens = case.fitting(layout)
        if tokens:
            best, taken = max(best, tokens), key
    return best


def homogeneous(case):
    """As for equal chips: one pipeline through all pools, one degree, one number of
    replicas, equal blocks; the best of everything that can be set."""
    def uniform(degree, count, microbatch, recompute, **order):
        stages = [pool.count // (degree * count) for pool in case.pools]
        if 0 in stages:
            return None
        one = island(case, case.pools, case.batch, degree, stages, microbatch, recompute, **order)
        # The same replicas everywhere: chips that are left over stay idle.
        for stage in one["stages"] if one else []:
            stage["data_parallel"] = count
        return [one] if one else None

    replicas = [2**n for n in range(11) if case.batch % 2**n == 0]
    best, chosen = 0, None
    for settings in itertools.product(DEGREES, replicas, MICROBATCHES):
        tokens = case.fitting(lambda recompute: uniform(*settings, recompute))
        if tokens > best:
            best, chosen = tokens, settings
    if chosen:
        best = max(best, case.fitting(lambda recompute: uniform(
            *chosen, recompute, schedule="interleaved", chunks=2)))
    return best


def measure(name, folder):
    case = Case(name, folder)
    predicted = case.found["predicted"]
    row = {"model": " ".join(CASES[name][0]), "batch": case.batch,
           "found": predicted["tokens_per_second"], "equivalent": predicted["equivalent_compute"],
           "used": predicted["equivalent_compute_of_used_chips"]}
    for baseline, function in (("even", even), ("homogeneous", homogeneous),
                               ("proportional", proportional)):
        row[baseline] = function(case)
    return row


def table(rows):
    def ratio(row, key):
        return f"{row['found'] / row[key]:.2f}" if row[key] else "does not fit"

    lines = ["| example | model | batch | found, tokens/s | " +
             " | ".join(f"/ {title}" for title in BASELINES.values()) +
             " | equivalent compute | of used chips |", "|---" * 9 + "|"]
    for name, row in rows.items():
        lines.append(f"| `{name}` | `{row['model']}` | {row['batch']} | {row['found']:,.0f} | " +
                     " | ".join(ratio(row, key) for key in BASELINES) +
                     f" | {row['equivalent']:.3f} | {row['used']:.3f} |")
    return "\n".join(lines)


HEAD = """# How good the plans are

Written by `benchmarks/plan_quality.py`. Each example of `examples/` is planned by the search and by three
habits, all under the same cost model with the same choice of the server's settings; the columns with `/` say
how many times the tokens/s of the habit the found plan reaches. bf16, AdamW, `--max-overlap 5`.

- **even split**: each site an island with an equal batch, or all sites one island; every pool has the same number of stages, every
  stage the same blocks. The best of degrees 1 to 8, 1 to 8 stages a pool, microbatches of 1 and 2; full recomputation where it is needed.
- **homogeneous**: one pipeline through all pools as if their chips were equal: one `tensor_parallel`, one `data_parallel`, equal
  blocks; the best of these and of microbatches of 1 and 2, with 1F1B, and the best of them interleaved.
- **proportional**: as even split, with batches and blocks in proportion to peak FLOP/s; the smallest degree, then the fewest
  stages that fit, then the best microbatch.

"""


def main():
    names = sys.argv[1:] or list(CASES)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows[name] = measure(name, folder)
            print(name, json.dumps(rows[name]), flush=True)
    print(table(rows))
    if not sys.argv[1:]:
        with open(PAGE, "w") as file:
            file.write(HEAD + table(rows) + "\n")


if __name__ == "__main__":
    main()
