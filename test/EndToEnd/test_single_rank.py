"""One rank trains as PyTorch does, from every way to write the same GPT."""

import unittest

import torch

import reference
import support

TOLERANCE = 1e-5
STEPS = 50
BATCH = 8


class SingleRank(support.TomboloTest):
    def check(self, model, onnx_path, steps=STEPS, microbatch=4, blocks=4, recompute="none",
              initial=None):
        tokens = self.tokens()
        plan = self.plan(
            onnx_path, support.topology({"here": 1}),
            support.strategy([support.island("here", BATCH, microbatch, [blocks],
                                             recompute=recompute)]), BATCH)
        measured = self.losses(plan, onnx_path, steps)
        expected = reference.train(model, reference.Samples(tokens, model.length), BATCH, steps)
        self.assertLess(expected[-1], expected[0] - 0.05, "the reference itself does not learn")
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)

    def exported(self, opset, training, mask, gelu="erf", **kwargs):
        model = reference.GPT(mask=mask, gelu=gelu)
        path = self.path("m.onnx")
        reference.export_onnx(model, path, opset, training)
        self.check(model, path, **kwargs)

    def test_opset13_default(self):
        self.exported(13, False, "buffer")

    def test_opset13_training(self):
        self.exported(13, True, "buffer")

    def test_opset15_default(self):
        self.exported(15, False, "tril")

    def test_opset15_training(self):
        self.exported(15, True, "tril", gelu="tanh")

    def test_opset17_default(self):
        self.exported(17, False, "tril", gelu="tanh")

    def test_opset17_training(self):
        self.exported(17, True, "tril")

    def test_opset17_mask_buffer(self):
        self.exported(17, False, "buffer")

    def test_recomputation(self):
        self.exported(17, True, "tril", recompute="full")

    def test_tied_embedding(self):
        # One parameter, used by the first and the last block of one stage.
        model = reference.GPT(mask="tril", tied=True)
        path = self.path("m.onnx")
        reference.export_onnx(model, path, 17, True)
        self.check(model, path)

    def test_sgd_with_momentum(self):
        model = reference.GPT(mask="tril")
        path = self.path("m.onnx")
        reference.export_onnx(model, path, 17, True)
        tokens = self.tokens()
        plan = self.plan(
            path, support.topology({"here": 1}),
            support.strategy([support.island("here", BATCH, 4, [4])]), BATCH,
            "--optimizer", "sgd", "--momentum", "0.9", "--weight-decay", "0.1", lr=0.05)
        measured = self.losses(plan, path, STEPS)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
        expected = reference.train(model, reference.Samples(tokens, model.length), BATCH, STEPS,
                                   optimizer=optimizer)
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)

    def test_written_by_tombolo_model(self):
        path = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 3, "--hidden", 32, "--heads", 4,
                    "--vocab", 64, "--seq", 16, "--seed", 3, "-o", path)
        from evaluate import OnnxModel
        model = OnnxModel(path)
        self.check(model, path, blocks=5)


if __name__ == "__main__":
    unittest.main()
