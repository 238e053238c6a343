// RUN: tombolo-opt %s -split-input-file -verify-diagnostics -graph-differentiate | FileCheck %s

graph.parameter @w : tensor<4x8xf32> from "w"
graph.parameter @b : tensor<8xf32> from "b"
// expected-remark @below {{no gradient reaches parameter 'unused'; it is frozen}}
graph.parameter @unused : tensor<8xf32> from "unused"
// CHECK: graph.parameter @unused : tensor<8xf32> from "unused" frozen

// The forward function returns what the backward ones read; neither the data,
// nor parameters, nor views are saved.
// CHECK-LABEL: func.func private @block0.forward
// CHECK-SAME: -> (tensor<f32>, tensor<f32>, tensor<?x3x8xf32>, tensor<?x3x8xf32>, tensor<?x3xf32>)
// CHECK: %[[H:.*]] = graph.matmul
// CHECK: %[[G:.*]] = graph.gelu %[[H]]
// CHECK: %[[L:.*]], %[[W:.*]], %[[LSE:.*]] = graph.cross_entropy %[[G]]
// CHECK: return %[[L]], %[[W]], %[[H]], %[[G]], %[[LSE]]

// The backward by input: data, saved, parameters in; gradients of data and
// what the other function needs out.
// CHECK-LABEL: func.func private @block0.backward_input
// CHECK-SAME: (%[[X:[^:]*]]: tensor<?x3x4xf32>, %{{[^:]*}}: tensor<?x3xi64> {graph.label = "labels"}, %[[H:[^:]*]]: tensor<?x3x8xf32>, %[[G:[^:]*]]: tensor<?x3x8xf32>, %[[LSE:[^:]*]]: tensor<?x3xf32>, %[[W:[^:]*]]: tensor<4x8xf32> {graph.parameter = "trainable"}, %{{[^:]*}}: tensor<8xf32> {graph.parameter = "trainable"})
// CHECK-SAME: -> (tensor<?x3x4xf32>, tensor<?x3x8xf32>)
// CHECK: %[[DG:.*]] = graph.cross_entropy_backward %[[G]]
// CHECK: %[[DH:.*]] = graph.gelu_backward %[[DG]], %[[H]]
// CHECK: %[[DX:.*]] = graph.matmul %[[DH]], %[[W]] {transpose_b = true}
// CHECK: return %[[DX]], %[[DH]]

// The backward by weight: one product over all rows.
// CHECK-LABEL: func.func private @block0.backward_weight
// CHECK-SAME: -> (tensor<4x8xf32>, tensor<8xf32>)
// CHECK-DAG: %[[X2:.*]] = graph.reshape %arg0 : tensor<?x3x4xf32> to tensor<?x4xf32, #graph.batch<3>>
// CHECK-DAG: %[[D2:.*]] = graph.reshape %arg7 : tensor<?x3x8xf32> to tensor<?x8xf32, #graph.batch<3>>
// CHECK-DAG: %[[DW:.*]] = graph.matmul %[[X2]], %[[D2]] {transpose_a = true}
// CHECK-DAG: %[[DB:.*]] = graph.reduce_sum %arg7 {axes = array<i64: 0, 1>}
// CHECK: return %[[DW]], %[[DB]]

// CHECK: func.func private @block0(
// CHECK-SAME: graph.backward_input = @block0.backward_input, graph.backward_weight = @block0.backward_weight, graph.block, graph.carried_count = 1 : i64, graph.forward = @block0.forward, graph.saved_count = 3 : i64
func.func private @block0(%x: tensor<?x3x4xf32>, %l: tensor<?x3xi64> {graph.label = "labels"}, %w: tensor<4x8xf32> {graph.parameter = "trainable"}, %b: tensor<8xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w bias %b : tensor<8xf32> : tensor<?x3x4xf32>, tensor<4x8xf32> to tensor<?x3x8xf32>
  %1 = graph.gelu %0 : tensor<?x3x8xf32>
  %2 = graph.transpose %1, [0, 2, 1] : tensor<?x3x8xf32> to tensor<?x8x3xf32>
  %3 = graph.transpose %2, [0, 2, 1] : tensor<?x8x3xf32> to tensor<?x3x8xf32>
  %loss, %weights, %lse = graph.cross_entropy %1, %l : tensor<?x3x8xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  %4 = graph.reshape %3 : tensor<?x3x8xf32> to tensor<?x24xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x3x4xf32> {graph.input = "x"}, %l: tensor<?x3xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w = graph.get_parameter @w : tensor<4x8xf32>
  %b = graph.get_parameter @b : tensor<8xf32>
  %0:2 = func.call @block0(%x, %l, %w, %b) : (tensor<?x3x4xf32>, tensor<?x3xi64>, tensor<4x8xf32>, tensor<8xf32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// -----

// Of attention's result and its copy in the order of the next product only the
// copy is saved; of q, k and v the product they are parts of.
graph.parameter @w : tensor<8x24xf32> from "w"
// CHECK-LABEL: func.func private @block0.forward
// CHECK-SAME: -> (tensor<f32>, tensor<f32>, tensor<?x4x24xf32>, tensor<?x2x4xf32>, tensor<?x4x8xf32>, tensor<?x4x24xf32>, tensor<?x4xf32>)
// CHECK: graph.attention
// CHECK-LABEL: func.func private @block0.backward_input
// CHECK: %[[O:.*]] = graph.transpose %{{.*}}, [0, 2, 1, 3]
// CHECK: graph.attention_backward %{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}}, %[[O]]
// CHECK: graph.concat
// CHECK-LABEL: func.func private @block0.backward_weight
func.func private @block0(%x: tensor<?x4x8xf32>, %l: tensor<?x4xi64> {graph.label = "labels"}, %w: tensor<8x24xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4x8xf32>, tensor<8x24xf32> to tensor<?x4x24xf32>
  %1:3 = graph.split %0 {axis = 2, sizes = array<i64: 8, 8, 8>} : tensor<?x4x24xf32> to tensor<?x4x8xf32>, tensor<?x4x8xf32>, tensor<?x4x8xf32>
  %2 = graph.reshape %1#0 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %q = graph.transpose %2, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %3 = graph.reshape %1#1 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %k = graph.transpose %3, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %4 = graph.reshape %1#2 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %v = graph.transpose %4, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %o:2 = graph.attention %q, %k, %v {causal = true, scale = 0.5 : f64} : tensor<?x2x4x4xf32>, tensor<?x2x4x4xf32>, tensor<?x2x4x4xf32> to tensor<?x2x4x4xf32>, tensor<?x2x4xf32>
  %5 = graph.transpose %o#0, [0, 2, 1, 3] : tensor<?x2x4x4xf32> to tensor<?x4x2x4xf32>
  %6 = graph.reshape %5 : tensor<?x4x2x4xf32> to tensor<?x4x8xf32>
  %7 = graph.matmul %6, %w : tensor<?x4x8xf32>, tensor<8x24xf32> to tensor<?x4x24xf32>
  %loss, %weights, %lse = graph.cross_entropy %7, %l : tensor<?x4x24xf32>, tensor<?x4xi64> to tensor<f32>, tensor<f32>, tensor<?x4xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x4x8xf32> {graph.input = "x"}, %l: tensor<?x4xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w = graph.get_parameter @w : tensor<8x24xf32>
  %0:2 = func.call @block0(%x, %l, %w) : (tensor<?x4x8xf32>, tensor<?x4xi64>, tensor<8x24xf32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}
