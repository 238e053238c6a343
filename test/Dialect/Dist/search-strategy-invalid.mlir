// RUN: not tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=0" 2>&1 | FileCheck %s --check-prefix=BATCH
// RUN: not tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=8 precision=bf16" 2>&1 | FileCheck %s --check-prefix=PRECISION
// RUN: not tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=8 schedule=fast" 2>&1 | FileCheck %s --check-prefix=SCHEDULE
// RUN: not tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=8 solver=quick" 2>&1 | FileCheck %s --check-prefix=SOLVER
// RUN: not tombolo-opt %s -dist-search-strategy="global-batch=8" 2>&1 | FileCheck %s --check-prefix=BLOCKS
// RUN: echo 'islands: [{sites: [north], batch: 8, microbatch: 2, stages: [{pool: north/a, data_parallel: 1, blocks: 5, recompute: none}]}]' > %t.yaml
// RUN: not tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=8 strategy=%t.yaml" 2>&1 | FileCheck %s --check-prefix=GIVEN
// RUN: echo 'islands: [{sites: [east]}]' > %t.yaml
// RUN: not tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=8 strategy=%t.yaml" 2>&1 | FileCheck %s --check-prefix=SITE

// Every fault says what is wrong, those of the file where.
// BATCH: error: the global batch must be from 1 to {{[0-9]+}}, got 0
// PRECISION: error: chip 'slow' states no tflops for precision bf16
// SCHEDULE: error: expected schedule 1f1b or gpipe, got 'fast'
// SOLVER: error: there is no solver 'quick'; there are: search
// BLOCKS: error: {{.*}}differentiate
// GIVEN: .yaml:1:{{[0-9]+}}: error: the stages of island 0 hold 5 blocks, but the model has 4
// SITE: .yaml:1:20: error: unknown site 'east'

topo.topology {
  topo.chip @slow {matmul_efficiency = 0.5, memory_efficiency = 0.8, memory_gbytes_per_second = 10.0, memory_gib = 1.0, tflops_f32 = 0.01}
  topo.chip @fast {matmul_efficiency = 0.5, memory_efficiency = 0.8, memory_gbytes_per_second = 40.0, memory_gib = 1.0, tflops_f32 = 0.03}
  topo.site @north {
    topo.pool @a of @slow nodes 1 chips_per_node 2 nics_per_node 1 {intra_gbits_per_second = 100.0, intra_latency_us = 1.0}
  }
  topo.site @south {
    topo.pool @b of @fast nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.link @north, @south {gbits_per_second = 10.0, loss = 0.0, rtt_ms = 0.001}
}
graph.parameter @w0 : tensor<64x64xf32> from "w0"
graph.parameter @w1 : tensor<64x64xf32> from "w1"
graph.parameter @w2 : tensor<64x64xf32> from "w2"
graph.parameter @w3 : tensor<64x64xf32> from "w3"
func.func private @layer(%x: tensor<?x3x64xf32>, %w: tensor<64x64xf32> {graph.parameter = "trainable"}) -> tensor<?x3x64xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x3x64xf32>, tensor<64x64xf32> to tensor<?x3x64xf32>
  %1 = graph.gelu %0 : tensor<?x3x64xf32>
  return %1 : tensor<?x3x64xf32>
}
func.func private @head(%x: tensor<?x3x64xf32>, %l: tensor<?x3xi64> {graph.label = "labels"}, %w: tensor<64x64xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x3x64xf32>, tensor<64x64xf32> to tensor<?x3x64xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %l : tensor<?x3x64xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x3x64xf32> {graph.input = "x"}, %l: tensor<?x3xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w0 = graph.get_parameter @w0 : tensor<64x64xf32>
  %w1 = graph.get_parameter @w1 : tensor<64x64xf32>
  %w2 = graph.get_parameter @w2 : tensor<64x64xf32>
  %w3 = graph.get_parameter @w3 : tensor<64x64xf32>
  %0 = func.call @layer(%x, %w0) : (tensor<?x3x64xf32>, tensor<64x64xf32>) -> tensor<?x3x64xf32>
  %1 = func.call @layer(%0, %w1) : (tensor<?x3x64xf32>, tensor<64x64xf32>) -> tensor<?x3x64xf32>
  %2 = func.call @layer(%1, %w2) : (tensor<?x3x64xf32>, tensor<64x64xf32>) -> tensor<?x3x64xf32>
  %3:2 = func.call @head(%2, %l, %w3) : (tensor<?x3x64xf32>, tensor<?x3xi64>, tensor<64x64xf32>) -> (tensor<f32>, tensor<f32>)
  return %3#0, %3#1 : tensor<f32>, tensor<f32>
}
