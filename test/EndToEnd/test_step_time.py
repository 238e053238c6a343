"""The cost model's step against the simulated one of the plan's own programs."""

import json

import support
from support import island, strategy, topology

BATCH = 12

# With what a simulated step has besides: transfers that wait for one another.
MOST_OFF = 0.025

# Of few blocks a stage, where what is early and late in a backward counts most.
PIPELINES = [
    dict(blocks=[1] * 6),
    dict(blocks=[1, 3, 2]),
    dict(blocks=[2, 2, 2], data_parallel=2),
]


class StepTime(support.TomboloTest):
    """Each pipeline with nothing, one block, and all that runs again."""

    def check(self, schedule, **options):
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 256, "--heads", 4, "--vocab",
                    512, "--seq", 64, "--no-weights", "-o", model)
        wrong = []
        for pipeline in PIPELINES:
            if min(pipeline["blocks"]) < options.get("chunks", 1):
                continue
            for recompute in ("none", 1, "full"):
                layout = dict(pipeline, schedule=schedule, recompute=recompute, **options)
                summary = self.path("s.json")
                plan = self.plan(
                    model, topology({"s": support.ranks(**layout)}, memory_gib=16),
                    strategy([island("s", BATCH, 1, **layout)]), BATCH, "--json", summary)
                with open(summary) as file:
                    foretold = json.load(file)["predicted"]["step_seconds"]
                support.run("tombolo-sim", plan, "--json", summary)
                with open(summary) as file:
                    simulated = json.load(file)["simulated"]["seconds"]
                off = foretold / simulated - 1
                if abs(off) > MOST_OFF:
                    wrong.append(f"{layout}: foretold {foretold}, simulated {simulated}: {off:+.3f}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_1f1b(self):
        self.check("1f1b")

    def test_gpipe(self):
        self.check("gpipe")

    def test_zero_bubble(self):
        self.check("zero-bubble")

    def test_interleaved(self):
        self.check("interleaved", chunks=2)
