"""Every order of microbatches, partial recomputation, replicas of one stage on
unlike pools and pipelines over several sites compute the training of one rank."""

import unittest

import reference
import support

TOLERANCE = 1e-5
STEPS = 15
BATCH = 16
LAYERS = 6  # 8 blocks


class PipelineTest(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        self.model = reference.GPT(layers=LAYERS, mask="tril", tied=self.tied)
        reference.export_onnx(self.model, self.onnx, 17, True)
        self.samples = reference.Samples(self.tokens(), self.model.length)

    tied = False

    def compare(self, sites, strategy, batch=BATCH):
        plan = self.plan(self.onnx, support.topology(sites), strategy, batch)
        # Between sites native ranks talk over TLS, PyTorch's cannot.
        plain = self.executor == "torch" and len(sites) > 1
        measured = self.losses(plan, self.onnx, STEPS, *(["--plaintext"] if plain else []))
        expected = reference.train(self.model, self.samples, batch, STEPS)
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected), TOLERANCE)

    def check(self, blocks, microbatch, batch=BATCH, **options):
        self.compare({"here": support.ranks(blocks, **options)},
                     support.strategy([support.island("here", batch, microbatch, blocks,
                                                      **options)]), batch)


class ZeroBubble(PipelineTest):
    def test_zero_bubble_2(self):
        self.check([4, 4], 2, schedule="zero-bubble")

    def test_zero_bubble_4_uneven(self):
        self.check([1, 3, 2, 2], 2, schedule="zero-bubble")

    def test_zero_bubble_with_fewer_microbatches_than_stages(self):
        self.check([2, 2, 2, 2], 8, schedule="zero-bubble")

    def test_zero_bubble_recompute(self):
        self.check([2, 3, 3], 4, schedule="zero-bubble", recompute="full")

    def test_zero_bubble_recompute_some_blocks(self):
        self.check([2, 4, 2], 2, schedule="zero-bubble", recompute=2)

    def test_zero_bubble_tensor_2(self):
        self.check([4, 4], 4, schedule="zero-bubble", tensor_parallel=2)

    def test_zero_bubble_data_1_to_2(self):
        self.check([4, 4], 2, schedule="zero-bubble", data_parallel=[1, 2])


class Interleaved(PipelineTest):
    def test_interleaved_2(self):
        self.check([4, 4], 2, schedule="interleaved", chunks=2)

    def test_interleaved_2_of_4_chunks(self):
        self.check([4, 4], 1, schedule="interleaved", chunks=4)

    def test_interleaved_3_microbatches_do_not_divide(self):
        self.check([3, 3, 2], 2, schedule="interleaved", chunks=2)

    def test_interleaved_fewer_microbatches_than_stages(self):
        self.check([3, 3, 2], 8, schedule="interleaved", chunks=2)

    def test_interleaved_data_2_recompute(self):
        self.check([5, 3], 2, schedule="interleaved", chunks=2, data_parallel=2,
                   recompute=3)

    def test_interleaved_tensor_2_to_1(self):
        self.check([4, 4], 4, schedule="interleaved", chunks=2, tensor_parallel=[2, 1])


class InterleavedTied(PipelineTest):
    tied = True

    def test_interleaved_tied(self):
        self.check([4, 4], 4, schedule="interleaved", chunks=2)


class Recompute(PipelineTest):
    def test_recompute_some_blocks(self):
        self.check([5, 3], 4, recompute=2)


class SeveralPools(PipelineTest):
    def test_replicas_on_two_sites_with_shares(self):
        strategy = """\
islands:
  - sites: [east, west]
    batch: 24
    microbatch: 2
    stages:
      - blocks: 5
        optimizer_sharding: true
        replicas:
          - {pool: east/cpu, count: 1, share: 2}
          - {pool: west/cpu, count: 1, share: 1}
      - blocks: 3
        replicas: [{pool: west/cpu, count: 2}]
"""
        self.compare({"east": 1, "west": 3}, strategy, batch=24)


class SeveralSites(PipelineTest):
    def test_pipeline_over_two_sites(self):
        self.compare({"east": 2, "west": 2}, support.strategy([
            support.island(["east", "west"], BATCH, 4, [4, 4], data_parallel=2)]))

    def test_interleaved_over_two_sites(self):
        self.compare({"east": 1, "west": 1}, support.strategy([
            support.island(["east", "west"], BATCH, 4, [4, 4], schedule="interleaved",
                           chunks=2)]))


if __name__ == "__main__":
    unittest.main()
