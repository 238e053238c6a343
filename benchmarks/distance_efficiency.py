#!/usr/bin/python3
"""Tokens/s of two sites that are 1,500 km apart, against the same two side by side without
any exchange, and what planner and simulator foretell of both:

    utils/build && sudo benchmarks/distance_efficiency.py [--folder F] [PART ...]

Each site has a core of this machine for its rank, agent and server. Between them is a line of
30 ms round trip (test/EndToEnd/distance.py), so wide that a blocking, uncompressed exchange
of all parameters takes as long as 3 inner steps; H = 16. Cases: "alone" (no exchange),
"default" (8 fragments, int8, overlapped by 2 steps), "gateway" (the same through each
site's agent), "chosen" (what the planner chooses when
it is only told H), "blocking" (uncompressed, everybody waits) and "synchronous" (data
parallelism over the line). Needs an otherwise idle machine with two cores, and root. Parts, to
be done in this order: "profile" measures the core and the line to have; "pairs" measures
"alone" and "default" alternately; "others" the other cases, each after "alone"; "report"
prints the table of what the folder has. What is foretold of a measurement is the mean of what
profiles made within seconds before and after it say, so that a machine whose speed changes is
the same to both.
Strangers are whoever else was busy meanwhile: nobody, if figures are to count."""

import argparse
import concurrent.futures
import glob
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test", "EndToEnd"))

arguments = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawTextHelpFormatter)
arguments.add_argument("parts", nargs="*", metavar="PART")
arguments.add_argument("--bin", default=os.path.join(ROOT, "build", "dev", "bin"))
arguments.add_argument("--folder", help="where plans and what is measured stay")
arguments.add_argument("--layers", type=int, default=6)
arguments.add_argument("--hidden", type=int, default=256)
arguments.add_argument("--length", type=int, default=128)
arguments.add_argument("--batch", type=int, default=16, help="of each island")
arguments.add_argument("--microbatch", type=int, default=4)
arguments.add_argument("--rtt-ms", type=float, default=30)
arguments.add_argument("--rounds", type=int, default=3, help="of 16 steps, in each measurement")
arguments.add_argument("--pairs", type=int, default=3, help="alternate measurements")
arguments.add_argument("--nice", type=int, default=10, help="of the relay")
options = arguments.parse_args()
PARTS = ["profile", "pairs", "others", "report"]
if unknown := set(options.parts) - set(PARTS):
    arguments.error(f"unknown part {unknown.pop()}, expected some of {', '.join(PARTS)}")
os.environ["TOMBOLO_BIN"] = options.bin

import apart  # noqa: E402
import distance  # noqa: E402
from support import run  # noqa: E402

SITES = ["north", "south"]
INNER_STEPS = 16
# Whole rounds are measured, after one that warms up, between two steps without an exchange.
FIRST, LAST = INNER_STEPS + 2, INNER_STEPS * (1 + options.rounds) + 2
STEPS = LAST + 8  # nobody ends while another one is measured
DEFAULT = f"{{inner_steps: {INNER_STEPS}, fragments: 8, overlap_steps: 2, compression: int8}}"
SERVERS = {
    "default": DEFAULT,
    "gateway": DEFAULT,
    "chosen": f"{{inner_steps: {INNER_STEPS}}}",
    "blocking": f"{{inner_steps: {INNER_STEPS}, fragments: 1, overlap_steps: 0, compression: none}}",
}


def island(sites):
    replicas = ", ".join(f"{{pool: {site}/core, count: 1, tensor_parallel: 1}}" for site in sites)
    return (f"  - {{sites: [{', '.join(sites)}], batch: {options.batch * len(sites)}, microbatch: "
            f"{options.microbatch}, schedule: 1f1b, stages: [{{blocks: {options.layers + 2}, "
            f"replicas: [{replicas}]}}]}}\n")


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.model = self.path("model.onnx")
        if not os.path.exists(self.model):
            run("tombolo-model", "gpt", "--layers", options.layers, "--hidden", options.hidden,
                "--heads", 8, "--vocab", 256, "--seq", options.length, "-o", self.model)
        with open(os.path.join(ROOT, "examples", "alice.txt"), "rb") as text, \
                open(self.path("tokens.bin"), "wb") as tokens:
            tokens.write(b"".join(bytes((byte, 0)) for byte in text.read()))
        self.known, self.lock = {}, threading.Lock()
        if os.path.exists(self.path("results.json")):
            with open(self.path("results.json")) as file:
                self.known = json.load(file)
        settings = [options.layers, options.hidden, options.length, options.batch, options.microbatch, options.rtt_ms]
        if self.known.setdefault("settings", settings) != settings:
            sys.exit(f"'{folder}' holds what was measured of another model or line; give another --folder")

    def path(self, name):
        return os.path.join(self.folder, name)

    def keep(self, key, value):
        self.known[key] = value
        with open(self.path("results.json"), "w") as file:
            json.dump(self.known, file, indent=1)

    # ------------------------------------------------------------------------- plans

    def plan(self, name, sites, islands, server=None, profile="core.yaml"):
        """Writes name.plan; gives what the planner says of it."""
        text = ("chips:\n  - name: core\n    memory_gib: 4\n"
                f"    profile: {{file: {self.path(profile)}}}\nsites:\n")
        for site in sites:
            text += (f"  - name: {site}\n    pools:\n      - {{name: core, chip: core, nodes: 1, chips_per_node: 1, cores_per_node: 1}}\n"
                     "    fabric: {gbits_per_second: 10, latency_us: 30}\n")
        if len(sites) > 1:
            gbits = self.known.get("mbits", 100) / 1e3
            text += f"links:\n  - {{sites: [north, south], gbits_per_second: {gbits}, rtt_ms: {options.rtt_ms}}}\n"
        with open(self.path("sites.yaml"), "w") as file:
            file.write(text)
        with open(self.path("strategy.yaml"), "w") as file:
            file.write("islands:\n" + "".join(map(island, islands)))
            if server:
                file.write(f"server: {server}\n")
        result = run("tombolo-plan", self.model, "--topology", self.path("sites.yaml"), "--strategy",
                     self.path("strategy.yaml"), "--global-batch", options.batch * len(sites), "--simulate", 0,
                     "-o", self.path(name + ".plan"), "--json", self.path(name + ".json"))
        sys.stderr.write(result.stderr)
        with open(self.path(name + ".json")) as file:
            return json.load(file)

    def plan_case(self, case):
        """Gives the planner's JSON, of each plan."""
        if case == "alone":
            return [self.plan(f"alone-{site}", [site], [[site]]) for site in SITES]
        if case == "synchronous":
            return [self.plan(case, SITES, [SITES])]
        return [self.plan(case, SITES, [[site] for site in SITES], SERVERS[case])]

    def foretell(self, cases):
        """Tokens/s of each, from a profile made now: (planner's, simulator's)."""
        self.profile_core()
        found = {}
        for case in cases:
            planned = simulated = 0
            for planned_one, name in zip(self.plan_case(case), self.names(case)):
                planned += planned_one["predicted"]["tokens_per_second"]
                run("tombolo-sim", self.path(name + ".plan"), "--rounds", 1 + options.rounds, "--json", self.path("sim.json"))
                with open(self.path("sim.json")) as file:
                    simulated += json.load(file)["predicted"]["tokens_per_second"]
            found[case] = planned, simulated
        return found

    @staticmethod
    def names(case):
        return [f"alone-{site}" for site in SITES] if case == "alone" else [case]

    # ---------------------------------------------------------------------- measuring

    def laboratory(self):
        line = distance.Line(rtt_ms=options.rtt_ms, mbits=self.known.get("mbits", 1000))
        return distance.Laboratory(SITES, {tuple(SITES): line}, mtu=65000, nice=options.nice)

    def place(self, site):
        """A core for each site."""
        return ["taskset", "-c", str(SITES.index(site))]

    def flags(self):
        return ["--model", self.model, "--data", self.path("tokens.bin"), "--steps", STEPS,
                "--threads", 1]

    def measure(self, case):
        """Tokens/s of both sites together in whole rounds after the first one, and who used the
        cores meanwhile."""
        shutil.rmtree(self.path("state"), ignore_errors=True)
        with self.laboratory() as lab:
            jobs = [apart.Job(lab, self.path(name + ".plan"), self.folder, self.place)
                    for name in self.names(case)]
            try:
                if case == "alone":
                    trainers = [job.agent(site, [], *self.flags()) for job, site in zip(jobs, SITES)]
                elif case == "synchronous":
                    trainers = self.one_island(lab, jobs[0])
                else:
                    jobs[0].server("north", "--state-dir", self.path("state"))
                    flags = [*self.flags(), *(["--gateway"] if case == "gateway" else [])]
                    trainers = [jobs[0].agent(site, ["north"], *flags) for site in SITES]
                # Sites need not be as fast as one another, so each has its own window.
                with concurrent.futures.ThreadPoolExecutor() as pool:
                    windows = list(pool.map(lambda trainer: self.window(trainer, lab, jobs), trainers))
            finally:
                for job in jobs:
                    job.__exit__()
        mean = {key: statistics.mean(window[key] for window in windows) for key in windows[0]}
        return {**mean, "tokens": sum(window["tokens"] for window in windows),
                "training": sum(window["training"] for window in windows),
                "by_site": {site: round(window["tokens"]) for site, window in zip(SITES, windows)}}

    def window(self, trainer, lab, jobs):
        """Of a site: tokens/s, and parts of a core that its agent and ranks, servers, the relay
        and strangers - who should be nobody - use meanwhile."""

        def usage(step):
            trainer.wait_for(lambda agent: len(agent.steps()) > step, seconds=600)
            with self.lock:
                carried, relay = lab.traffic()
            return {"training": seconds_of(trainer.process.pid),
                    "server": sum(process.seconds() for job in jobs for process in job.servers),
                    "relay": relay, "strangers": busy_seconds() - seconds_of(os.getpid()),
                    "mbits": 8e-6 * sum(carried.values())}

        before, after = usage(FIRST), usage(LAST)
        steps = trainer.steps()[FIRST:LAST + 1]
        seconds = steps[-1][0] - steps[0][0]
        return {"tokens": sum(entry["tokens"] for _, entry in steps[1:]) / seconds,
                **{key: (after[key] - before[key]) / seconds for key in before}}

    def one_island(self, lab, job):
        """Agents of one island at both sites, which meet at the north's. Rank 0 tells the steps."""
        store = f"{lab.address('north')}:{apart.PORT}"
        return [job.agent(site, [], "--rendezvous", store, "--host", lab.address(site), *self.flags())
                for site in SITES][:1]

    # -------------------------------------------------------------------------- parts

    def profile(self):
        run("tombolo-profile", "--ranks", 2, "--threads", 1, "--seconds", 1, "--chip", "core", "-o",
            self.path("generic.yaml"))
        pair = self.plan("pair", SITES, [[site] for site in SITES], SERVERS["blocking"], "generic.yaml")
        self.profile_core()
        self.plan_case("alone")
        step = 2 * options.batch * options.length / self.measure("alone")["tokens"]
        # There and back one after the other; push, answer and pull are a round trip each.
        carried = pair["predicted"]["wan_bytes_per_round"]
        if step <= options.rtt_ms / 1e3:
            sys.exit(f"a step takes {step:.3f} s, so three round trips of {options.rtt_ms} ms alone take longer than "
                     "3 steps: no line is wide enough; give a larger --batch or model, or a shorter --rtt-ms")
        self.keep("mbits", 8e-6 * carried / (3 * step - 3 * options.rtt_ms / 1e3))
        self.keep("step", step)
        print(f"{carried / 8e6:.2f} M parameters, step {step:.3f} s, line of {self.known['mbits']:.0f} Mbit/s")

    def profile_core(self):
        run("tombolo-profile", "--for", self.path("pair.plan"), "--threads", 1, "--seconds", 8, "-o", self.path("core.yaml"))

    def series(self, cases, times):
        for case in cases:
            server = self.plan_case(case)[0]["strategy"].get("server")
            if case == "chosen":  # whatever a later profile says
                SERVERS[case] = json.dumps({key: server[key] for key in ("inner_steps", "fragments", "overlap_steps", "compression")})
            print(f"{case}: {server}")
        before = self.foretell(cases)
        for _ in range(times):
            for case in cases:
                found = self.measure(case)
                after = self.foretell(cases)
                found["planner"], found["simulator"] = map(statistics.mean, zip(before[case], after[case]))
                before = after
                if case == "alone":
                    alone = found
                found["of_alone"] = {key: found[key] / alone[key] for key in ("tokens", "planner", "simulator")}
                self.keep(case, self.known.get(case, []) + [found])
                print(case, found, flush=True)

    def report(self):
        print(f"step {self.known['step']:.3f} s, line {self.known['mbits']:.0f} Mbit/s, {options.rtt_ms:.0f} ms; load: "
              f"{os.getloadavg()[0]:.1f}")
        print("| case | tokens/s (from, to) | planner, off | simulator, off | of alone | planner | simulator | cores used by training | server | relay | strangers | Mbit/s both ways |")
        print("|---|---|---|---|---|---|---|---|---|---|---|---|")
        for case in ("alone", *SERVERS, "synchronous"):
            found = self.known.get(case)
            if not found:
                continue
            if "of_alone" not in found[0]:
                sys.exit("the folder is of an earlier version of this script; give another --folder")
            def middle(value):
                return statistics.median(map(value, found))

            tokens = [one["tokens"] for one in found]
            row = [case, f"{statistics.median(tokens):.0f} ({min(tokens):.0f}, {max(tokens):.0f})"]
            row += [f"{middle(lambda one: one[by] / one['tokens']) - 1:+.1%}" for by in ("planner", "simulator")]
            row += [f"{middle(lambda one: one['of_alone'][by]):.3f}" for by in ("tokens", "planner", "simulator")]
            row += [f"{middle(lambda one: one[who]):.3f}" for who in ("training", "server", "relay", "strangers")]
            print(f"| {' | '.join(row)} | {middle(lambda one: one['mbits']):.1f} |")
        ratios = [f"{one['of_alone']['tokens']:.3f}" for one in self.known.get("default", [])]
        print(f"default, of the alone before it: {', '.join(ratios)}")


def busy_seconds():
    """Of all cores so far, stolen time included."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def seconds_of(process):
    """Of a process and its children that run."""
    total = apart.seconds_of(process)
    for path in glob.glob(f"/proc/{process}/task/*/children"):
        with open(path) as file:
            total += sum(map(seconds_of, file.read().split()))
    return total


def main():
    if reason := distance.why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        os.makedirs(folder, exist_ok=True)
        bench = Bench(folder)
        for part in options.parts or PARTS:
            if part == "pairs":
                bench.series(["alone", "default"], options.pairs)
            elif part == "others":
                for case in ("gateway", "chosen", "blocking", "synchronous"):
                    bench.series(["alone", case], 1)
            else:
                getattr(bench, part)()


if __name__ == "__main__":
    main()
