// RUN: tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=20 candidates=3" | FileCheck %s
// RUN: tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=20" -dist-verify -o /dev/null
// RUN: echo 'islands: [{sites: [north], schedule: gpipe, stages: [{pool: north/a, blocks: 3}, {pool: north/a}]}]' > %t.yaml
// RUN: tombolo-opt %s -graph-differentiate -dist-search-strategy="global-batch=20 strategy=%t.yaml" | FileCheck %s --check-prefix=PINNED

// The batch is shared between the sites by speed, and there is a server.
// CHECK: dist.strategy global_batch 20 predicted {{.*}}step_seconds = {{.*}} search {alternatives = [{{.*}}strategy = "north: batch {{.*}}"{{.*}}], candidates = {{[0-9]+}} : i64, lower_bound = {{.*}}, optimal = {{true|false}}} {
// CHECK: dist.island on ["north"] batch
// CHECK: dist.replicas on "north/a"
// CHECK: dist.island on ["south"] batch
// CHECK: dist.replicas on "south/b"
// CHECK: dist.server inner_steps {{[0-9]+}} fragments {{[0-9]+}} overlap_steps {{[0-5]}} compression "{{(none|bf16|int8)}}"
// CHECK: dist.fragment 0 primary
// CHECK-COUNT-2: dist.strategy global_batch 20
// CHECK-NOT: dist.strategy

// What is pinned stays, the rest is filled in.
// PINNED: dist.strategy global_batch 20
// PINNED: dist.island on ["north"] batch 20 microbatch {{[0-9]+}} schedule "gpipe"
// PINNED: dist.stage blocks 3 recompute "none"
// PINNED: dist.replicas on "north/a" count 1
// PINNED: dist.stage blocks 1 recompute "none"
// PINNED-NOT: dist.server

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
