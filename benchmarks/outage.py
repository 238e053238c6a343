#!/usr/bin/python3
"""What the loss of a site costs the one that is left, with the default times and settings:

    utils/build && sudo benchmarks/outage.py [--outages 4] [--seconds 40]

Two islands of a small GPT in the north and south, each with its agent and server on a core of
its own, and a third site that votes, joined by lines of 30 ms (test/EndToEnd/distance.py).
The south and the north are lost in turn - agent, ranks and server killed in one moment - and
come back after some seconds. Prints of each outage

  detected   from the kill to the first version that is made without the lost island
  waited     the longest step of the surviving site meanwhile
  rate       the survivor's steps per second in the outage from then on, and in the whole of
             it, each against as many seconds before the kill
  rejoined   from the start of the site's agent to its first step, and to the first version
             with both islands

and the medians. Rates say little unless the machine has nothing else to do."""

import argparse
import os
import statistics
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test", "EndToEnd"))

arguments = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--bin", default=os.path.join(ROOT, "build", "dev", "bin"))
arguments.add_argument("--outages", type=int, default=4)
arguments.add_argument("--seconds", type=float, default=40, help="of each outage, and before it")
arguments.add_argument("--batch", type=int, default=16, help="samples of an island's step")
options = arguments.parse_args()
os.environ["TOMBOLO_BIN"] = options.bin
os.environ["OMP_NUM_THREADS"] = "1"

import distance  # noqa: E402
import soak  # noqa: E402
import support  # noqa: E402
from distance import Line  # noqa: E402
from soak import ISLANDS, SITES  # noqa: E402

# As strategy.yaml has it by default, with a backup.
SERVER = {**soak.SERVER, "inner_steps": 16, "fragments": 8, "overlap_steps": 2, "deadline_seconds": 60,
          "placement": "{" + ", ".join(f"{f}: {{primary: north, backup: south}}" for f in range(8)) + "}"}


class Outages(soak.Soak):
    def __init__(self, test):
        super().__init__(test, seed=1, tell=lambda line: print(line, flush=True), detection=None)
        self.found = []

    def make_plan(self):
        self.model = self.test.path("m.onnx")
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 128, "--heads", 4, "--vocab", 256,
                    "--seq", 64, "-o", self.model)
        with open(os.path.join(ROOT, "examples", "alice.txt"), "rb") as text, \
                open(self.test.path("tokens.bin"), "wb") as tokens:
            tokens.write(b"".join(bytes((byte, 0)) for byte in text.read()))
        return self.test.plan(self.model, support.topology({site: 1 for site in SITES}), support.strategy(
            [support.island(site, options.batch, options.batch, [6]) for site in ISLANDS], SERVER), 2 * options.batch)

    def line(self):
        return Line(rtt_ms=30, mbits=500)

    def place(self, site):
        """A core for each island's site."""
        return ["taskset", "-c", str(ISLANDS.index(site))] if site in ISLANDS else []

    def rate(self, site, begin, end):
        """Steps per second of a site between two moments."""
        count = sum(begin <= when < end for when, _ in self.agents[site].steps())
        return count / (end - begin)

    def break_it(self):
        for number in range(options.outages):
            self.outage(lost=ISLANDS[1 - number % 2], left=ISLANDS[number % 2])

    def outage(self, lost, left):
        time.sleep(options.seconds)
        self.keep_logs()
        begin = time.monotonic()
        self.servers[lost].process.kill()
        self.end_agent(lost)
        self.servers.pop(lost).finish()
        del self.agents[lost]
        survivor = self.agents[left]
        alone = self.wait_for_version([ISLANDS.index(left)], begin)
        time.sleep(max(0, begin + options.seconds - time.monotonic()))
        end = time.monotonic()
        before = self.rate(left, begin - options.seconds, begin)
        longest = max(entry["seconds"] for when, entry in survivor.steps() if begin <= when < end)
        back = time.monotonic()
        self.start_server(lost)
        self.start_agent(lost)
        self.agents[lost].wait_for(lambda agent: agent.steps())
        stepped = self.agents[lost].steps()[0][0]
        both = self.wait_for_both(stepped)
        one = {"detected": alone - begin, "waited": longest, "rate once detected": self.rate(left, alone, end) / before,
               "rate of the whole outage": self.rate(left, begin, end) / before, "steps again": stepped - back,
               "both in a version": both - back}
        self.found.append(one)
        self.tell(f"the {lost} is lost: " + ", ".join(f"{name} {value:.2f}" for name, value in one.items()) +
                  f"; {before:.1f} steps/s before")


class Run(support.TomboloTest):
    def runTest(self):
        outages = Outages(self)
        outages.run()
        for name in outages.found[0]:
            values = [one[name] for one in outages.found]
            print(f"{name}: median {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")


if reason := distance.why_not():
    sys.exit(reason)
sys.exit(not unittest.TextTestRunner().run(Run()).wasSuccessful())
