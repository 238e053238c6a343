"""Layer times that others measured (CSV): planner and simulator take the same of them."""

import json
import re

import support
from support import island, strategy

CHIPS = {"slow": 3.0, "fast": 1.0}  # how long layers take there
WIRE = "{{gbits_per_second: {gbits}, latency_us: 1}}"
SITES = """\
chips:
  - {{name: slow, tflops: {{f32: 1}}, memory_gib: 16, memory_gbytes_per_second: 100,
     profile: {{file: times.csv, model: m}}}}
  - {{name: fast, tflops: {{f32: 1}}, memory_gib: 16, memory_gbytes_per_second: 100,
     profile: {{file: times.csv, model: m}}}}
sites:
  - name: old
    pools: [{{name: cpu, chip: slow, nodes: 1, chips_per_node: 4, intra_node: {wire}}}]
  - name: new
    pools: [{{name: cpu, chip: fast, nodes: 1, chips_per_node: 4, intra_node: {wire}}}]
links: [{{sites: [old, new], gbits_per_second: 100000, rtt_ms: 0.001}}]
"""
# Of a model of an embedding, four layers and a head. A wire on which what the chips of a
# replica tell each other takes long: measured times hold it already.
LAYOUTS = [
    (dict(blocks=[6]), "new", 1000),
    (dict(blocks=[6], recompute="full"), "old", 1000),
    (dict(blocks=[6], data_parallel=2, optimizer_sharding=False), "new", 100000),
    (dict(blocks=[1, 2, 2, 1]), "old", 100000),
    (dict(blocks=[2, 2, 2], schedule="zero-bubble"), "new", 100000),
    (dict(blocks=[3, 3], schedule="interleaved", chunks=3), "new", 100000),
    (dict(blocks=[6], tensor_parallel=2), "new", 1),
    (dict(blocks=[2, 4], tensor_parallel=2, recompute="full"), "old", 1000),
    (dict(blocks=[2, 4]), ["old", "new"], 100000),
]


class LayerTimes(support.TomboloTest):
    def write_times(self):
        rows = ["model,chip,microbatch,tensor_parallel,first_layer,last_layer,forward_seconds,"
                "backward_seconds,update_seconds"]
        for chip, factor in CHIPS.items():
            for degree in 1, 2:
                for microbatch in 1, 4:
                    # The second layer is slower than its like, as the first that runs often is.
                    for first, last, seconds in ((0, 0, 0.1), (1, 1, 0.3), (2, 2, 0.5), (3, 4, 0.3), (5, 5, 0.2)):
                        forward = seconds * factor * microbatch**0.9 / degree
                        rows.append(f"m,{chip},{microbatch},{degree},{first},{last},{forward},"
                                    f"{2.2 * forward},{0.05 * factor / degree}")
        self.write("times.csv", "\n".join(rows) + "\n")

    def test_planner_and_simulator_agree(self):
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 64, "--heads", 4, "--vocab",
                    256, "--seq", 32, "--no-weights", "-o", model)
        self.write_times()
        wrong = []
        for layout, site, gbits in LAYOUTS:
            for microbatch in 1, 2:
                plan = self.plan(
                    model, SITES.format(wire=WIRE.format(gbits=gbits)),
                    strategy([island(site, 24, microbatch, **layout)]), 24, "--simulate", 0, "--json",
                    self.path("plan.json"))
                support.run("tombolo-sim", plan, "--json", self.path("sim.json"))
                with open(self.path("plan.json")) as file:
                    planned = json.load(file)["predicted"]
                with open(self.path("sim.json")) as file:
                    simulated = json.load(file)["predicted"]["step_seconds"]
                self.assertNotIn("computed", sum(planned["time_sources"], []))
                off = simulated / planned["step_seconds"] - 1
                # In the plan a gradient goes on to the stage before ahead of the backward by
                # weight, for the planner behind it: that counts while a pipeline drains.
                most = 0.01 if len(layout["blocks"]) == 1 else 0.025 * layout.get("chunks", 1)
                if abs(off) > most:
                    wrong.append(f"{layout} on {site}, microbatch {microbatch}: planned "
                                 f"{planned['step_seconds']:.4f}, simulated {simulated:.4f}: {off:+.3f}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    CHIPS_OF = """\
chips:
  - {{name: c, memory_gib: 16, {chip}}}
sites:
  - name: new
    pools: [{{name: cpu, chip: c, nodes: 1, chips_per_node: 2, intra_node: {{gbits_per_second: {gbits}, latency_us: 1}}}}]
"""

    def foretold(self, model, sites, microbatch, **layout):
        """Seconds of a step by the planner and by the simulator."""
        plan = self.plan(model, sites, strategy([island("new", 16, microbatch, **layout)]), 16,
                         "--simulate", 0, "--json", self.path("plan.json"))
        support.run("tombolo-sim", plan, "--json", self.path("sim.json"))
        seconds = []
        for name in "plan.json", "sim.json":
            with open(self.path(name)) as file:
                seconds.append(json.load(file)["predicted"]["step_seconds"])
        return seconds

    def write_model(self):
        model = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 64, "--heads", 4, "--vocab",
                    256, "--seq", 32, "--no-weights", "-o", model)
        return model

    def test_corrections_reach_the_simulator(self):
        model = self.write_model()
        # Of a block: 2 x 12 h^2 FLOP for each of 32 tokens and 4 T h for its scores; it hands
        # on 32 h floats for each sample. Both are split over the chips.
        for degree, recompute in (1, "none"), (2, "full"):
            microbatch = 4
            gflops = microbatch * 32 * (24 * 64**2 + 4 * 32 * 64) / degree * 1e-9
            mbytes = microbatch * 32 * 64 * 4 / degree * 1e-6
            plain, corrected = (self.foretold(
                model, self.CHIPS_OF.format(gbits=100, chip=(
                    "tflops: {f32: 0.001}, memory_gbytes_per_second: 100, "
                    "efficiency: {matmul: 0.5, memory: 0.5" + rows + "}")),
                microbatch, blocks=[6], tensor_parallel=degree, recompute=recompute)
                for rows in ("", f", corrections: [{{tensor_parallel: {degree}, gflops: {gflops}, "
                                 f"mbytes: {mbytes}, ratio: 1.8}}]"))
            self.assertGreater(corrected[0], 1.3 * plain[0])
            self.assertAlmostEqual(corrected[1] / corrected[0], 1, delta=0.01)

    def test_tables_are_gone_on_from_alike(self):
        """Functions of a profile, below, between and beyond the microbatches that were measured."""
        model = self.write_model()
        rates = "tflops: {f32: 0.001}, memory_gbytes_per_second: 1, efficiency: {matmul: 0.5, memory: 0.5, kernel_us: 10}"
        support.run("tombolo-plan", model, "--topology",
                    self.write("sites.yaml", self.CHIPS_OF.format(gbits=100, chip=rates)),
                    "--global-batch", 16, "-o", self.path("p.plan"))
        text = support.run("tombolo-translate", "--print-plan", self.path("p.plan")).stdout
        functions = sorted(set(re.findall(r'name: "([^".]+)\.(forward|backward_input|backward_weight)\.', text)))
        self.assertGreaterEqual(len(functions), 8)
        graph = support.run("tombolo-plan", model, "--topology", self.path("sites.yaml"),
                            "--global-batch", 16, "--emit", "graph").stdout
        model_hash = re.search('graph.model_hash = "([0-9a-f]{64})"', graph).group(1)
        rows = "".join(
            f'      - {{block: "{block}", function: {function}, microbatch: {microbatch}, tensor_parallel: 1,\n'
            f"         parts: [{{us: {1000 * weight * microbatch**0.7}, "
            f"quartiles_us: [1, 99999], runs: 9}}]}}\n"
            for block, function in functions for microbatch in (2, 4)
            for weight in [{"forward": 1, "backward_input": 1.3, "backward_weight": 0.9}[function]])
        self.write("c.yaml", "tombolo_profile: 2\nchip: c\n"
                   "peak: {tflops: {f32: 0.001}, memory_gbytes_per_second: 1}\n"
                   "efficiency: {matmul: 0.5, memory: 0.5, kernel_us: 10}\nmodels:\n"
                   f'  - hash: "{model_hash}"\n    precision: f32\n    functions:\n{rows}')
        sites = self.CHIPS_OF.format(gbits=100, chip="profile: {file: c.yaml}")
        once = []  # of a step: what the update takes beside its bytes, which the planner leaves out
        for microbatch in 1, 2, 4, 8, 16:
            planned, simulated = self.foretold(model, sites, microbatch, blocks=[6])
            once.append(simulated - planned)
            self.assertLess(abs(once[-1]), 0.02 * planned)
        self.assertLess(max(once) - min(once), 1e-5 * planned, once)
