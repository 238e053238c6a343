"""An installed tree: its programs, find_package(Tombolo), and examples/plugin built against it."""

import os
import pathlib
import re
import subprocess
import tempfile

import support

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(support.BIN).parent


def made(command, **kwargs):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True,
                            timeout=support.TIMEOUT_SECONDS, **kwargs)
    if result.returncode != 0:
        raise AssertionError(f"{command}\nexit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class Installed(support.TomboloTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tombolo-test-")
        cls.addClassCleanup(folder.cleanup)
        cls.prefix = pathlib.Path(folder.name, "usr")
        made(["cmake", "--install", BUILD, "--prefix", cls.prefix, "--strip"])
        cls.build = pathlib.Path(folder.name, "build")

    def program(self, name, *args, check=True, **kwargs):
        # Its own libraries are found without help.
        env = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
        result = subprocess.run([self.prefix / "bin" / name, *map(str, args)], capture_output=True, text=True,
                                timeout=support.TIMEOUT_SECONDS, env=env, **kwargs)
        if check:
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result

    def test_programs_run_from_there(self):
        programs = sorted(path.name for path in (self.prefix / "bin").iterdir())
        self.assertGreaterEqual(len(programs), 8)
        for program in programs:
            self.assertIn("example", self.program(program, "--help").stdout)
            self.assertTrue((self.prefix / "share" / "man" / "man1" / f"{program}.1").exists(), program)

    def test_what_runs_plans_needs_no_llvm(self):
        for program in ("tombolo-run", "tombolo-sim"):
            needed = made(["ldd", self.prefix / "bin" / program])
            self.assertIn("libprotobuf", needed)
            self.assertNotRegex(needed, "(?i)llvm|mlir|not found")
        self.assertRegex(made(["ldd", self.prefix / "bin" / "tombolo-opt"]), "libMLIR.so")

    def test_schemas_are_those_of_the_programs(self):
        for kind in ("sites", "strategy"):
            file = self.prefix / "share" / "tombolo" / "schema" / f"{kind}.schema.json"
            self.assertEqual(file.read_text(), self.program("tombolo-plan", "--print-schema", kind).stdout)

    def test_python_is_there(self):
        text = made([os.environ.get("TOMBOLO_PYTHON", "python3"), "-c",
                     "import tombolo, tombolo.schema.plan_pb2; print(tombolo.__file__)"],
                    cwd=self.dir, env={**os.environ, "PYTHONPATH": self.prefix / "lib" / "tombolo" / "python"})
        self.assertTrue(text.startswith(str(self.prefix)), text)

    def test_a_plugin_adds_a_pass_and_a_solver(self):
        made(["cmake", "-S", self.prefix / "share" / "tombolo" / "examples" / "plugin", "-B", self.build,
              f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release"])
        made(["cmake", "--build", self.build, "-j2"])
        plugin = self.build / "TomboloExample.so"
        self.assertNotRegex(made(["ldd", plugin]), "(?i)llvm|mlir")
        module = ROOT / "test" / "Dialect" / "Dist" / "search-strategy.mlir"

        def opt(solver, *passes, check=True):
            pipeline = ",".join(["graph-differentiate", f"dist-search-strategy{{global-batch=20 solver={solver}}}",
                                 *passes])
            return self.program("tombolo-opt", f"--load-pass-plugin={plugin}", module,
                                f"--pass-pipeline=builtin.module({pipeline})", check=check)

        # Its solver knows one pool alone: the one fast chip, or the two slow ones.
        found = opt("one-pool", "example-count-chips", "dist-verify").stdout
        self.assertEqual(len(re.findall(r"dist\.island on", found)), 1)
        self.assertRegex(found, r'dist\.island on \["south"\] batch 20 microbatch \d+ .*example\.chips = 1')
        # Tombolo's own uses both sites; the plugin's pass counts there too.
        best = opt("search", "example-count-chips").stdout
        self.assertEqual(sorted(re.findall(r"example\.chips = (\d+)", best)), ["1", "2"])
        # Figures and lowering are the same for all solvers.
        self.assertIn("step_seconds", found)

        wrong = opt("two-pools", check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("there is no solver 'two-pools'; there are: one-pool, search", wrong.stderr)

    def test_another_version_is_refused(self):
        project = pathlib.Path(self.dir, "CMakeLists.txt")
        project.write_text("cmake_minimum_required(VERSION 3.25)\nproject(p LANGUAGES C CXX)\n"
                           "find_package(Tombolo 0.9 REQUIRED CONFIG)\n")
        result = subprocess.run(["cmake", "-S", self.dir, "-B", self.path("b"), f"-DCMAKE_PREFIX_PATH={self.prefix}"],
                                capture_output=True, text=True, timeout=support.TIMEOUT_SECONDS)
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r'requested\s+version\s+"0\.9"')
