#!/usr/bin/python3
"""Step times of ranks that a launcher has started, and of those that talk by MPI, against
`tombolo-run local` with Gloo, alternately: what launching through Slurm and mpirun costs, and
MPI against Gloo. Nothing else should run on the machine.

    utils/build && sudo benchmarks/launching.py [--rounds 5] [--steps 60] [--bin build/dev/bin]

Slurm's daemons are started for it, as by test/EndToEnd/slurm.py, and need root; without, that
row is left out. For each way: the median step of each round, and the median over the rounds of its
ratio to `local` in the same round, with the smallest and largest."""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
WARM_STEPS = 10  # are left out
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--ranks", type=int, default=os.cpu_count())
    parser.add_argument("--bin", default=str(ROOT / "build/dev/bin"))
    options = parser.parse_args()
    if options.steps <= WARM_STEPS:
        parser.error(f"--steps: expected more than {WARM_STEPS}, got {options.steps}")
    os.environ["TOMBOLO_BIN"] = options.bin
    sys.path.insert(0, str(ROOT / "test/EndToEnd"))
    import slurm
    import support

    with tempfile.TemporaryDirectory(prefix="tombolo-launching-") as folder:
        path = lambda name: os.path.join(folder, name)  # noqa: E731
        support.run("tombolo-model", "gpt", "--layers", 4, "--hidden", 256, "--heads", 4, "--vocab",
                    256, "--seq", 128, "-o", path("m.onnx"))
        with open(path("tokens.bin"), "wb") as file:
            file.write(b"".join(bytes((n * n % 251, 0)) for n in range(100000)))
        for name, text in (("sites.yaml", support.topology({"east": options.ranks})),
                           ("strategy.yaml", support.strategy([support.island(
                               "east", 2 * options.ranks, 2, [6], data_parallel=options.ranks)]))):
            with open(path(name), "w") as file:
                file.write(text)
        support.run("tombolo-plan", path("m.onnx"), "--topology", path("sites.yaml"), "--global-batch",
                    2 * options.ranks, "--strategy", path("strategy.yaml"), "-o", path("p.plan"))
        program = os.path.join(options.bin, "tombolo-run")
        common = [path("p.plan"), "--model", path("m.onnx"), "--data", path("tokens.bin"), "--steps",
                  str(options.steps), "--threads", "1"]
        rank = [program, "rank", *common]
        count = str(options.ranks)

        def outputs(command):
            result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if result.returncode != 0:
                sys.exit(f"error: {' '.join(command)}\n{result.stderr}")
            return result.stdout

        def local():
            if os.path.exists(path("m.jsonl")):
                os.remove(path("m.jsonl"))
            outputs([program, "local", *common, "--metrics", path("m.jsonl")])
            with open(path("m.jsonl")) as file:
                return file.read()

        ways = {"local, gloo": local,
                "mpirun, gloo": lambda: outputs([*MPIRUN, "-n", count, *rank]),
                "mpirun, mpi": lambda: outputs([*MPIRUN, "-n", count, *rank, "--transport", "mpi"])}
        cluster = None
        if reason := slurm.why_not():
            print(f"no row of Slurm: {reason}", file=sys.stderr)
        else:
            os.mkdir(path("cluster"))
            cluster = slurm.Cluster(path("cluster"), cpus=options.ranks)
            ways["srun, gloo"] = lambda: cluster.call(
                "srun", "--ntasks", count, *rank, timeout=600)
        if cluster:
            with cluster:
                measure(ways, options)
        else:
            measure(ways, options)


def step_seconds(text):
    """The median of a run."""
    seconds = [json.loads(line)["seconds"] for line in re.findall(r'\{[^{}]*"loss"[^{}]*\}', text)
               if '"event"' not in line]
    return statistics.median(seconds[WARM_STEPS:])


def measure(ways, options):
    rounds = []
    for number in range(options.rounds):
        names = list(ways)
        if number % 2:  # whoever is first finds the machine as the round before left it
            names.reverse()
        rounds.append({name: step_seconds(ways[name]()) for name in names})
    print(f"{options.ranks} ranks, data parallel, {options.steps} steps, {options.rounds} rounds, "
          f"load {os.getloadavg()[0]:.1f}")
    first = next(iter(ways))
    for name in ways:
        steps = [each[name] * 1000 for each in rounds]
        ratios = [each[name] / each[first] for each in rounds]
        print(f"{name:14}  {statistics.median(steps):8.2f} ms a step ({min(steps):.2f} to "
              f"{max(steps):.2f})  {statistics.median(ratios):.3f} of local ({min(ratios):.3f} to "
              f"{max(ratios):.3f})")


if __name__ == "__main__":
    main()
