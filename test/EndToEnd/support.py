"""Runs Tombolo's programs as a user does and reads what they write."""

import json
import os
import random
import re
import socket
import struct
import subprocess
import tempfile
import unittest

import numpy as np

BIN = os.environ["TOMBOLO_BIN"]
TIMEOUT_SECONDS = 240


def run(program, *args, check=True, env=None, **kwargs):
    """Runs one of Tombolo's programs; with `check` its failure is the test's."""
    command = [os.path.join(BIN, program), *map(str, args)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
        stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, **kwargs)
    if check and result.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}\nexit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result


_reserved_ports = []  # sockets, for as long as this process lives


def free_port():
    """Of loopback, and none that the system gives to outgoing connections (32768 on), as one
    of these may take it before it is used; nor one that any test was given and may not yet use."""
    while True:
        port = random.randrange(10000, 20000)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0tombolo-test-port-{port}")
            with socket.socket() as any_socket:
                any_socket.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        _reserved_ports.append(mark)
        return port


def topology(sites, memory_gib=4, eager=False):
    """YAML of sites {name: chips} of CPU-like chips, every pair linked. With `eager`
    chips are so slow against their wires that even small models are best split."""
    tflops, memory, gbits, latency = (1e-4, 0.02, 4000, 0.001) if eager else (0.1, 20, 40, 10)
    text = f"""\
chips:
  - name: cpu
    tflops: {{f32: {tflops}, bf16: {tflops}}}
    memory_gib: {memory_gib}
    memory_gbytes_per_second: {memory}
    efficiency: {{matmul: 0.7, memory: 0.7}}
sites:
"""
    for name, chips in sites.items():
        text += f"""\
  - name: {name}
    pools:
      - {{name: cpu, chip: cpu, nodes: 1, chips_per_node: {chips}, nics_per_node: 1,
         intra_node: {{gbits_per_second: {gbits}, latency_us: {latency}}},
         inter_node: {{gbits_per_second: 10, latency_us: 30}}}}
    fabric: {{gbits_per_second: 10, latency_us: 30}}
"""
    names = list(sites)
    if len(names) > 1:
        text += "links:\n"
        for i, a in enumerate(names):
            for b in names[i + 1:]:
                text += f"  - {{sites: [{a}, {b}], gbits_per_second: 1, rtt_ms: 30}}\n"
    return text


def island(site, batch, microbatch, blocks, data_parallel=1, schedule="1f1b", recompute="none",
           tensor_parallel=1, optimizer_sharding=None, chunks=1, inner_steps=None):
    """YAML of one island whose stages have `blocks` blocks each. Degrees are
    those of all stages, or a list with one for each. With a list of sites each
    stage is at one of them."""
    sites = site if isinstance(site, list) else [site] * len(blocks)
    def of(degrees, stage):
        return degrees[stage] if isinstance(degrees, list) else degrees
    sharding = ("" if optimizer_sharding is None
                else f", optimizer_sharding: {str(optimizer_sharding).lower()}")
    text = f"""\
  - sites: [{", ".join(dict.fromkeys(sites))}]
    batch: {batch}
    microbatch: {microbatch}
    schedule: {schedule}
    chunks: {chunks}
""" + (f"    inner_steps: {inner_steps}\n" if inner_steps else "") + """\
    stages:
"""
    for stage, count in enumerate(blocks):
        text += (f"      - {{pool: {sites[stage]}/cpu, data_parallel: {of(data_parallel, stage)}, "
                 f"tensor_parallel: {of(tensor_parallel, stage)}, "
                 f"blocks: {count}, recompute: {recompute}{sharding}}}\n")
    return text


def ranks(blocks, data_parallel=1, tensor_parallel=1, **_):
    """Of an island with these options."""
    def of(degrees, stage):
        return degrees[stage] if isinstance(degrees, list) else degrees
    return sum(of(data_parallel, s) * of(tensor_parallel, s) for s in range(len(blocks)))


def strategy(islands, server=None):
    text = "islands:\n" + "".join(islands)
    if server:
        text += "server:\n" + "".join(f"  {key}: {value}\n" for key, value in server.items())
    return text


def record_deviation(model, layout, deviation, note=""):
    """Adds a measured deviation from PyTorch to the file TOMBOLO_DEVIATIONS, if there is
    one; utils/agreement-table makes the table of docs/Agreement.md of it."""
    path = os.environ.get("TOMBOLO_DEVIATIONS")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"model": model, "layout": layout, "deviation": deviation,
                                   "note": note}) + "\n")


def write_safetensors(path, tensors):
    """Writes arrays {name: array} as a safetensors file."""
    names = {"float32": "F32", "int64": "I64", "int32": "I32", "bool": "BOOL"}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class TomboloTest(unittest.TestCase):
    """A test with a folder of its own, kept when TOMBOLO_KEEP is set."""

    # What runs the ranks of `train`: with TOMBOLO_EXECUTOR=torch the tests are PyTorch's.
    executor = os.environ.get("TOMBOLO_EXECUTOR", "native")

    def setUp(self):
        if os.environ.get("TOMBOLO_KEEP"):
            self.dir = tempfile.mkdtemp(prefix="tombolo-test-")
            print("kept:", self.dir)
        else:
            folder = tempfile.TemporaryDirectory(prefix="tombolo-test-")
            self.addCleanup(folder.cleanup)
            self.dir = folder.name

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def tokens(self, count=5000, vocab=64, seed=1, name="tokens.bin"):
        """A token file with something to learn: each token mostly follows from
        the one before."""
        rng = np.random.default_rng(seed)
        follow = rng.permutation(vocab)
        tokens = np.zeros(count, dtype=np.uint16)
        for i in range(1, count):
            noise = rng.random() < 0.2
            tokens[i] = rng.integers(vocab) if noise else follow[tokens[i - 1]]
        tokens.tofile(self.path(name))
        return tokens

    def plan(self, model, sites, strategy_text, batch, *flags, check=True, lr=1e-3):
        """Plans, giving the path of the plan (or the failed process)."""
        plan = self.path("p.plan")
        args = [model, "--topology", self.write("sites.yaml", sites), "--global-batch", batch,
                "--lr", lr, "-o", plan, *flags]
        if strategy_text is not None:
            args += ["--strategy", self.write("strategy.yaml", strategy_text)]
        result = run("tombolo-plan", *args, check=check)
        return plan if check else result

    def train(self, plan, model, steps, *flags, check=True, data="tokens.bin"):
        """Trains; gives metrics lines of each island, events apart."""
        metrics = self.path("metrics.jsonl")
        if os.path.exists(metrics):
            os.remove(metrics)  # a resumed run goes on in the file it finds
        result = run("tombolo-run", "local", plan, "--model", model, "--data", self.path(data),
                     "--steps", steps, "--metrics", metrics, "--executor", self.executor, *flags,
                     check=check)
        if not check:
            return result
        islands = {}
        with open(metrics) as file:
            for line in file:
                entry = json.loads(line)
                if "event" not in entry:
                    islands.setdefault(entry["island"], []).append(entry)
        for entries in islands.values():
            self.assertEqual([e["step"] for e in entries], sorted(e["step"] for e in entries))
        return islands

    def events(self, kind):
        """Of the last `train`."""
        with open(self.path("metrics.jsonl")) as file:
            return [entry for line in file if (entry := json.loads(line)).get("event") == kind]

    def memory(self, plan="p.plan"):
        """Bytes of the first program's regions, and of its arena."""
        text = run("tombolo-translate", "--print-plan", self.path(plan)).stdout
        program = text[text.index("\nprograms {"):]
        sizes = {name: int(size) for name, size in re.findall(
            r'regions \{\s+name: "(\w+)"\s+(?:offset: \d+\s+)?bytes: (\d+)',
            program.split("\nprograms {")[1])}
        return {**sizes, "arena": int(re.search(r"arena_bytes: (\d+)", program).group(1))}

    def losses(self, *args, island=0, **kwargs):
        return [entry["loss"] for entry in self.train(*args, **kwargs)[island]]
