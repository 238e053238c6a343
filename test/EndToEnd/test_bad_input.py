"""Bad input: one clear error on stderr, exit status 1, no output file, no crash."""

import os
import signal
import subprocess
import time
import unittest

import onnx
from onnx import TensorProto, helper, numpy_helper

import reference
import support


class BadInput(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), self.onnx, 17, True)
        self.sites = support.topology({"here": 4})

    def refused(self, result, *expected, output="p.plan", errors=1):
        """Status 1, the expected words in an error that starts in lower case, and
        nothing written, not even half of it."""
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        for words in expected:
            self.assertIn(words, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        self.assertNotIn("Stack dump", result.stderr)
        self.assertRegex(result.stderr, r"error: [^A-Z]")
        self.assertEqual(result.stderr.count("error: "), errors, result.stderr)
        left = [f for f in os.listdir(self.dir) if f.startswith(output)]
        self.assertEqual(left, [])

    def plan_fails(self, *expected, onnx_path=None, sites=None, strategy=None, batch=8, flags=(),
                   errors=1):
        result = self.plan(onnx_path or self.onnx, sites or self.sites, strategy, batch, *flags,
                           check=False)
        self.refused(result, *expected, errors=errors)

    # ------------------------------------------------------------ the model

    def test_no_onnx_file(self):
        self.plan_fails("text.onnx", onnx_path=self.write("text.onnx", "hello, this is no model\n"))

    def test_missing_file(self):
        self.plan_fails("nowhere.onnx", onnx_path=self.path("nowhere.onnx"))

    def test_empty_file(self):
        self.plan_fails("empty.onnx", onnx_path=self.write("empty.onnx", ""))

    def test_truncated_file(self):
        with open(self.onnx, "rb") as file:
            data = file.read()
        for part in (0.3, 0.9, 0.999):
            with open(self.path("cut.onnx"), "wb") as file:
                file.write(data[: int(len(data) * part)])
            self.plan_fails("cut.onnx", onnx_path=self.path("cut.onnx"))

    def model(self, nodes, initializers=(), inputs=(("x", TensorProto.FLOAT, ["batch", 4]),),
              output=("y", TensorProto.FLOAT, ["batch", 4]), opset=17):
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info(*i) for i in inputs],
            [helper.make_tensor_value_info(*output)], list(initializers))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        onnx.save(model, self.path("made.onnx"))
        return self.path("made.onnx")

    def test_cycle(self):
        path = self.model([helper.make_node("Add", ["x", "b"], ["a"], name="first"),
                           helper.make_node("Add", ["a", "x"], ["b"], name="second"),
                           helper.make_node("Identity", ["b"], ["y"])])
        self.plan_fails("first", onnx_path=path)

    def test_unsupported_ops_are_all_listed(self):
        path = self.model([helper.make_node("Hardmax", ["x"], ["a"], name="node_one"),
                           helper.make_node("Det", ["a"], ["b"], name="node_two"),
                           helper.make_node("Hardmax", ["b"], ["y"], name="node_three")])
        self.plan_fails("Hardmax", "node_one", "Det", "node_two", "node_three", onnx_path=path)

    def test_unbound_dimension(self):
        path = self.model([helper.make_node("Relu", ["x"], ["y"])],
                          inputs=(("x", TensorProto.FLOAT, ["batch", "length", 4]),),
                          output=("y", TensorProto.FLOAT, ["batch", "length", 4]))
        self.plan_fails("length", "--bind length=", onnx_path=path)

    # --------------------------------------------------------- the topology

    def topology_fails(self, old, new, place, *expected):
        self.assertIn(old, self.sites)
        self.plan_fails(f"sites.yaml:{place}", *expected,
                        sites=self.sites.replace(old, new, 1))

    def test_topology_faults(self):
        for old, new, place, word in [
            ("memory_gib", "memory_gigs", "4:5", "memory_gigs"),
            ("chip: cpu", "chip: gpu", "10:", "gpu"),
            ("memory_gib: 4", "memory_gib: 0", "4:", "memory_gib"),
            ("memory_gib: 4", "memory_gib: -3", "4:", "memory_gib"),
            ("chips_per_node: 4", "chips_per_node: 0", "10:", "chips_per_node"),
            ("latency_us: 10", "latency_us: -1", "11:", "latency_us"),
            ("gbits_per_second: 40", "gbits_per_second: 0", "11:", "gbits_per_second"),
            ("gbits_per_second: 40", "gbits_per_second: fast", "11:", "fast"),
        ]:
            with self.subTest(new):
                self.topology_fails(old, new, place, word)

    def test_topology_duplicates_and_links(self):
        two = support.topology({"a": 1, "b": 1})
        link = "  - {sites: [a, b], gbits_per_second: 1, rtt_ms: 30}\n"
        self.assertTrue(two.endswith(link))
        base = two[: -len(link)]
        for text, word, *errors in [
            (two.replace("name: b\n", "name: a\n", 1), "a", 2),  # a link leads to b
            (base + link.replace("[a, b]", "[a, c]"), "c"),
            (base + link.replace("rtt_ms: 30", "rtt_ms: -1"), "rtt_ms"),
            (base + link.replace("rtt_ms: 30", "rtt_ms: 30, loss: 1.0"), "loss"),
            (two.replace("  - name: b\n", "  - name: b\n    hosts: {count: 1, memory_gib: 1, address: nowhere}\n"),
             "'address' must be HOST:PORT"),
            ("chips: [", "sites.yaml"),
            ("", "sites.yaml"),
        ]:
            with self.subTest(text[-80:]):
                self.plan_fails("sites.yaml", word, sites=text or "\n", errors=errors[0] if errors else 1)

    # --------------------------------------------------------- the strategy

    def strategy(self, blocks, batch=8, microbatch=2, **options):
        return support.strategy([support.island("here", batch, microbatch, blocks, **options)])

    def test_blocks_do_not_add_up(self):
        self.plan_fails("5", "4", "blocks", strategy=self.strategy([2, 3]))

    def test_pool_lacks_chips(self):
        self.plan_fails("here/cpu", "8", "4", strategy=self.strategy([2, 2], data_parallel=4))

    def test_does_not_fit_memory(self):
        # 4 KiB of memory a chip.
        sites = support.topology({"here": 4}, memory_gib=4 / 2**20)
        result = self.plan(self.onnx, sites, self.strategy([2, 2]), 8, check=False)
        self.refused(result, "stage 0", "bytes", "4014", errors=2)  # 2 % is kept free

    def test_batch_cannot_be_split(self):
        self.plan_fails("batch", strategy=self.strategy([4], batch=8, microbatch=3))
        self.plan_fails("batch", "8", "10", strategy=self.strategy([4], batch=8), batch=10)

    def test_a_degree_that_divides_nothing(self):
        self.plan_fails("strategy.yaml", "tensor_parallel 7 divides no dimension of the model that "
                        "can be split; tried", "64 (", "128 (", sites=support.topology({"here": 7}),
                        strategy=self.strategy([4], tensor_parallel=7))

    def test_unwritable_output(self):
        result = support.run(
            "tombolo-plan", self.onnx, "--topology", self.write("sites.yaml", self.sites),
            "--global-batch", 8, "-o", self.path("no/such/folder/p.plan"), check=False)
        self.refused(result, "no/such/folder")

    # ------------------------------------------------------------- the run

    def run_fails(self, *expected, plan=None, onnx_path=None, status=1, flags=()):
        result = self.train(plan or self.good_plan(), onnx_path or self.onnx, 2, *flags, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        for words in expected:
            self.assertIn(words, result.stderr)
        self.assertEqual(result.stderr.count("error:"), 1, result.stderr)
        self.assertFalse(os.path.exists(self.path("trained.onnx")))

    def good_plan(self):
        return self.plan(self.onnx, self.sites, self.strategy([2, 2]), 8)

    def test_damaged_plans(self):
        self.tokens()
        with open(self.good_plan(), "rb") as file:
            data = file.read()
        middle = len(data) // 2
        for fault, broken in [
            ("flipped bit", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]),
            ("cut", data[:middle]),
            ("empty", b""),
            ("text", b"hello"),
        ]:
            with self.subTest(fault):
                with open(self.path("bad.plan"), "wb") as file:
                    file.write(broken)
                self.run_fails("bad.plan", plan=self.path("bad.plan"))

    def test_plan_of_another_model(self):
        self.tokens()
        plan = self.good_plan()
        other = self.path("other.onnx")
        reference.export_onnx(reference.GPT(layers=3, mask="tril"), other, 17, True)
        self.run_fails("other.onnx", "model", plan=plan, onnx_path=other)

    def test_token_file_too_short(self):
        self.tokens(count=9)
        self.run_fails("tokens.bin", "9")

    def test_token_beyond_the_vocabulary(self):
        self.tokens(vocab=65 * 8)
        self.run_fails("tokens.bin", "64")

    def test_missing_token_file(self):
        self.run_fails("tokens.bin")

    def test_unwritable_export(self):
        self.tokens()
        self.run_fails("no/such", flags=["--export-onnx", self.path("no/such/trained.onnx")])

    def test_wrong_usage(self):
        for program in ("tombolo-plan", "tombolo-run", "tombolo-model"):
            self.assertEqual(support.run(program, "--no-such-flag", check=False).returncode, 2)
            self.assertEqual(support.run(program, "--help").returncode, 0)

    def test_full_disk(self):
        # A file system of 64 KiB stands for the full disk.
        if os.geteuid() != 0:
            self.skipTest("needs root to mount a small file system")
        small = self.path("small")
        os.mkdir(small)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small])
        if mounted.returncode != 0:
            self.skipTest("mount is not allowed here")
        try:
            with open(os.path.join(small, "filler"), "wb") as file:
                file.write(bytes(60 * 1024))
            result = support.run(
                "tombolo-plan", self.onnx, "--topology", self.write("sites.yaml", self.sites),
                "--global-batch", 8, "-o", os.path.join(small, "p.plan"), check=False)
            self.refused(result, "p.plan")
            self.assertEqual(os.listdir(small), ["filler"])
            self.tokens()
            result = self.train(self.good_plan(), self.onnx, 2, "--export-onnx",
                                os.path.join(small, "trained.onnx"), check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("trained.onnx", result.stderr)
            self.assertEqual(os.listdir(small), ["filler"])
        finally:
            subprocess.run(["umount", small], check=True)


class Untrained(support.TomboloTest):
    """Parameters that are frozen, or that nothing uses, are reported and keep their values."""

    def test_frozen_and_unused_parameters_are_reported_and_kept(self):
        path = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), path, 17, True)
        model = onnx.load(path)
        model.graph.initializer.append(helper.make_tensor("pooler.weight", TensorProto.FLOAT, [2], [1, 2]))
        onnx.save(model, path)
        self.tokens()
        result = support.run(
            "tombolo-plan", path, "--topology", self.write("sites.yaml", support.topology({"here": 2})),
            "--strategy", self.write("strategy.yaml", support.strategy(
                [support.island("here", 8, 4, [2, 2])])),
            "--global-batch", 8, "--lr", 1e-2, "--freeze", "^w[tp]e", "-o", self.path("p.plan"))
        self.assertIn("2 of 29 parameters frozen: 'wte.weight', 'wpe.weight'", result.stderr)
        self.assertIn("1 initializer not trained, as no output needs it: 'pooler.weight'", result.stderr)
        trained = self.path("trained.onnx")
        self.train(self.path("p.plan"), path, 3, "--export-onnx", trained)
        before, after = (
            {t.name: numpy_helper.to_array(t) for t in onnx.load(f).graph.initializer
             if t.data_type == TensorProto.FLOAT} for f in (path, trained))
        same = {name for name in before if (before[name] == after[name]).all()}
        self.assertEqual({name for name in same if "weight" in name},
                         {"wte.weight", "wpe.weight", "pooler.weight"})


class NotFinite(support.TomboloTest):
    def test_a_loss_that_is_not_finite_ends_the_run(self):
        path = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), path, 17, True)
        self.tokens()
        plan = self.plan(path, support.topology({"here": 4}, eager=True), support.strategy(
            [support.island("here", 8, 4, [2, 2], tensor_parallel=2)]), 8, lr=1e20)
        result = self.train(plan, path, 20, check=False)
        self.assertEqual(result.returncode, 3)
        self.assertRegex(result.stderr, r"step \d+: the loss is (nan|inf|-inf); give --check-numerics")
        result = self.train(plan, path, 20, "--check-numerics", check=False)
        self.assertEqual(result.returncode, 3)
        self.assertRegex(result.stderr, r"step \d+: the loss is \S+: .*first op to make it so was in "
                                        r"step \d+.* segment '\S+', op \d+")


class Killed(support.TomboloTest):
    def test_a_killed_rank_ends_the_run(self):
        model = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), model, 17, True)
        self.tokens()
        server = {"inner_steps": 4, "fragments": 1, "overlap_steps": 0, "compression": "none"}
        plan = self.plan(model, support.topology({"east": 2, "west": 1}), support.strategy(
            [support.island("east", 8, 4, [2, 2]), support.island("west", 4, 4, [4])], server), 12)
        metrics = self.path("metrics.jsonl")
        process = subprocess.Popen(
            [os.path.join(support.BIN, "tombolo-run"), "local", plan, "--model", model, "--data",
             self.path("tokens.bin"), "--steps", "1000000", "--metrics", metrics],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 60
        while not (os.path.exists(metrics) and os.path.getsize(metrics) > 1000):
            self.assertIsNone(process.poll(), "the run ended by itself")
            self.assertLess(time.monotonic(), deadline, "no step within a minute")
            time.sleep(0.05)
        ranks = [pid for pid, command in self.processes(plan) if " rank " in command]
        self.assertEqual(len(ranks), 3)
        os.kill(ranks[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 3, errors)
        self.assertRegex(errors, r"rank \d")
        self.assertEqual(self.processes(plan), [])

    def end(self, process):
        if process.poll() is None:
            process.kill()
            process.wait()

    def processes(self, plan):
        """Living processes that have this test's plan on their command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace")
                with open(f"/proc/{pid}/stat") as file:
                    zombie = file.read().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if plan in command and not zombie:
                found.append((int(pid), f" {command} "))
        return found


if __name__ == "__main__":
    unittest.main()
