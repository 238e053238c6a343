#!/usr/bin/env bash
# Time to find the sharding of a Llama block (embedding and head along with it)
# over eight chips:
#   utils/build && benchmarks/shard_llama.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${TOMBOLO_BIN:-$root/build/dev/bin}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$bin/tombolo-model" llama-100b --no-weights -o "$folder/m.onnx"
"$bin/tombolo-plan" "$folder/m.onnx" --topology "$root/examples/thousand-chips.yaml" \
  --global-batch 1024 --emit topo > "$folder/m.mlir"
for _ in 1 2 3 4 5; do
  "$bin/tombolo-opt" "$folder/m.mlir" --mlir-timing -o /dev/null \
    --dist-search-strategy="strategy=$root/examples/llama-100b-strategy.yaml global-batch=1024 precision=bf16 state-bytes=8" 2>&1 |
    grep DistSearchStrategy
done
