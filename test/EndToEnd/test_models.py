"""Models of many kinds, as torch.onnx.export writes them, train as PyTorch trains them,
on one rank and in pipelines side by side."""

import re
import unittest

import models
import reference
import support

TOLERANCE = 1e-5
STEPS = 30
BATCH = 8

# Stages, replicas, chips of a replica (their sharding is searched).
LAYOUTS = {
    "1 rank": (1, 1, 1),
    "pp 2": (2, 1, 1),
    "dp 2": (1, 2, 1),
    "dp 2 x pp 2": (2, 2, 1),
    "tp 2": (1, 1, 2),
    "tp 2 x pp 2": (2, 1, 2),
    "tp 2 x dp 2": (1, 2, 2),
}


class ModelTest(support.TomboloTest):
    """`case` and `name` are set by each class."""

    microbatch = 2
    tolerance = TOLERANCE
    lr = 3e-3
    note = ""
    learns = 0.02  # by how much the loss falls at least

    def blocks(self, onnx, flags):
        """The number of blocks that the model is cut into."""
        text = support.run(
            "tombolo-plan", onnx, "--topology", self.write("one.yaml", support.topology({"here": 1})),
            "--global-batch", BATCH, "--emit", "graph", *flags).stdout
        return len(re.findall(r"call @", text))

    def setUp(self):
        super().setUp()
        self.model_case = self.case()
        self.data = self.path("data.safetensors")
        support.write_safetensors(self.data, self.model_case.tensors)

    def exported(self, opset, training):
        onnx = self.path(f"m{opset}{training}.onnx")
        self.model_case.export(self.model_case.make(), onnx, opset, training)
        return onnx

    def measure(self, onnx, layout, flags=()):
        stages, replicas, chips = LAYOUTS[layout]
        flags = ("--loss", self.model_case.loss, *self.model_case.flags, *flags)
        count = self.blocks(onnx, flags)
        self.assertGreaterEqual(count, stages)
        # Uneven where it can be.
        first = count // stages
        blocks = [count] if stages == 1 else [first, count - first]
        plan = self.plan(
            onnx, support.topology({"here": stages * replicas * chips}),
            support.strategy([support.island("here", BATCH, self.microbatch, blocks,
                                             data_parallel=replicas, tensor_parallel=chips)]),
            BATCH, *flags, lr=self.lr)
        return self.losses(plan, onnx, STEPS, data=self.data)

    def check(self, opset, training, layout):
        measured = self.measure(self.exported(opset, training), layout)
        expected = models.train(self.model_case, BATCH, self.microbatch, STEPS, lr=self.lr)
        self.assertLess(expected[-1], expected[0] - self.learns, "the reference does not learn")
        difference = reference.largest_relative_difference(measured, expected)
        if (opset, training) == (17, True):
            support.record_deviation(self.name, layout, difference, self.note)
        self.assertLessEqual(difference, self.tolerance)


class WithoutGradient(ModelTest):
    case = models.MLPMaximum

    def test_op_without_gradient_is_named(self):
        onnx = self.exported(17, True)
        failed = self.plan(onnx, support.topology({"here": 1}), None, BATCH, "--loss", "mse", check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr, r"'.*ReduceMax.*': error: .*has no gradient but lies between a "
                                        r"trained parameter and the loss")


class MLPRegression(ModelTest):
    case = models.MLPRegression
    name = "MLP, mean squared error"

    def test_regression_opset_11(self):
        self.check(11, False, "1 rank")

    def test_regression_opset_13(self):
        self.check(13, True, "1 rank")

    def test_regression_opset_15(self):
        self.check(15, False, "dp 2")

    def test_regression_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class MLPClassification(ModelTest):
    case = models.MLPClassification
    name = "MLP, binary cross-entropy"

    def test_classification_opset_17_default(self):
        self.check(17, False, "pp 2")

    def test_classification_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class MLPOwnLoss(ModelTest):
    case = models.MLPOwnLoss
    name = "MLP, its own loss"

    def test_own_loss_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class VisionTransformer(ModelTest):
    case = models.VisionTransformer
    name = "ViT"

    def test_vit_opset_13(self):
        self.check(13, False, "pp 2")

    def test_vit_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class Bert(ModelTest):
    case = models.BertMaskedLanguage
    name = "BERT, masked-language model"

    def test_bert_opset_11(self):
        self.check(11, False, "dp 2 x pp 2")

    def test_bert_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class BertTied(ModelTest):
    """The decoder's weight is the embedding's: one parameter in the first and last stage."""

    case = models.BertTied
    name = "BERT, embedding tied to the decoder"

    def test_tied_bert_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class MixtureOfExperts(ModelTest):
    case = models.MixtureOfExperts
    name = "mixture of experts, with its balancing loss"

    def test_moe_opset_13(self):
        self.check(13, False, "pp 2")

    def test_moe_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class EncoderDecoder(ModelTest):
    case = models.EncoderDecoder
    name = "T5-like encoder-decoder"

    def test_t5_opset_13(self):
        self.check(13, False, "1 rank")

    def test_t5_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


class ResNet18(ModelTest):
    case = models.ResNet18
    name = "ResNet-18"
    microbatch = 4
    lr = 3e-4
    note = ("learning rate 3e-4, others 3e-3: at 3e-3 PyTorch in f32 and in f64 part by 0.1 within 30 "
            "steps, too (a rectifier that flips, then AdamW's normalisation)")

    def test_resnet_opset_13(self):
        self.check(13, True, "pp 2")

    def test_resnet_layouts(self):
        for layout in LAYOUTS:
            with self.subTest(layout):
                self.check(17, True, layout)


if __name__ == "__main__":
    unittest.main()
