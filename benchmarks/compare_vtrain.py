#!/usr/bin/env python3
"""Predicted against measured iteration times of GPT models on A100 chips.

  benchmarks/compare_vtrain.py --single vtrain_single_node.csv --multi vtrain_multi_node.csv [--build build/dev]

The tables are those of github.com/VIA-Research/vTrain (data/, MIT licence): Megatron-DeepSpeed, full
recomputation, 1F1B. Models are written by tombolo-model, constants fitted by tombolo-profile --fit with half of
the shapes (hidden size x layers) held out in turn, and a few of the held-out runs are planned by tombolo-plan
with a profile that never saw them, to show that it foretells the same. With both tables the fit over several nodes
begins with what kernels and hosts take by half of the shapes on one node.
"""
import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

VOCABULARY = 51200  # 50,257 in multiples of 128 x 8, as Megatron pads it
TOPOLOGY = """\
chips:
  - name: a100
    tflops: {{f32: 19.5, bf16: 312}}
    memory_gib: 80
    memory_gbytes_per_second: 2039
    {chip}
sites:
  - name: here
    pools:
      - {{name: a, chip: a100, nodes: {nodes}, chips_per_node: 8, nics_per_node: 4{wires}}}
"""
# Where the fit begins: rates as the authors of the table state them.
START = {"matmul": 0.6, "memory": 0.7, "launch_us": 10, "kernel_us": 2, "score_bytes": 8, "transfer_us": 20,
         "step_ms": 3, "exposed_reduction": 0.5}
OF_A_CHIP = ["matmul", "memory", "launch_us", "kernel_us", "score_bytes", "step_ms"]  # and its host, without wires
WIRES = """,
         intra_node: {gbits_per_second: 1200, latency_us: 5}, inter_node: {gbits_per_second: 200, latency_us: 10}"""


def read(path):
    runs = []
    with open(path) as file:
        for row in csv.DictReader(file):
            value = {name.strip(): text for name, text in row.items()}
            runs.append({
                "hidden": int(value["hidden size"]), "heads": int(value["attention heads"]),
                "layers": int(value["# layers"]), "sequence": int(value["sequence length"]),
                "global_batch": int(value["global batch"]), "microbatch": int(value["micro batch"]),
                "tensor_parallel": int(value["tensor parallelism"]),
                "data_parallel": int(value["data parallelism"]),
                "pipeline_parallel": int(value["pipeline parallelism"]),
                "seconds": float(value["iteration time (ms)"]) / 1e3})
    return runs


def shape(run):
    return f"{run['hidden']:05}x{run['layers']:03}"


COLUMNS = ["model", "shape", "global_batch", "microbatch", "data_parallel", "tensor_parallel",
           "pipeline_parallel", "recompute", "sharding", "seconds", "use"]


def sharding(run):
    """How Megatron splits a block: matrices of attention and perceptron by columns, then by rows; the residual
    stream is whole, so that each half block costs one sum each way; embedding and head by vocabulary."""
    block, whole = "transformer.h.0.", "{}"
    states = {"attn.qkv.weight": "{dim: 1, outer: 3}", "attn.qkv.bias": "{dim: 0, outer: 3}",
              "attn.proj.weight": "{dim: 0}", "attn.proj.bias": whole, "mlp.fc.weight": "{dim: 1}",
              "mlp.fc.bias": "{dim: 0}", "mlp.proj.weight": "{dim: 0}", "mlp.proj.bias": whole,
              "ln_1.weight": whole, "ln_1.bias": whole, "ln_2.weight": whole, "ln_2.bias": whole}
    # Norms, and additions to the residual stream: on all of it, everywhere.
    ops = {"forward": (0, 15, 16, 22, 23), "backward_input": (14, 15, 30, 31), "backward_weight": (3, 4, 10, 14, 15, 21)}
    parameters = ", ".join(f"{block}{name}: {state}" for name, state in states.items())
    everywhere = ", ".join(f"{{function: {function}, op: {op}}}" for function in ops for op in ops[function])
    lines = ["sharding:"]
    for degree in (2, 4, 8, 16):
        of = f"tensor_parallel: {degree}"
        lines += [f"  - {{block: 0, {of}, outputs: [{{}}], parameters: {{transformer.wte.weight: {{dim: 0}}, "
                  "transformer.wpe.weight: {}}}",
                  f"  - {{block: 1, {of}, inputs: [{{}}], outputs: [{{}}], parameters: {{{parameters}}}, "
                  f"ops: [{everywhere}]}}",
                  f"  - {{block: {run['layers'] + 1}, {of}, inputs: [{{}}, {{}}], parameters: {{lm_head.weight: "
                  "{dim: 1}, transformer.ln_f.weight: {}, transformer.ln_f.bias: {}}}"]
    return "\n".join(lines) + "\n"


def write_runs(path, runs, use=lambda run: ""):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for run in runs:
            table.writerow({name: {"model": shape(run) + ".onnx", "shape": shape(run), "recompute": "full",
                                   "sharding": shape(run) + ".yaml", "use": use(run)}.get(name, run.get(name)) for name in COLUMNS})


def scatter(runs):
    """How alike runs are that differ in data and pipeline parallelism alone. What 1F1B leaves idle is exact, so
    seconds / ((m + p - 1) x layers of a stage) of one microbatch and layer should be nearly equal among them."""
    groups = {}
    for run in runs:
        m = run["global_batch"] // run["data_parallel"] // run["microbatch"]
        p = run["pipeline_parallel"]
        unit = run["seconds"] / ((m + p - 1) * run["layers"] / p)
        key = shape(run), run["tensor_parallel"], run["microbatch"]
        groups.setdefault(key, []).append((unit, run["data_parallel"], p))
    off = []
    for (name, degree, microbatch), units in sorted(groups.items()):
        if len(units) < 2:
            continue
        middle = statistics.median(unit for unit, _, _ in units)
        off += [abs(unit / middle - 1) for unit, _, _ in units]
        print(f"    {name} t {degree} microbatch {microbatch}: " + ", ".join(
            f"d {d} p {p} {1e3 * unit:.1f} ms" for unit, d, p in sorted(units)))
    if off:
        print(f"    from the middle of their like: {100 * statistics.mean(off):.1f} % on average, {100 * max(off):.1f} % at most")


def strategy(run):
    stages, per_stage = run["pipeline_parallel"], run["layers"] // run["pipeline_parallel"]
    lines = ["islands:", "  - sites: [here]", f"    batch: {run['global_batch']}",
             f"    microbatch: {run['microbatch']}", "    schedule: 1f1b", "    stages:"]
    for s in range(stages):
        blocks = per_stage + (s == 0) + (s == stages - 1)
        lines.append(f"      - {{pool: here/a, data_parallel: {run['data_parallel']}, tensor_parallel: "
                     f"{run['tensor_parallel']}, blocks: {blocks}, recompute: full, optimizer_sharding: false}}")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--single", help="measurements on one node")
    options.add_argument("--multi", help="measurements on several nodes")
    options.add_argument("--build", default="build/dev")
    options.add_argument("--check", type=int, default=3, help="held-out runs to plan with tombolo-plan")
    options.add_argument("--keep", help="keep models, tables and profiles in this folder")
    given = options.parse_args()
    tool = lambda name: os.path.join(given.build, "bin", name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or temporary
        os.makedirs(folder, exist_ok=True)
        start = START
        for name, table, nodes in [("one node", given.single, 1), ("several nodes", given.multi, 64)]:
            if table:
                print(f"== {name}: {table}")
                start = compare(tool, folder, name.split()[0], read(table), nodes, given.check, start)


def compare(tool, folder, name, runs, nodes, checked, start):
    """Fits from `start` on; returns where another table of the chip may begin: with this one's second half."""
    for run in {shape(run): run for run in runs}.values():
        model = os.path.join(folder, shape(run) + ".onnx")
        with open(os.path.join(folder, shape(run) + ".yaml"), "w") as file:
            file.write(sharding(run))
        if not os.path.exists(model):
            subprocess.run([tool("tombolo-model"), "gpt", "--layers", str(run["layers"]), "--hidden",
                            str(run["hidden"]), "--heads", str(run["heads"]), "--vocab", str(VOCABULARY), "--seq",
                            str(run["sequence"]), "--no-weights", "-o", model], check=True,
                           stdout=subprocess.DEVNULL)
    path = lambda file: os.path.join(folder, name + "-" + file)
    with open(path("start.yaml"), "w") as file:
        constants = ", ".join(f"{key}: {value}" for key, value in start.items())
        file.write(TOPOLOGY.format(chip=f"efficiency: {{{constants}}}", nodes=nodes, wires=WIRES))

    def fit(table, *more):
        subprocess.run([tool("tombolo-profile"), "--fit", table, "--whole-backward", "--topology", path("start.yaml"), "-o", path("a100.yaml"),
                        "--predictions", path("predictions.csv"), *more], check=True)

    if nodes > 1:
        print("-- one microbatch through one layer, of runs that differ in data and pipeline parallelism alone")
        scatter(runs)
    write_runs(path("runs.csv"), runs)
    print("-- half of the shapes held out in turn")
    fit(path("runs.csv"))
    print("-- the same without corrections of single blocks")
    fit(path("runs.csv"), "--no-corrections")
    # The planner itself, with a profile from the other half of the shapes.
    shapes = sorted({shape(run) for run in runs})
    fitted = set(shapes[1::2])
    write_runs(path("half.csv"), runs, lambda run: "fit" if shape(run) in fitted else "test")
    print("-- tombolo-plan on held-out runs, with a profile of the other half")
    fit(path("half.csv"))
    with open(path("a100.yaml")) as file:
        fitted_to = dict(re.findall(r"^  (\w+): ([\d.e+-]+)$", file.read(), re.MULTILINE))
    with open(path("sites.yaml"), "w") as file:
        file.write(TOPOLOGY.format(chip=f"profile: {{file: {os.path.basename(path('a100.yaml'))}}}", nodes=nodes,
                                   wires=""))
    with open(path("predictions.csv")) as file:
        foretold = list(csv.DictReader(file))
    held = [(run, row) for run, row in zip(runs, foretold) if shape(run) not in fitted]
    print("    shape       t   d   p   measured     planned        fit")
    for run, row in held[:: len(held) // max(1, checked) or 1][:checked]:
        with open(path("strategy.yaml"), "w") as file:
            file.write(strategy(run) + sharding(run))
        done = subprocess.run([tool("tombolo-plan"), os.path.join(folder, shape(run) + ".onnx"), "--topology",
                               path("sites.yaml"), "--global-batch", str(run["global_batch"]), "--precision",
                               "bf16", "--strategy", path("strategy.yaml"), "--json", path("plan.json"), "-o",
                               path("p.plan")], stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit("tombolo-plan failed")
        planned = json.load(open(path("plan.json")))["predicted"]["step_seconds"]
        print(f"    {shape(run)} {run['tensor_parallel']:3} {run['data_parallel']:3} {run['pipeline_parallel']:3} "
              f"{run['seconds']:10.4f} {planned:11.4f} {float(row['predicted_seconds']):10.4f}")
    return {**START, **{key: fitted_to[key] for key in OF_A_CHIP}}


if __name__ == "__main__":
    main()
