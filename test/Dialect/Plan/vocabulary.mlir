// RUN: tombolo-opt %s --graph-differentiate --tombolo-dist-pipeline --plan-schedule-microbatches | FileCheck %s
// RUN: sed '/tensor<7x4xf32>/s/7x4/9x4/g' %s | tombolo-opt --graph-differentiate --tombolo-dist-pipeline --plan-schedule-microbatches | FileCheck %s --check-prefix=CLASSES

// The table of the tokens bounds the vocabulary, not that of their types.
// CHECK: plan.model {{.*}} tokens_per_sample 3 vocabulary 7

// So do the classes of the loss, since labels are tokens.
// CLASSES: plan.model {{.*}} tokens_per_sample 3 vocabulary 8

module attributes {graph.model_hash = "0000000000000000000000000000000000000000000000000000000000000000"} {
graph.parameter @embed : tensor<7x4xf32> from "e"
graph.parameter @types : tensor<2x4xf32> from "t"
graph.parameter @head : tensor<4x8xf32> from "h"
func.func private @block0(%x: tensor<?x3xi64> {graph.input = "ids"}, %t: tensor<?x3xi64> {graph.input = "types"}, %e: tensor<7x4xf32> {graph.parameter = "trainable"}, %u: tensor<2x4xf32> {graph.parameter = "trainable"}) -> tensor<?x3x4xf32> attributes {graph.block} {
  %0 = graph.gather %e, %x : tensor<7x4xf32>, tensor<?x3xi64> to tensor<?x3x4xf32>
  %1 = graph.gather %u, %t : tensor<2x4xf32>, tensor<?x3xi64> to tensor<?x3x4xf32>
  %2 = graph.add %0, %1 : tensor<?x3x4xf32>, tensor<?x3x4xf32> to tensor<?x3x4xf32>
  return %2 : tensor<?x3x4xf32>
}
func.func private @loss(%x: tensor<?x3x4xf32>, %l: tensor<?x3xi64> {graph.label = "y"}, %w: tensor<4x8xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x3x4xf32>, tensor<4x8xf32> to tensor<?x3x8xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %l : tensor<?x3x8xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x3xi64> {graph.input = "ids"}, %t: tensor<?x3xi64> {graph.input = "types"}, %l: tensor<?x3xi64> {graph.label = "y"}) -> (tensor<f32>, tensor<f32>) {
  %e = graph.get_parameter @embed : tensor<7x4xf32>
  %u = graph.get_parameter @types : tensor<2x4xf32>
  %h = graph.get_parameter @head : tensor<4x8xf32>
  %0 = func.call @block0(%x, %t, %e, %u) : (tensor<?x3xi64>, tensor<?x3xi64>, tensor<7x4xf32>, tensor<2x4xf32>) -> tensor<?x3x4xf32>
  %1:2 = func.call @loss(%0, %l, %h) : (tensor<?x3x4xf32>, tensor<?x3xi64>, tensor<4x8xf32>) -> (tensor<f32>, tensor<f32>)
  return %1#0, %1#1 : tensor<f32>, tensor<f32>
}
topo.topology {
  topo.chip @c {matmul_efficiency = 0.6, memory_efficiency = 0.8, memory_gbytes_per_second = 10.0, memory_gib = 1.0, tflops_f32 = 1.0}
  topo.site @north {
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
}
dist.strategy global_batch 2 {
  dist.island on ["north"] batch 2 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 2 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
}
}
