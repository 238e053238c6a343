"""Two islands and the parameter server train as the short PyTorch reference of
the same algorithm does: losses of each island, and the final parameters."""

import datetime
import os
import pathlib
import shutil
import unittest

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import reference
import support
from evaluate import OnnxModel

TOLERANCE = 1e-5
BATCHES = [8, 4]
INNER_STEPS = 5
SERVER = {
    "inner_steps": INNER_STEPS, "fragments": 1, "overlap_steps": 0, "compression": "none",
    "outer": "{optimizer: nesterov, lr: 0.7, momentum: 0.9}", "quorum": 2, "deadline_seconds": 60,
}


# How far single elements of the final parameters may be off. Where a delta is rounded
# to few steps, a difference in the last bit now and then becomes one of a whole step.
LARGEST = {"none": 2e-4, "bf16": 2e-4, "int8": 5e-4, "int4": 5e-3}
MEAN = 1e-5  # over all elements


class Islands(support.TomboloTest):
    def make_model(self):
        return reference.GPT(layers=2, mask="tril")

    def export(self):
        path = self.path("m.onnx")
        reference.export_onnx(self.make_model(), path, 17, True)
        self.samples = reference.Samples(self.tokens(), self.make_model().length)
        return path

    def reference(self, steps, inner_steps=INNER_STEPS, **algorithm):
        return reference.train_islands(
            self.make_model, self.samples, BATCHES, inner_steps, steps, **algorithm)

    def check(self, steps, first, second, server=SERVER, path=None, plan_flags=(), **algorithm):
        path, trained = path or self.export(), self.path("trained.onnx")
        plan = self.plan(path, support.topology({"east": 2, "west": 2}),
                         support.strategy([first, second], server), sum(BATCHES), *plan_flags)
        measured = self.train(plan, path, steps, "--export-onnx", trained)
        for key, argument in (("inner_steps", "inner_steps"), ("fragments", "fragments"),
                              ("overlap_steps", "overlap"), ("compression", "compression")):
            algorithm[argument] = server[key]
        losses, parameters = self.reference(steps, **algorithm)
        for i, expected in enumerate(losses):
            self.assertLessEqual(reference.largest_relative_difference(
                [entry["loss"] for entry in measured[i]], expected), TOLERANCE, f"island {i}")
            self.assertEqual({entry["tokens"] for entry in measured[i]},
                             {BATCHES[i] * self.samples.length})
        saved = {t.name: numpy_helper.to_array(t) for t in onnx.load(trained).graph.initializer}
        total = count = 0
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
            self.assertLess(difference.max(), LARGEST[server["compression"]]
                            * max(1.0, np.abs(expected).max()), name)
            total += difference.sum()
            count += difference.size
        self.assertLess(total / count, MEAN)

    def test_one_rank_each(self):
        self.check(20, support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4]))

    def test_unlike_layouts_and_a_last_partial_round(self):
        self.check(17, support.island("east", 8, 2, [2, 2]),
                   support.island("west", 4, 2, [4], data_parallel=2))

    def test_plain_outer_sgd(self):
        server = {**SERVER, "outer": "{optimizer: sgd, lr: 0.9, momentum: 0.0}"}
        self.check(10, support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4]),
                   server, outer_lr=0.9, momentum=0.0, nesterov=False)

    def test_outer_adamw(self):
        # Where a delta is near zero AdamW multiplies what it is off by by lr / eps.
        settings = dict(lr=0.004, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05)
        word = "{optimizer: adamw, lr: 0.004, momentum: 0.8, beta2: 0.95, eps: 1e-3, weight_decay: 0.05}"
        path = self.export()
        for fragments, overlap, compression in ((1, 0, "none"), (2, 1, "int8")):
            with self.subTest(fragments=fragments, compression=compression):
                server = {**SERVER, "outer": word, "fragments": fragments, "overlap_steps": overlap,
                          "compression": compression}
                self.check(17, support.island("east", 8, 4, [4]),
                           support.island("west", 4, 2, [4]), server, path, adamw=settings)

    def test_outer_adamw_starts_with_moments_of_zero_when_resumed(self):
        """A server without its state has no moments of AdamW, and no checkpoint has one of them alone."""
        path, folder, again = self.export(), self.path("checkpoints"), self.path("again")
        server = {**SERVER, "outer": "{optimizer: adamw, lr: 0.01}"}
        plan = self.plan(path, support.topology({"east": 2, "west": 2}), support.strategy(
            [support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4])], server), sum(BATCHES))
        self.train(plan, path, 10, "--checkpoint-dir", folder)
        saved = b"".join(pathlib.Path(root, name).read_bytes() for root, _, names in os.walk(folder)
                         for name in names if "server" not in root)
        self.assertIn(b"exp_avg_sq", saved)  # the inner optimizer's
        self.assertNotIn(b"outer_momentum", saved)
        shutil.copytree(folder, again, ignore=lambda _, names: [n for n in names if n.startswith("server")])
        measured = self.train(plan, path, 15, "--checkpoint-dir", again, "--resume")
        self.assertEqual([len(measured[island]) for island in sorted(measured)], [5, 5])

    def test_limit_of_a_line(self):
        """At any rate the versions have the same bits, and what crosses the line to the server's site
        takes as long as the limit says."""
        path, gbits, hashes = self.export(), 0.001, []
        plan = self.plan(path, support.topology({"east": 2, "west": 2}), support.strategy(
            [support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4])], SERVER), sum(BATCHES))
        for extra in ((), ("--line-connections", 3, "--line-limit-gbits", gbits)):
            self.train(plan, path, 10, *extra)
            versions = self.events("outer_step")
            hashes.append([event["hash"] for event in versions])
        self.assertEqual(len(hashes[0]), 2)
        self.assertEqual(*hashes)
        # Between them the server has sent one version to the west, and the west its push.
        parameters = sum(p.numel() for p in self.make_model().parameters())
        first, second = (datetime.datetime.fromisoformat(event["time"].rstrip("Z")) for event in versions)
        self.assertGreater((second - first).total_seconds(), 1.5 * 4 * parameters / (gbits * 1e9 / 8))

    def test_primary_and_backup(self):
        server = {**SERVER, "placement": "{0: {primary: west, backup: east}}", "witness": "east"}
        self.check(10, support.island("east", 8, 4, [4]), support.island("west", 4, 2, [4]),
                   server)

    def check_settings(self, steps, settings, **second):
        path = self.export()
        for inner_steps, fragments, overlap, compression in settings:
            server = {**SERVER, "inner_steps": inner_steps, "fragments": fragments,
                      "overlap_steps": overlap, "compression": compression}
            with self.subTest(H=inner_steps, F=fragments, overlap=overlap,
                              compression=compression):
                self.check(steps, support.island("east", 8, 4, [4]),
                           support.island("west", 4, 2, **second), server, path)

    def test_fragments_and_overlap(self):
        self.check_settings(13, [(4, 2, 0, "none"), (4, 4, 3, "none")],
                            blocks=[1, 3], data_parallel=1)

    def test_compression(self):
        self.check_settings(12, [(4, 1, 0, "bf16"), (5, 2, 1, "int8"), (4, 3, 2, "int4")],
                            blocks=[4])

    def unequal(self, own):
        """Islands with inner steps of their own."""
        return (support.island("east", 8, 4, [4], inner_steps=own[0]),
                support.island("west", 4, 2, [1, 3], inner_steps=own[1]))

    def test_unequal_inner_steps(self):
        path = self.export()
        for own, fragments, overlap, compression, steps in [
                ([8, 4], 1, 0, "none", 24), ([8, 4], 4, 1, "int8", 24), ([6, 12], 3, 2, "none", 16)]:
            server = {**SERVER, "inner_steps": 8, "fragments": fragments, "overlap_steps": overlap,
                      "compression": compression}
            with self.subTest(own=own, F=fragments, overlap=overlap, compression=compression):
                self.check(steps, *self.unequal(own), server, path, own_inner_steps=own)

    def test_the_rate_runs_over_the_jobs_progress(self):
        def schedule(t):
            return 1e-3 * (t / 8 if t < 8 else (1 + np.cos(np.pi * min(1, (t - 8) / 24))) / 2)
        server = {**SERVER, "inner_steps": 8, "fragments": 2}
        flags = ("--lr-schedule", "cosine", "--warmup-steps", 8, "--decay-steps", 32)
        self.check(24, *self.unequal([8, 4]), server, plan_flags=flags, own_inner_steps=[8, 4],
                   schedule=schedule)
        result = self.plan(self.path("m.onnx"), support.topology({"east": 2, "west": 2}),
                           support.strategy(self.unequal([8, 4]), server), sum(BATCHES),
                           "--warmup-steps", 5, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("warmup-steps: expected a multiple of 2", result.stderr)

    def test_resumes_with_unequal_inner_steps(self):
        """Checkpoints of all islands are behind the same rounds; the last one is taken away."""
        path, folder, trained = self.export(), self.path("checkpoints"), self.path("trained.onnx")
        self.tokens(16 * 8 + 1, seed=9, name="held.bin")
        server = {**SERVER, "inner_steps": 8, "fragments": 2, "overlap_steps": 1}
        plan = self.plan(path, support.topology({"east": 2, "west": 2}),
                         support.strategy(self.unequal([8, 4]), server), sum(BATCHES))

        def train(*flags):
            losses = self.train(plan, path, 32, "--checkpoint-dir", folder, "--checkpoint-every", 12,
                                "--export-onnx", trained, "--eval-data", self.path("held.bin"),
                                "--eval-every", 12, *flags)
            graph = onnx.load(trained).graph
            return losses, {t.name: numpy_helper.to_array(t) for t in graph.initializer}

        losses, whole = train()
        self.assertEqual([len(losses[island]) for island in range(2)], [32, 16])
        self.assertEqual({(e["island"], e["step"]) for e in self.events("eval")},
                         {(0, 12), (0, 24), (0, 32), (1, 6), (1, 12), (1, 16)})
        for island in range(2):
            found = os.path.join(folder, f"island-{island}")
            self.assertEqual(sorted(os.listdir(found)), ["step-25", "step-32"])
            shutil.rmtree(os.path.join(found, "step-32"))
        losses, resumed = train("--resume")
        self.assertEqual([losses[island][0]["step"] for island in range(2)], [25, 13])
        self.assertEqual([losses[island][-1]["step"] for island in range(2)], [31, 15])
        for name, values in whole.items():
            self.assertTrue(np.array_equal(values, resumed[name]), name)
        result = self.train(plan, path, 36, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("--steps 36: expected whole rounds, a multiple of the server's inner_steps 8",
                      result.stderr)

    def test_the_last_evaluation_is_of_what_is_exported(self):
        path, trained = self.export(), self.path("trained.onnx")
        held = reference.Samples(self.tokens(16 * 12 + 1, seed=9, name="held.bin"), self.samples.length)
        settings = {**SERVER, "fragments": 2, "overlap_steps": 2}
        plan = self.plan(path, support.topology({"east": 2, "west": 1}), support.strategy(
            [support.island("east", 8, 2, [2, 2]), support.island("west", 4, 2, [4])], settings), sum(BATCHES))
        self.train(plan, path, 13, "--export-onnx", trained, "--eval-data", self.path("held.bin"), "--eval-every", 8)
        found = {(event["island"], event["step"]): event["loss"] for event in self.events("eval")}
        self.assertEqual(set(found), {(0, 8), (0, 13), (1, 8), (1, 13)})
        inputs, labels = held.batch(0, 12)
        with torch.no_grad():
            expected = reference.token_losses(OnnxModel(trained), inputs, labels).item() / labels.numel()
        for island in range(2):
            self.assertAlmostEqual(found[island, 13] / expected, 1, delta=1e-5)

    def test_resumes_from_the_middle_of_exchanges(self):
        # Checkpoints are due every 7 steps and wait for one without a push under way.
        path, folder, trained = self.export(), self.path("checkpoints"), self.path("trained.onnx")
        settings = {**SERVER, "fragments": 2, "overlap_steps": 2}
        plan = self.plan(path, support.topology({"east": 2, "west": 1}), support.strategy(
            [support.island("east", 8, 2, [2, 2]), support.island("west", 4, 2, [4])], settings), sum(BATCHES))

        def train(*flags):
            losses = self.train(plan, path, 30, "--checkpoint-dir", folder, "--checkpoint-every", 7,
                                "--export-onnx", trained, *flags)
            graph = onnx.load(trained).graph
            return losses, {t.name: numpy_helper.to_array(t) for t in graph.initializer}

        _, whole = train()
        for island in range(2):
            found = os.path.join(folder, f"island-{island}")
            self.assertEqual(sorted(os.listdir(found)), ["step-29", "step-30"])
            shutil.rmtree(os.path.join(found, "step-30"))
        losses, resumed = train("--resume")
        self.assertEqual([entry["step"] for entry in losses[1]], [29])
        for name, values in whole.items():
            self.assertTrue(np.array_equal(values, resumed[name]), name)

    def test_what_is_compared_tells_faults_from_rounding(self):
        """Deliberate mistakes in the algorithm are far beyond the tolerances."""
        self.export()
        settings = dict(inner_steps=4, fragments=2, overlap=2, compression="int8")
        losses, parameters = self.reference(12, **settings)
        for mutation in ("no error feedback", "equal weights", "overlap lost"):
            with self.subTest(mutation=mutation):
                wrong, others = self.reference(12, mutation=mutation, **settings)
                total = sum((others[n] - p).abs().sum() for n, p in parameters.items())
                self.assertGreater(total / sum(p.numel() for p in parameters.values()), MEAN)
                if mutation != "no error feedback":
                    self.assertGreater(reference.largest_relative_difference(
                        wrong[0], losses[0]), TOLERANCE)
        settings = dict(inner_steps=4, own_inner_steps=[4, 2])
        losses, _ = self.reference(12, **settings)
        wrong, _ = self.reference(12, mutation="steps not scaled", **settings)
        self.assertGreater(reference.largest_relative_difference(wrong[0], losses[0]), TOLERANCE)


if __name__ == "__main__":
    unittest.main()
