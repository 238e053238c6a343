"""A two-site plan as two jobs of a real Slurm, written by `tombolo-run site --emit slurm`.
Needs root; reported as skipped without."""

import json
import os
import signal
import subprocess
import time
import unittest

import slurm
import support

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WAIT_SECONDS = 200


class Slurm(support.TomboloTest):
    """Site north has two machines and the server; site south has one."""

    @classmethod
    def setUpClass(cls):
        if reason := slurm.why_not():
            raise unittest.SkipTest(reason)

    def setUp(self):
        super().setUp()
        self.onnx = self.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 2, "--hidden", 16, "--heads", 2, "--vocab",
                    64, "--seq", 8, "-o", self.onnx)
        self.tokens()
        sites = support.topology({"north": 1, "south": 1}).replace("nodes: 1", "nodes: 2", 1)
        self.plan_file = self.plan(self.onnx, sites, support.strategy(
            [support.island("north", 8, 4, [2, 2]), support.island("south", 4, 4, [4])],
            {"inner_steps": 4, "fragments": 1, "overlap_steps": 0, "compression": "none",
             "quorum": 1, "deadline_seconds": 2}), 12)
        subprocess.run([os.path.join(ROOT, "utils/make-certs"), self.path("certs"), "north", "south"],
                       check=True, stderr=subprocess.DEVNULL)

    def cluster(self):
        os.mkdir(self.path("cluster"))
        return slurm.Cluster(self.path("cluster"), nodes=3)

    def emit(self, steps, *more):
        """Machines have no names here, so north is told where its processes meet."""
        words = ["site", self.plan_file, "--model", self.onnx, "--data", self.path("tokens.bin"),
                 "--steps", steps, "--threads", 1, "--certs", self.path("certs"), "--run-id", "R",
                 "--checkpoint-dir", self.path("saved"), "--checkpoint-every", 50, "--restarts", 1,
                 "--peer", f"north=127.0.0.1:{support.free_port()}", "--emit", "slurm", "-o",
                 self.path("jobs")]
        support.run("tombolo-run", *words, "--site", "south")
        support.run("tombolo-run", *words, *more, "--site", "north", "--rendezvous",
                    f"127.0.0.1:{support.free_port()}")
        return {site: self.path(f"jobs/tombolo-r-{site}.sbatch") for site in ("north", "south")}

    def lines(self, site):
        """Of all jobs of a site, in the order they were written in."""
        folder, entries = self.path("cluster"), []
        names = [name for name in os.listdir(folder) if name.startswith(f"tombolo-r-{site}-")]
        for name in sorted(names, key=lambda name: int(name.split("-")[-1].split(".")[0])):
            with open(os.path.join(folder, name), errors="replace") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(entry, dict):
                        entries.append(entry)
        return entries

    def told(self):
        folder, text = self.path("cluster"), ""
        for name in sorted(os.listdir(folder)):
            if name.endswith(".out"):
                with open(os.path.join(folder, name), errors="replace") as file:
                    text += f"--- {name}\n{file.read()[-4000:]}\n"
        return text

    def until(self, condition, what):
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what}\n{self.told()}")
            time.sleep(0.2)

    def members(self):
        """Of each version that the server has made so far."""
        return [entry["islands"] for entry in self.lines("north") if entry.get("event") == "outer_step"]

    def test_two_jobs_train_as_one_command_does(self):
        self.train_as_one_command_does()

    @unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(support.BIN),
                                                     "lib/tombolo/libtombolo-mpi.so")),
                         "built without MPI")
    def test_one_site_by_mpi(self):
        self.train_as_one_command_does("--transport", "mpi", "--job-option=--nodes=1")

    def train_as_one_command_does(self, *more):
        steps = 12
        expected = {island: [entry["loss"] for entry in entries]
                    for island, entries in self.train(self.plan_file, self.onnx, steps).items()}
        files = self.emit(steps, *more)
        with self.cluster() as cluster:
            cluster.env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
            jobs = [cluster.submit(files[site]) for site in ("south", "north")]
            for job in reversed(jobs):  # without the server the other waits long
                self.assertEqual(cluster.wait(job, ("COMPLETED", "FAILED", "CANCELLED")),
                                 ("COMPLETED", "0:0"), self.told())
        for island, site in enumerate(("north", "south")):
            losses = {entry["step"]: entry["loss"] for entry in self.lines(site) if "loss" in entry
                      and "event" not in entry}
            self.assertEqual([losses[step] for step in range(steps)], expected[island])

    def test_a_cancelled_site_leaves_the_other_and_rejoins(self):
        files = self.emit(1000000)  # more than it ever comes to
        with self.cluster() as cluster:
            north, south = cluster.submit(files["north"]), cluster.submit(files["south"])
            self.until(lambda: [0, 1] in self.members(), "both islands in one version")
            self.until(lambda: any(entry.get("event") == "checkpoint" for entry in
                                   self.lines("south")), "a checkpoint of the south")
            cluster.call("scancel", south)
            self.assertEqual(cluster.wait(south, ("CANCELLED", "FAILED", "COMPLETED"))[0],
                             "CANCELLED", self.told())
            before = len(self.members())
            self.until(lambda: self.members()[before:].count([0]) >= 5, "north goes on alone")
            self.assertEqual(cluster.state(north)[0], "RUNNING", self.told())
            again = cluster.submit(files["south"])
            before = len(self.members())
            self.until(lambda: self.members()[before:].count([0, 1]) >= 2, "south takes part again")
            begins = [entry for entry in self.lines("south") if entry.get("event") == "begin"]
            self.assertEqual([entry["incarnation"] for entry in begins], [0, 1])
            self.assertGreater(begins[1]["step"], 0)  # from its checkpoint
            for job in (north, again):
                self.assertEqual(cluster.state(job)[0], "RUNNING", self.told())

    def rank_of(self, island):
        """A process of this test's run."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[1:3] == ["rank", self.plan_file] and words[words.index("--island") + 1] == island:
                return int(pid)
        return None

    def test_a_rank_that_dies_has_its_site_started_again(self):
        """North has two processes and the server: its script starts all of them again."""
        files = self.emit(1000000)
        with self.cluster() as cluster:
            jobs = [cluster.submit(files[site]) for site in ("north", "south")]
            self.until(lambda: [0, 1] in self.members(), "both islands in one version")
            self.until(lambda: any(entry.get("event") == "checkpoint" for entry in
                                   self.lines("north")), "a checkpoint of the north")
            os.kill(self.rank_of("0"), signal.SIGKILL)
            begins = lambda: [entry for entry in self.lines("north")  # noqa: E731
                              if entry.get("event") == "begin"]
            self.until(lambda: len(begins()) == 2, "the north begins again")
            self.assertEqual([entry["incarnation"] for entry in begins()], [0, 1], self.told())
            self.assertGreater(begins()[1]["step"], 0)
            before = len(self.members())
            self.until(lambda: self.members()[before:].count([0, 1]) >= 2, "both go on")
            for job in jobs:
                self.assertEqual(cluster.state(job)[0], "RUNNING", self.told())

    def test_another_number_of_tasks_is_refused(self):
        files = self.emit(4)
        with self.cluster() as cluster:
            job = cluster.submit("--ntasks=3", files["north"])
            self.assertEqual(cluster.wait(job, ("COMPLETED", "FAILED", "CANCELLED")),
                             ("FAILED", "1:0"))
        self.assertIn("expected as many processes as the 2 ranks at site north, or a number by which "
                      "these can be divided, got 3 (slurm)", self.told())


if __name__ == "__main__":
    unittest.main()
