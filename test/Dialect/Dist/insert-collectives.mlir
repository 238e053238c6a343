// RUN: tombolo-opt %s --graph-differentiate --dist-partition-stages --dist-specialize-blocks --dist-propagate-shardings --dist-insert-collectives -o %t
// RUN: FileCheck %s --input-file=%t

// A gradient that every chip has whole becomes partial where that of another use
// of the parameter is: the first chip keeps it.
// CHECK-LABEL: func.func private @first.backward_weight.m2.f32.t2
// CHECK-SAME: -> (tensor<8xf32> {graph.partial})
// CHECK: %[[INDEX:.*]] = graph.tensor_index
// CHECK: %[[WHOLE:.*]] = graph.reduce_sum
// CHECK: %[[FIRST:.*]] = graph.equal %[[INDEX]]
// CHECK: %[[PARTIAL:.*]] = graph.where %[[FIRST]], %[[WHOLE]]
// CHECK: return %[[PARTIAL]]

// Two products over split inner dimensions are ready together: one all-reduce
// of both, and slices of it.
// CHECK-LABEL: func.func private @two.forward.m2.f32.t2
// CHECK-DAG: %[[A:.*]] = graph.reshape {{.*}} to tensor<64xf32>
// CHECK-DAG: %[[B:.*]] = graph.reshape {{.*}} to tensor<64xf32>
// CHECK: %[[BOTH:.*]] = graph.concat %[[A]], %[[B]]
// CHECK-NEXT: %[[SUM:.*]] = graph.all_reduce %[[BOTH]] : tensor<128xf32>
// CHECK-NEXT: graph.slice %[[SUM]] {axis = 0 : i64, offset = 0 : i64, size = 64 : i64
// CHECK: graph.slice %[[SUM]] {axis = 0 : i64, offset = 64 : i64, size = 64 : i64
// CHECK-NOT: graph.all_reduce

// Gradients of both products meet while they are split: one all-reduce of what
// the first product's columns give.
// CHECK-LABEL: func.func private @two.backward_input.m2.f32.t2
// CHECK: %[[SUM:.*]] = graph.add {{.*}} to tensor<2x4x4xf32>
// CHECK-NEXT: %[[PART:.*]] = graph.matmul %[[SUM]]
// CHECK-NEXT: graph.all_reduce %[[PART]]
// CHECK-NOT: graph.all_reduce

// A seeded op sums over its part of the sequence, so its operands are split by
// the sequence back to the loss, whose sums become one all-reduce; the gradient
// of the tied parameter stays partial ...
// CHECK-LABEL: func.func private @loss.forward.m2.f32.t2
// CHECK: graph.cross_entropy {{.*}} tensor<2x2x8xf32>
// CHECK: graph.all_reduce {{.*}} tensor<2xf32>
// CHECK-NOT: graph.all_reduce
// CHECK-LABEL: func.func private @loss.backward_weight.m2.f32.t2
// CHECK-SAME: -> (tensor<8xf32> {graph.partial})
// CHECK-NEXT: graph.reduce_sum {{.*}} tensor<2x2x8xf32> to tensor<8xf32>

graph.parameter @bias : tensor<8xf32> from "bias"
graph.parameter @up : tensor<8x8xf32> from "up"
graph.parameter @a : tensor<8x8xf32> from "a"
graph.parameter @b : tensor<8x8xf32> from "b"
func.func private @first(%x: tensor<?x4x8xf32> {graph.input = "x"}, %c: tensor<8xf32> {graph.parameter = "trainable"}) -> tensor<?x4x8xf32> attributes {graph.block} {
  %0 = graph.add %x, %c : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  return %0 : tensor<?x4x8xf32>
}
func.func private @two(%x: tensor<?x4x8xf32>, %u: tensor<8x8xf32> {graph.parameter = "trainable"}, %a: tensor<8x8xf32> {graph.parameter = "trainable"}, %b: tensor<8x8xf32> {graph.parameter = "trainable"}) -> tensor<?x4x8xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %u : tensor<?x4x8xf32>, tensor<8x8xf32> to tensor<?x4x8xf32>
  %1 = graph.matmul %0, %a : tensor<?x4x8xf32>, tensor<8x8xf32> to tensor<?x4x8xf32>
  %2 = graph.matmul %0, %b : tensor<?x4x8xf32>, tensor<8x8xf32> to tensor<?x4x8xf32>
  %3 = graph.tanh %1 : tensor<?x4x8xf32>
  %4 = graph.sigmoid %2 : tensor<?x4x8xf32>
  %5 = graph.mul %3, %4 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>
  return %5 : tensor<?x4x8xf32>
}
func.func private @loss(%x: tensor<?x4x8xf32>, %y: tensor<?x4xi64> {graph.label = "y"}, %c: tensor<8xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.add %x, %c : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %y : tensor<?x4x8xf32>, tensor<?x4xi64> to tensor<f32>, tensor<f32>, tensor<?x4xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x4x8xf32> {graph.input = "x"}, %y: tensor<?x4xi64> {graph.label = "y"}) -> (tensor<f32>, tensor<f32>) {
  %c = graph.get_parameter @bias : tensor<8xf32>
  %u = graph.get_parameter @up : tensor<8x8xf32>
  %a = graph.get_parameter @a : tensor<8x8xf32>
  %b = graph.get_parameter @b : tensor<8x8xf32>
  %0 = call @first(%x, %c) : (tensor<?x4x8xf32>, tensor<8xf32>) -> tensor<?x4x8xf32>
  %1 = call @two(%0, %u, %a, %b) : (tensor<?x4x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<?x4x8xf32>
  %2:2 = call @loss(%1, %y, %c) : (tensor<?x4x8xf32>, tensor<?x4xi64>, tensor<8xf32>) -> (tensor<f32>, tensor<f32>)
  return %2#0, %2#1 : tensor<f32>, tensor<f32>
}
dist.strategy global_batch 2 {
  dist.island on ["north"] batch 2 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 3 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 2 share 1
    }
  }
  dist.sharding block 1 tensor_parallel 2
      parameters {"up" = array<i64: 1, 1>, "a" = array<i64: 0, 1>, "b" = array<i64: 0, 1>}
      inputs [] outputs [] ops []
  dist.sharding block 2 tensor_parallel 2 parameters {} inputs [] outputs []
      ops [array<i64: 2, 0, 1, 1>]
}
