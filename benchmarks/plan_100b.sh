#!/usr/bin/env bash
# Time and memory of lowering a 100 B model for 1,024 chips, import included:
#   utils/build && benchmarks/plan_100b.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${TOMBOLO_BIN:-$root/build/dev/bin}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$bin/tombolo-model" gpt-100b --no-weights -o "$folder/m.onnx"
for _ in 1 2 3 4 5; do
  python3 - "$bin/tombolo-plan" "$folder/m.onnx" --topology "$root/examples/thousand-chips.yaml" \
    --strategy "$root/examples/thousand-chips-strategy.yaml" --global-batch 1024 --precision bf16 \
    -o "$folder/p.plan" <<'PY'
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
print(f"{seconds:.2f} s, {peak:.0f} MiB")
PY
done
ls -l "$folder/m.onnx" "$folder/p.plan" | awk '{print $5 " bytes " $9}'
