"""Training over a thousand kilometres, in a laboratory for distance (distance.py). Needs
root; reported as skipped without."""

import glob
import json
import signal
import socket
import time
import unittest

import apart
import distance
import reference
import support
from distance import Laboratory, Line


class Distance(support.TomboloTest):
    @classmethod
    def setUpClass(cls):
        if reason := distance.why_not():
            raise unittest.SkipTest(reason)


class Lines(Distance):
    """That a line is as it was set. Only bounds that a busy machine keeps as well."""

    def pair(self, lab):
        """Sockets that send whole packets from site `a` to site `b`."""
        to, source = (lab.socket(site, socket.AF_INET, socket.SOCK_DGRAM) for site in "ba")
        self.addCleanup(to.close)
        self.addCleanup(source.close)
        to.bind((lab.address("b"), 9000))
        to.settimeout(30)
        source.connect((lab.address("b"), 9000))
        return source, to

    def test_delay_and_rate(self):
        with Laboratory("ab", {"ab": Line(rtt_ms=60, mbits=8, buffer_ms=1000)}) as lab:
            source, to = self.pair(lab)
            begin = time.monotonic()
            source.send(b"first")
            self.assertEqual(to.recv(100), b"first")
            self.assertGreaterEqual(time.monotonic() - begin, 0.03)
            for _ in range(50):  # 0.4 s of the line
                source.send(bytes(8000))
            source.send(b"last")
            while to.recv(8000) != b"last":
                pass
            self.assertGreaterEqual(time.monotonic() - begin, 0.03 + 0.4)
            carried, seconds = lab.traffic()
            self.assertGreater(carried["a", "b"], 50 * 8000)
            self.assertEqual(carried["b", "a"], 0)
            self.assertGreater(seconds, 0)

    def test_loss_and_cuts(self):
        with Laboratory("abc", {"ab": Line(rtt_ms=1, mbits=10000, loss=0.3),
                                "bc": Line(rtt_ms=1, mbits=10000)}) as lab:
            source, to = self.pair(lab)
            for n in range(300):
                source.send(b"%d" % n)
            with lab.cut("a", "b"):
                source.send(b"into the void")
                # Another line is as it was.
                other = lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM)
                self.addCleanup(other.close)
                other.sendto(b"from c", (lab.address("b"), 9000))
                received = []
                while received[-1:] != [b"from c"]:
                    received.append(to.recv(100))
            numbers = [int(packet) for packet in received[:-1]]
            self.assertEqual(numbers, sorted(numbers))
            self.assertGreater(len(numbers), 150)
            self.assertLess(len(numbers), 270)
            lab.change("a", "b", loss=0)
            source.send(b"again")
            self.assertEqual(to.recv(100), b"again")

    def test_sites_without_a_line_do_not_meet(self):
        with Laboratory("abc", {"ac": Line(rtt_ms=1, mbits=10), "bc": Line(rtt_ms=1, mbits=10)}) as lab:
            source, to = self.pair(lab)
            source.send(b"lost")
            other = lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM)
            self.addCleanup(other.close)
            other.sendto(b"from c", (lab.address("b"), 9000))
            self.assertEqual(to.recv(100), b"from c")


class Training(Distance):
    """Two islands, 1,500 km apart, come to the bits of a run without a line between them."""

    def setUp(self):
        super().setUp()
        self.model = self.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, mask="tril"), self.model, 17, True)
        self.tokens()

    def both(self, steps, server, disturb=lambda lab, south: None):
        """Trains at two sites, then on this machine alone."""
        server = {"outer": "{optimizer: nesterov, lr: 0.7, momentum: 0.9}", "quorum": 2,
                  "deadline_seconds": 600, "placement": "{0: {primary: north}}", **server}
        plan = self.plan(self.model, support.topology({"north": 1, "south": 1}), support.strategy(
            [support.island("north", 8, 4, [4]), support.island("south", 4, 2, [4])], server), 12)
        flags = ["--model", self.model, "--data", self.path("tokens.bin"), "--steps", steps,
                 "--threads", 1]
        with Laboratory(["north", "south"],
                        {("north", "south"): Line(rtt_ms=30, mbits=100, jitter_ms=1)}) as lab, \
                apart.Job(lab, plan, self.dir) as job:
            parameters = job.server("north")
            agents = [job.agent(site, ["north"], *flags) for site in lab.sites]
            disturb(lab, agents[1])
            for agent in agents:
                self.assertEqual(agent.finish(), 0, agent.told())
            losses = {island: [entry["loss"] for _, entry in agent.steps()]
                      for island, agent in enumerate(agents)}
            parameters.end(signal.SIGTERM)
            carried, _ = lab.traffic()
            versions = parameters.of_kind("outer_step")
        self.assertGreater(min(carried.values()), 0)
        alone = self.train(plan, self.model, steps, "--threads", 1)
        for island, entries in alone.items():
            self.assertEqual(losses[island], [entry["loss"] for entry in entries])
        hashes = {(e["fragment"], e["version"]): e["hash"] for e in self.events("outer_step")}
        self.assertEqual({(e["fragment"], e["version"]): e["hash"] for e in versions}, hashes)
        return losses

    def test_waiting_for_each_exchange(self):
        losses = self.both(15, {"inner_steps": 5, "fragments": 1, "overlap_steps": 0,
                                "compression": "none"})
        self.assertEqual([len(island) for island in losses.values()], [15, 15])

    def test_overlapped_and_compressed(self):
        self.both(20, {"inner_steps": 8, "fragments": 2, "overlap_steps": 3, "compression": "int8"})

    def saved(self, site):
        """Its newest checkpoint: the step, and a digest of each parameter."""
        manifests = glob.glob(self.path(f"checkpoints-{site}/island-*/step-*/manifest.json"))
        newest = max(manifests, key=lambda path: int(path.split("step-")[1].split("/")[0]))
        with open(newest) as file:
            manifest = json.load(file)
        return manifest["step"], {entry["name"]: entry["sha256"] for shard in manifest["shards"]
                                  for entry in shard["tensors"] if "/" not in entry["name"]}

    def test_trains_on_without_a_line(self):
        """A site of two stages, one rank each, for ten rounds and more; then it is with the
        others again, and all end with the same parameters."""
        server = {"inner_steps": 4, "fragments": 2, "overlap_steps": 1, "compression": "int8",
                  "outer": "{optimizer: nesterov, lr: 0.7, momentum: 0.9}", "quorum": 1,
                  "deadline_seconds": 60,
                  "placement": "{0: {primary: north}, 1: {primary: north}}"}
        plan = self.plan(self.model, support.topology({"north": 1, "south": 2}), support.strategy(
            [support.island("north", 8, 4, [4]), support.island("south", 4, 2, [2, 2])], server), 12)

        def versions(islands):
            return lambda process: [event for event in process.of_kind("outer_step")
                                    if event["islands"] == islands]

        with Laboratory(["north", "south"],
                        {("north", "south"): Line(rtt_ms=30, mbits=100)}) as lab, \
                apart.Job(lab, plan, self.dir) as job:
            parameters = job.server("north", "--detection-seconds", 0.8)
            north, south = (
                job.agent(site, ["north"], "--model", self.model, "--data",
                          self.path("tokens.bin"), "--steps", 10**6, "--threads", 1,
                          "--checkpoint-dir", self.path(f"checkpoints-{site}"),
                          "--checkpoint-every", 8) for site in lab.sites)
            parameters.wait_for(lambda p: len(versions([0, 1])(p)) > 8)
            with lab.cut("north", "south"):
                south.wait_for(lambda agent: agent.of_kind("trains_on"))
                before, saved = len(south.steps()), len(south.of_kind("checkpoint"))
                south.wait_for(lambda agent: len(agent.steps()) >= before + 40)
                south.wait_for(lambda agent: len(agent.of_kind("checkpoint")) > saved)
                parameters.wait_for(versions([0]))
                self.assertEqual(south.of_kind("caught_up"), [])
            south.wait_for(lambda agent: {event["fragment"] for event in agent.of_kind("caught_up")}
                           == {event["fragment"] for event in agent.of_kind("trains_on")})
            together = len(versions([0, 1])(parameters))
            parameters.wait_for(lambda p: len(versions([0, 1])(p)) > together + 4)
            north.process.send_signal(signal.SIGTERM)
            for agent in (north, south):
                self.assertEqual(agent.finish(), 0, agent.told())
            self.assertEqual(south.of_kind("restart"), [])
            parameters.end(signal.SIGTERM)
        self.assertEqual(self.saved("north"), self.saved("south"))

    def test_survives_a_cut(self):
        steps = 200  # of 50 rounds of at least two round trips

        def cut(lab, south):
            south.wait_for(lambda agent: len(agent.steps()) > 8)
            with lab.cut("north", "south"):
                time.sleep(3)  # longer than TCP's first retries, and any round
                # It waits for what cannot come.
                self.assertLess(len(south.steps()), steps)

        self.both(steps, {"inner_steps": 4, "fragments": 1, "overlap_steps": 0,
                          "compression": "none"}, cut)


if __name__ == "__main__":
    unittest.main()
