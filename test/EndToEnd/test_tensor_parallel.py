"""Chips that share each block compute the training of one: with shardings that
the search chose, alone and together with data and pipeline parallelism."""

import re
import unittest

import reference
import support

TOLERANCE = 1e-5
STEPS = 30
BATCH = 16
LAYERS = 4  # 6 blocks


class TensorParallelTest(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        self.model = self.make()
        reference.export_onnx(self.model, self.onnx, 17, True)
        self.samples = reference.Samples(self.tokens(), self.model.length)

    def measure(self, blocks, microbatch, steps=STEPS, flags=(), plan_flags=(), **options):
        plan = self.plan(
            self.onnx, support.topology({"here": support.ranks(blocks, **options)}, eager=True),
            support.strategy([support.island("here", BATCH, microbatch, blocks, **options)]),
            BATCH, *plan_flags)
        text = support.run("tombolo-translate", "--print-plan", plan).stdout
        if options["tensor_parallel"] != 1:
            self.assertIn("GROUP_TENSOR", text)
        return self.losses(plan, self.onnx, steps, *flags)

    def check(self, *args, **options):
        measured = self.measure(*args, **options)
        expected = reference.train(self.model, self.samples, BATCH, STEPS)
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)

    def transfers(self):
        """(stage, tensor-parallel degree, bytes) of each send of the plan."""
        text = support.run("tombolo-translate", "--print-plan", self.path("p.plan")).stdout
        degrees = [int(degree) for degree in re.findall(r"tensor_parallel: (\d+)", text)]
        sends = []
        for stage, program in enumerate(text.split("\nprograms {")[1:]):
            step = program.split("\n  finish {")[0].split("\n  evaluate {")[0]
            for size in re.findall(r"\bsend \{.*?\n\s*bytes: (\d+)", step, re.S):
                sends.append((stage, degrees[stage], int(size)))
        return sends


class GPT(TensorParallelTest):
    def make(self):
        return reference.GPT(layers=LAYERS, mask="tril")

    def test_gpt_tensor_2(self):
        self.check([6], 4, tensor_parallel=2)

    def test_gpt_tensor_4(self):
        self.check([6], 4, tensor_parallel=4)

    def test_gpt_tensor_2_data_2(self):
        self.check([6], 4, tensor_parallel=2, data_parallel=2)

    def test_gpt_tensor_2_data_2_optimizer_sharding(self):
        self.check([6], 4, tensor_parallel=2, data_parallel=2, optimizer_sharding=True)

    def test_gpt_tensor_2_pipeline_2(self):
        self.check([3, 3], 4, tensor_parallel=2)

    def test_gpt_tensor_2_pipeline_2_recompute(self):
        self.check([2, 4], 4, tensor_parallel=2, recompute="full")

    def test_gpt_tensor_2_data_2_pipeline_2_gpipe(self):
        self.check([3, 3], 2, tensor_parallel=2, data_parallel=2, schedule="gpipe")

    def test_gpt_tensor_2_to_1(self):
        self.check([3, 3], 4, tensor_parallel=[2, 1])

    def test_gpt_tensor_1_to_2(self):
        self.check([3, 3], 4, tensor_parallel=[1, 2])

    def test_gpt_tensor_4_to_2_data_1_to_2(self):
        self.check([3, 3], 2, tensor_parallel=[4, 2], data_parallel=[1, 2])

    def test_gpt_tensor_resumes_under_other_degrees(self):
        expected = reference.train(self.model, self.samples, BATCH, 12)
        checkpoints = ["--checkpoint-dir", self.path("checkpoints")]
        layouts = [
            dict(blocks=[6], microbatch=4, tensor_parallel=2, data_parallel=2,
                 optimizer_sharding=True),
            dict(blocks=[3, 3], microbatch=4, tensor_parallel=1),
            dict(blocks=[6], microbatch=4, tensor_parallel=4),
        ]
        for i, layout in enumerate(layouts):
            measured = self.measure(**layout, steps=4 * (i + 1),
                                    flags=checkpoints + (["--resume"] if i else []))
            self.assertEqual(len(measured), 4)
            self.assertLessEqual(reference.largest_relative_difference(
                measured, expected[4 * i:4 * (i + 1)]), TOLERANCE)

    def test_gpt_transfers_of_unequal_degrees_are_minimal(self):
        # For each microbatch, between stages goes one tensor [microbatch, length, hidden] of f32, and
        # its gradient back, once altogether: not once for each chip.
        microbatch = 4
        for degrees, replicas in [([2, 1], 1), ([1, 2], 1), ([2, 2], 1), ([4, 2], 1),
                                  ([4, 2], [1, 2]), ([1, 2], [2, 1])]:
            with self.subTest(degrees, replicas=replicas):
                self.measure([3, 3], microbatch, steps=1, tensor_parallel=degrees,
                             data_parallel=replicas)
                hidden = self.model.head.weight.shape[1]
                tensor = 4 * microbatch * self.model.length * hidden
                sends = self.transfers()
                for stage in [0, 1]:
                    sizes = [degree * size for s, degree, size in sends if s == stage]
                    # The loops over microbatches are written out by phases.
                    self.assertEqual(sum(sizes) % tensor, 0)
                    pieces = max(degrees) // degrees[stage]
                    self.assertEqual(sum(sizes[:pieces]), tensor)


class Llama(TensorParallelTest):
    def make(self):
        return reference.Llama(layers=LAYERS)

    def test_llama_tensor_2(self):
        self.check([6], 4, tensor_parallel=2)

    def test_llama_tensor_2_data_2(self):
        self.check([6], 4, tensor_parallel=2, data_parallel=2)

    def test_llama_tensor_2_pipeline_2(self):
        self.check([3, 3], 4, tensor_parallel=2)

    def test_llama_tensor_2_to_1(self):
        self.check([2, 4], 4, tensor_parallel=[2, 1], optimizer_sharding=True)


if __name__ == "__main__":
    unittest.main()
