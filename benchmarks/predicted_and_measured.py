#!/usr/bin/python3
"""Step times and memory that planner and simulator predict from a profile of this
machine, against runs on it:

    utils/build && benchmarks/predicted_and_measured.py --bin build/dev/bin [CASE ...]

For every plan: tombolo-plan with a profile of no model in particular, then, several rounds
(--rounds) of: tombolo-profile --for that plan, tombolo-plan and tombolo-sim with what was
just measured, tombolo-run local, and all of that but the run once more. What is compared
with the run is the mean of what was foretold within seconds before and after it. A round in
which the two are more than 5 % apart is of a machine that changed its speed meanwhile, and one
in which strangers (processes that are not this benchmark's) took more than 3 % of the cores
says what these left; both are left out and made again, up to once more than there are rounds,
and how many were is told; where none was steady those count. The middle one of the rounds' ratios counts. Nothing is
scaled. Ranks are pinned to cores in turn, with a thread each; where they are more than the
cores, or exchange with a server that needs these too, each site has its share of them
(cores_per_node). Needs a machine that is idle, or nearly.

Memory: the peak of the largest rank (VmHWM) less that of the same layout of a model so small
that only what every process has is left, against the planner's figure and against what is
laid out. --memory measures nothing else: it needs no idle machine and takes a minute or two.

With --folder what was measured stays there, and cases that it has are not measured again.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WARM_UP_STEPS = 4
STEADY = 0.05  # what is foretold before and after a run may differ by so much
MOST_OF_STRANGERS = 0.03  # of all cores, while a plan runs


def island(batch, microbatch, stages, schedule="1f1b", chunks=1, sites=("here",)):
    """Stages are (blocks, data_parallel, tensor_parallel, more)."""
    lines = [f"  - sites: [{', '.join(sites)}]", f"    batch: {batch}", f"    microbatch: {microbatch}",
             f"    schedule: {schedule}", f"    chunks: {chunks}", "    stages:"]
    for blocks, data, tensor, more in stages:
        lines.append(f"      - {{pool: {sites[0]}/cores, blocks: {blocks}, data_parallel: {data}, "
                     f"tensor_parallel: {tensor}{more}}}")
    return "\n".join(lines) + "\n"


SERVER = """\
server: {inner_steps: 8, fragments: 1, overlap_steps: 0, compression: none, quorum: 2,
         outer: {optimizer: nesterov, lr: 0.7, momentum: 0.9}}
"""
TWO = (("here",), ("there",))
# Case: ranks at each site, islands. Models have six blocks: embedding, four layers, head.
CASES = {
    "1 rank": ([1], [island(16, 4, [(6, 1, 1, "")])]),
    "1 rank, mb 8": ([1], [island(16, 8, [(6, 1, 1, "")])]),
    "1 rank, recompute": ([1], [island(16, 4, [(6, 1, 1, ", recompute: full")])]),
    "dp 2": ([2], [island(16, 4, [(6, 2, 1, "")])]),
    "dp 2, sharded optimizer": ([2], [island(16, 2, [(6, 2, 1, ", optimizer_sharding: true")])]),
    "tp 2": ([2], [island(16, 4, [(6, 1, 2, "")])]),
    "pp 2, 1f1b": ([2], [island(16, 2, [(4, 1, 1, ""), (2, 1, 1, "")])]),
    "pp 2, gpipe": ([2], [island(16, 4, [(4, 1, 1, ""), (2, 1, 1, "")], "gpipe")]),
    "pp 2, uneven": ([2], [island(16, 4, [(3, 1, 1, ""), (3, 1, 1, "")])]),
    "pp 2, zero-bubble": ([2], [island(16, 2, [(4, 1, 1, ""), (2, 1, 1, "")], "zero-bubble")]),
    "pp 2, interleaved": ([2], [island(16, 2, [(3, 1, 1, ""), (3, 1, 1, "")], "interleaved", 2)]),
    "2 islands": ([1, 1], [island(8, 4, [(6, 1, 1, "")], sites=s) for s in TWO]),
    "dp 4": ([4], [island(16, 2, [(6, 4, 1, "")])]),
    "pp 2 x dp 2": ([4], [island(16, 2, [(4, 2, 1, ""), (2, 2, 1, "")])]),
    "tp 2 x dp 2": ([4], [island(16, 2, [(6, 2, 2, "")])]),
    "pp 4": ([4], [island(16, 1, [(2, 1, 1, ""), (2, 1, 1, ""), (1, 1, 1, ""), (1, 1, 1, "")])]),
    "2 islands of dp 2": ([2, 2], [island(8, 2, [(6, 2, 1, "")], sites=s) for s in TWO]),
}


def topology(ranks, profile):
    text = ("chips:\n  - name: core\n    memory_gib: 4\n"
            f"    profile: {{file: {profile}}}\nsites:\n")
    share = max(1, len(os.sched_getaffinity(0)) // len(ranks))  # of cores, for a site
    for name, count in zip(("here", "there"), ranks):
        wire = ("" if sum(ranks) > 1 else
                ", intra_node: {gbits_per_second: 10, latency_us: 50}")
        cores = f", cores_per_node: {min(count, share)}" if count > share or len(ranks) > 1 else ""
        text += (f"  - name: {name}\n    pools:\n      - {{name: cores, chip: core, nodes: 1, "
                 f"chips_per_node: {count}{cores}{wire}}}\n")
    if len(ranks) > 1:
        text += "links:\n  - {sites: [here, there], gbits_per_second: 40, rtt_ms: 0.1}\n"
    return text


def strangers_seconds():
    """Of all cores so far, by others than this process and the children that it has waited for."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    own = sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
              for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK") - own


class RankMemory(threading.Thread):
    """Peaks of the ranks of a plan that run while it is asked, in bytes."""

    def __init__(self, plan):
        super().__init__(daemon=True)
        self.plan, self.peaks, self.over = plan, {}, threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            for process in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{process}/cmdline") as file:
                        words = file.read().split("\0")
                    if "rank" in words and self.plan in words:
                        with open(f"/proc/{process}/status") as file:
                            peak = [line for line in file if line.startswith("VmHWM")]
                        self.peaks[process] = 1024 * int(peak[0].split()[1])
                except (OSError, IndexError):
                    pass  # it has ended


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.model, self.tiny = self.path("model.onnx"), self.path("tiny.onnx")
        self.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 256, "--heads", 4, "--vocab",
                 2048, "--seq", 128, "-o", self.model)
        self.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 16, "--heads", 4, "--vocab",
                 2048, "--seq", 8, "-o", self.tiny)
        with open(self.path("tokens.bin"), "wb") as file:
            file.write(b"".join((i * 7919 * (i // 97) % 2048).to_bytes(2, "little")
                                for i in range(300000)))

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, program, *arguments):
        done = subprocess.run([os.path.join(self.options.bin, program), *map(str, arguments)],
                              text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"{program} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def plan(self, ranks, strategy, profile, model=None):
        with open(self.path("sites.yaml"), "w") as file:
            file.write(topology(ranks, profile))
        with open(self.path("strategy.yaml"), "w") as file:
            file.write(strategy)
        self.run("tombolo-plan", model or self.model, "--topology", self.path("sites.yaml"), "--strategy",
                 self.path("strategy.yaml"), "--global-batch", 16, "--simulate", 0, "-o",
                 self.path("p.plan"), "--json", self.path("plan.json"))
        with open(self.path("plan.json")) as file:
            return json.load(file)

    def case(self, name):
        ranks, islands = CASES[name]
        count = sum(ranks)
        generic = f"generic-{count}.yaml"
        if not os.path.exists(self.path(generic)):
            self.run("tombolo-profile", "--ranks", count, "--threads", 1, "--seconds", 1, "--chip",
                     "core", "-o", self.path(generic))
        strategy = "islands:\n" + "".join(islands) + (SERVER if len(islands) > 1 else "")
        small = self.plan(ranks, strategy, generic, self.tiny)["predicted"]
        bare = self.peak(self.tiny) - max(self.bytes(small))
        # With the sharding that is measured: other rates could choose another.
        plan = self.plan(ranks, strategy, generic)
        chosen = json.dumps(plan["strategy"])
        result = {"ranks": count, "peak": self.peak(self.model) - bare,
                  "memory": {"planned": self.bytes(plan["predicted"]),
                             "laid_out": self.bytes(self.simulate())}}
        return result if self.options.memory else {**result, **self.times(ranks, islands, chosen)}

    def times(self, ranks, islands, chosen):
        steady, unsteady = [], []
        before = self.foretell(ranks, chosen)
        while len(steady) < self.options.rounds and len(unsteady) <= self.options.rounds:
            strangers, start = strangers_seconds(), time.monotonic()
            measured, spread = self.measure(len(islands))
            strangers = (strangers_seconds() - strangers) / (time.monotonic() - start) / os.cpu_count()
            after = self.foretell(ranks, chosen)
            both = [[one["step_seconds"] for one in guess] for guess in (before, after)]
            is_steady = (strangers <= MOST_OF_STRANGERS and
                         all(abs(b / a - 1) <= STEADY for a, b in zip(*both)))
            (steady if is_steady else unsteady).append(
                {**{key: statistics.mean(pair) for key, pair in zip(("planned", "simulated"), zip(*both))},
                 "measured": measured, "spread": spread, "strangers": strangers})
            before = after
        return {"rounds": steady or unsteady, "unsteady": len(unsteady),
                "sources": after[0]["time_sources"]}

    def foretell(self, ranks, strategy):
        """By planner and simulator, from what the ranks take now."""
        self.run("tombolo-profile", "--for", self.path("p.plan"), "--threads", 1, "--seconds",
                 self.options.seconds, "-o", self.path("core.yaml"))
        return self.plan(ranks, strategy, "core.yaml")["predicted"], self.simulate()

    def simulate(self):
        self.run("tombolo-sim", self.path("p.plan"), "--json", self.path("sim.json"))
        with open(self.path("sim.json")) as file:
            return json.load(file)["predicted"]

    @staticmethod
    def bytes(predicted):
        """Of each class of ranks, on the chip and on the host."""
        return [arena + host for arenas, hosts in
                zip(predicted["peak_memory_bytes"], predicted["host_memory_bytes"])
                for arena, host in zip(arenas, hosts)]

    def train(self, steps, model):
        self.run("tombolo-run", "local", self.path("p.plan"), "--model", model, "--data",
                 self.path("tokens.bin"), "--steps", steps, "--threads", 1, "--pin", "--metrics",
                 self.path("m.jsonl"))

    def peak(self, model):
        """Of the plan's largest rank. In a run of its own: whoever watches takes time from the ranks."""
        memory = RankMemory(self.path("p.plan"))
        memory.start()
        self.train(8, model)
        memory.over.set()
        memory.join()
        return max(memory.peaks.values(), default=0)

    def measure(self, islands):
        """The median step, and how far the quartiles are apart. With a server the mean over the
        steps of a round, each its median over the rounds: the slower island's, which all wait for."""
        steps = WARM_UP_STEPS + int(self.options.seconds * 8)
        steps = max(32, steps + -steps % 8) * (2 if islands > 1 else 1)  # rounds of 8
        self.train(steps, self.model)
        with open(self.path("m.jsonl")) as file:
            lines = [json.loads(line) for line in file]
        slowest = [[0] * steps for _ in range(islands)]
        for line in lines:
            if "event" not in line:
                own = slowest[line["island"]]
                own[line["step"]] = max(own[line["step"]], line["seconds"])
        if islands == 1:
            low, middle, high = statistics.quantiles(slowest[0][WARM_UP_STEPS:], n=4)
            return middle, (high - low) / middle
        rounds = []
        for own in slowest:
            places = [statistics.quantiles(own[8 + k:steps - 8:8], n=4) for k in range(8)]
            rounds.append([statistics.mean(quartiles) for quartiles in zip(*places)])
        low, middle, high = max(rounds, key=lambda quartiles: quartiles[1])
        return middle, (high - low) / middle


def kendall(pairs, noise):
    """Over pairs that were measured further apart than the noise."""
    agree = differ = 0
    for i, (p, m) in enumerate(pairs):
        for q, n in pairs[:i]:
            if abs(m / n - 1) <= noise:
                continue
            if (p - q) * (m - n) > 0:
                agree += 1
            else:
                differ += 1
    return (agree - differ) / max(1, agree + differ), agree + differ


def time_table(results):
    print("| plan | ranks | measured, ms | quartiles apart, % | planner, ms | off, % | simulator, ms | off, % | "
          "rounds apart, % | strangers, % | left out |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    errors = {"planned": [], "simulated": []}
    pairs = {"planned": [], "simulated": []}
    for name, r in results.items():
        middle = lambda key: statistics.median(one[key] for one in r["rounds"])
        ratios = {key: [one[key] / one["measured"] for one in r["rounds"]] for key in errors}
        for key, values in ratios.items():
            errors[key].append(statistics.median(values) - 1)
            pairs[key].append((middle("measured") * statistics.median(values), middle("measured")))
        apart = max(ratios["simulated"]) - min(ratios["simulated"])
        print(f"| {name} | {r['ranks']} | {1e3 * middle('measured'):.1f} | {100 * middle('spread'):.1f} | "
              f"{1e3 * middle('planned'):.1f} | {100 * errors['planned'][-1]:+.1f} | "
              f"{1e3 * middle('simulated'):.1f} | {100 * errors['simulated'][-1]:+.1f} | {100 * apart:.1f} | "
              f"{100 * middle('strangers'):.1f} | {r['unsteady']} |")
    noise = statistics.median(one["spread"] for r in results.values() for one in r["rounds"])
    for key, values in errors.items():
        values = [abs(value) for value in values]
        tau, count = kendall(pairs[key], noise)
        print(f"{key}: mean absolute error {100 * statistics.mean(values):.1f} %, largest "
              f"{100 * max(values):.1f} %, Kendall's tau {tau:.2f} over {count} pairs further apart "
              f"than {100 * noise:.1f} %")


def memory_table(results):
    print("| plan | measured, MB | planner, MB | off, % | laid out off, % |")
    print("|---|---|---|---|---|")
    offs = []
    for name, r in results.items():
        # The largest rank is the one whose peak is known.
        planned, laid_out = (max(r["memory"][key]) for key in ("planned", "laid_out"))
        offs.append(100 * (planned / r["peak"] - 1))
        print(f"| {name} | {r['peak'] / 1e6:.1f} | {planned / 1e6:.1f} | {offs[-1]:+.1f} | "
              f"{100 * (laid_out / r['peak'] - 1):+.1f} |")
    offs = list(map(abs, offs))
    print(f"planner's memory: off by {statistics.mean(offs):.1f} % on average, at most {max(offs):.1f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help="; ".join(CASES))
    parser.add_argument("--bin", default=os.path.join(ROOT, "build", "dev", "bin"))
    parser.add_argument("--seconds", type=float, default=1.5, help="to measure each plan for, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure memory alone")
    parser.add_argument("--folder", help="where what is measured stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        os.makedirs(folder, exist_ok=True)
        kept = os.path.join(folder, "results.json")
        results = {}
        if os.path.exists(kept):
            with open(kept) as file:
                results = json.load(file)
        bench = Bench(options, folder)
        sought = "peak" if options.memory else "rounds"
        for name in options.cases or CASES:
            if options.cases or sought not in results.get(name, {}):
                results[name] = {**results.get(name, {}), **bench.case(name)}
                with open(kept, "w") as file:
                    json.dump(results, file, indent=1)
                print(f"{name}: measured", file=sys.stderr)
        results = {name: results[name] for name in CASES if name in results}
        timed = {name: result for name, result in results.items() if "rounds" in result}
        if timed:
            time_table(timed)
        memory_table(results)


if __name__ == "__main__":
    main()
