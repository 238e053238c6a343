"""Breaks a run again and again, and checks what its servers have written.

Two islands in the north and south and a third site that votes, in a laboratory for distance
(distance.py), their parts started apart; ranks, agents, servers and whole sites are killed, lines
cut and files damaged at random moments. After each fault both islands have to take part in a
version again. At the end every log that a server has ever had is replayed (server_log.py)."""

import collections
import contextlib
import glob
import hashlib
import json
import os
import random
import signal
import time

import apart
import reference
import server_log
import support
from distance import Laboratory, Line
from server_log import require

SITES = ["north", "south", "east"]
ISLANDS = ["north", "south"]
# A short deadline: islands that are out of step may wait for one another until then.
SERVER = {
    "inner_steps": 4, "fragments": 2, "overlap_steps": 1, "compression": "int8",
    "outer": "{optimizer: nesterov, lr: 0.7, momentum: 0.9}", "quorum": 1, "deadline_seconds": 5,
    "placement": "{0: {primary: north, backup: south}, 1: {primary: north, backup: south}}",
    "witness": "east",
}


class Soak:
    """`test` gives the folder; `tell` prints. `detection`: seconds after which servers count
    somebody as lost, None for what they do by themselves."""

    def __init__(self, test, seed, tell=lambda line: None, detection=0.8):
        self.test, self.random, self.tell, self.detection = test, random.Random(seed), tell, detection
        self.agents, self.servers = {}, {}
        self.incarnation = collections.Counter()  # of the next agent of a site
        self.kept = {site: [] for site in SITES}  # by server: generations of {name: inode}
        self.recovery = collections.defaultdict(list)  # seconds, by fault

    # ---------------------------------------------------------------- the run's parts

    def make_plan(self):
        test = self.test
        self.model = test.path("m.onnx")
        reference.export_onnx(reference.GPT(layers=2, hidden=16, vocab=32, mask="tril"), self.model, 17, True)
        test.tokens(vocab=32)
        return test.plan(self.model, support.topology({"north": 2, "south": 1, "east": 1}), support.strategy(
            [support.island("north", 64, 8, [4], data_parallel=2), support.island("south", 48, 8, [4])],
            SERVER), 112)

    def line(self):
        return Line(rtt_ms=20, mbits=100)

    def place(self, site):
        """Words before each command there."""
        return []

    def agent_flags(self):
        return ["--steps", 10**9]

    def break_it(self, faults=10, kinds=None):
        choices = kinds or list(self.kinds())
        for number in range(faults):
            self.strike(number, self.random.choice(choices) if number >= len(choices) else choices[number])

    def run(self, *what):
        """`what`: of `break_it`."""
        plan = self.make_plan()
        ends = [(a, b) for i, a in enumerate(SITES) for b in SITES[i + 1:]]
        with Laboratory(SITES, {pair: self.line() for pair in ends}) as self.lab, \
                apart.Job(self.lab, plan, self.test.dir, self.place) as self.job:
            for site in SITES:
                self.start_server(site, wait=False)
            for site in ISLANDS:
                self.start_agent(site)
            self.wait_for_both(time.monotonic())
            self.keep_logs()
            self.tensors = server_log.tensors_of(self.folder("north"))
            self.break_it(*what)
            self.finish()
        self.check()

    def folder(self, site):
        return self.test.path(f"server-{site}")

    def start_server(self, site, wait=True):
        peers = [word for other in SITES if other != site
                 for word in ("--peer", f"{other}={self.lab.address(other)}:{apart.PORT}")]
        detection = ["--detection-seconds", self.detection] if self.detection else []
        self.servers[site] = self.job.server(site, "--site", site, "--state-dir", self.folder(site), *peers,
                                             *detection)

    def start_agent(self, site):
        self.agents[site] = self.job.agent(
            site, ["north", "south"], "--model", self.model, "--data", self.test.path("tokens.bin"),
            *self.agent_flags(), "--threads", 1, "--checkpoint-dir", self.checkpoints(site),
            "--checkpoint-every", 8, "--restarts", 10**6, "--incarnation", self.incarnation[site])

    def checkpoints(self, site):
        folder = self.test.path(f"checkpoints-{site}")
        os.makedirs(folder, exist_ok=True)
        return folder

    def manifests(self, site):
        """Of its generations, the newest last."""
        return sorted(glob.glob(os.path.join(self.checkpoints(site), "island-*/step-*/manifest.json")),
                      key=lambda path: int(path.split("step-")[1].split("/")[0]))

    def wait_for_both(self, since):
        return self.wait_for_version([0, 1], since)

    def wait_for_version(self, islands, since, seconds=120):
        """Until a version that is made after `since` has just these members; gives when."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for site, server in self.servers.items():
                with server.changed:
                    found = [when for when, event in server.events if event.get("event") == "outer_step"
                             and event["islands"] == islands and when > since]
                if found:
                    return min(found)
            for process in (*self.servers.values(), *self.agents.values()):
                require(process.process.poll() is None, "a part has ended by itself:", process.told())
            time.sleep(0.02)
        raise AssertionError(f"no version of islands {islands} for " + str(seconds) + " s\n" + "\n".join(
            process.told() for process in (*self.servers.values(), *self.agents.values())))

    # -------------------------------------------------------------------------- faults

    def kinds(self):
        return {"rank": self.kill_rank, "agent": self.kill_agent, "server": self.kill_server,
                "site": self.lose_site, "line": self.cut_line, "checkpoint": self.damage_checkpoint,
                "log": self.damage_log}

    def strike(self, number, kind):
        time.sleep(self.random.uniform(0.1, 1.5))  # at a random moment
        self.keep_logs()
        what = self.kinds()[kind]()
        for agent in self.agents.values():
            agent.wait_for(lambda agent: agent.of_kind("ready"))
        repaired = time.monotonic()
        self.keep_logs()
        took = self.wait_for_both(repaired) - repaired
        self.recovery[kind].append(took)
        self.tell(f"{number + 1}: {what}; both train again {took:.1f} s after it was repaired, at {repaired:.1f}")

    def pause(self, most):
        """At most so many seconds with the default times."""
        time.sleep(self.random.uniform(0, most) * (self.detection or 4) / 4)

    def ranks(self, site):
        agent = self.agents[site].process.pid
        return [int(child) for path in glob.glob(f"/proc/{agent}/task/*/children")
                for child in open(path).read().split()]

    def kill_rank(self, site=None):
        site = site or self.random.choice(ISLANDS)
        ranks = self.ranks(site)
        before = len(self.agents[site].of_kind("ready"))
        if ranks:  # else it is being started again
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(ranks), signal.SIGKILL)
            self.agents[site].wait_for(lambda agent: len(agent.of_kind("ready")) > before)
        return f"killed a rank in the {site}"

    def end_agent(self, site):
        agent = self.agents[site]
        agent.end()
        restarts = [event["incarnation"] for event in agent.of_kind("restart")]
        self.incarnation[site] = max([self.incarnation[site], *restarts]) + 1

    def kill_agent(self):
        site = self.random.choice(ISLANDS)
        self.end_agent(site)
        self.pause(2)
        self.start_agent(site)
        return f"killed the agent of the {site}"

    def kill_server(self):
        site = self.random.choice(SITES)
        self.servers[site].end()
        self.pause(6)
        self.start_server(site)
        return f"killed the server in the {site}"

    def lose_site(self):
        site = self.random.choice(SITES)
        self.servers[site].end()
        if site in self.agents:
            self.end_agent(site)
        self.pause(8)
        self.start_server(site)
        if site in self.agents:
            self.start_agent(site)
        return f"lost the {site}"

    def cut_line(self):
        pair = self.random.sample(SITES, 2)
        with self.lab.cut(*pair):
            self.pause(8)
        return f"cut the line between {pair[0]} and {pair[1]}"

    def flip(self, path):
        with open(path, "r+b") as file:
            at = self.random.randrange(os.path.getsize(path))
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self.random.randrange(8)]))

    def damage_checkpoint(self):
        """Of the newest one, just before it is needed."""
        site = self.random.choice(ISLANDS)
        with contextlib.suppress(OSError, IndexError):  # newer ones have just taken its place
            files = glob.glob(os.path.join(os.path.dirname(self.manifests(site)[-1]), "*"))
            self.flip(self.random.choice(files))
        return f"damaged a checkpoint, {self.kill_rank(site)}"

    def damage_log(self):
        """What a crash may leave behind the end of the newest one."""
        site = self.random.choice(SITES[:2])
        self.servers[site].end()
        logs = server_log.numbered(self.folder(site), "log")
        with open(logs[max(logs)], "ab") as file:
            file.write(self.random.choice([server_log.MAGIC, b""]) + self.random.randbytes(100))
        self.pause(3)
        self.start_server(site)
        return f"killed the server in the {site} and left a torn log"

    # ------------------------------------------------------------------------- the end

    def finish(self):
        """Tells one agent to end: all islands do, after the same step."""
        self.agents["north"].process.send_signal(signal.SIGTERM)
        for site, agent in self.agents.items():
            require(agent.finish() == 0, "the agent of the", site, "ended badly:", agent.told())
        self.keep_logs()
        for site, server in self.servers.items():
            require(server.end(signal.SIGTERM) == 0, "the server of the", site, "ended badly:", server.told())

    def keep_logs(self):
        """Each file that a server writes, under another name too: a backup that copies the
        state forgets its own."""
        for site in SITES:
            generations = self.kept[site]
            for path in glob.glob(os.path.join(self.folder(site), "*-*")):
                name = os.path.basename(path)
                if not name.split("-")[-1].isdigit() or name.startswith("damaged"):
                    continue
                try:
                    inode = os.stat(path).st_ino
                    if any(known.get(name) == inode for known in generations):
                        continue
                    if not generations or name in generations[-1]:
                        generations.append({})
                    copy = self.kept_folder(site, len(generations) - 1)
                    os.makedirs(copy, exist_ok=True)
                    os.link(path, os.path.join(copy, name))
                    generations[-1][name] = inode
                except FileNotFoundError:
                    pass  # it has just gone

    def kept_folder(self, site, generation):
        return self.test.path(f"kept/{site}-{generation}")

    def check(self):
        """All logs, one by one and against one another and what was shown."""
        logs = [server_log.ServerLog(self.kept_folder(site, number), self.tensors)
                for site in SITES[:2] for number in range(len(self.kept[site]))]
        told = [(event["fragment"], event["version"], event["hash"]) for server in self.job.servers
                for kind in ("start", "outer_step") for event in server.of_kind(kind)]
        self.versions = server_log.check_history(told, logs)
        steps = sum(len(made.steps) for made in self.versions.values())
        self.tell(f"{len(self.versions)} versions of {steps} pushes hold together")
        # What islands have saved at the end is the last version.
        newest = {fragment: version for fragment, version in sorted(self.versions)}
        for log in logs:
            for number, fragment in log.fragments.items():
                if fragment.version == newest[number]:
                    self.check_saved(fragment)

    def check_saved(self, fragment):
        for site in ISLANDS:
            with open(self.manifests(site)[-1]) as file:
                shards = json.load(file)["shards"]
            saved = {entry["name"]: entry["sha256"] for shard in shards for entry in shard["tensors"]}
            for name in fragment.sizes:
                require(saved[name] == hashlib.sha256(fragment.tensor(name).tobytes()).hexdigest(),
                        "the", site, "has saved another", name, "than the last version's")

    def report(self):
        lines = [f"{kind}: {len(seconds)} times, both train again after {sorted(seconds)[len(seconds) // 2]:.1f} s, "
                 f"at most {max(seconds):.1f} s" for kind, seconds in self.recovery.items()]
        return "\n".join(lines)
