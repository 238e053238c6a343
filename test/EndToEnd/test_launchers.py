"""Ranks and agents that somebody else has started: torchrun, mpirun, or a pod of an Indexed
Job, whose environment says which of them each one is. Slurm: test_slurm.py."""

import os
import re
import shutil
import socket
import subprocess
import time
import unittest

import models
import reference
import support

PYTHON = os.environ["TOMBOLO_PYTHON"]
REFUSAL_SECONDS = 10
STEPS = 6
# Of the launcher that may have started this test itself.
FOREIGN = re.compile(r"^(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_|TORCHELASTIC_|OMPI_|PMIX_|SLURM_|JOB_COMPLETION)")
CLEAN = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


class Launchers(support.TomboloTest):
    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 2, "--hidden", 16, "--heads", 2, "--vocab",
                    64, "--seq", 8, "-o", self.onnx)
        self.tokens()
        self.one = self.plan(self.onnx, support.topology({"east": 4}), support.strategy(
            [support.island("east", 8, 2, [2, 2], data_parallel=2)]), 8)

    def words(self, *more, plan=None, what="rank"):
        return [os.path.join(support.BIN, "tombolo-run"), what, plan or self.one, "--model",
                self.onnx, "--data", self.path("tokens.bin"), "--steps", str(STEPS), "--threads", "1",
                *map(str, more)]

    def expected(self):
        return self.losses(self.one, self.onnx, STEPS)

    @staticmethod
    def losses_of(text):
        steps = {}
        for step in re.findall(r'\{[^{}]*"loss"[^{}]*\}', text):
            island, loss, number = (float(re.search(rf'"{name}":([^,}}]+)', step)[1])
                                    for name in ("island", "loss", "step"))
            steps[int(island), int(number)] = loss
        return steps

    def launch(self, command, **env):
        return subprocess.run(command, env={**CLEAN, **env}, capture_output=True, text=True,
                              timeout=support.TIMEOUT_SECONDS, stdin=subprocess.DEVNULL)

    def torchrun(self, count, *words):
        """What torchrun calls; its own command line fails with Python 3.11 (PyTorch 1.13)."""
        return self.launch([PYTHON, "-c", f"""
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
elastic_launch(LaunchConfig(1, 1, {count}, rdzv_backend="c10d", max_restarts=0,
                            rdzv_endpoint="127.0.0.1:{support.free_port()}"),
               sys.argv[1])(*sys.argv[2:])
""", *words])

    def pods(self, count, words, meeting=None, change=lambda number, words, env: None):
        """Processes with the environment of the pods of an Indexed Job. Gives how each ended,
        and after how many seconds."""
        meeting = meeting or f"127.0.0.1:{support.free_port()}"
        begin, started = time.monotonic(), []
        for number in range(count):
            env = {**CLEAN, "JOB_COMPLETION_INDEX": str(number), "TOMBOLO_PROCESSES": str(count),
                   "TOMBOLO_MEETING": meeting}
            own = list(words)
            change(number, own, env)
            started.append(subprocess.Popen(own, env=env, stdout=subprocess.PIPE, text=True,
                                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL))
        ended = []
        for process in started:
            out, errors = process.communicate(timeout=support.TIMEOUT_SECONDS)
            ended.append((process.returncode, out, errors, time.monotonic() - begin))
        return ended

    def same(self, text):
        self.assertEqual([self.losses_of(text)[0, step] for step in range(STEPS)], self.expected())


class Trained(Launchers):
    """As by `local`, to the bit."""

    def test_ranks_by_mpirun(self):
        result = self.launch([*MPIRUN, "-n", "4", *self.words()])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.same(result.stdout)

    def test_ranks_by_torchrun(self):
        result = self.torchrun(4, *self.words())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.same(result.stdout)

    def test_ranks_of_pytorch_by_mpirun(self):
        result = self.launch([*MPIRUN, "-n", "4", *self.words("--executor", "torch")])
        self.assertEqual(result.returncode, 0, result.stderr)
        found = self.losses_of(result.stdout)
        for step, loss in enumerate(self.expected()):
            self.assertAlmostEqual(found[0, step], loss, delta=1e-4)

    def test_agents_by_mpirun(self):
        """Two of one site, each with two of its ranks; what they saved one alone goes on from,
        and two again."""
        saved = ["--checkpoint-dir", self.path("saved")]
        words = self.words("--site", "east", *saved, what="site")
        words[words.index("--steps") + 1] = "2"
        first = self.launch([*MPIRUN, "-n", "2", *words])
        self.assertEqual(first.returncode, 0, first.stderr)
        words[words.index("--steps") + 1] = "4"
        second = self.launch([*words, "--resume"])
        self.assertEqual(second.returncode, 0, second.stderr)
        words[words.index("--steps") + 1] = str(STEPS)
        third = self.launch([*MPIRUN, "-n", "2", *words, "--resume"])
        self.assertEqual(third.returncode, 0, third.stderr)
        self.same(first.stdout + second.stdout + third.stdout)

    def test_ranks_as_pods(self):
        ended = self.pods(4, self.words())
        for status, _, errors, _ in ended:
            self.assertEqual(status, 0, errors)
        self.same("".join(out for _, out, _, _ in ended))

    def test_what_is_said_wins_over_the_environment(self):
        # A stray environment, which would be refused.
        stray = {"RANK": "7", "WORLD_SIZE": "9"}
        store = f"127.0.0.1:{support.free_port()}"
        one = self.plan(self.onnx, support.topology({"east": 1}), support.strategy(
            [support.island("east", 8, 2, [4])]), 8)
        result = self.launch(self.words("--island", 0, "--rank", 0, plan=one), **stray)
        self.assertEqual(result.returncode, 0, result.stderr)
        result = self.launch(self.words("--site", "east", "--launcher", "none", plan=one,
                                        what="site"), **stray)
        self.assertEqual(result.returncode, 0, result.stderr)
        # The place, not who meets there.
        ended = self.pods(4, self.words("--rendezvous", store, plan=self.replan()), "nobody.invalid:1")
        self.assertEqual([status for status, *_ in ended], [0] * 4, ended)

    def replan(self):
        return self.plan(self.onnx, support.topology({"east": 4}), support.strategy(
            [support.island("east", 8, 2, [2, 2], data_parallel=2)]), 8)


@unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(support.BIN),
                                                 "lib/tombolo/libtombolo-mpi.so")),
                     "built without MPI")
class Mpi(Launchers):
    """Ranks that talk by MPI."""

    def test_ranks(self):
        result = self.launch([*MPIRUN, "-n", "4", *self.words("--transport", "mpi")])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.same(result.stdout)

    def test_all_collectives(self):
        """Tensor parallelism and a sharded optimizer: sums in parts, gathers."""
        plan = self.plan(self.onnx, support.topology({"east": 4}), support.strategy(
            [support.island("east", 8, 2, [4], data_parallel=2, tensor_parallel=2,
                            optimizer_sharding=True)]), 8)
        expected = self.losses(plan, self.onnx, STEPS)
        result = self.launch([*MPIRUN, "-n", "4", *self.words("--transport", "mpi", plan=plan)])
        self.assertEqual(result.returncode, 0, result.stderr)
        found = self.losses_of(result.stdout)
        self.assertEqual([found[0, step] for step in range(STEPS)], expected)

    def two_islands(self, steps=8):
        plan = self.plan(self.onnx, support.topology({"north": 2, "south": 2}), support.strategy(
            [support.island("north", 8, 4, [2, 2]), support.island("south", 8, 4, [4], data_parallel=2)],
            {"inner_steps": 4, "fragments": 2, "overlap_steps": 1, "compression": "int8"}), 16)
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        subprocess.run([os.path.join(root, "utils/make-certs"), self.path("certs"), "north", "south"],
                       check=True, stderr=subprocess.DEVNULL)
        server = f"127.0.0.1:{support.free_port()}"
        words = {}
        for site in ("north", "south"):
            words[site] = self.words("--site", site, "--certs", self.path("certs"), "--run-id", "R",
                                     "--server" if site == "south" else "--address", server,
                                     plan=plan, what="site")
            words[site][words[site].index("--steps") + 1] = str(steps)
        return plan, words

    def test_sites_use_mpi_inside_and_meet_over_grpc(self):
        """Both islands by MPI, and one beside an island by Gloo: the bits of `local`."""
        plan, words = self.two_islands()
        expected = {(island, entry["step"]): entry["loss"] for island, entries in
                    self.train(plan, self.onnx, 8).items() for entry in entries}
        for transports in ({"north", "south"}, {"north"}):
            started = []
            for site in ("south", "north"):
                mpi = [*MPIRUN, "-n", "2", *words[site], "--transport", "mpi"]
                started.append(subprocess.Popen(
                    mpi if site in transports else words[site], env=CLEAN, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL))
            found = {}
            for process in reversed(started):  # without the server the other waits long
                self.addCleanup(process.kill)
                out, errors = process.communicate(timeout=support.TIMEOUT_SECONDS)
                self.assertEqual(process.returncode, 0, errors)
                found.update(self.losses_of(out))
            self.assertEqual(found, expected)

    def test_what_mpi_cannot_do_is_refused(self):
        def refused(command, told, status=2):
            result = self.launch(command)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertIn(told, result.stderr)
        refused(self.words("--transport", "mpi", "--executor", "torch", "--rank", "0"),
                "those of PyTorch talk by --backend")
        refused(self.words("--transport", "mpi", "--rank", "0"),
                "MPI has started 1 processes; expected one for rank 3 of the island, too")
        plan, words = self.two_islands()
        refused([*words["north"], "--transport", "mpi"],
                "--transport mpi: expected a process for each of the 2 ranks at site north "
                "(mpirun -n 2 tombolo-run site ...), got 1")
        refused([*MPIRUN, "-n", "2", *words["north"], "--transport", "mpi", "--restarts", "1"],
                "--restarts 1: ")

    def test_one_rank_by_mpi_and_one_not(self):
        def change(number, words, env):
            if number == 2:
                words += ["--transport", "mpi"]
        for status, _, errors, seconds in self.pods(4, self.words(), change=change):
            self.assertNotEqual(status, 0)
            self.assertRegex(errors, "process 0 has .* transport gloo, process 2 has .* transport mpi")
            self.assertLess(seconds, REFUSAL_SECONDS)


class Refused(Launchers):
    """At the start, by every rank, with what was expected and found."""

    def refused(self, ended, *words):
        for status, _, errors, seconds in ended:
            self.assertIn(status, (1, 2, 3), errors)
            for word in words:
                self.assertRegex(errors, word)
            self.assertLess(seconds, REFUSAL_SECONDS)

    def test_another_number_of_ranks(self):
        for count in (2, 5):
            ended = self.pods(count, self.words())
            self.refused(ended, rf"expected 4 processes, one for each rank of the plan, got {count}")
        result = self.launch([*MPIRUN, "-n", "3", *self.words()])
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("expected 4 processes, one for each rank of the plan, got 3 (openmpi)",
                      result.stderr)
        ended = self.pods(3, self.words("--site", "east", what="site"))
        self.refused(ended, r"expected as many processes as the 4 ranks at site east, or a number "
                     r"by which these can be divided, got 3 \(kubernetes\)")

    def test_no_environment(self):
        result = self.launch(self.words())
        self.assertEqual(result.returncode, 2)
        self.assertIn("--rank: expected it, or to be started by torchrun, mpirun, srun",
                      result.stderr)

    def test_half_an_environment(self):
        def change(number, words, env):
            del env["TOMBOLO_PROCESSES"]
        self.refused(self.pods(4, self.words(), change=change),
                     "the environment of kubernetes lacks TOMBOLO_PROCESSES")

    def test_two_environments(self):
        def change(number, words, env):
            env.update(RANK=str(number), WORLD_SIZE="4", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1",
                       MASTER_PORT="1", OMPI_COMM_WORLD_RANK=str(number), OMPI_COMM_WORLD_SIZE="2"
                       if number < 2 else "8", OMPI_COMM_WORLD_LOCAL_RANK="0")
        self.refused(self.pods(4, self.words(), change=change), "contradicts itself",
                     "for torchrun this is process [0-3] of 4, for openmpi process [0-3] of [28]")

    def test_one_identity_twice(self):
        def change(number, words, env):
            if number == 3:
                env["JOB_COMPLETION_INDEX"] = "1"
        self.refused(self.pods(4, self.words(), change=change), "process 1 was started twice")
        self.refused(self.pods(4, self.words("--site", "east", what="site"), change=change),
                     "process 1 was started twice")

    def test_another_plan(self):
        mine = self.path("mine.plan")
        shutil.copy(self.one, mine)
        other = self.path("other.plan")
        self.plan(self.onnx, support.topology({"east": 4}), support.strategy(
            [support.island("east", 8, 2, [2, 2], data_parallel=2)]), 8, lr=2e-3)
        shutil.copy(self.path("p.plan"), other)
        for odd in (0, 2):
            def change(number, words, env, odd=odd):
                words[2] = other if number == odd else mine
            for what in (self.words(plan=mine),
                         self.words("--site", "east", plan=mine, what="site")):
                self.refused(self.pods(4, what, change=change),
                             "process 0 has plan [0-9a-f]{16} on 4 ranks", "process [1-3] has plan")

    def test_a_plan_that_one_lacks(self):
        for odd in (0, 2):
            def change(number, words, env, odd=odd):
                if number == odd:
                    words[2] = self.path("nowhere.plan")
            self.refused(self.pods(4, self.words(), change=change), "nowhere.plan")

    def test_another_version(self):
        """Process 3 is not ours: it says the same as the others, but for the version."""
        packages = os.path.join(os.path.dirname(support.BIN), "lib/tombolo/python")
        meeting = f"127.0.0.1:{support.free_port()}"

        def change(number, words, env):
            if number == 3:
                words[:] = [PYTHON, "-c", f"""
import sys, time
sys.path.insert(0, {packages!r})
from tombolo_torch.store import IslandStore, StoreClient
store = IslandStore(StoreClient({meeting!r}, 30), "launch/", 30)
while (first := store.look("roll-call/0")) is None:
    time.sleep(0.01)
store.claim("roll-call/3", first.replace(b" of tombolo-run", b"9 of tombolo-run"))
try:
    store.get("begin")
except Exception as error:
    sys.exit(str(error))
"""]
        self.refused(self.pods(4, self.words(), meeting, change),
                     r"process 0 has .* with version [0-9.]+-1 of tombolo-run, .*process 3 has .* "
                     r"with version [0-9.]+-19 of tombolo-run")

    def test_a_place_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            meeting = f"127.0.0.1:{taken.getsockname()[1]}"
            result = self.pods(4, self.words(), meeting, lambda number, words, env:
                               words.append("--help") if number else None)[0]
        self.assertNotEqual(result[0], 0)
        self.assertRegex(result[2], "cannot listen at port .*another place can be given: "
                         "--rendezvous HOST:PORT")


if __name__ == "__main__":
    unittest.main()
