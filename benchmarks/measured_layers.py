#!/usr/bin/env python3
"""Plans for chips whose layer times others have measured (microbatch and
tensor_parallel by chip and layer, in the CSV that docs/Planning.md describes),
scored by the formula of the published simulator that the times come with:
iteration = (m - 1) x slowest stage + sum of stages + update + gradient ring.
  utils/build && benchmarks/measured_layers.py LAYER_TIMES.csv
Prints seconds of planning (user CPU) and iterations per second by that formula,
for OPT-350M and GPT-Neo-2.7B on A100-40 and V100-16, 4 a node, f32, Adam."""
import collections
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("TOMBOLO_BIN", os.path.join(ROOT, "build/dev/bin"))
# Name in the CSV, blocks between embedding and head, hidden, heads, vocabulary.
MODELS = {
    "OPT-350M": ("OPT-350", 24, 1024, 16, 50272),
    "GPT-Neo-2.7B": ("GPT-Neo-2.7", 32, 2560, 32, 128256),
}
# tflops f32, bytes of memory, GB/s of memory, Gbit/s inside a node, chips of a node. Rates matter only where a
# time is missing; memory and nodes are told with the times.
CHIPS = {
    "A100-40": (19.5, 42338615296, 1555, 2400, 4),
    "A100-80": (19.5, 85899345920, 2039, 2400, 4),
    "V100-16": (15.7, 17179869184, 900, 1200, 4),
    "GH-96": (67, 102625181696, 4000, 3600, 4),
    "RTX-3090": (35.6, 25769803776, 936, 100, 8),
    "Titan-RTX": (16.3, 25769803776, 672, 100, 8),
    "RTX-2080": (13.4, 11811160064, 616, 100, 8),
}
CARD_GBITS = 100  # of each node, one card a chip
# Published of the same times with batch 1024, iterations/s: by model and chips of a kind.
KNOWN = {("OPT-350M", 8): "0.0435 even, 0.0445 uneven", ("OPT-350M", 16): "0.0769 even, 0.0829 uneven"}


def topology(times, model, nodes, wires=True):
    """`nodes`: how many by chip. Without `wires` nothing that is sent takes time."""
    wire = lambda gbits, us: ("{gbits_per_second: %g, latency_us: %g}" % (gbits, us) if wires
                              else "{gbits_per_second: 1000000000, latency_us: 0}")
    lines = ["chips:"]
    for name in nodes:
        tflops, memory, bandwidth, _, _ = CHIPS[name]
        lines.append(f"  - {{name: {name}, tflops: {{f32: {tflops}}}, memory_gib: {memory / 2**30}, "
                     f"memory_gbytes_per_second: {bandwidth}, profile: {{file: {times}, model: {model}}}}}")
    lines += ["sites:", "  - name: s", "    pools:"]
    for name, count in nodes.items():
        _, _, _, inside, chips = CHIPS[name]
        lines.append(f"      - {{name: {name}, chip: {name}, nodes: {count}, chips_per_node: {chips}, "
                     f"nics_per_node: {chips}, intra_node: {wire(inside, 5)}, inter_node: {wire(CARD_GBITS, 10)}}}")
    lines.append(f"    fabric: {wire(CARD_GBITS, 10)}")
    return "\n".join(lines) + "\n"


def write_model(folder, name):
    _, layers, hidden, heads, vocabulary = MODELS[name]
    model = os.path.join(folder, f"{name}.onnx")
    subprocess.run([f"{BIN}/tombolo-model", "gpt", "--layers", str(layers), "--hidden", str(hidden),
                    "--heads", str(heads), "--vocab", str(vocabulary), "--seq", "2048", "--no-weights",
                    "-o", model], check=True)
    return model


class Times:
    """Measured seconds of one layer: forward, backward, update."""

    def __init__(self, path, model):
        self.rows = collections.defaultdict(list)
        with open(path) as file:
            for row in csv.DictReader(file):
                if row["model"] == model:
                    key = row["chip"], int(row["microbatch"]), int(row["tensor_parallel"])
                    self.rows[key].append((int(row["first_layer"]), int(row["last_layer"]),
                                           *(float(row[f"{part}_seconds"] or 0)
                                             for part in ("forward", "backward", "update"))))

    def of(self, chip, microbatch, degree, layer):
        for first, last, *seconds in self.rows[chip, microbatch, degree]:
            if first <= layer <= last and seconds[0] > 0:
                return seconds
        return None


def score(strategy, times, shape, wires=True):
    """Iterations per second by the published formula; None where it has no times
    for what the strategy does. Without `wires` the ring takes nothing."""
    _, layers, hidden, _, vocabulary = shape
    (island,) = strategy["islands"]
    microbatches = island["batch"] // island["microbatch"]
    total = slowest = update = ring = 0
    layer = 0
    for stage in island["stages"]:
        turn = sum(group["count"] * group["share"] for group in stage["replicas"])
        replicas = sum(group["count"] for group in stage["replicas"])
        again = stage["recompute"]
        again = {"none": 0, "full": stage["blocks"]}.get(again, again)
        fill = pace = 0
        for group in stage["replicas"]:
            chip = group["pool"].split("/")[1]
            cells = [times.of(chip, island["microbatch"], group["tensor_parallel"], layer + i)
                     for i in range(stage["blocks"])]
            if None in cells:
                return None
            seconds = sum(f + b + (f if i < again else 0) for i, (f, b, _) in enumerate(cells))
            fill = max(fill, seconds)
            own = microbatches // turn * group["share"]
            pace = max(pace, (own - 1) * seconds)
            update = max(update, sum(u for _, _, u in cells))
            parameters = sum(12 * hidden**2 if 0 < layer + i <= layers else vocabulary * hidden
                             for i in range(stage["blocks"]))
            size = 4 * parameters / group["tensor_parallel"]
            if not wires:
                continue
            ring = max(ring, 2 * (replicas - 1) / replicas * size / (CARD_GBITS * 1e9 / 8))
        total, slowest, layer = total + fill, max(slowest, pace), layer + stage["blocks"]
    return 1 / (slowest + total + update + ring)


def short(island):
    stages = [" + ".join(f"{g['pool'].split('/')[1]} x{g['count']}"
                         + (f" tp{g['tensor_parallel']}" if g["tensor_parallel"] > 1 else "")
                         for g in stage["replicas"])
              + f": {stage['blocks']}" + ("" if stage["recompute"] == "none" else f" again {stage['recompute']}")
              for stage in island["stages"]]
    return f"microbatch {island['microbatch']}, {island['schedule']}; " + ", ".join(stages)


def main():
    path = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in MODELS.items():
            measured, model = shape[0], write_model(folder, name)
            times = Times(path, measured)
            for nodes in (2, 4):
                for batch in (1024, 2048):
                    sites, result = os.path.join(folder, "s.yaml"), os.path.join(folder, "s.json")
                    with open(sites, "w") as file:
                        file.write(topology(path, measured, {"A100-40": nodes, "V100-16": nodes}))
                    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                    subprocess.run([f"{BIN}/tombolo-plan", model, "--topology", sites, "--global-batch", str(batch),
                                    "-o", os.path.join(folder, "p.plan"), "--json", result], check=True,
                                   stdout=subprocess.DEVNULL)
                    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
                    with open(result) as file:
                        found = json.load(file)
                    rate = score(found["strategy"], times, shape)
                    known = KNOWN.get((name, 4 * nodes)) if batch == 1024 else None
                    print(f"{name}, {4 * nodes} + {4 * nodes} chips, batch {batch}: planned in {seconds:.2f} s, "
                          f"predicted {1 / found['predicted']['step_seconds']:.4f} it/s, by the formula "
                          + (f"{rate:.4f}" if rate else "unknown")
                          + (f" (known: {known})" if known else "")
                          + f"\n  {short(found['strategy']['islands'][0])}", flush=True)


if __name__ == "__main__":
    main()
