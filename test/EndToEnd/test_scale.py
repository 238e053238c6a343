"""Plans of the size that Tombolo is for: 100 billion parameters on a thousand chips."""

import json
import os
import subprocess
import unittest

import onnx

import support

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")


def example(name):
    with open(os.path.join(EXAMPLES, name)) as file:
        return file.read()


class Scale(support.TomboloTest):
    def test_100_billion_parameters_on_a_thousand_chips(self):
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt-100b", "--no-weights", "-o", model)
        plan = self.path("p.plan")
        # Only wait4 tells the peak of this one process.
        process = subprocess.Popen(
            [os.path.join(support.BIN, "tombolo-plan"), model,
             "--topology", self.write("sites.yaml", example("thousand-chips.yaml")),
             "--strategy", self.write("strategy.yaml", example("thousand-chips-strategy.yaml")),
             "--global-batch", "1024", "--precision", "bf16", "-o", plan],
            stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertLess(usage.ru_maxrss * 1024, 1e9)
        # The printer refuses what no runtime would run.
        text = support.run("tombolo-translate", "--print-plan", plan).stdout
        self.assertIn("shanghai", text)
        # Of classes of workers, not of ranks: 64 stages in 10,000 bytes each.
        self.assertLess(os.path.getsize(plan), 64 * 10000)

    def test_103_billion_parameters_by_eight_stages_of_sixteen_replicas_of_eight_chips(self):
        model = self.path("m.onnx")
        support.run("tombolo-model", "llama-100b", "--no-weights", "-o", model)
        plan = self.path("p.plan")
        summary = self.path("s.json")
        process = subprocess.Popen(
            [os.path.join(support.BIN, "tombolo-plan"), model,
             "--topology", self.write("sites.yaml", example("thousand-chips.yaml")),
             "--strategy", self.write("strategy.yaml", example("llama-100b-strategy.yaml")),
             "--global-batch", "1024", "--precision", "bf16", "--json", summary, "-o", plan],
            stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertLess(usage.ru_maxrss * 1024, 2e9)
        with open(summary) as file:
            found = json.load(file)
        # Embedding, layer and head, each over eight chips.
        self.assertEqual([(s["block"], s["tensor_parallel"]) for s in found["strategy"]["sharding"]],
                         [(0, 8), (1, 8), (97, 8)])
        # Parameters, gradients and state of a 64th of the model, the state over replicas.
        self.assertLess(max(found["predicted"]["peak_memory_bytes"][0]), 40e9)
        self.assertGreater(min(found["predicted"]["tensor_parallel_seconds"][0]), 0)
        support.run("tombolo-translate", "--print-plan", plan)
        # Beside the four tables of rotary embedding: classes of workers, not ranks.
        self.assertLess(os.path.getsize(plan) - 4 * 4096 * 128 * 4, 8 * 40000)

    def plan_of(self, layers):
        """Bytes of the plan of a model of two equal stages, and of its names."""
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", layers, "--hidden", 32, "--heads", 4,
                    "--vocab", 64, "--seq", 16, "--no-weights", "-o", model)
        plan = self.plan(model, support.topology({"here": 2}), support.strategy(
            [support.island("here", 8, 2, [layers // 2 + 1, layers // 2 + 1])]), 8)
        graph = onnx.load(model, load_external_data=False).graph
        return os.path.getsize(plan), [i.name for i in graph.initializer]

    def test_a_plan_grows_with_the_names_of_layers_alone(self):
        few, few_names = self.plan_of(24)
        many, many_names = self.plan_of(96)
        added = set(many_names) - set(few_names)
        self.assertGreater(len(added), 72)
        # Each name has a tag and a length; some counts take a byte more.
        self.assertLessEqual(many - few, sum(len(name) + 2 for name in added) + 256)


if __name__ == "__main__":
    unittest.main()
