#!/usr/bin/env bash
# Time, memory and events per second of simulating plans for 1,024 chips at one
# and at two sites, and for 102,400, on one core:
#   utils/build && benchmarks/simulate.sh
# Each line: what is simulated, seconds of the whole program (reading and
# checking the plan included) and of one core, peak memory, events per second.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${TOMBOLO_BIN:-$root/build/dev/bin}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

run() { # NAME ARGUMENTS...
  taskset -c "${TOMBOLO_CORE:-0}" python3 - "$@" <<'PY'
import json, resource, subprocess, sys, time
name, *command = sys.argv[1:]
start = time.perf_counter()
out = subprocess.run(command + ["--json", "-"], check=True, stdout=subprocess.PIPE).stdout
wall = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
result = json.loads(out)
simulated = result["simulated"]
print(f'{name}: {wall:.2f} s, {usage.ru_utime:.2f} s of one core, {usage.ru_maxrss / 2**10:.0f} MiB, '
      f'{simulated["events"] / usage.ru_utime:,.0f} events/s, {simulated["steps_simulated"]} of '
      f'{simulated["steps"]} steps simulated; step {result["predicted"]["step_seconds"]:.4g} s, '
      f'goodput {result["predicted"]["goodput"]:.3f}')
PY
}

for pair in gpt-100b:thousand-chips-strategy llama-100b:llama-100b-strategy; do
  preset=${pair%%:*}
  "$bin/tombolo-model" "$preset" --no-weights -o "$folder/m.onnx"
  "$bin/tombolo-plan" "$folder/m.onnx" --topology "$root/examples/thousand-chips.yaml" \
    --strategy "$root/examples/${pair#*:}.yaml" --global-batch 1024 --precision bf16 \
    -o "$folder/p.plan" > /dev/null
  run "$preset on 1,024 chips, one step" "$bin/tombolo-sim" "$folder/p.plan" --steps 1
  run "$preset on 1,024 chips, 10,000 steps with failures" "$bin/tombolo-sim" "$folder/p.plan" \
    --steps 10000 --fail shanghai/a@10000+600 --fail shanghai/a@100000+60 --fail shanghai@200000+1800
  run "$preset on 1,024 chips, 5 steps one by one" "$bin/tombolo-sim" "$folder/p.plan" --steps 5 --no-replay
done

# Half of the replicas at each of two sites 30 ms apart, an exchange every 16
# steps: a day and more of training with failures of chips, a site, the servers
# and the line.
python3 - "$root/examples" "$folder" <<'PY'
import sys
examples, folder = sys.argv[1:]
with open(f"{examples}/thousand-chips.yaml") as file:
    chips, site = file.read().replace("nodes: 128", "nodes: 64").split("sites:\n")
site = site.replace("    pools:", "    hosts: {count: 4, memory_gib: 2048}\n    pools:", 1)
with open(f"{folder}/sites.yaml", "w") as file:
    file.write(chips + "sites:\n" + site + site.replace("shanghai", "beijing")
               + "links:\n  - {sites: [shanghai, beijing], gbits_per_second: 40, rtt_ms: 30, loss: 0.00001}\n")
with open(f"{examples}/llama-100b-strategy.yaml") as file:
    island = file.read().split("islands:\n")[1].replace("data_parallel: 16", "data_parallel: 8")
island = island.replace("batch: 1024", "batch: 512", 1)
places = ", ".join(f"{f}: {{primary: shanghai, backup: beijing}}" for f in range(8))
with open(f"{folder}/strategy.yaml", "w") as file:
    file.write("islands:\n" + island + island.replace("shanghai", "beijing")
               + "server: {inner_steps: 16, fragments: 8, overlap_steps: 4, compression: int8, "
                 f"deadline_seconds: 600, witness: shanghai, placement: {{{places}}}}}\n")
PY
"$bin/tombolo-model" llama-100b --no-weights -o "$folder/m.onnx"
"$bin/tombolo-plan" "$folder/m.onnx" --topology "$folder/sites.yaml" --strategy "$folder/strategy.yaml" \
  --global-batch 1024 --precision bf16 -o "$folder/p.plan" > /dev/null
run "llama-100b on 2 x 512 chips, three rounds" "$bin/tombolo-sim" "$folder/p.plan"
run "llama-100b on 2 x 512 chips, 10,000 steps with failures" "$bin/tombolo-sim" "$folder/p.plan" \
  --steps 10000 --fail shanghai/a@10000+600 --fail server:shanghai@50000+300 --fail line:shanghai,beijing@80000+120 \
  --fail beijing@120000+1800
run "llama-100b on 2 x 512 chips, 200 steps replayed" "$bin/tombolo-sim" "$folder/p.plan" --steps 208
run "llama-100b on 2 x 512 chips, 200 steps one by one" "$bin/tombolo-sim" "$folder/p.plan" --steps 208 --no-replay

# A hundred times the replicas and the batch.
sed -e 's/nodes: 128/nodes: 12800/' "$root/examples/thousand-chips.yaml" > "$folder/sites.yaml"
sed -e 's/data_parallel: 16/data_parallel: 1600/; s/batch: 1024/batch: 102400/' \
  "$root/examples/thousand-chips-strategy.yaml" > "$folder/strategy.yaml"
"$bin/tombolo-model" gpt-100b --no-weights -o "$folder/m.onnx"
"$bin/tombolo-plan" "$folder/m.onnx" --topology "$folder/sites.yaml" --strategy "$folder/strategy.yaml" \
  --global-batch 102400 --precision bf16 -o "$folder/p.plan" > /dev/null
run "gpt-100b on 102,400 chips, one step" "$bin/tombolo-sim" "$folder/p.plan" --steps 1
