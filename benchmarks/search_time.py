#!/usr/bin/env python3
"""Time and memory of finding plans for a 103 B Llama, import and lowering
included, on one core:
  utils/build release && benchmarks/search_time.py [CASE ...]
Cases: 4x256 (4 types of chip x 256 in 2 sites), 3x256, 2x256, 128 (like chips),
16384 (4 types in 6 sites)."""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("TOMBOLO_BIN", os.path.join(ROOT, "build/release/bin"))
CHIPS = {  # bf16 TFLOP/s, GiB, GB/s
    "a": (312, 80, 2039),
    "b": (256, 64, 1200),
    "c": (180, 64, 1000),
    "d": (128, 48, 820),
}
# Sites: (pool's chip, nodes of 8 chips) each; global batch; seconds allowed.
CASES = {
    "128": ([[("a", 16)]], 256, 0.5),
    "2x256": ([[("a", 32)], [("b", 32)]], 1024, 2),
    "3x256": ([[("a", 32), ("b", 32)], [("c", 32)]], 1024, 5),
    "4x256": ([[("a", 32), ("b", 32)], [("c", 32), ("d", 32)]], 1024, 10),
    "16384": ([[("a", 384), ("b", 128)], [("b", 256)], [("c", 384), ("d", 128)],
               [("d", 256)], [("a", 256)], [("c", 256)]], 8192, 60),
}


def topology(sites):
    chips = sorted({chip for site in sites for chip, _ in site})
    lines = ["chips:"]
    for name in chips:
        tflops, memory, bandwidth = CHIPS[name]
        lines.append(
            f"  - {{name: {name}, tflops: {{f32: {tflops / 16}, bf16: {tflops}}}, memory_gib: {memory}, "
            f"memory_gbytes_per_second: {bandwidth}, efficiency: {{matmul: 0.6, memory: 0.8}}}}")
    lines.append("sites:")
    for i, site in enumerate(sites):
        lines += [f"  - name: s{i}", "    pools:"]
        for chip, nodes in site:
            lines.append(
                f"      - {{name: {chip}, chip: {chip}, nodes: {nodes}, chips_per_node: 8, nics_per_node: 8, "
                "intra_node: {gbits_per_second: 2400, latency_us: 3}, "
                "inter_node: {gbits_per_second: 200, latency_us: 8}}")
        if len(site) > 1:
            lines.append("    fabric: {gbits_per_second: 100, latency_us: 12}")
    if len(sites) > 1:
        lines.append("links:")
        for i in range(len(sites)):
            for j in range(i + 1, len(sites)):
                lines.append(f"  - {{sites: [s{i}, s{j}], gbits_per_second: 100, rtt_ms: 10}}")
    return "\n".join(lines) + "\n"


def main():
    names = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "m.onnx")
        subprocess.run([f"{BIN}/tombolo-model", "llama-100b", "--no-weights", "-o", model], check=True)
        for name in names:
            sites, batch, allowed = CASES[name]
            path, result = os.path.join(folder, "s.yaml"), os.path.join(folder, "s.json")
            with open(path, "w") as file:
                file.write(topology(sites))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run([f"{BIN}/tombolo-plan", model, "--topology", path, "--global-batch", str(batch),
                            "--precision", "bf16", "-o", os.path.join(folder, "p.plan"), "--json", result],
                           check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            figures = json.load(open(result))
            print(f"{name}: {seconds:.2f} s, {after.ru_utime - before.ru_utime:.2f} s of one core (allowed {allowed}), "
                  f"{after.ru_maxrss / 2**10:.0f} MiB at most so far; step "
                  f"{figures['predicted']['step_seconds']:.3f} s, equivalent compute "
                  f"{figures['predicted']['equivalent_compute']:.3f}, bound {figures['search']['lower_bound']:.3f} s, "
                  f"{figures['search']['candidates']} candidates", flush=True)


main()
