"""The Python package: built as a wheel, installed, and used from there."""

import contextlib
import dataclasses
import inspect
import json
import math
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock

import torch

import reference
import support

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH = 8


def setUpModule():
    """Without a network, and without leaving anything in the checkout."""
    global tombolo, folder, site
    folder = tempfile.TemporaryDirectory(prefix="tombolo-wheel-")
    unittest.addModuleCleanup(folder.cleanup)
    source = pathlib.Path(folder.name, "checkout")
    for part in ("python", "runtime/schema"):
        shutil.copytree(ROOT / part, source / part,
                        ignore=shutil.ignore_patterns("build", "*_pb2.py", "*.egg-info"))
    shutil.copy(ROOT / "CMakeLists.txt", source)
    site = pathlib.Path(folder.name, "site")
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder.name,
        source / "python")
    wheel, = pathlib.Path(folder.name).glob("tombolo-*-py3-none-any.whl")
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    sys.path.insert(0, str(site))
    import tombolo


def pip(*args):
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, args)],
                   check=True, capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS)


def environment(**changes):
    return {**os.environ, "PYTHONPATH": str(site), **changes}


class PythonTest(support.TomboloTest):
    """With a small GPT that tombolo.export wrote and a plan of two stages for it."""

    def setUp(self):
        super().setUp()
        self.model = tombolo.export(reference.GPT(layers=2, mask="tril"),
                                    torch.zeros(2, reference.GPT().length, dtype=torch.int64),
                                    self.path("m.onnx"))
        self.tokens()
        self.sites = self.write("sites.yaml", support.topology({"here": 2}))
        self.strategy = self.write("strategy.yaml", support.strategy(
            [support.island("here", BATCH, 4, [2, 2])]))

    def planned(self, **options):
        return tombolo.plan(self.model, self.sites, BATCH, self.path("p.plan"),
                            **{"strategy": self.strategy, "lr": 1e-3, **options})

    def script(self, text, **env):
        """A process that has run `text`."""
        return subprocess.run([sys.executable, "-W", "ignore", "-c", text], env=environment(**env),
                              cwd=self.dir, capture_output=True, text=True,
                              timeout=support.TIMEOUT_SECONDS)


class Package(PythonTest):
    def test_it_comes_from_the_wheel(self):
        self.assertTrue(pathlib.Path(tombolo.__file__).is_relative_to(site))
        self.assertTrue((site / "tombolo" / "py.typed").exists())

    def test_it_needs_neither_torch_nor_pandas_to_be_imported(self):
        result = self.script("import sys; sys.modules['torch'] = sys.modules['pandas'] = None\n"
                             "import tombolo; print(tombolo.read_plan.__name__)")
        self.assertEqual((result.returncode, result.stdout), (0, "read_plan\n"), result.stderr)

    def test_types_hold(self):
        result = subprocess.run(
            ["mypy", "--config-file", ROOT / "python" / "pyproject.toml", "--cache-dir", os.devnull],
            cwd=site, capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_keywords_are_the_options_of_the_programs(self):
        # `--emit`, `--problem` and `--print-schema` make no plan.
        for function, command, operand, other in (
                (tombolo.plan, ["tombolo-plan"], "model", {"emit", "problem", "print_schema"}),
                (tombolo.simulate, ["tombolo-sim"], "plan", set()),
                (tombolo.run, ["tombolo-run", "local"], "plan", set())):
            told = json.loads(support.run(*command, "--describe-options").stdout)
            options = {option["names"][-1].removeprefix("--").replace("-", "_")
                       for option in told["options"] if option["names"]}
            self.assertGreater(len(options), 10)
            keywords = set(inspect.signature(function).parameters) - {operand}
            self.assertEqual(options - other - {"help", "version"}, keywords, command)

    def test_everything_public_is_documented(self):
        for name in tombolo.__all__:
            self.assertTrue(getattr(tombolo, name).__doc__, name)


class Use(PythonTest):
    def test_a_plan_has_the_figures_of_the_program(self):
        plan = self.planned(json=self.path("p.json"))
        with open(self.path("p.json")) as file:
            told = json.load(file)
        self.assertEqual(plan.strategy.to_dict(), told["strategy"])
        for name, value in told["predicted"].items():
            ours = dataclasses.asdict(plan.predicted)[name]
            self.assertEqual(json.loads(json.dumps(ours)), value, name)
        self.assertEqual(plan.search.candidates, told["search"]["candidates"])
        self.assertIn("tokens/s", plan.text)
        self.assertEqual([stage.pool for stage in plan.stages], ["here/cpu", "here/cpu"])
        given = told["strategy"]["islands"][0]
        self.assertEqual(plan.islands[0].schedule, given["schedule"])
        self.assertEqual([stage.blocks for stage in plan.stages], [stage["blocks"] for stage in given["stages"]])
        self.assertEqual([stage.optimizer_sharding for stage in plan.stages],
                         [stage["optimizer_sharding"] for stage in given["stages"]])
        memory = self.memory()
        self.assertEqual(plan.stages[0].arena_bytes, memory.pop("arena"))
        self.assertEqual(plan.stages[0].memory_bytes, memory)
        with self.assertRaises(dataclasses.FrozenInstanceError):
            plan.stages = ()

    def test_a_plan_file_says_the_same_without_the_program(self):
        plan = self.planned()
        read = tombolo.read_plan(plan.path)
        self.assertEqual((read.search, read.strategy), (None, None))
        for name in ("checksum", "islands", "stages", "global_batch", "tokens_per_sample"):
            self.assertEqual(getattr(read, name), getattr(plan, name), name)
        self.assertEqual(read.predicted.step_seconds, plan.predicted.step_seconds)

    def test_what_one_plan_found_another_takes(self):
        found = self.planned(strategy=None, simulate=0)
        again = tombolo.plan(self.model, self.sites, BATCH, self.path("q.plan"), lr=1e-3,
                             strategy=found.strategy)
        self.assertEqual(again.strategy, found.strategy)
        self.assertEqual(again.stages, found.stages)

    def test_sites_and_strategy_as_objects(self):
        wire = {"gbits_per_second": 40, "latency_us": 10}
        sites = {"chips": [{"name": "cpu", "tflops": {"f32": 0.1}, "memory_gib": 4,
                            "memory_gbytes_per_second": 20,
                            "efficiency": {"matmul": 0.7, "memory": 0.7}}],
                 "sites": [{"name": name, "fabric": wire, "pools": [
                     {"name": "cpu", "chip": "cpu", "nodes": 1, "chips_per_node": 1,
                      "nics_per_node": 1, "intra_node": wire, "inter_node": wire}]}
                     for name in ("ostrów", "south")],
                 "links": [{"sites": ["ostrów", "south"], "gbits_per_second": 1, "rtt_ms": 30}]}
        plan = tombolo.plan(self.model, sites, BATCH, self.path("p.plan"), strategy={
            "islands": [{"sites": [name], "batch": 4, "microbatch": 4, "stages": [
                {"pool": name + "/cpu", "blocks": 4}]} for name in ("ostrów", "south")]})
        self.assertEqual([island.sites for island in plan.islands], [("ostrów",), ("south",)])
        self.assertIsNotNone(plan.strategy.server)

    def test_a_simulation(self):
        plan = self.planned()
        simulation = tombolo.simulate(plan, steps=20, fail=["here@0.001+1"],
                                      trace=self.path("t.json"))
        lost = simulation.islands[0].steps_lost
        self.assertGreater(lost, 0)
        self.assertEqual(simulation.steps, 20 + lost)
        self.assertEqual(sum(one.ranks for one in simulation.islands[0].classes), 2)
        self.assertIn("here fails", "\n".join(simulation.log))
        self.assertEqual(simulation.predicted.peak_memory_bytes,
                         tombolo.read_plan(plan.path).predicted.peak_memory_bytes)
        self.assertTrue(os.path.exists(self.path("t.json")))
        self.assertEqual(tombolo.simulate(str(plan.path), seed=3).steps, 1)

    def test_a_run_and_its_metrics(self):
        run = tombolo.run(self.planned(clip_grad_norm=1.0), self.model, self.path("tokens.bin"), 5,
                          eval_data=self.path("tokens.bin"), eval_every=2)
        self.assertEqual([step.step for step in run.island(0)], list(range(5)))
        self.assertTrue(all(step.loss > 0 and step.grad_norm > 0 for step in run.steps))
        self.assertEqual([event.step for event in run.events if event.event == "eval"], [2, 4, 5])
        self.assertIn("samples", run.events[-1].fields)
        self.assertFalse(run.stopped)
        self.assertIsNone(run.metrics)

    def test_the_exported_module_trains_as_in_pytorch(self):
        module = reference.GPT(layers=2, mask="tril")
        module.eval()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        model = tombolo.export(module, torch.zeros(1, module.length, dtype=torch.int64),
                               self.path("one.onnx"), output_names=["logits"])
        self.assertFalse(module.training)
        self.assertTrue(all(torch.equal(before[name], value)
                            for name, value in module.state_dict().items()))
        plan = tombolo.plan(model, self.sites, BATCH, lr=1e-3, strategy=self.strategy)
        self.assertEqual(plan.path, pathlib.Path(self.path("one.plan")))
        losses = [step.loss for step in tombolo.run(plan, model, self.path("tokens.bin"), 8).steps]
        trainer = reference.Trainer(module, reference.Samples(
            self.tokens(), module.length), BATCH, lr=1e-3)
        expected = [trainer.step(n * BATCH) for n in range(8)]
        self.assertLessEqual(reference.largest_relative_difference(losses, expected), 1e-5)

    def test_running_statistics_are_left_alone(self):
        module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
        tombolo.export(module, torch.rand(4, 1, 8, 8), self.path("c.onnx"))
        self.assertEqual(module[1].running_mean.tolist(), [0, 0])
        self.assertEqual(module[1].num_batches_tracked.item(), 0)
        self.assertTrue(module.training)

    def test_frames(self):
        plan = self.planned()
        table = tombolo.frame(plan.stages)
        self.assertEqual(list(table["pool"]), ["here/cpu", "here/cpu"])
        self.assertEqual(table["memory_bytes.parameters"][1],
                         plan.stages[1].memory_bytes["parameters"])
        self.assertEqual(len(tombolo.frame([])), 0)
        with self.assertRaisesRegex(TypeError, "expected results"):
            tombolo.frame([{"step": 1}])

    def test_without_pandas_it_says_what_to_install(self):
        result = self.script("import sys; sys.modules['pandas'] = None\n"
                             "import tombolo; tombolo.frame([])")
        self.assertIn("ImportError: tombolo.frame needs pandas; install", result.stderr)

    def test_warnings_of_programs_are_warnings(self):
        with self.assertWarnsRegex(tombolo.ProgramWarning, "nothing_like_that"):
            self.planned(freeze="nothing_like_that")

    def test_names_that_look_like_options(self):
        os.rename(self.model, self.path("-m.onnx"))
        with contextlib.chdir(self.dir):
            plan = tombolo.plan("-m.onnx", self.sites, BATCH, "-p.plan", strategy=self.strategy)
            self.assertEqual(tombolo.simulate(plan).steps, 1)
            self.assertEqual(len(tombolo.run(plan, "-m.onnx", "tokens.bin", 1).steps), 1)


class Misuse(PythonTest):
    def test_missing_programs(self):
        for env, words in (({"TOMBOLO_BIN": self.dir}, f"in TOMBOLO_BIN={self.dir}"),
                           ({"TOMBOLO_BIN": "", "PATH": self.dir}, "on PATH")):
            with unittest.mock.patch.dict(os.environ, env):
                with self.assertRaisesRegex(tombolo.ProgramNotFound,
                                            f"tombolo-plan not found {words}; install"):
                    self.planned()

    def test_programs_are_found_on_the_path(self):
        with unittest.mock.patch.dict(os.environ, {"TOMBOLO_BIN": "", "PATH": support.BIN}):
            self.assertEqual(self.planned().global_batch, BATCH)

    def test_a_program_that_is_none(self):
        self.write("tombolo-plan", "")
        os.chmod(self.path("tombolo-plan"), 0o755)
        with unittest.mock.patch.dict(os.environ, {"TOMBOLO_BIN": self.dir}):
            with self.assertRaisesRegex(tombolo.TomboloError, "tombolo-plan: cannot be started"):
                self.planned()

    def test_a_plan_that_fails(self):
        with open(self.sites, "a") as file:
            file.write("colour: blue\n")
        with self.assertRaises(tombolo.BadInput) as caught:
            self.planned()
        self.assertEqual(caught.exception.status, 1)
        self.assertRegex(str(caught.exception), r"^\S*sites.yaml:\d+:\d+: error: unknown key")
        self.assertFalse(os.path.exists(self.path("p.plan")))

    def test_options_that_do_not_go_together(self):
        with self.assertRaises(tombolo.WrongUsage) as caught:
            tombolo.simulate(self.planned(), rounds=1, steps=1)
        self.assertEqual(caught.exception.status, 2)

    def test_a_run_that_cannot_finish(self):
        with self.assertRaises(tombolo.BadInput):
            tombolo.run(self.planned(), self.model, self.path("nothing.bin"), 1)

    def test_a_killed_program(self):
        self.write("tombolo-sim", "#!/bin/sh\nkill -9 $$\n")
        os.chmod(self.path("tombolo-sim"), 0o755)
        plan = self.planned()
        with unittest.mock.patch.dict(os.environ, {"TOMBOLO_BIN": self.dir}):
            with self.assertRaisesRegex(tombolo.TomboloError, r"killed by signal 9 \(Killed\)"):
                tombolo.simulate(plan)

    def test_a_program_of_another_version(self):
        self.write("tombolo-sim", "#!/bin/sh\nfor word; do :; done\n"
                                  'echo \'{"predicted": {}, "simulated": {"seconds": "1"}}\' '
                                  '>"${word#--json=}"\n')
        os.chmod(self.path("tombolo-sim"), 0o755)
        plan = self.planned()
        with unittest.mock.patch.dict(os.environ, {"TOMBOLO_BIN": self.dir}):
            with self.assertRaisesRegex(tombolo.TomboloError, "differ in version"):
                tombolo.simulate(plan)

    def test_wrong_types(self):
        for options, words in (
                ({"lr": "fast"}, "lr: expected number or None, got 'fast' (str)"),
                ({"warmup_steps": 1.5}, "warmup_steps: expected integer or None, got 1.5"),
                ({"optimizer": "adam"}, "optimizer: expected one of 'sgd', 'adamw' or None"),
                ({"baseline": 1}, "baseline: expected True or False, got 1"),
                ({"bind": {"T": "8"}}, "bind: expected dict or None"),
                ({"freeze": 3}, "freeze: expected text or list of text or None"),
                ({"strategy": 3}, "strategy: expected text or path or Strategy or dict or None"),
                ({"strategy": {"islands": {1}}}, "strategy: expected what can stand in")):
            with self.subTest(options), self.assertRaises(TypeError) as caught:
                self.planned(**options)
            self.assertIn(words, str(caught.exception))
        with self.assertRaisesRegex(TypeError, "global_batch: expected integer"):
            tombolo.plan(self.model, self.sites, True)
        with self.assertRaisesRegex(TypeError, "model: expected text or path, got None"):
            tombolo.plan(None, self.sites, BATCH)
        with self.assertRaisesRegex(TypeError, "plan: expected text or path or Plan"):
            tombolo.simulate(7)
        with self.assertRaisesRegex(TypeError, "path: expected text or path"):
            tombolo.read_plan(7)

    def test_files_that_are_no_plans(self):
        plan = self.planned()
        data = plan.path.read_bytes()
        self.write("empty.plan", "")
        pathlib.Path(self.path("cut.plan")).write_bytes(data[:-1])
        pathlib.Path(self.path("flipped.plan")).write_bytes(data[:99] + b"\xff" + data[100:])
        for name, words in (("nowhere", "No such file"), ("empty", "cut off"), ("cut", "cut off"),
                            ("flipped", "damaged")):
            with self.assertRaisesRegex(tombolo.TomboloError, words):
                tombolo.read_plan(self.path(name + ".plan"))

    def test_modules_that_cannot_be_exported(self):
        module = torch.nn.Linear(4, 4)
        for module_or_not, sample, error, words in (
                ("model", torch.rand(2, 4), TypeError, "expected a torch.nn.Module"),
                (module, [[1.0]], TypeError, "expected a tensor"),
                (module, (), TypeError, "expected a tensor"),
                (module, torch.tensor(1.0), ValueError, "expected a batch"),
                (module, torch.rand(0, 4), ValueError, "expected a batch"),
                (module, torch.rand(2, 5), tombolo.TomboloError, "cannot export")):
            with self.subTest(words), self.assertRaisesRegex(error, words):
                tombolo.export(module_or_not, sample, self.path("x.onnx"))
        with self.assertRaisesRegex(ValueError, "expected one for each of 1 tensors"):
            tombolo.export(module, torch.rand(2, 4), self.path("x.onnx"), input_names=["a", "b"])


class Interrupts(PythonTest):
    """A run in another process, with a terminal, which gets a signal once it trains."""

    STEPS = 1_000_000

    def signalled(self, *signals, **options):
        """Exit status, what the terminal shows, after its line of progress has been seen and
        the process has got `signals` one after the other."""
        plan = self.planned()
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c",
             "import tombolo\n"
             f"try: tombolo.run({str(plan.path)!r}, {str(self.model)!r}, 'tokens.bin', "
             f"{self.STEPS}, metrics='metrics.jsonl', **{options!r})\n"
             "except KeyboardInterrupt: print('interrupted'); raise SystemExit(7)\n"],
            cwd=self.dir, env=environment(TERM="xterm"), stdout=theirs, stderr=theirs,
            stdin=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        os.close(theirs)
        shown = b""
        left = list(signals)
        guard = threading.Timer(support.TIMEOUT_SECONDS, process.kill)
        guard.start()
        self.addCleanup(guard.cancel)
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            shown += data
            if left and re.search(rb" [1-9]\d*/%d " % self.STEPS, shown):
                process.send_signal(left.pop(0))
        os.close(ours)
        return process.wait(), shown.decode()

    def nobody_left(self):
        """Of the processes that were started in this test's folder."""
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                self.assertNotIn(os.fsencode(self.path("p.plan")), words)

    def test_ctrl_c_ends_the_run(self):
        status, shown = self.signalled(signal.SIGINT)
        self.assertEqual(status, 7, shown)
        self.assertIn("interrupted", shown)
        self.assertRegex(shown, r"step +loss")
        self.nobody_left()

    def test_ctrl_c_saves_where_there_are_checkpoints(self):
        status, shown = self.signalled(signal.SIGINT, checkpoint_dir="saved")
        self.assertEqual(status, 7, shown)
        self.assertIn("go on with --resume", shown)
        self.nobody_left()
        with open(self.path("metrics.jsonl")) as file:
            done = [line["step"] for line in map(json.loads, file) if "event" not in line][-1] + 1
        run = tombolo.run(self.path("p.plan"), self.model, self.path("tokens.bin"), done + 2,
                          checkpoint_dir=self.path("saved"), resume=True)
        self.assertEqual([step.step for step in run.steps], [done, done + 1])

    def test_sigterm_ends_program_and_process(self):
        status, shown = self.signalled(signal.SIGTERM)
        self.assertEqual(status, -signal.SIGTERM, shown)
        self.nobody_left()

    def test_ctrl_c_takes_the_best_plan_found(self):
        # A stand-in: the search itself is too quick to be met with a signal for sure.
        real = shutil.which("tombolo-plan", path=support.BIN)
        self.write("tombolo-plan", f"#!{sys.executable}\n"
                   "import os, signal, sys\n"
                   "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
                   "os.kill(os.getppid(), signal.SIGINT)\n"
                   "signal.sigwait([signal.SIGINT])\n"
                   f"os.execv({os.path.join(support.BIN, 'tombolo-plan')!r}, sys.argv)\n")
        os.chmod(self.path("tombolo-plan"), 0o755)
        result = self.script(
            f"import tombolo\nplan = tombolo.plan({str(self.model)!r}, 'sites.yaml', {BATCH}, "
            "'p.plan', strategy='strategy.yaml')\nprint(plan.global_batch)",
            TOMBOLO_BIN=self.dir)
        self.assertEqual((result.returncode, result.stdout), (0, f"{BATCH}\n"), result.stderr)


    def test_what_is_drawn_over_is_no_message(self):
        left = tombolo._programs._left
        self.assertEqual(left(b"one\r\na\r\nb\r\n\x1b[2F\x1b[Jc\r\nd\r\n\x1b[2F\x1b[Jend\r\n"),
                         b"one\nend\n")
        self.assertEqual(left(b"a\n\x1b[9F\x1b[Jb"), b"b")


class WalkThrough(support.TomboloTest):
    def test_it_runs(self):
        result = subprocess.run(
            [sys.executable, "-W", "error::tombolo.ProgramWarning", "-W", "ignore",
             ROOT / "examples" / "walk_through.py"], env=environment(TMPDIR=self.dir),
            capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        losses = re.findall(r"island \d: loss ([\d.]+) -> ([\d.]+)", result.stdout)
        self.assertEqual(len(losses), 2)
        for first, last in losses:
            self.assertAlmostEqual(float(first), math.log(128), delta=0.3)
            self.assertLess(float(last), float(first) - 0.5)
        self.assertIn("10 outer steps", result.stdout)
        self.assertIn("site north is back", result.stdout)
