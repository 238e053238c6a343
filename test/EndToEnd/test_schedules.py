"""The learning rate follows its schedule as under PyTorch's LambdaLR."""

import math
import unittest

import torch

import reference
import support

TOLERANCE = 1e-5
STEPS = 20
BATCH = 8


def factor(schedule, warmup, decay, t):
    """docs/PlanFormat.md, "Learning-rate schedules"; updates t count from 1."""
    if t <= warmup:
        return t / warmup
    if schedule == "constant":
        return 1
    if t >= decay:
        return 0
    if schedule == "linear":
        return (decay - t) / (decay - warmup)
    return (1 + math.cos(math.pi * (t - warmup) / (decay - warmup))) / 2


class Scheduled:
    """An optimizer whose rate moves on after each update."""

    def __init__(self, optimizer, *schedule):
        self.optimizer = optimizer
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda done: factor(*schedule, done + 1))

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self):
        self.optimizer.step()
        self.scheduler.step()


class Schedules(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        self.model = reference.GPT(mask="tril")
        reference.export_onnx(self.model, self.onnx, 17, True)
        self.samples = reference.Samples(self.tokens(), self.model.length)

    def flags(self, schedule, warmup, decay):
        flags = ["--lr-schedule", schedule, "--warmup-steps", warmup]
        return flags + (["--decay-steps", decay] if decay else [])

    def measure(self, blocks, lr, *flags, **options):
        plan = self.plan(
            self.onnx, support.topology({"here": support.ranks(blocks, **options)}, eager=True),
            support.strategy([support.island("here", BATCH, 4, blocks, **options)]), BATCH, *flags,
            lr=lr)
        return self.losses(plan, self.onnx, STEPS)

    def check(self, blocks, schedule, warmup, decay, sgd=False, **options):
        lr = 0.05 if sgd else 2e-3
        flags = self.flags(schedule, warmup, decay)
        if sgd:
            flags += ["--optimizer", "sgd", "--momentum", "0.9"]
        measured = self.measure(blocks, lr, *flags, **options)
        optimizer = (torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9) if sgd
                     else reference.adamw(self.model, lr))
        expected = reference.train(
            self.model, self.samples, BATCH, STEPS,
            optimizer=Scheduled(optimizer, schedule, warmup, decay))
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)
        return expected

    def test_warmup_then_constant(self):
        self.check([4], "constant", 6, 0)

    def test_warmup_then_cosine(self):
        scheduled = self.check([4], "cosine", 5, 16)  # ends with updates of rate 0
        # The comparison can tell a schedule from none.
        model = reference.GPT(mask="tril")
        plain = reference.train(model, self.samples, BATCH, STEPS, lr=2e-3)
        self.assertGreater(
            reference.largest_relative_difference(scheduled, plain), 100 * TOLERANCE)

    def test_linear_of_sgd(self):
        self.check([4], "linear", 0, 15, sgd=True)

    def test_cosine_in_a_pipeline(self):
        self.check([2, 2], "cosine", 5, 16)

    def test_linear_in_a_pipeline(self):
        self.check([2, 2], "linear", 4, 18)

    def test_cosine_over_chips_of_replicas(self):
        self.check([1, 3], "cosine", 5, 16, tensor_parallel=2, data_parallel=2,
                   optimizer_sharding=True)

    def test_decay_within_the_warmup_is_refused(self):
        result = self.plan(
            self.onnx, support.topology({"here": 1}),
            support.strategy([support.island("here", BATCH, 4, [4])]), BATCH,
            *self.flags("cosine", 5, 5), check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("decay-steps: expected more than the 5 warm-up steps, got 5", result.stderr)


if __name__ == "__main__":
    unittest.main()
