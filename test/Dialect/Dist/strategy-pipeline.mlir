// RUN: echo 'islands: [{sites: [north], batch: 8, microbatch: 2, schedule: interleaved, chunks: 2, stages: [{pool: north/a, data_parallel: 1, blocks: 1, recompute: none}]}]' > %t.yaml
// RUN: not tombolo-opt %S/Inputs/model.mlir -tombolo-strategy-pipeline="global-batch=8 strategy=%t.yaml" 2>&1 | FileCheck %s

// Without a topology the pipeline ends at its first proof.
// CHECK: error: expected one topo.topology, got 0
