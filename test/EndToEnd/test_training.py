"""What a real training run needs, as PyTorch does it, in every layout: gradient
clipping, parameters without weight decay, parameters tied across stages, labels
that do not count."""

import json
import math
import unittest

import numpy as np
import torch

import reference
import support

TOLERANCE = 1e-5
STEPS = 30
BATCH = 8
LR = 2e-3


# Replicas of two chips in two stages, each chip with a part of the optimizer's state.
MIXED = dict(tensor_parallel=2, data_parallel=2, sharded=True)


def island(microbatch, blocks, sharded=False, **options):
    """An island; `sharded`: each replica has a part of the optimizer's state."""
    return support.island("here", BATCH, microbatch, blocks, optimizer_sharding=sharded, **options)


def topology(blocks, **degrees):
    """As many chips as the stages need; several of one replica share its work."""
    split = degrees.get("tensor_parallel", 1) != 1
    return support.topology({"here": support.ranks(blocks, **degrees)}, eager=split)


class TrainingTest(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        self.model = reference.GPT(mask="tril")  # 4 blocks
        reference.export_onnx(self.model, self.onnx, 17, True)
        self.samples = reference.Samples(self.tokens(), self.model.length)

    def make(self, blocks, *flags, check=True, lr=LR, sharded=False, **degrees):
        layout = island(2, blocks, sharded=sharded, **degrees)
        return self.plan(self.onnx, topology(blocks, **degrees),
                         support.strategy([layout]), BATCH, *flags, lr=lr, check=check)

    def entries(self, *args, steps=STEPS, run=(), **options):
        return self.train(self.make(*args, **options), self.onnx, steps, *run)[0]

    def assertClose(self, measured, expected):
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)


class Clipping(TrainingTest):
    NORM = 0.75

    def reference(self, make_optimizer=None):
        """Losses and gradient norms."""
        norms = []
        parameters = list(self.model.parameters())
        optimizer = make_optimizer(parameters) if make_optimizer else reference.adamw(self.model, LR)

        class Clipped:
            zero_grad = optimizer.zero_grad

            def step(inner):
                norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, self.NORM)))
                optimizer.step()

        losses = reference.train(self.model, self.samples, BATCH, STEPS, optimizer=Clipped())
        # Some steps are clipped and others are not, or the test says little.
        self.assertTrue(any(n > 1.1 * self.NORM for n in norms), norms)
        self.assertTrue(any(n < 0.9 * self.NORM for n in norms), norms)
        return losses, norms

    def check(self, blocks, *flags, make_optimizer=None, **options):
        entries = self.entries(blocks, "--clip-grad-norm", self.NORM, *flags, **options)
        losses, norms = self.reference(make_optimizer)
        self.assertClose([e["loss"] for e in entries], losses)
        self.assertClose([e["grad_norm"] for e in entries], norms)

    def test_clipping_on_one_rank(self):
        self.check([4])

    def test_clipping_in_a_pipeline(self):
        self.check([1, 3])

    def test_clipping_over_replicas(self):
        self.check([4], data_parallel=2)

    def test_clipping_over_replicas_and_stages(self):
        self.check([2, 2], data_parallel=2)

    def test_clipping_over_shards_of_the_optimizer(self):
        self.check([2, 2], data_parallel=2, sharded=True)

    def test_clipping_over_chips_of_replicas(self):
        self.check([1, 3], **MIXED)

    def test_clipping_of_sgd(self):
        self.check([2, 2], "--optimizer", "sgd", "--momentum", "0.9", lr=0.3,
                   make_optimizer=lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9))

    def test_clipping_changes_nothing_below_the_bound(self):
        clipped = self.entries([2, 2], "--clip-grad-norm", "1e9", steps=3)
        plain = self.entries([2, 2], steps=3)
        self.assertEqual([e["loss"] for e in clipped], [e["loss"] for e in plain])
        self.assertNotIn("grad_norm", plain[0])

    def test_a_bound_of_zero_is_refused(self):
        result = self.make([4], "--clip-grad-norm", "0", check=False)
        self.assertEqual(result.returncode, 2)
        self.assertIn("--clip-grad-norm", result.stderr)


class WeightDecay(TrainingTest):
    DECAY = 0.3  # large, so that it shows in 30 steps

    def check(self, exclude, decays, blocks, *flags, **options):
        """`decays` says of a name and a parameter whether it decays."""
        entries = self.entries(blocks, "--weight-decay", self.DECAY, "--weight-decay-exclude",
                               exclude, *flags, **options)
        groups = [[], []]
        for name, parameter in self.model.named_parameters():
            groups[decays(name, parameter)].append(parameter)
        self.assertTrue(groups[0] and groups[1])
        optimizer = torch.optim.AdamW(
            [{"params": groups[0], "weight_decay": 0}, {"params": groups[1]}],
            lr=LR, weight_decay=self.DECAY)
        expected = reference.train(
            self.model, self.samples, BATCH, STEPS, optimizer=optimizer)
        self.assertClose([e["loss"] for e in entries], expected)

    @staticmethod
    def vectors(name, parameter):
        return parameter.dim() > 1

    def test_no_decay_of_vectors_on_one_rank(self):
        self.check("vectors", self.vectors, [4])

    def test_no_decay_of_vectors_in_a_pipeline(self):
        self.check("vectors", self.vectors, [1, 3])

    def test_no_decay_of_vectors_over_replicas(self):
        self.check("vectors", self.vectors, [4], data_parallel=2)

    def test_no_decay_of_vectors_over_replicas_and_stages(self):
        self.check("vectors", self.vectors, [2, 2], data_parallel=2)

    def test_no_decay_of_vectors_over_shards_of_the_optimizer(self):
        self.check("vectors", self.vectors, [1, 3], data_parallel=2, sharded=True)

    def test_no_decay_of_vectors_over_chips_of_replicas(self):
        self.check("vectors", self.vectors, [2, 2], **MIXED)

    def test_no_decay_by_name(self):
        self.check("^w[tp]e|bias$", lambda name, p: not (name[:3] in ("wte", "wpe")
                                                         or name.endswith("bias")), [2, 2])

    def test_a_pattern_that_tells_equal_blocks_apart_is_refused(self):
        result = self.make([4], "--weight-decay-exclude", "h.0.up.weight", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("h.0.up.weight", result.stderr)
        self.assertIn("let the pattern match both or none", result.stderr)

    def test_a_pattern_that_matches_nothing_is_reported(self):
        plan = self.path("p.plan")
        self.make([4])
        result = support.run(
            "tombolo-plan", self.onnx, "--topology", self.path("sites.yaml"), "--global-batch",
            BATCH, "-o", plan, "--weight-decay-exclude", "nothing")
        self.assertIn("'nothing' matches no trained parameter", result.stderr)


class Ties(support.TomboloTest):
    """The token embedding is the head's weight: one parameter of two stages."""

    def check(self, blocks, *flags, layers=2, clip=None, **options):
        onnx = self.path("m.onnx")
        model = reference.GPT(layers=layers, mask="tril", tied=True)
        reference.export_onnx(model, onnx, 17, True)
        samples = reference.Samples(self.tokens(), model.length)
        layout = island(2, blocks, **options)
        if clip:
            flags += ("--clip-grad-norm", clip)
        options.pop("sharded", None)
        plan = self.plan(onnx, topology(blocks, **options), support.strategy([layout]),
                         BATCH, *flags, lr=LR)
        entries = self.train(plan, onnx, STEPS)[0]
        optimizer = reference.adamw(model, LR)
        if clip:
            step = optimizer.step
            def clipped():
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                step()
            optimizer.step = clipped
        expected = reference.train(model, samples, BATCH, STEPS, optimizer=optimizer)
        self.assertLessEqual(
            reference.largest_relative_difference([e["loss"] for e in entries], expected),
            TOLERANCE)
        return plan, onnx, model

    def test_tied_across_two_stages(self):
        self.check([2, 2])

    def test_tied_across_three_stages(self):
        self.check([1, 2, 1])

    def test_tied_across_stages_and_replicas(self):
        self.check([2, 2], data_parallel=2)

    def test_tied_and_clipped_over_shards_of_the_optimizer(self):
        self.check([2, 2], data_parallel=2, sharded=True, clip=0.75)

    def test_tied_and_clipped_over_chips_of_replicas(self):
        self.check([2, 2], clip=0.75, **MIXED)

    def test_checkpoints_hold_it_once_and_load_elsewhere(self):
        plan, onnx, model = self.check([2, 2])
        folder = self.path("checkpoints")
        self.train(plan, onnx, 5, "--checkpoint-dir", folder)
        whole = self.losses(plan, onnx, 10)
        again = self.plan(onnx, support.topology({"here": 3}),
                          support.strategy([island(2, [1, 2, 1])]), BATCH, lr=LR)
        resumed = self.losses(again, onnx, 10, "--checkpoint-dir", folder, "--resume")
        self.assertLessEqual(
            reference.largest_relative_difference(resumed, whole[5:]), TOLERANCE)

    def test_tied_and_clipped_counts_once(self):
        self.check([2, 2], clip=0.75)

    def test_tied_and_clipped_over_replicas_counts_once(self):
        self.check([1, 3], data_parallel=2, clip=0.75)


class Labels(TrainingTest):
    """Labels that do not count, and steps in which none does."""

    IGNORED = 7

    def reference(self, samples, skip=()):
        optimizer = reference.adamw(self.model, LR)
        losses = []
        for n in range(STEPS):
            inputs, labels = samples.batch(n * BATCH, BATCH)
            count = int((labels != self.IGNORED).sum())
            if count == 0:
                losses.append(0.0)
                continue
            optimizer.zero_grad()
            logits = self.model(inputs)
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.size(-1)), labels.reshape(-1),
                ignore_index=self.IGNORED, reduction="sum") / count
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def check(self, blocks, tokens=None, **options):
        if tokens is not None:
            tokens.tofile(self.path("tokens.bin"))
            self.samples = reference.Samples(tokens, self.model.length)
        entries = self.entries(blocks, "--ignore-index", self.IGNORED, **options)
        expected = self.reference(self.samples)
        for entry, loss in zip(entries, expected, strict=True):
            self.assertLessEqual(abs(entry["loss"] - loss), TOLERANCE * abs(loss))
        return expected

    def test_ignored_labels_on_one_rank(self):
        self.check([4])

    def test_ignored_labels_over_replicas_and_stages(self):
        self.check([2, 2], data_parallel=2)

    def test_ignored_labels_over_chips_of_replicas(self):
        self.check([1, 3], **MIXED)

    def test_a_step_without_labels_changes_nothing(self):
        tokens = self.tokens()
        length = self.model.length
        tokens[3 * BATCH * length: 4 * BATCH * length + 1] = self.IGNORED
        self.assertEqual(self.check([2, 2], tokens).count(0.0), 1)


class Masks(TrainingTest):
    """The loss mask: an input with a weight for each label."""

    def check(self, blocks, **options):
        rng = np.random.default_rng(3)
        count = 64
        tokens, labels = self.samples.batch(0, count)
        mask = (rng.random(labels.shape) * (rng.random(labels.shape) > 0.3)).astype(np.float32)
        mask[2 * BATCH: 3 * BATCH] = 0  # a step of weight zero
        data = self.path("data.safetensors")
        support.write_safetensors(
            data, {"tokens": tokens.numpy(), "labels": labels.numpy(), "loss_mask": mask})
        plan = self.make(blocks, "--loss-mask", "loss_mask", **options)
        entries = self.train(plan, self.onnx, STEPS, data=data)[0]
        optimizer = reference.adamw(self.model, LR)
        for n, entry in enumerate(entries):
            rows = [(n * BATCH + i) % count for i in range(BATCH)]
            weights = torch.from_numpy(mask[rows])
            if weights.sum() == 0:
                self.assertEqual(entry["loss"], 0)
                continue
            optimizer.zero_grad()
            logits = self.model(tokens[rows])
            each = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.size(-1)), labels[rows].reshape(-1), reduction="none")
            loss = (each * weights.reshape(-1)).sum() / weights.sum()
            loss.backward()
            optimizer.step()
            self.assertLessEqual(abs(entry["loss"] - loss.item()), TOLERANCE * loss.item())

    def test_loss_mask_on_one_rank(self):
        self.check([4])

    def test_loss_mask_in_a_pipeline(self):
        self.check([1, 3])

    def test_loss_mask_over_replicas_and_stages(self):
        self.check([2, 2], data_parallel=2)

    def test_loss_mask_over_chips_of_replicas(self):
        self.check([2, 2], **MIXED)


class Evaluation(TrainingTest):
    def evaluations(self):
        with open(self.path("metrics.jsonl")) as file:
            entries = [json.loads(line) for line in file]
        return [e for e in entries if e.get("event") == "eval"]

    def check(self, blocks, count, every, **options):
        """`count`: tokens of the held-out file."""
        held = self.tokens(count, seed=9, name="held.bin")
        plan = self.make(blocks, **options)
        plain = self.train(plan, self.onnx, STEPS)[0]
        entries = self.train(plan, self.onnx, STEPS, "--eval-data", self.path("held.bin"),
                             "--eval-every", every)[0]
        # Training is the same to the bit.
        self.assertEqual([e["loss"] for e in plain], [e["loss"] for e in entries])
        evaluations = self.evaluations()
        steps = sorted(set(range(every, STEPS + 1, every)) | {STEPS})
        self.assertEqual([e["step"] for e in evaluations], steps)
        length = self.model.length
        samples = (count - 1) // length
        inputs, labels = reference.Samples(held, length).batch(0, samples)
        trainer = reference.Trainer(self.model, self.samples, BATCH, LR)
        expected = []
        for n in range(STEPS):
            trainer.step(n * BATCH)
            if n + 1 in steps:
                with torch.no_grad():
                    loss = reference.token_losses(self.model, inputs, labels)
                expected.append(loss.item() / labels.numel())
        self.assertClose([e["loss"] for e in evaluations], expected)
        for evaluation in evaluations:
            self.assertEqual(evaluation["samples"], samples)
            self.assertEqual(evaluation["tokens"], samples * length)

    def test_whole_batches_on_one_rank(self):
        self.check([4], 16 * BATCH * 2 + 1, 10)

    def test_a_part_of_a_batch_in_a_pipeline(self):
        self.check([2, 2], 16 * (2 * BATCH + 3) + 5, 7)

    def test_less_than_a_batch_over_replicas(self):
        self.check([4], 16 * 3 + 1, 15, data_parallel=2)

    def test_over_replicas_and_stages(self):
        self.check([1, 3], 16 * (BATCH + 1) + 1, 10, data_parallel=2)

    def test_evaluation_over_chips_of_replicas(self):
        self.check([2, 2], 16 * (BATCH + 1) + 1, 10, **MIXED)


def philox(counters, key):
    """Philox 4x32-10, docs/PlanFormat.md: words [n, 4] of counters [n, 4]."""
    c = [counters[:, i].astype(np.uint64) for i in range(4)]
    k = [np.uint64(word) for word in key]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ k[0], b & low,
             (a >> np.uint64(32)) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, axis=1)


class Dropout(torch.nn.Module):
    """Exported it is torch's; otherwise it draws the masks of docs/PlanFormat.md.
    `place` is the number of the block and of the op in it."""

    seed, step, drawing = 0, 0, False

    def __init__(self, ratio, place):
        super().__init__()
        self.ratio, self.place = ratio, place

    def forward(self, x):
        if not Dropout.drawing:
            return torch.nn.functional.dropout(x, self.ratio, self.training)
        if not self.training:
            return x
        elements = x[0].numel()
        block, site = self.place
        masks = []
        for sample in range(x.shape[0]):
            counters = np.zeros(((elements + 3) // 4, 4), dtype=np.uint64)
            counters[:, 0] = np.arange(len(counters))
            counters[:, 1:] = sample, Dropout.step, block * 256 + site
            words = philox(counters, (Dropout.seed & 0xFFFFFFFF, Dropout.seed >> 32))
            kept = words.reshape(-1)[:elements] >= round(self.ratio * 2**32)
            masks.append(kept.reshape(x.shape[1:]))
        mask = torch.from_numpy(np.stack(masks).astype(np.float32))
        return x * mask * (1 / (1 - self.ratio))


class DroppingAttention(reference.Attention):
    def __init__(self, hidden, heads, length, ratio, block):
        super().__init__(hidden, heads, length, "buffer")
        self.drop = Dropout(ratio, (block, 0))

    def forward(self, x):
        b, t, c = x.size()
        q, k, v = self.qkv(x).split(c, dim=2)
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
        y = self.drop(torch.softmax(scores, dim=-1)) @ v
        return self.proj(y.transpose(1, 2).contiguous().view(b, t, c))


class DroppingGPT(reference.GPT):
    """Dropout of embeddings, attention and both branches of a layer, as in GPT-2."""

    def __init__(self, ratio, layers=2, hidden=32, heads=4, length=16):
        super().__init__(layers=layers, hidden=hidden, heads=heads, length=length, mask="tril")
        self.drop = Dropout(ratio, (0, 0))
        for i, layer in enumerate(self.h):
            state = layer.attn.state_dict()
            layer.attn = DroppingAttention(hidden, heads, length, ratio, i + 1)
            layer.attn.load_state_dict(state, strict=False)  # but the mask
            layer.drop1, layer.drop2 = Dropout(ratio, (i + 1, 1)), Dropout(ratio, (i + 1, 2))

    def forward(self, tokens):
        positions = torch.arange(0, tokens.size(1)).unsqueeze(0)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for layer in self.h:
            x = x + layer.drop1(layer.attn(layer.ln1(x)))
            x = x + layer.drop2(layer.down(torch.nn.functional.gelu(layer.up(layer.ln2(x)))))
        return self.head(self.ln_f(x))


class Dropouts(support.TomboloTest):
    SEED = 0x1234567890
    RATIO = 0.1

    def setUp(self):
        super().setUp()
        self.model = DroppingGPT(self.RATIO)
        self.onnx = self.path("m.onnx")
        self.samples = reference.Samples(self.tokens(), self.model.length)

    def export(self, opset=17):
        Dropout.drawing = False
        reference.export_onnx(self.model, self.onnx, opset, True)

    def measure(self, blocks, *flags, microbatch=2, run=("--seed", SEED), steps=STEPS,
                recompute="none", sharded=False, **degrees):
        layout = island(microbatch, blocks, recompute=recompute, sharded=sharded, **degrees)
        plan = self.plan(self.onnx, topology(blocks, **degrees), support.strategy([layout]),
                         BATCH, *flags, lr=LR)
        return self.losses(plan, self.onnx, steps, *run)

    def check(self, *args, opset=17, **options):
        self.export(opset)
        measured = self.measure(*args, **options)
        Dropout.drawing, Dropout.seed = True, self.SEED
        self.addCleanup(setattr, Dropout, "drawing", False)
        self.model.train()
        trainer = reference.Trainer(self.model, self.samples, BATCH, LR)
        expected = []
        for Dropout.step in range(STEPS):
            expected.append(trainer.step(Dropout.step * BATCH))
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)
        return measured

    def test_masks_on_one_rank(self):
        self.check([4])

    def test_masks_in_a_pipeline(self):
        self.check([1, 3])

    def test_masks_with_recomputation(self):
        self.check([2, 2], recompute="full", microbatch=4)

    def test_masks_over_replicas(self):
        self.check([4], data_parallel=2)

    def test_masks_over_replicas_and_stages(self):
        self.check([2, 2], data_parallel=2)

    def test_masks_over_chips_of_replicas(self):
        self.check([2, 2], **MIXED)

    def test_masks_with_recomputation_over_chips_of_a_replica(self):
        self.check([1, 3], recompute="full", tensor_parallel=4)

    def test_masks_of_opset_11(self):
        self.check([2, 2], opset=11)

    def test_seed_and_ratio_matter(self):
        self.export()
        seeded = self.measure([4], steps=5)
        again = self.measure([4], steps=5)
        other = self.measure([4], run=("--seed", 5), steps=5)
        none = self.measure([4], "--dropout", "0", steps=5)
        self.assertEqual(seeded, again)
        self.assertNotEqual(seeded, other)
        self.model.eval()
        expected = reference.train(self.model, self.samples, BATCH, 5, lr=LR)
        self.assertLessEqual(reference.largest_relative_difference(none, expected), TOLERANCE)

    def test_evaluation_drops_nothing(self):
        self.export()
        held = self.tokens(16 * BATCH + 1, seed=9, name="held.bin")
        self.measure([2, 2], "--lr-schedule", "linear", "--decay-steps", 1,
                     run=("--eval-data", self.path("held.bin")), steps=1)
        with open(self.path("metrics.jsonl")) as file:
            loss = [json.loads(line)["loss"] for line in file if '"eval"' in line][0]
        inputs, labels = reference.Samples(held, self.model.length).batch(0, BATCH)
        self.model.eval()
        with torch.no_grad():
            expected = reference.token_losses(self.model, inputs, labels).item() / labels.numel()
        self.assertLessEqual(abs(loss - expected), TOLERANCE * expected)


if __name__ == "__main__":
    unittest.main()
