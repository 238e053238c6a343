#!/usr/bin/python3
"""How long training stands still when the server that is primary is killed: until the
backup has been granted an epoch, and until it has made a version.

    utils/build && benchmarks/failover.py [RUNS]

Two islands of a small GPT, a backup at the second site and a witness at a third, all on
this machine with the default times."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("TOMBOLO_BIN", os.path.join(ROOT, "build/dev/bin"))
sys.path.insert(0, os.path.join(ROOT, "test/EndToEnd"))
import reference  # noqa: E402
import support  # noqa: E402

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SERVER = {
    "inner_steps": 16, "fragments": 1, "overlap_steps": 0, "compression": "none",
    "outer": "{optimizer: nesterov, lr: 0.7, momentum: 0.9}", "quorum": 1, "deadline_seconds": 60,
    "placement": "{0: {primary: east, backup: west}}", "witness": "south",
}


class Failover(support.TomboloTest):
    def events(self, kind):
        try:
            with open(self.path("m.jsonl")) as file:
                lines = [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []
        return [line for line in lines if line.get("event") == kind]

    def wait(self, condition):
        for _ in range(6000):
            if condition():
                return
            time.sleep(0.01)
        self.fail("nothing happens any more")

    def measure(self, plan, model, data):
        run = subprocess.Popen(
            [os.path.join(support.BIN, "tombolo-run"), "local", plan, "--model", model, "--data",
             data, "--steps", "1000000", "--metrics", self.path("m.jsonl")],
            stderr=subprocess.DEVNULL)
        try:
            self.wait(lambda: any(e["backup"] for e in self.events("epoch")))
            time.sleep(2)
            server = subprocess.check_output(
                ["pgrep", "-P", str(run.pid), "-f", "server .*--site east"]).split()[0]
            start = time.monotonic()
            os.kill(int(server), signal.SIGKILL)
            self.wait(lambda: any(e["site"] == "west" for e in self.events("epoch")))
            granted = time.monotonic() - start
            versions = len(self.events("outer_step"))
            self.wait(lambda: len(self.events("outer_step")) > versions)
            return granted, time.monotonic() - start
        finally:
            run.send_signal(signal.SIGINT)
            run.wait()
            os.remove(self.path("m.jsonl"))

    def runTest(self):
        model = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), model, 17, True)
        self.tokens()
        plan = self.plan(model, support.topology({"east": 2, "west": 2, "south": 1}),
                         support.strategy([support.island("east", 8, 4, [4]),
                                           support.island("west", 4, 2, [4])], SERVER), 12)
        for _ in range(RUNS):
            granted, made = self.measure(plan, model, self.path("tokens.bin"))
            print(f"epoch after {granted:.2f} s, next version after {made:.2f} s", flush=True)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
