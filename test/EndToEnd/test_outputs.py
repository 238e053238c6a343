"""What a run leaves behind: the exported model, checkpoints, memory."""

import os
import unittest

import torch

import reference
import support
from evaluate import OnnxModel

BATCH = 8


class Outputs(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        self.model = reference.GPT(layers=2, mask="tril")
        reference.export_onnx(self.model, self.onnx, 17, True)
        self.samples = reference.Samples(self.tokens(), self.model.length)

    def plan_here(self, blocks, microbatch, **options):
        ranks = len(blocks) * options.get("data_parallel", 1)
        return self.plan(
            self.onnx, support.topology({"here": ranks}),
            support.strategy([support.island("here", BATCH, microbatch, blocks, **options)]), BATCH)

    def evaluated(self, path, step):
        """The exported model's loss on the samples of `step`, by PyTorch."""
        inputs, labels = self.samples.batch(step * BATCH, BATCH)
        with torch.no_grad():
            return reference.token_losses(OnnxModel(path), inputs, labels).item() / labels.numel()

    def test_exported_model_continues_the_run(self):
        # The model after N steps, on the samples of step N, has the loss that a
        # run of N + 1 steps reports for step N.
        trained = self.path("trained.onnx")
        plan = self.plan_here([2, 2], 4)
        self.losses(plan, self.onnx, 12, "--export-onnx", trained)
        longer = self.losses(plan, self.onnx, 13)
        self.assertAlmostEqual(self.evaluated(trained, 12) / longer[12], 1.0, delta=1e-5)
        self.assertNotAlmostEqual(self.evaluated(self.onnx, 12) / longer[12], 1.0, delta=1e-3)

    def test_default_export_is_written_back_too(self):
        # Folded transposes and invented names: PyTorch's default export.
        reference.export_onnx(self.model, self.onnx, 17, False)
        trained = self.path("trained.onnx")
        plan = self.plan_here([4], 4)
        self.losses(plan, self.onnx, 8, "--export-onnx", trained)
        longer = self.losses(plan, self.onnx, 9)
        self.assertAlmostEqual(self.evaluated(trained, 8) / longer[8], 1.0, delta=1e-5)

    def test_resume_under_the_same_and_another_plan(self):
        checkpoints = self.path("checkpoints")
        first = self.plan_here([2, 2], 4)
        whole = self.losses(first, self.onnx, 12)
        self.losses(first, self.onnx, 6, "--checkpoint-dir", checkpoints)
        resumed = self.train(first, self.onnx, 9, "--checkpoint-dir", checkpoints, "--resume")[0]
        self.assertEqual([entry["step"] for entry in resumed], [6, 7, 8])
        self.assertEqual([entry["loss"] for entry in resumed], whole[6:9])
        other = self.plan_here([4], 2, data_parallel=2)
        resumed = self.train(other, self.onnx, 12, "--checkpoint-dir", checkpoints, "--resume")[0]
        self.assertEqual([entry["step"] for entry in resumed], [9, 10, 11])
        self.assertLessEqual(reference.largest_relative_difference(
            [entry["loss"] for entry in resumed], whole[9:]), 1e-5)

    def test_runs_are_repeatable(self):
        plan = self.plan_here([2, 2], 4)
        self.assertEqual(self.losses(plan, self.onnx, 5), self.losses(plan, self.onnx, 5))

    def test_a_skeleton_trains_from_a_seed(self):
        path = self.path("skeleton.onnx")
        support.run("tombolo-model", "gpt", "--layers", 2, "--hidden", 32, "--heads", 4, "--vocab",
                    64, "--seq", 16, "--no-weights", "-o", path)
        one = self.plan(path, support.topology({"here": 1}),
                        support.strategy([support.island("here", BATCH, 4, [4])]), BATCH)
        first = self.losses(one, path, 20, "--init", 7)
        other = self.losses(one, path, 1, "--init", 8)
        self.assertNotEqual(first[0], other[0])
        self.assertLess(first[-1], first[0] - 0.05)
        two = self.plan(path, support.topology({"here": 2}),
                        support.strategy([support.island("here", BATCH, 4, [1, 3])]), BATCH)
        self.assertLessEqual(reference.largest_relative_difference(
            self.losses(two, path, 20, "--init", 7), first), 1e-5)

    def test_planning_is_deterministic(self):
        # Two islands, a tied parameter, every output and every level.
        tied = self.path("tied.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril", tied=True), tied, 17, True)
        sites = support.topology({"a": 2, "b": 3})
        both = support.strategy([support.island("a", 8, 4, [4]), support.island("b", 16, 4, [4])])
        for model, strategy in [(self.onnx, None), (tied, both)]:
            outputs = []
            for _ in range(2):
                made = []
                for path in (self.plan(model, sites, strategy, 24, "--json", self.path("p.json")),
                             self.path("p.json")):
                    with open(path, "rb") as file:
                        made.append(file.read())
                given = ["--strategy", self.path("strategy.yaml")] if strategy else []
                for level in ("graph", "topo", "dist", "plan"):
                    made.append(support.run(
                        "tombolo-plan", model, "--topology", self.path("sites.yaml"),
                        "--global-batch", 24, "--emit", level, *given).stdout)
                outputs.append(made)
            for one, other in zip(*outputs):
                self.assertTrue(one)
                self.assertEqual(one, other)


if __name__ == "__main__":
    unittest.main()
