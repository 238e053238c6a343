"""Ranks that PyTorch runs train as those of this runtime and as the reference do: alone, in
layouts, over sites, and together with this runtime's; what they save the others load.

TOMBOLO_EXECUTOR=torch has all other tests here run by PyTorch, too."""

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import unittest

import apart
import models
import reference
import support
import test_islands
import test_layouts
import test_training

PACKAGES = os.path.join(support.BIN, "..", "lib", "tombolo", "python")
TOLERANCE = 1e-5
BATCH = 16


class TorchTest(test_layouts.LayoutTest):
    executor = "torch"

    def check(self, *args, steps=15, first=0, **options):
        measured = self.measure(*args, steps=steps, **options)
        expected = reference.train(
            reference.GPT(layers=test_layouts.LAYERS, mask="tril"), self.samples, BATCH, steps)
        self.assertEqual(len(measured), steps - first)
        self.assertLessEqual(
            reference.largest_relative_difference(measured, expected[first:]), TOLERANCE)


class Layouts(TorchTest):
    def test_torch_one_rank(self):
        self.check([6], 4, steps=50)

    def test_torch_tensor_2_data_2_optimizer_sharding(self):
        self.check([6], 4, tensor_parallel=2, data_parallel=2, optimizer_sharding=True)

    def test_torch_interleaved_tensor_2_to_1(self):
        self.check([3, 3], 4, schedule="interleaved", chunks=3, tensor_parallel=[2, 1])

    def test_torch_zero_bubble_data_1_to_2_recompute(self):
        self.check([2, 4], 2, schedule="zero-bubble", data_parallel=[1, 2], recompute="full")


    def test_torch_bf16(self):
        plan = self.plan(self.onnx, support.topology({"here": 1}), support.strategy(
            [support.island("here", BATCH, 4, [6])]), BATCH, "--precision", "bf16")
        measured = self.losses(plan, self.onnx, 15)
        expected = reference.train(self.model, self.samples, BATCH, 15)
        difference = reference.largest_relative_difference(measured, expected)
        self.assertLessEqual(difference, 2**-8)  # a bit of bf16's eight
        self.assertGreater(difference, TOLERANCE)


class Checkpoints(TorchTest):
    def test_torch_and_native_go_on_from_each_other(self):
        flags = ["--checkpoint-dir", self.path("checkpoints"),
                 "--checkpoint-copy", self.path("copies")]
        for i, (executor, layout) in enumerate([
                ("torch", dict(blocks=[6], data_parallel=2, optimizer_sharding=True)),
                ("native", dict(blocks=[3, 3], tensor_parallel=2)),
                ("torch", dict(blocks=[2, 4], tensor_parallel=[1, 2]))]):
            with self.subTest(i, executor=executor):
                self.executor = executor
                if i == 1:
                    shutil.rmtree(self.path("checkpoints"))  # PyTorch's copy is left
                self.check(microbatch=4, steps=4 * (i + 1), first=4 * i, **layout,
                           flags=flags + (["--resume"] if i else []))


class Ops(support.TomboloTest):
    """Two models that have nearly every op between them."""

    executor = "torch"

    def check(self, case, blocks, batch, microbatch, steps, lr):
        onnx, data = self.path("m.onnx"), self.path("data.safetensors")
        support.write_safetensors(data, case.tensors)
        case.export(case.make(), onnx, 17, True)
        plan = self.plan(onnx, support.topology({"here": 1}), support.strategy(
            [support.island("here", batch, microbatch, [blocks])]), batch, "--loss",
            case.loss, *case.flags, lr=lr)
        expected = models.train(case, batch, microbatch, steps, lr=lr)
        self.assertLessEqual(reference.largest_relative_difference(
            self.losses(plan, onnx, steps, data=data), expected), TOLERANCE)

    def test_torch_operators(self):
        self.check(models.Operators(), 26, 8, 2, 8, 3e-3)

    def test_torch_convolutions_and_pools(self):
        self.check(models.ResNet18(), 4, 16, 4, 8, 3e-4)


class Training(test_training.TrainingTest):
    """Clipping, a schedule, held-out data and masks are as in the other runtime."""

    executor = "torch"
    measure = test_training.Dropouts.measure

    def test_torch_clips_schedules_and_evaluates(self):
        held = self.path("held.bin")
        self.tokens(70 * self.model.length + 5, seed=9, name="held.bin")
        run = ["--eval-data", held, "--eval-every", 3, "--shuffle", 7]
        results = []
        for executor in ("native", "torch"):
            self.executor = executor
            self.entries([1, 3], "--clip-grad-norm", 0.75, "--lr-schedule", "cosine",
                         "--warmup-steps", 2, "--decay-steps", 8, steps=7, run=run)
            with open(self.path("metrics.jsonl")) as file:
                results.append([json.loads(line) for line in file])
        for native, torch in zip(*results):
            self.assertEqual(native.keys(), torch.keys())
            for key, value in native.items():
                if key in ("loss", "grad_norm"):
                    self.assertLessEqual(abs(value - torch[key]), TOLERANCE * value)
                elif key not in ("seconds", "time"):
                    self.assertEqual(value, torch[key])
        self.assertEqual(len(results[0]), len(results[1]))

    def test_torch_draws_the_same_masks(self):
        self.model = test_training.DroppingGPT(0.1)
        reference.export_onnx(self.model, self.onnx, 17, True)
        losses = []
        for executor in ("native", "torch"):
            self.executor = executor
            losses.append(self.measure([4], run=("--seed", 2**40 + 3), steps=5,
                                       tensor_parallel=2))
        self.assertLessEqual(reference.largest_relative_difference(*losses), TOLERANCE)


class Skeletons(support.TomboloTest):
    def test_torch_draws_the_same_weights(self):
        path = self.path("m.onnx")
        support.run("tombolo-model", "llama", "--layers", 2, "--hidden", 32, "--heads", 4,
                    "--kv-heads", 2, "--vocab", 64, "--seq", 16, "--no-weights", "-o", path)
        self.tokens()
        plan = self.plan(path, support.topology({"here": 1}), support.strategy(
            [support.island("here", 8, 4, [4])]), 8)
        losses = []
        for self.executor in ("native", "torch"):
            losses.append(self.losses(plan, path, 4, "--init", 5))
        self.assertLessEqual(reference.largest_relative_difference(*losses), TOLERANCE)
        self.assertIn("give --init SEED", self.train(plan, path, 1, check=False).stderr)


class Islands(support.TomboloTest):
    make_model = test_islands.Islands.make_model
    export = test_islands.Islands.export
    reference = test_islands.Islands.reference
    check = test_islands.Islands.check
    SERVER = {**test_islands.SERVER, "inner_steps": 4, "fragments": 2, "overlap_steps": 1}

    def islands(self):
        return (support.island("east", 8, 2, [2, 2]),
                support.island("west", 4, 2, [4], data_parallel=2, optimizer_sharding=True))

    def test_torch_islands(self):
        self.executor = "torch"
        self.check(11, *self.islands(), {**self.SERVER, "compression": "int8"})

    def test_one_island_by_torch_the_other_native(self):
        # The last one with servers at both sites, a primary and a backup.
        for executor, more in [
                ("west=torch", {"compression": "int4"}),
                ("east=torch", {"placement": "{0: {primary: west, backup: east}, "
                                "1: {primary: west, backup: east}}", "witness": "east"})]:
            with self.subTest(executor):
                self.executor = executor
                self.check(11, *self.islands(), {**self.SERVER, **more})

    def test_unequal_inner_steps_by_torch_and_native(self):
        """Also where one goes on from what the other has saved."""
        islands = (support.island("east", 8, 4, [4]),
                   support.island("west", 4, 2, [4], inner_steps=2))
        for executor in ("west=torch", "east=torch"):
            with self.subTest(executor):
                self.executor = executor
                self.check(12, *islands, {**self.SERVER, "overlap_steps": 0}, own_inner_steps=[4, 2])
        path, folder = self.path("m.onnx"), self.path("checkpoints")
        plan = self.plan(path, support.topology({"east": 2, "west": 1}), support.strategy(
            islands, {**self.SERVER, "overlap_steps": 0}), 12)
        for executor, steps in (("native", 8), ("torch", 16), ("native", 24)):
            self.executor = executor
            losses = self.train(plan, path, steps, "--checkpoint-dir", folder, "--checkpoint-every", 4,
                                *(["--resume"] if steps > 8 else []))
            self.assertEqual([losses[i][0]["step"] for i in range(2)], [steps - 8, steps // 2 - 4])
            self.assertEqual(self.bits(folder, 0, steps), self.bits(folder, 1, steps))

    def test_ranks_behind_a_gateway(self):
        """Without a key they come to the same, with PyTorch and without."""
        path, self.executor = self.export(), "west=torch"
        plan = self.plan(path, support.topology({"east": 2, "west": 1}), support.strategy(
            [support.island("east", 8, 2, [4], data_parallel=2), support.island("west", 4, 2, [4])],
            {**self.SERVER, "compression": "int8"}), 12)
        losses = [{island: [entry["loss"] for entry in entries] for island, entries
                   in self.train(plan, path, 6, *flags).items()} for flags in ([], ["--gateway"])]
        self.assertEqual(losses[0], losses[1])
        self.assertEqual(self.events("gateway_failed"), [])

    def test_both_end_with_the_same_bits_and_resume(self):
        path, folder = self.export(), self.path("checkpoints")
        plan = self.plan(path, support.topology({"east": 2, "west": 1}), support.strategy(
            [support.island("east", 8, 2, [4], data_parallel=2), support.island("west", 4, 2, [4])],
            {**self.SERVER, "compression": "int8"}), 12)
        losses = {}
        for i, executor in enumerate(["native", "east=torch", "west=torch"]):
            self.executor = executor
            flags = ["--checkpoint-dir", folder] if i else []
            losses[i] = self.train(plan, path, [13, 6, 13][i], *flags,
                                   *(["--resume"] if i == 2 else []))
            if i:
                self.assertEqual(self.bits(folder, 0, [13, 6, 13][i]),
                                 self.bits(folder, 1, [13, 6, 13][i]))
        # One more synchronisation at the end of the first part: nearly the same run.
        for island in range(2):
            parts = [entry["loss"] for i in (1, 2) for entry in losses[i][island]]
            self.assertLessEqual(reference.largest_relative_difference(
                parts, [entry["loss"] for entry in losses[0][island]]), 0.05)

    def bits(self, folder, island, step):
        """Of each parameter."""
        with open(os.path.join(folder, f"island-{island}", f"step-{step}", "manifest.json")) as file:
            manifest = json.load(file)
        return {tensor["name"]: tensor["sha256"] for shard in manifest["shards"]
                for tensor in shard["tensors"] if "/" not in tensor["name"]}


class Killed(support.TomboloTest):
    def test_a_killed_torch_rank_is_started_again_and_sites_are_told_to_end(self):
        model, folder = self.path("m.onnx"), self.path("checkpoints")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), model, 17, True)
        self.tokens()
        plan = self.plan(model, support.topology({"east": 2, "west": 1}), support.strategy(
            [support.island("east", 8, 4, [2, 2]), support.island("west", 4, 4, [4])],
            {**test_islands.SERVER, "inner_steps": 4}), 12)
        metrics = self.path("metrics.jsonl")
        process = subprocess.Popen(
            [os.path.join(support.BIN, "tombolo-run"), "local", plan, "--model", model, "--data",
             self.path("tokens.bin"), "--steps", "1000000", "--metrics", metrics, "--executor",
             "east=torch", "--checkpoint-dir", folder, "--checkpoint-every", "4", "--restarts", "1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(process.kill)

        def wait_for(words, after=0):
            deadline = time.monotonic() + 120
            while True:
                if os.path.exists(metrics):
                    with open(metrics) as file:
                        lines = file.read()[after:]
                    if words in lines:
                        return after + lines.index(words) + len(words)
                self.assertIsNone(process.poll(), "the run ended by itself")
                self.assertLess(time.monotonic(), deadline, f"no {words} in two minutes")
                time.sleep(0.05)
        saved = wait_for("checkpoints/island-0/step-")
        ranks = [pid for pid in filter(str.isdigit, os.listdir("/proc"))
                 if self.is_rank(pid, plan)]
        self.assertEqual(len(ranks), 2)
        os.kill(int(ranks[0]), signal.SIGKILL)
        back = wait_for('"incarnation":1', saved)
        wait_for("checkpoints/island-0/step-", back)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn("island 0 is started again from step ", errors)
        self.assertIn("told to end: the checkpoint of step ", errors)

    def is_rank(self, pid, plan):
        """A Python process with a rank of the plan."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return f"-m\0tombolo_torch\0rank\0{plan}".encode() in file.read()
        except OSError:
            return False


class Removed(support.TomboloTest):
    """An island is taken out of a job while exchanges are under way, and comes back by the
    other executor and with another strategy: from what it has saved."""
    SERVER = {**Islands.SERVER, "compression": "int8", "quorum": 1}

    def test_a_native_island_comes_back_by_torch(self):
        self.leave_and_come_back("native", "torch")

    def test_a_torch_island_comes_back_natively(self):
        self.leave_and_come_back("torch", "native")

    def leave_and_come_back(self, first, second):
        model, folder = self.path("m.onnx"), self.path("saved")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), model, 17, True)
        self.tokens()
        plans = []
        for number, west in enumerate([support.island("west", 4, 2, [2, 2]),
                                       support.island("west", 4, 4, [4])]):
            plan = self.plan(model, support.topology({"east": 1, "west": 2}), support.strategy(
                [support.island("east", 8, 4, [4]), west], self.SERVER), 12)
            plans.append(shutil.copy(plan, self.path(f"{number}.plan")))
        address = f"127.0.0.1:{support.free_port()}"

        def start(site, plan, *words):
            process = apart.Process(
                [os.path.join(support.BIN, "tombolo-run"), "site", plan, "--site", site, "--model",
                 model, "--data", self.path("tokens.bin"), "--steps", "1000000", "--plaintext",
                 "--run-id", "r", "--checkpoint-dir", folder, "--threads", "1", *words],
                self.path(f"{site}-{len(words)}.errors"))
            self.addCleanup(process.process.kill)
            return process

        def administer(*words):
            support.run("tombolo-run", "admin", address, *words, "--run-id", "r", "--plaintext")

        east = start("east", plans[0], "--address", address)
        west = start("west", plans[0], "--server", address, "--executor", first)
        west.wait_for(lambda site: len(site.steps()) > 8)
        administer("remove", "west")
        self.assertEqual(west.finish(), 0, west.told())
        left, = west.of_kind("island_left")
        self.assertEqual(west.of_kind("stopped"), [])
        self.assertTrue(os.path.exists(os.path.join(
            folder, "island-1", f"step-{left['step']}", "manifest.json")))
        administer("add", "west")
        west = start("west", plans[1], "--server", address, "--executor", second, "--restarts", "0")
        west.wait_for(lambda site: len(site.steps()) > 8)
        self.assertEqual(west.of_kind("begin")[0]["step"], left["step"])
        self.assertGreaterEqual(west.steps()[0][1]["step"], left["step"])
        east.wait_for(lambda site: [0, 1] == site.of_kind("outer_step")[-1]["islands"])
        self.assertEqual(east.end(signal.SIGTERM), 0, east.told())
        self.assertEqual(west.finish(), 0, west.told())
        ends = [site.of_kind("stopped")[0]["step"] for site in (east, west)]
        self.assertEqual(ends[0], ends[1])
        self.assertEqual(*(Islands.bits(self, folder, island, ends[0]) for island in (0, 1)))


class Refusals(support.TomboloTest):
    """What cannot run is refused at once, by all ranks, with what differs."""

    executor = "torch"

    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), self.onnx, 17, True)
        self.tokens()

    def make(self, blocks, name="p.plan", lr=1e-3, **degrees):
        plan = self.plan(self.onnx, support.topology({"here": 4}), support.strategy(
            [support.island("here", 8, 4, blocks, **degrees)]), 8, lr=lr)
        os.rename(plan, self.path(name))
        return self.path(name)

    def refused(self, result, *expected, status=1):
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr.count("error: "), 1, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        for words in expected:
            self.assertIn(words, result.stderr)

    def changed(self, plan, change):
        """A plan with a fault, whose checksum is right."""
        sys.path.insert(0, PACKAGES)
        self.addCleanup(sys.path.remove, PACKAGES)
        from tombolo_torch.schema import plan_pb2
        message = plan_pb2.Plan()
        with open(plan, "rb") as file:
            message.ParseFromString(file.read())
        message.ClearField("checksum")
        change(message)
        body = message.SerializeToString(deterministic=True)
        path = self.path("changed.plan")
        with open(path, "wb") as file:
            file.write(body + b"\xc2\x3e\x20" + hashlib.sha256(body).digest())
        return path

    def rank(self, plan, *flags, validated=None):
        """The Python program alone, as if the plan had been validated."""
        with open(plan, "rb") as file:
            checksum = file.read()[-32:].hex()
        return subprocess.run(
            [os.environ.get("TOMBOLO_PYTHON", sys.executable), "-m", "tombolo_torch", "rank", plan,
             "--validated", validated or checksum, "--model", self.onnx, "--data",
             self.path("tokens.bin"), "--steps", "1", "--island", "0", "--rank", "0", *flags],
            capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONPATH": PACKAGES})

    def test_ops_that_it_does_not_have_are_named(self):
        plan = self.make([4])

        def change(message):
            message.segments[0].ops[0].opcode = 999
        self.refused(self.rank(self.changed(plan, change)),
                     "does not have these ops of the plan: opcode 999 (first in segment '")

    def test_another_format_and_another_file_than_was_validated(self):
        plan = self.make([4])

        def change(message):
            message.format_version = 7
        changed = self.changed(plan, change)
        self.refused(self.rank(changed), "expected plan format version 1, got 7")
        self.refused(self.train(changed, self.onnx, 1, check=False),
                     "expected plan format version 1, got 7")
        self.refused(self.rank(plan, validated="00" * 32), "expected the plan with checksum "
                     "0000000000000000, which was validated, got ")

    def test_addresses_outside_the_arena_are_errors(self):
        plan = self.make([4])

        def change(message):
            message.programs[0].arena_bytes = 1 << 12
        result = self.rank(self.changed(plan, change))
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        self.assertIn("does not lie in the arena of 4096 bytes", result.stderr)

    def test_random_faults_end_with_errors(self):
        result = subprocess.run(
            [os.environ.get("TOMBOLO_PYTHON", sys.executable), "-W", "ignore", os.path.join(
                os.path.dirname(__file__), "../../runtime/torch/test/mutate_plans.py"),
             self.make([4]), self.onnx, self.path("tokens.bin"), "0", "60"],
            capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONPATH": PACKAGES})
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"refused: [1-9].*trained: [1-9]")

    def test_what_it_does_not_do_is_named(self):
        plan = self.make([4])
        for flags, status, words in [
                (["--check-numerics"], 1, "--check-numerics: the torch executor does not"),
                (["--device", "nonsense"], 1, "--device nonsense: PyTorch "),
                (["--rank", "3"], 1, "rank 3 does not exist: the island has 1 ranks")]:
            with self.subTest(flags):
                self.refused(self.rank(plan, *flags), words, status=status)
        for flags, status, words in [
                (["--executor", "mars=torch"], 1, "no ranks at site 'mars'; its sites are here"),
                (["--executor", "cobol"], 2, "expected native or torch, got 'cobol'")]:
            with self.subTest(flags):
                self.refused(self.train(plan, self.onnx, 1, *flags, check=False), words,
                             status=status)

    def with_changed_ranks(self, plan, change, *flags):
        """A run whose ranks have their command line changed by Python code `change`."""
        program = self.write("rank-program", f"""\
#!/usr/bin/python3
import os, sys
words = sys.argv[1:]
rank = words.index("--rank") + 1
{change}
os.execv({os.path.join(support.BIN, "tombolo-run")!r}, ["tombolo-run"] + words)
""")
        os.chmod(program, stat.S_IRWXU)
        return self.train(plan, self.onnx, 4, "--rank-program", program, *flags, check=False)

    def test_two_ranks_of_one_identity(self):
        plan = self.make([2, 2], data_parallel=2)
        result = self.with_changed_ranks(plan, 'words[rank] = {"3": "1"}.get(words[rank], '
                                         'words[rank])')
        self.refused(result, "rank 1 of the island was started twice")

    def test_a_plan_that_differs_between_ranks(self):
        other, plan = self.make([2, 2], "other.plan", lr=2e-3), self.make([2, 2])
        result = self.with_changed_ranks(plan, f'words[1] = {other!r} if words[rank] == "1" '
                                         'else words[1]')
        self.refused(result, "expected all ranks of the island to run the same: rank ",
                     " has plan ", " on 2 ranks")

    def test_versions_that_differ_between_ranks(self):
        plan = self.make([2, 2])
        with open(plan, "rb") as file:
            checksum = file.read()[-32:].hex()
        other = self.path("packages")
        shutil.copytree(PACKAGES, other)
        links = os.path.join(other, "tombolo_torch", "links.py")
        with open(links) as file:
            text = file.read()
        self.assertIn("\nVERSION = 1\n", text)
        with open(links, "w") as file:
            file.write(text.replace("\nVERSION = 1\n", "\nVERSION = 2\n"))
        result = self.with_changed_ranks(plan, f"""\
if words[rank] == "1":
    words = [word for word in words if word not in ("--executor", "torch")]
    os.environ["PYTHONPATH"] = {other!r}
    os.execvp(os.environ.get("TOMBOLO_PYTHON", "python3"), ["python3", "-m", "tombolo_torch"]
              + words + ["--validated", {checksum!r}])
""")
        self.refused(result, "with version 1 of the torch executor", "with version 2 of the")

    def test_an_island_of_both_executors(self):
        plan = self.plan(self.onnx, support.topology({"east": 1, "west": 1}), support.strategy(
            [support.island(["east", "west"], 8, 4, [2, 2])]), 8)
        self.executor = "east=torch"
        self.refused(self.train(plan, self.onnx, 1, check=False),
                     "expected one executor for all of it, got torch and native")


if __name__ == "__main__":
    unittest.main()
