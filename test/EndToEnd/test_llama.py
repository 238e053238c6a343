"""A Llama (RMSNorm, rotary embedding, grouped-query attention, SwiGLU) trains as
PyTorch trains it, from its exports and as tombolo-model writes it."""

import unittest

import reference
import support

TOLERANCE = 1e-5
STEPS = 30
BATCH = 8


class Llama(support.TomboloTest):
    def check(self, model, onnx_path, blocks, microbatch=4, flags=(), **options):
        tokens = self.tokens()
        ranks = len(blocks) * options.get("data_parallel", 1)
        plan = self.plan(
            onnx_path, support.topology({"here": ranks}),
            support.strategy([support.island("here", BATCH, microbatch, blocks, **options)]),
            BATCH, *flags)
        measured = self.losses(plan, onnx_path, STEPS)
        expected = reference.train(model, reference.Samples(tokens, model.length), BATCH, STEPS)
        self.assertLess(expected[-1], expected[0] - 0.05, "the reference itself does not learn")
        difference = reference.largest_relative_difference(measured, expected)
        self.assertLessEqual(difference, TOLERANCE)

    def exported(self, opset, training, blocks=(4,), rotary="computed", **options):
        model = reference.Llama(rotary=rotary)
        path = self.path("m.onnx")
        reference.export_onnx(model, path, opset, training)
        self.check(model, path, list(blocks), **options)

    def test_opset13_default(self):
        self.exported(13, False)

    def test_opset13_training(self):
        self.exported(13, True)

    def test_opset17_default(self):
        self.exported(17, False)

    def test_opset17_training(self):
        self.exported(17, True)

    def test_frequencies_in_a_buffer(self):
        # Cosines and sines pass no gradient: the buffer is read, not trained.
        self.exported(17, True, rotary="inv_freq")

    def test_frozen_tables(self):
        # Float buffers that are multiplied are parameters unless frozen.
        self.exported(17, True, rotary="tables", flags=("--freeze", "(cos|sin)$"))

    def test_pipeline_2(self):
        self.exported(17, True, (2, 2), microbatch=2)

    def test_data_2_pipeline_2(self):
        self.exported(17, True, (2, 2), microbatch=2, data_parallel=2)

    def test_data_2_pipeline_2_recomputation(self):
        self.exported(13, False, (1, 3), microbatch=2, data_parallel=2, recompute="full")

    def written(self, blocks, **options):
        path = self.path("m.onnx")
        support.run("tombolo-model", "llama", "--layers", 3, "--hidden", 32, "--heads", 4,
                    "--kv-heads", 2, "--ffn", 48, "--vocab", 64, "--seq", 16, "--seed", 3,
                    "-o", path)
        from evaluate import OnnxModel
        self.check(OnnxModel(path), path, blocks, **options)

    def test_written_by_tombolo_model(self):
        self.written([5])

    def test_written_by_tombolo_model_data_2_pipeline_2(self):
        self.written([3, 2], microbatch=2, data_parallel=2)


if __name__ == "__main__":
    unittest.main()
