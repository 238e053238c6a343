"""Every parallel layout computes the training of one rank, and the comparison
is sharp enough to catch deliberate faults."""

import unittest

import reference
import support

TOLERANCE = 1e-5
STEPS = 50
BATCH = 16
LAYERS = 4  # 6 blocks


class LayoutTest(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        self.model = reference.GPT(layers=LAYERS, mask="tril")
        reference.export_onnx(self.model, self.onnx, 17, True)
        self.samples = reference.Samples(self.tokens(), self.model.length)

    def measure(self, blocks, microbatch, batch=BATCH, steps=STEPS, flags=(), **options):
        plan = self.plan(
            self.onnx, support.topology({"here": support.ranks(blocks, **options)}),
            support.strategy([support.island("here", batch, microbatch, blocks, **options)]), batch)
        return self.losses(plan, self.onnx, steps, *flags)


class Layouts(LayoutTest):
    def check(self, *args, batch=BATCH, **options):
        measured = self.measure(*args, batch=batch, **options)
        expected = reference.train(self.model, self.samples, batch, STEPS)
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)

    def test_pipeline_2(self):
        self.check([3, 3], 4)

    def test_pipeline_2_gpipe(self):
        self.check([3, 3], 4, schedule="gpipe")

    def test_pipeline_3_uneven(self):
        self.check([1, 3, 2], 2)

    def test_pipeline_3_uneven_recompute(self):
        self.check([3, 2, 1], 4, recompute="full")

    def test_pipeline_with_fewer_microbatches_than_stages(self):
        self.check([1, 2, 2, 1], 8)

    def test_data_2(self):
        self.check([6], 4, data_parallel=2)

    def test_data_4(self):
        self.check([6], 2, data_parallel=4)

    def test_data_2_pipeline_2(self):
        self.check([3, 3], 2, data_parallel=2)

    def test_data_2_pipeline_2_gpipe(self):
        self.check([2, 4], 2, data_parallel=2, schedule="gpipe")


class UnequalReplicas(LayoutTest):
    """Neighbouring stages deal the microbatches out differently."""

    check = Layouts.check

    def test_data_1_to_2(self):
        self.check([3, 3], 2, data_parallel=[1, 2])

    def test_data_2_to_1(self):
        self.check([3, 3], 2, data_parallel=[2, 1])

    def test_data_2_to_3_to_1_gpipe(self):
        self.check([2, 2, 2], 1, batch=12, data_parallel=[2, 3, 1], schedule="gpipe")

    def test_data_3_to_2_recompute(self):
        self.check([2, 4], 1, batch=12, data_parallel=[3, 2], recompute="full",
                   optimizer_sharding=True)


class OptimizerSharding(LayoutTest):
    """Each replica keeps the optimizer's state of its part and updates that."""

    check = Layouts.check

    def test_optimizer_sharding_data_2(self):
        self.check([6], 4, data_parallel=2, optimizer_sharding=True)

    def test_optimizer_sharding_data_4(self):
        self.check([6], 2, data_parallel=4, optimizer_sharding=True)

    def test_optimizer_sharding_data_2_pipeline_2(self):
        self.check([2, 4], 2, data_parallel=2, optimizer_sharding=True)

    def test_optimizer_sharding_memory(self):
        self.measure([6], 4, data_parallel=2, optimizer_sharding=False)
        whole = self.memory()
        self.measure([6], 4, data_parallel=2, optimizer_sharding=True)
        part = self.memory()
        for state in ["exp_avg", "exp_avg_sq"]:
            # Regions are rounded up so that the parts are equal.
            self.assertLessEqual(abs(2 * part[state] - whole[state]), 2 * 64)
        self.assertLessEqual(part["arena"], whole["arena"] - whole["exp_avg"] + 4 * 64)

    def test_optimizer_sharding_resumes_under_another_plan(self):
        expected = reference.train(self.model, self.samples, BATCH, 12)
        checkpoints = ["--checkpoint-dir", self.path("checkpoints")]
        layouts = [
            dict(blocks=[6], microbatch=2, data_parallel=4, optimizer_sharding=True),
            dict(blocks=[3, 3], microbatch=4, data_parallel=1),
            dict(blocks=[2, 4], microbatch=2, data_parallel=2, optimizer_sharding=True),
        ]
        for i, layout in enumerate(layouts):
            measured = self.measure(**layout, steps=4 * (i + 1),
                                    flags=checkpoints + (["--resume"] if i else []))
            self.assertEqual(len(measured), 4)
            self.assertLessEqual(reference.largest_relative_difference(
                measured, expected[4 * i:4 * (i + 1)]), TOLERANCE)


class Mutations(LayoutTest):
    """The same comparison with one fault planted in the reference must fail."""

    def check(self, *args, **options):
        measured = self.measure(*args, **options)
        for mutation in ["gradient dropped", "bias frozen", "epsilon", "microbatch twice"]:
            with self.subTest(mutation):
                model = reference.GPT(layers=LAYERS, mask="tril")
                mutated = reference.train(model, self.samples, BATCH, STEPS, mutation=mutation,
                                          microbatch=4)
                difference = reference.largest_relative_difference(measured, mutated)
                self.assertGreater(difference, 2 * TOLERANCE)

    def test_faults_are_caught_in_a_pipeline(self):
        self.check([3, 3], 4)

    def test_faults_are_caught_in_pipelines_side_by_side(self):
        self.check([2, 4], 2, data_parallel=2, schedule="gpipe")


if __name__ == "__main__":
    unittest.main()
