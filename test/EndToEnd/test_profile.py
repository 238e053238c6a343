"""Profiles of this machine: what is in them, and that plans and simulations use it.
Nothing here depends on how long anything takes."""

import csv
import json
import os
import re
import tempfile
import unittest

import yaml

from support import TomboloTest, island, run, strategy

# A wire that costs nothing, so that blocks are split whatever the machine does; the
# profile's own is for pools that state none.
SITES = """\
chips:
  - name: core
    memory_gib: 4
    profile: {file: core.yaml}
sites:
  - name: here
    pools:
      - {name: cpu, chip: core, nodes: 1, chips_per_node: 2,
         intra_node: {gbits_per_second: 40000, latency_us: 0.0001}}
"""


class Profile(unittest.TestCase):
    sharding = []

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.write("sites.yaml", SITES)
        run("tombolo-model", "gpt-tiny", "--no-weights", "-o", cls.path("m.onnx"))
        run("tombolo-profile", "--ranks", 2, "--threads", 1, "--seconds", 0.02, "--chip", "core",
            "-o", cls.path("core.yaml"))
        cls.generic = cls.read("core.yaml")
        cls.before = cls.plan(2, 2)
        # As was measured: other rates could choose another sharding.
        with open(cls.path("p.json")) as file:
            cls.sharding = json.load(file)["strategy"]["sharding"]
        run("tombolo-profile", "--for", cls.path("p.plan"), "--threads", 1, "--seconds", 0.05, "-o",
            cls.path("core.yaml"))
        cls.profile = cls.read("core.yaml")
        cls.measured = cls.plan(2, 2)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.temporary.name, name)

    @classmethod
    def write(cls, name, text):
        with open(cls.path(name), "w") as file:
            file.write(text)

    @classmethod
    def read(cls, name):
        with open(cls.path(name)) as file:
            return yaml.safe_load(file)

    @classmethod
    def plan(cls, microbatch, tensor_parallel, *more):
        cls.write("s.yaml", "islands:\n" + island("here", 8, microbatch, [4],
                                                  tensor_parallel=tensor_parallel) +
                  f"sharding: {json.dumps(cls.sharding)}\n")
        run("tombolo-plan", cls.path("m.onnx"), "--topology", cls.path("sites.yaml"), "--strategy",
            cls.path("s.yaml"), "--global-batch", 8, "--simulate", 0, "-o", cls.path("p.plan"),
            "--json", cls.path("p.json"), *more)
        with open(cls.path("p.json")) as file:
            return json.load(file)["predicted"]

    def test_generic_profile_has_rates_and_links(self):
        for profile in (self.generic, self.profile):
            self.assertEqual(profile["tombolo_profile"], 2)
            self.assertEqual(profile["chip"], "core")
            self.assertEqual(profile["machine"]["ranks"], 2)
            self.assertGreater(profile["peak"]["tflops"]["f32"], 0)
            self.assertGreater(profile["peak"]["memory_gbytes_per_second"], 0)
            self.assertGreater(profile["intra_node"]["gbits_per_second"], 0)
            for kind in ("messages", "all_reduces"):
                times = [row["us"] for row in profile["links"][kind]]
                self.assertEqual(times, sorted(times))
                self.assertGreater(times[0], 0)
        self.assertNotIn("models", self.generic)
        self.assertEqual(self.before["time_sources"], [["computed"]])

    def test_what_the_plan_calls_was_measured(self):
        model, = self.profile["models"]
        self.assertRegex(model["hash"], "^[0-9a-f]{64}$")
        for row in model["functions"]:
            self.assertEqual((row["microbatch"], row["tensor_parallel"]), (2, 2))
            for part in row["parts"]:
                self.assertGreater(part["us"], 0)
                self.assertLessEqual(*part["quartiles_us"])
        names = {row["function"] for row in model["functions"]}
        self.assertEqual(names, {"forward", "backward_input", "backward_weight"})
        # A layer talks twice in each direction: it has parts in between.
        self.assertGreater(max(len(row["parts"]) for row in model["functions"]), 1)
        self.assertTrue(all(row["optimizer"] == "adamw" for row in model["updates"]))
        self.assertEqual(self.measured["time_sources"], [["measured"]])

    def test_collectives_were_measured_in_training(self):
        self.assertNotIn("in_training", self.generic["links"])
        rows = self.profile["links"]["in_training"]
        # Two ranks sum in two messages of a half; a layer talks more than the loss.
        self.assertGreaterEqual({row["messages"] for row in rows}, {2})
        self.assertGreater(max(row["calls"] for row in rows), 1)
        self.assertTrue(all(row["us"] > 0 and row["bytes"] > 0 for row in rows))

    def test_planner_and_simulator_use_it(self):
        # A hundred times slower functions make a step about as much slower.
        text = open(self.path("core.yaml")).read()
        before = self.plan(2, 2)["step_seconds"]
        run("tombolo-sim", self.path("p.plan"), "--json", self.path("sim.json"))
        with open(self.path("sim.json")) as file:
            simulated = json.load(file)["predicted"]["step_seconds"]
        slower = re.sub(r"- \{us: ([0-9.e+]+)", lambda found: f"- {{us: {1e6 * float(found[1])}", text)
        try:
            self.write("core.yaml", slower)
            after = self.plan(2, 2)["step_seconds"]
            run("tombolo-sim", self.path("p.plan"), "--json", self.path("sim.json"))
        finally:
            self.write("core.yaml", text)
        with open(self.path("sim.json")) as file:
            slow = json.load(file)["predicted"]["step_seconds"]
        self.assertGreater(after, 10 * before)
        self.assertGreater(slow, 10 * simulated)
        # Nothing but kernels is left: both say the same.
        self.assertAlmostEqual(slow / after, 1, delta=0.02)

    def test_all_layouts_of_a_model(self):
        """A profile for a model has what each microbatch and degree calls."""
        text = open(self.path("core.yaml")).read()
        try:
            run("tombolo-profile", "--for", self.path("m.onnx"), "--ranks", 2, "--threads", 1,
                "--microbatches", "1,2", "--seconds", 0.05, "--chip", "core", "-o", self.path("core.yaml"))
            model, = self.read("core.yaml")["models"]
            cells = {(row["microbatch"], row["tensor_parallel"]) for row in model["functions"]}
            self.assertEqual(cells, {(1, 1), (1, 2), (2, 1), (2, 2)})
            for microbatch in 1, 2:
                self.write("s.yaml", "islands:\n" + island("here", 8, microbatch, [2, 2]))
                run("tombolo-plan", self.path("m.onnx"), "--topology", self.path("sites.yaml"), "--strategy",
                    self.path("s.yaml"), "--global-batch", 8, "--simulate", 0, "-o", self.path("q.plan"),
                    "--json", self.path("q.json"))
                with open(self.path("q.json")) as file:
                    sources = json.load(file)["predicted"]["time_sources"]
                self.assertEqual(sources, [["measured", "measured"]])
        finally:
            self.write("core.yaml", text)

    def test_shared_cores_have_a_part_for_messages(self):
        self.assertNotIn("message_part", self.profile["efficiency"])
        self.write("shared.yaml", SITES.replace("chips_per_node: 2", "chips_per_node: 2, cores_per_node: 1")
                   .replace("core.yaml", "shared-core.yaml"))
        self.write("shared-core.yaml", open(self.path("core.yaml")).read())
        self.write("t.yaml", "islands:\n" + island("here", 8, 2, [2, 2]))
        words = ["tombolo-plan", self.path("m.onnx"), "--topology", self.path("shared.yaml"), "--strategy",
                 self.path("t.yaml"), "--global-batch", 8, "--simulate", 0, "-o", self.path("t.plan")]
        run(*words)
        run("tombolo-profile", "--for", self.path("t.plan"), "--threads", 1, "--seconds", 0.05, "-o",
            self.path("shared-core.yaml"))
        profile = self.read("shared-core.yaml")
        self.assertGreater(profile["efficiency"]["message_part"], 0)
        self.assertNotIn("in_training", profile["links"])
        run(*words)
        run("tombolo-sim", self.path("t.plan"))

    def test_other_layouts_are_flagged(self):
        self.assertEqual(self.plan(4, 2)["time_sources"], [["estimated"]])
        self.assertEqual(self.plan(2, 1)["time_sources"], [["estimated"]])

    def test_a_profile_of_another_chip_is_refused(self):
        other = self.path("other.yaml")
        self.write("other.yaml", SITES.replace("name: core", "name: gpu").replace("chip: core", "chip: gpu"))
        result = run("tombolo-plan", self.path("m.onnx"), "--topology", other, "--global-batch", 8,
                     "-o", self.path("x.plan"), check=False)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"core\.yaml:2:7: error: the profile is of chip 'core', expected 'gpu'")

    def test_pinned_ranks_train(self):
        self.plan(2, 2)
        self.write("tokens.bin", "")
        with open(self.path("tokens.bin"), "wb") as file:
            file.write(bytes(2 * 20000))
        run("tombolo-run", "local", self.path("p.plan"), "--model", self.path("m.onnx"), "--data",
            self.path("tokens.bin"), "--init", 1, "--steps", 2, "--pin", "--metrics", self.path("m.jsonl"))
        with open(self.path("m.jsonl")) as file:
            steps = [line for line in map(json.loads, file) if "event" not in line]
        self.assertEqual(len(steps), 2)


class Fit(TomboloTest):
    # What the fit begins with, and, without the wires, what plans are made with.
    SITES = """\
chips:
  - name: c
    tflops: {{f32: 0.1}}
    memory_gib: 16
    memory_gbytes_per_second: 20
    {extra}
sites:
  - name: s
    pools: [{{name: cpu, chip: c, nodes: 2, chips_per_node: 2{wires}}}]
"""

    def test_fit_and_plan_foretell_the_same(self):
        """Of each configuration, though its sharding is that of its own microbatch."""
        model = self.path("m.onnx")
        run("tombolo-model", "gpt", "--layers", 4, "--hidden", 128, "--heads", 4, "--vocab", 1024,
            "--seq", 64, "--no-weights", "-o", model)
        # Microbatch, data, tensor and pipeline parallelism.
        layouts = [(1, 1, 2, 1), (8, 1, 2, 1), (2, 2, 2, 1), (16, 2, 1, 1), (4, 1, 2, 2), (16, 1, 2, 2)]
        self.write("runs.csv", "model,global_batch,microbatch,data_parallel,tensor_parallel,pipeline_parallel,seconds\n"
                   + "".join(f"m.onnx,32,{','.join(map(str, layout))},{0.5 + 0.1 * i}\n"
                             for i, layout in enumerate(layouts)))
        wires = ", intra_node: {gbits_per_second: 2, latency_us: 20}, inter_node: {gbits_per_second: 1, latency_us: 40}"
        run("tombolo-profile", "--fit", self.path("runs.csv"), "--folds", 1, "--precision", "f32", "--topology",
            self.write("start.yaml", self.SITES.format(extra="efficiency: {matmul: 0.5, memory: 0.5}", wires=wires)),
            "-o", self.path("c.yaml"), "--predictions", self.path("foretold.csv"))
        with open(self.path("foretold.csv")) as file:
            foretold = [float(row["predicted_seconds"]) for row in csv.DictReader(file)]
        sites = self.SITES.format(extra="profile: {file: c.yaml}", wires="")
        for (microbatch, data, tensor, stages), seconds in zip(layouts, foretold, strict=True):
            blocks = [6] if stages == 1 else [3, 3]
            self.plan(model, sites, strategy([island("s", 32, microbatch, blocks, data_parallel=data,
                                                     tensor_parallel=tensor, optimizer_sharding=False)]),
                      32, "--simulate", 0, "--json", self.path("p.json"))
            with open(self.path("p.json")) as file:
                planned = json.load(file)["predicted"]["step_seconds"]
            self.assertAlmostEqual(planned / seconds, 1, delta=1e-3, msg=f"{microbatch} {data} {tensor} {stages}")


if __name__ == "__main__":
    unittest.main()
