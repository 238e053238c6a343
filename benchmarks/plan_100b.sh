#!/usr/bin/env bash
# Time and memory of lowering 100 B models for 1,024 chips, import and, for the
# Llama on 8 stages of 16 replicas of 8 chips, the search of shardings included:
#   utils/build && benchmarks/plan_100b.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${TOMBOLO_BIN:-$root/build/dev/bin}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for pair in gpt-100b:thousand-chips-strategy llama-100b:llama-100b-strategy; do
  preset=${pair%%:*}
  strategy=${pair#*:}
  echo "$preset"
  "$bin/tombolo-model" "$preset" --no-weights -o "$folder/m.onnx"
  for _ in 1 2 3 4 5; do
    python3 - "$bin/tombolo-plan" "$folder/m.onnx" --topology "$root/examples/thousand-chips.yaml" \
      --strategy "$root/examples/$strategy.yaml" --global-batch 1024 --precision bf16 \
      -o "$folder/p.plan" <<'PY'
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{seconds:.2f} s, {usage.ru_utime:.2f} s of one core, {usage.ru_maxrss / 2**10:.0f} MiB")
PY
  done
  ls -l "$folder/m.onnx" "$folder/p.plan" | awk '{print $5 " bytes " $9}'
done
