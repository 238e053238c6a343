"""Models of many kinds, as torch.onnx.export writes them, train as PyTorch trains them
under every kind of layout, and in every version of their ONNX files."""

import dataclasses
import functools
import json
import os
import re
import unittest

import lift
import models
import reference
import support

TOLERANCE = 1e-5
STEPS = 30


@dataclasses.dataclass(frozen=True)
class Layout:
    """`weights` share the blocks among the stages; degrees are those of all stages, or
    one for each."""

    weights: tuple = (1,)
    data_parallel: object = 1
    tensor_parallel: object = 1
    options: tuple = ()

    def blocks(self, count):
        """Blocks of each stage, of `count` in all."""
        ends = [round(count * sum(self.weights[:i + 1]) / sum(self.weights))
                for i in range(len(self.weights))]
        return [max(end - start, 1) for start, end in zip([0] + ends, ends)]

    def degrees(self, stages):
        """The tensor-parallel degree of each stage."""
        one = self.tensor_parallel
        return one if isinstance(one, list) else [one] * stages


def layout(*weights, dp=1, tp=1, **options):
    return Layout(weights or (1,), dp, tp, tuple(options.items()))


ZERO = dict(optimizer_sharding=True)
LAYOUTS = {
    "1 rank": layout(),
    "pp 2": layout(1, 1),
    "pp 3 uneven, gpipe, recompute": layout(1, 2, 1, schedule="gpipe", recompute="full"),
    "dp 4, ZeRO-1": layout(dp=4, **ZERO),
    "dp 2 x pp 2, ZeRO-1": layout(1, 1, dp=2, **ZERO),
    "dp 2 to 1, gpipe": layout(1, 1, dp=[2, 1], schedule="gpipe"),
    "tp 2": layout(tp=2),
    "tp 4": layout(tp=4),
    "tp 2 x dp 2, ZeRO-1": layout(tp=2, dp=2, **ZERO),
    "tp 2 x pp 2, uneven": layout(1, 3, tp=2),
    "tp 2 x pp 2, gpipe, recompute": layout(1, 1, tp=2, schedule="gpipe", recompute="full"),
    "tp 2 x dp 2 x pp 2, ZeRO-1": layout(1, 1, tp=2, dp=2, **ZERO),
    "tp 2 to 1": layout(1, 1, tp=[2, 1]),
    "tp 1 to 4, uneven": layout(3, 1, tp=[1, 4]),
    "tp 4 to 2, dp 1 to 2, ZeRO-1": layout(1, 1, tp=[4, 2], dp=[1, 2], **ZERO),
    "pp 2, interleaved": layout(1, 1, schedule="interleaved", chunks=2),
    "tp 2 x pp 2, zero-bubble": layout(1, 1, tp=2, schedule="zero-bubble"),
}
# Stages that share a parameter have one degree.
TIED = {name: one for name, one in LAYOUTS.items() if not isinstance(one.tensor_parallel, list)}
# Of each file a short run, under one of these in turn.
MIXED = ["tp 2 x dp 2, ZeRO-1", "tp 2 x pp 2, uneven", "dp 2 x pp 2, ZeRO-1",
         "tp 4 to 2, dp 1 to 2, ZeRO-1"]
SHORT = 8

# A run of all tests has a third of the layouts of each model, another third of the next
# model; TOMBOLO_ALL_LAYOUTS=1 has all, for docs/Agreement.md.
ALL_LAYOUTS = bool(os.environ.get("TOMBOLO_ALL_LAYOUTS"))


@functools.lru_cache(maxsize=None)
def expected_losses(test):
    """PyTorch's, once for all layouts."""
    losses = models.train(test.case(), test.batch, test.microbatch, STEPS, lr=test.lr)
    assert losses[-1] < losses[0] - test.learns, "the reference does not learn"
    return losses


class ModelTest(support.TomboloTest):
    """`case` and `name` are set by each class."""

    batch = 8
    microbatch = 2
    lr = 3e-3
    # A model whose own rounding grows is compared loosely behind some step.
    exact_steps, tolerance_behind = STEPS, TOLERANCE
    note = ""
    learns = 0.02  # by how much the loss falls at least
    layouts = LAYOUTS
    third = 0  # which one is trained
    opsets = (11, 13, 15, 17)

    def setUp(self):
        super().setUp()
        self.model_case = self.case()
        self.data = self.path("data.safetensors")
        support.write_safetensors(self.data, self.model_case.tensors)
        self.counts = {}

    def blocks(self, onnx, flags):
        """The number of blocks that the model is cut into."""
        if onnx not in self.counts:
            text = support.run(
                "tombolo-plan", onnx, "--topology",
                self.write("one.yaml", support.topology({"here": 1})),
                "--global-batch", self.batch, "--emit", "graph", *flags).stdout
            self.counts[onnx] = len(re.findall(r"call @", text))
        return self.counts[onnx]

    def exported(self, opset, training):
        onnx = self.path(f"m{opset}{training}.onnx")
        self.model_case.export(self.model_case.make(), onnx, opset, training)
        return onnx

    def measure(self, onnx, layout, steps):
        flags = ("--loss", self.model_case.loss, *self.model_case.flags)
        blocks = layout.blocks(self.blocks(onnx, flags))
        degrees = dict(data_parallel=layout.data_parallel, tensor_parallel=layout.tensor_parallel)
        summary = self.path("s.json")
        plan = self.plan(
            onnx, support.topology({"here": support.ranks(blocks, **degrees)}, eager=True),
            support.strategy([support.island("here", self.batch, self.microbatch, blocks,
                                             **degrees, **dict(layout.options))]),
            self.batch, *flags, "--json", summary, lr=self.lr)
        self.check_split(plan, summary, layout.degrees(len(blocks)))
        return self.losses(plan, onnx, steps, data=self.data)

    def check_split(self, plan, summary, degrees):
        """Where a replica has several chips, there are parameters of which each has a part,
        and collectives."""
        with open(summary) as file:
            shardings = json.load(file)["strategy"].get("sharding", [])
        for degree in set(degrees) - {1}:
            states = [state for sharding in shardings if sharding["tensor_parallel"] == degree
                      for state in sharding.get("parameters", {}).values()]
            self.assertTrue(any("dim" in state for state in states), shardings)
        text = support.run("tombolo-translate", "--print-plan", plan).stdout
        self.assertEqual("GROUP_TENSOR" in text, max(degrees) > 1)

    def compare(self, measured):
        expected = expected_losses(type(self))[:len(measured)]
        exact = self.exact_steps
        self.assertLessEqual(reference.largest_relative_difference(
            measured[:exact], expected[:exact]), TOLERANCE)
        difference = reference.largest_relative_difference(measured, expected)
        self.assertLessEqual(difference, self.tolerance_behind)
        return difference

    def check_layouts(self):
        onnx = self.exported(17, True)
        for i, (name, layout) in enumerate(self.layouts.items()):
            if i % 3 != self.third and not ALL_LAYOUTS:
                continue
            with self.subTest(name):
                difference = self.compare(self.measure(onnx, layout, STEPS))
                support.record_deviation(self.name, name, difference, self.note)

    def check_opsets(self):
        """Files of PyTorch's exporter, and of opsets that it does not write."""
        files = [(opset, self.exported(opset, training)) for opset, training in
                 zip(self.opsets, self.model_case.exports)]
        for opset in [18, 19, 20, 21]:
            path = self.path(f"m{opset}.onnx")
            lift.lift(files[3][1], path, opset)
            files.append((opset, path))
        mixed = [name for name in MIXED if name in self.layouts]
        for i, (opset, path) in enumerate(files):
            name = mixed[i % len(mixed)]
            with self.subTest(opset, layout=name):
                self.compare(self.measure(path, self.layouts[name], SHORT))


class WithoutGradient(ModelTest):
    case = models.MLPMaximum

    def test_op_without_gradient_is_named(self):
        onnx = self.exported(17, True)
        failed = self.plan(onnx, support.topology({"here": 1}), None, self.batch, "--loss", "mse",
                           check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr, r"'.*ReduceMax.*': error: .*has no gradient but lies between a "
                                        r"trained parameter and the loss")


class Operators(ModelTest):
    case = models.Operators
    name = "each other operator once"
    layouts = {name: TIED[name] for name in
               ["1 rank", "tp 2 x dp 2 x pp 2, ZeRO-1", "tp 2 x pp 2, uneven", "dp 2 x pp 2, ZeRO-1"]}
    # Celu is younger than opset 11, and at 12 the default export joins log_softmax and nll_loss
    # to a node that reads the bias in place of the logits: a fault of PyTorch 1.13.
    opsets = (13, 13, 15, 17)

    def test_operators_layouts(self):
        self.check_layouts()

    def test_operators_opsets(self):
        self.check_opsets()


class GPT2(ModelTest):
    """The head's weight is the embedding's: one parameter in the first and last stage."""

    case = models.GPT2
    name = "GPT-2, tied"
    third = 1
    layouts = TIED

    def test_gpt2_layouts(self):
        self.check_layouts()

    def test_gpt2_opsets(self):
        self.check_opsets()

    def test_stages_that_share_a_parameter_have_one_degree(self):
        onnx = self.exported(17, True)
        failed = self.plan(onnx, support.topology({"here": 3}), support.strategy(
            [support.island("here", 8, 2, [2, 2], tensor_parallel=[2, 1])]), 8, check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("stages 0 and 1 share parameter 'wte.weight' and must have one tensor_parallel, "
                      "got 2 and 1", failed.stderr)


class Llama(ModelTest):
    case = models.Llama
    name = "Llama"
    third = 2

    def test_llama_layouts(self):
        self.check_layouts()

    def test_llama_opsets(self):
        self.check_opsets()


class Bert(ModelTest):
    case = models.BertMaskedLanguage
    name = "BERT, masked-language model"

    def test_bert_layouts(self):
        self.check_layouts()

    def test_bert_opsets(self):
        self.check_opsets()


class BertTied(ModelTest):
    """The decoder's weight is the embedding's: one parameter in the first and last stage."""

    case = models.BertTied
    name = "BERT, tied"
    third = 1
    layouts = TIED

    def test_tied_bert_layouts(self):
        self.check_layouts()


class VisionTransformer(ModelTest):
    case = models.VisionTransformer
    name = "ViT"
    third = 2

    def test_vit_layouts(self):
        self.check_layouts()

    def test_vit_opsets(self):
        self.check_opsets()


class MLPRegression(ModelTest):
    case = models.MLPRegression
    name = "MLP, mean squared error"

    def test_regression_layouts(self):
        self.check_layouts()

    def test_regression_opsets(self):
        self.check_opsets()


class MLPClassification(ModelTest):
    case = models.MLPClassification
    name = "MLP, binary cross-entropy"
    third = 1

    def test_classification_layouts(self):
        self.check_layouts()


class MLPOwnLoss(ModelTest):
    case = models.MLPOwnLoss
    name = "MLP, its own loss"
    third = 2

    def test_own_loss_layouts(self):
        self.check_layouts()


class ResNet18(ModelTest):
    case = models.ResNet18
    name = "ResNet-18"
    batch = 16
    microbatch = 4
    lr = 3e-4
    exact_steps, tolerance_behind = 15, 2e-3
    note = ("learning rate 3e-4, others 3e-3; 1e-5 is asked of the first 15 steps, 2e-3 of the others. Batch "
            "norms over 16 values amplify rounding until, it seems, a rectifier or a maximum flips, which "
            "AdamW's normalisation makes large: at 3e-3 PyTorch's own f32 and f64 part by 0.1. Which layout "
            "that happens to changes with the learning rate: at 3e-4 it is tp 4, at 1e-4 others and not tp 4")

    def test_resnet_layouts(self):
        self.check_layouts()

    def test_resnet_opsets(self):
        self.check_opsets()


class EncoderDecoder(ModelTest):
    """The mask is a parameter, if a frozen one, that all stages of the decoder share."""

    case = models.EncoderDecoder
    name = "T5-like encoder-decoder"
    layouts = TIED
    third = 1

    def test_t5_layouts(self):
        self.check_layouts()

    def test_t5_opsets(self):
        self.check_opsets()


class MixtureOfExperts(ModelTest):
    case = models.MixtureOfExperts
    name = "mixture of experts, with its balancing loss"
    third = 2

    def test_moe_layouts(self):
        self.check_layouts()

    def test_moe_opsets(self):
        self.check_opsets()


if __name__ == "__main__":
    unittest.main()
