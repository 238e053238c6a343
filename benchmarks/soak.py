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
arguments.add_argument("--keep", action="store_true", help="the files, also when all is well")
options = arguments.parse_args()
os.environ["TOMBOLO_BIN"] = options.bin
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOMBOLO_KEEP"] = "1"  # until all is well

import distance  # noqa: E402
import soak  # noqa: E402
import support  # noqa: E402


class Run(support.TomboloTest):
    def runTest(self):
        it = soak.Soak(self, options.seed, tell=lambda line: print(line, flush=True))
        it.run(options.faults, options.kinds)
        print(it.report())
        if not options.keep:
            shutil.rmtree(self.dir)


if reason := distance.why_not():
    sys.exit(reason)
sys.exit(not unittest.TextTestRunner().run(Run()).wasSuccessful())
