"""The cost model's memory against what plan-allocate-buffers lays out exactly."""

import json
import re

import support
from support import island, strategy, topology

BATCH = 8

# Stated in docs/Planning.md.
MOST_ABOVE = 0.05
MOST_BELOW = 0.01

# Of each layer's kind: pipelines, tensor parallelism, replicas, recomputation.
LAYOUTS = [
    dict(blocks=[6]),
    dict(blocks=[2, 4]),
    dict(blocks=[3, 3], schedule="gpipe"),
    dict(blocks=[1, 2, 2, 1]),
    dict(blocks=[6], recompute="full"),
    dict(blocks=[3, 3], recompute="full"),
    dict(blocks=[3, 3], recompute="full", schedule="gpipe"),
    dict(blocks=[1, 2, 2, 1], schedule="zero-bubble"),
    dict(blocks=[2, 2, 2], schedule="zero-bubble", recompute="full"),
    dict(blocks=[6], data_parallel=2),
    dict(blocks=[6], data_parallel=2, optimizer_sharding=True),
    dict(blocks=[2, 4], data_parallel=2, optimizer_sharding=True),
    dict(blocks=[6], tensor_parallel=2),
    dict(blocks=[3, 3], tensor_parallel=2),
    dict(blocks=[3, 3], tensor_parallel=4, recompute="full"),
    dict(blocks=[3, 3], data_parallel=2, tensor_parallel=2, optimizer_sharding=True),
    dict(blocks=[3, 3], schedule="interleaved", chunks=2),
    dict(blocks=[2, 2, 2], schedule="interleaved", chunks=2, recompute="full"),
    dict(blocks=[3, 3], schedule="interleaved", chunks=3, tensor_parallel=2),
    dict(blocks=[2, 4], schedule="zero-bubble", tensor_parallel=2),
]


class Memory(support.TomboloTest):
    """For each layout, the foretold peak of every stage and the arena of its program."""

    def check(self, precision, microbatch):
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 256, "--heads", 4, "--vocab",
                    512, "--seq", 64, "--no-weights", "-o", model)
        wrong = []
        for layout in LAYOUTS:
            summary = self.path("s.json")
            plan = self.plan(
                model, topology({"s": support.ranks(**layout)}, memory_gib=16),
                strategy([island("s", BATCH, microbatch, **layout)]), BATCH,
                "--precision", precision, "--json", summary)
            with open(summary) as file:
                foretold = json.load(file)["predicted"]["peak_memory_bytes"][0]
            text = support.run("tombolo-translate", "--print-plan", plan).stdout
            exact = [int(bytes) for bytes in re.findall(r"\barena_bytes: (\d+)", text)]
            self.assertEqual(len(foretold), len(exact))
            for stage, (guess, arena) in enumerate(zip(foretold, exact)):
                off = guess / arena - 1
                if not -MOST_BELOW <= off <= MOST_ABOVE:
                    wrong.append(f"{layout} stage {stage}: foretold {guess}, is {arena}: {off:+.3f}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_host_memory(self):
        """Of ranks that talk to a server: what each compression keeps, and the
        parameters at a push where training goes on."""
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 256, "--heads", 4, "--vocab",
                    512, "--seq", 64, "--no-weights", "-o", model)
        for server in (dict(compression="none", overlap_steps=0, quorum=2),
                       dict(compression="none", overlap_steps=1, quorum=2),
                       dict(compression="int8", overlap_steps=0, quorum=1)):
            summary = self.path("s.json")
            plan = self.plan(
                model, topology({"s": 2, "t": 2}, memory_gib=16),
                strategy([island("s", 4, 1, [2, 4]), island("t", 4, 1, [6], tensor_parallel=2)],
                         dict(inner_steps=8, fragments=1, **server)), BATCH, "--json", summary)
            with open(summary) as file:
                foretold = json.load(file)["predicted"]["host_memory_bytes"]
            text = support.run("tombolo-translate", "--print-plan", plan).stdout
            exact = [int(bytes) for bytes in re.findall(r"\bhost_bytes: (\d+)", text)]
            self.assertEqual(sum(foretold, []), exact, server)
            self.assertGreater(min(exact), 0)

    def test_memory_f32(self):
        self.check("f32", 1)

    def test_memory_bf16(self):
        self.check("bf16", 2)
