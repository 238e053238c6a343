"""Two islands and the parameter server train as the short PyTorch reference of
the same algorithm does: losses of each island, and the final parameters."""

import unittest

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import reference
import support

TOLERANCE = 1e-5
BATCHES = [8, 4]
INNER_STEPS = 5
SERVER = {
    "inner_steps": INNER_STEPS, "fragments": 1, "overlap_steps": 0, "compression": "none",
    "outer": "{optimizer: nesterov, lr: 0.7, momentum: 0.9}", "quorum": 2, "deadline_seconds": 60,
}


class Islands(support.TomboloTest):
    def make_model(self):
        return reference.GPT(layers=2, mask="tril")

    def check(self, steps, first, second, server=SERVER, **algorithm):
        path, trained = self.path("m.onnx"), self.path("trained.onnx")
        reference.export_onnx(self.make_model(), path, 17, True)
        samples = reference.Samples(self.tokens(), self.make_model().length)
        plan = self.plan(path, support.topology({"east": 2, "west": 2}),
                         support.strategy([first, second], server), sum(BATCHES))
        measured = self.train(plan, path, steps, "--export-onnx", trained)
        losses, parameters = reference.train_islands(
            self.make_model, samples, BATCHES, INNER_STEPS, steps, **algorithm)
        for i, expected in enumerate(losses):
            self.assertLessEqual(reference.largest_relative_difference(
                [entry["loss"] for entry in measured[i]], expected), TOLERANCE, f"island {i}")
            self.assertEqual({entry["tokens"] for entry in measured[i]},
                             {BATCHES[i] * samples.length})
        saved = {t.name: numpy_helper.to_array(t) for t in onnx.load(trained).graph.initializer}
        for name, expected in parameters.items():
            expected = expected.numpy()
            # Bound by the parameter's own scale: some elements are near zero,
            # and a key's bias has a true gradient of zero, where AdamW turns
            # rounding into steps of the size of the learning rate.
            difference = np.abs(saved[name] - expected)
            if name.endswith("qkv.bias"):
                third = expected.size // 3
                self.assertLess(difference[third:2 * third].max(), 2e-2, name)
                difference = np.delete(difference, np.s_[third:2 * third])
            self.assertLess(difference.max(), 2e-4 * max(1.0, np.abs(expected).max()), name)
            self.assertLess(difference.mean(), 1e-5, name)

    def test_one_rank_each(self):
        self.check(20, support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4]))

    def test_unlike_layouts_and_a_last_partial_round(self):
        self.check(17, support.island("east", 8, 2, [2, 2]),
                   support.island("west", 4, 2, [4], data_parallel=2))

    def test_plain_outer_sgd(self):
        server = {**SERVER, "outer": "{optimizer: sgd, lr: 0.9, momentum: 0.0}"}
        self.check(10, support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4]),
                   server, outer_lr=0.9, momentum=0.0, nesterov=False)


if __name__ == "__main__":
    unittest.main()
