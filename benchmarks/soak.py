#!/usr/bin/python3
"""Breaks a run of two islands and three sites again and again - ranks, agents, servers and
whole sites killed, lines cut, checkpoints and logs damaged - and checks all that its servers
have written (test/EndToEnd/soak.py):

    utils/build && sudo benchmarks/soak.py [--faults 200] [--seed 1]

Prints each fault, and how long both islands took to train together again. Ends with status 1
at the first thing that does not hold, and says where its files are."""

import argparse
import os
import shutil
import signal
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test", "EndToEnd"))

arguments = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--bin", default=os.path.join(ROOT, "build", "dev", "bin"))
arguments.add_argument("--faults", type=int, default=200)
arguments.add_argument("--seed", type=int, default=1)
arguments.add_argument("--kinds", nargs="*", help="only these: rank, agent, server, site, line, checkpoint, log")
arguments.add_argument("--loss", action="store_true",
                       help="instead: the evaluation loss of runs of 800 steps with faults in their first "
                            "four fifths, and without, of three seeds")
arguments.add_argument("--keep", action="store_true", help="the files, also when all is well")
options = arguments.parse_args()
os.environ["TOMBOLO_BIN"] = options.bin
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOMBOLO_KEEP"] = "1"  # until all is well

import distance  # noqa: E402
import soak  # noqa: E402
import support  # noqa: E402


class LossRun(soak.Soak):
    """A run of real text to its end, with faults or without: its evaluation loss."""

    STEPS = 800

    def make_plan(self):
        with open(os.path.join(ROOT, "examples", "alice.txt"), "rb") as file:
            text = file.read()
        for name, part in ("tokens.bin", text[:-6000]), ("held.bin", text[-6000:]):
            with open(self.test.path(name), "wb") as file:
                file.write(b"".join(bytes((byte, 0)) for byte in part))
        self.model = self.test.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 2, "--hidden", 64, "--heads", 4, "--vocab", 256,
                    "--seq", 32, "--seed", options.seed, "-o", self.model)
        return self.test.plan(self.model, support.topology({"north": 2, "south": 1, "east": 1}), support.strategy(
            [support.island("north", 16, 8, [4], data_parallel=2), support.island("south", 8, 8, [4])],
            soak.SERVER), 24)

    def agent_flags(self):
        return ["--steps", self.STEPS, "--shuffle", options.seed, "--eval-data", self.test.path("held.bin")]

    def break_it(self, faults):
        if not faults:
            return
        kinds, number = list(self.kinds()), 0
        while self.step() < 0.8 * self.STEPS:
            self.strike(number, kinds[number % len(kinds)])
            number += 1

    def step(self):
        """Of an agent that has just been started there are none."""
        return max((steps[-1][1]["step"] for agent in self.agents.values() if (steps := agent.steps())), default=0)

    def finish(self):
        losses = []
        for site, agent in self.agents.items():
            soak.require(agent.finish(seconds=1200) == 0, "the agent of the", site, "ended badly:", agent.told())
            losses += [event["loss"] for event in agent.of_kind("eval")]
        self.keep_logs()
        for server in self.servers.values():
            server.end(signal.SIGTERM)
        soak.require(len(losses) == 2 and abs(losses[0] - losses[1]) < 1e-5, "unlike losses:", losses)
        self.loss = losses[0]

    def check(self):
        if self.recovery:  # else logs have gone that nobody has kept
            super().check()


class Run(support.TomboloTest):
    def runTest(self):
        if options.loss:
            self.compare_losses()
            return
        it = soak.Soak(self, options.seed, tell=lambda line: print(line, flush=True))
        it.run(options.faults, options.kinds)
        print(it.report())
        if not options.keep:
            shutil.rmtree(self.dir)

    def compare_losses(self):
        """With the same weights and samples, alternately without faults and with."""
        os.rmdir(self.dir)  # each run has its own
        for seed in range(1, 4):
            options.seed = seed
            for faults in False, True:
                self.setUp()
                it = LossRun(self, seed, tell=lambda line: print(line, flush=True))
                it.run(faults)
                struck = sum(map(len, it.recovery.values()))
                print(f"seed {seed}, {struck} faults: evaluation loss {it.loss:.4f}", flush=True)
                if not options.keep:
                    shutil.rmtree(self.dir)


if reason := distance.why_not():
    sys.exit(reason)
sys.exit(not unittest.TextTestRunner().run(Run()).wasSuccessful())
