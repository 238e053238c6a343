// RUN: tombolo-opt %s -split-input-file -graph-differentiate -graph-lower-precision -canonicalize | FileCheck %s

// Activations, saved values and operands of products are bf16; statistics stay
// f32 and parameters are cast where they are used.
graph.parameter @w : tensor<4x8xf32> from "w"
graph.parameter @b : tensor<8xf32> from "b"
graph.parameter @g : tensor<4xf32> from "g"
// CHECK-LABEL: func.func private @block0.forward
// CHECK-SAME: (%[[X:[^:]*]]: tensor<?x3x4xbf16>, {{.*}}: tensor<4xf32> {{.*}}: tensor<4x8xf32>
// CHECK-SAME: -> (tensor<f32>, tensor<f32>, tensor<?x3x4xbf16>, tensor<?x3xf32>, tensor<?x3xf32>, tensor<?x3x8xbf16>, tensor<?x3xf32>)
// CHECK: %[[N:.*]], %{{.*}}, %{{.*}} = graph.layer_norm %[[X]], %{{.*}} : tensor<?x3x4xbf16>, tensor<4xf32>, tensor<4xf32> to tensor<?x3x4xbf16>, tensor<?x3xf32>, tensor<?x3xf32>
// CHECK: %[[W:.*]] = graph.cast %{{.*}} : tensor<4x8xf32> to tensor<4x8xbf16>
// CHECK: %[[Y:.*]] = graph.matmul %[[N]], %[[W]] bias %{{.*}} : tensor<8xf32>
// CHECK: %[[L:.*]] = graph.cast %[[Y]] : tensor<?x3x8xbf16> to tensor<?x3x8xf32>
// CHECK: graph.cross_entropy %[[L]]

// Gradients of activations are bf16.
// CHECK-LABEL: func.func private @block0.backward_input
// CHECK-SAME: -> (tensor<?x3x4xbf16>, tensor<?x3x8xf32>, tensor<?x3x4xbf16>)

// Gradients of parameters are computed in f32.
// CHECK-LABEL: func.func private @block0.backward_weight
// CHECK-SAME: -> (tensor<4xf32>, tensor<4xf32>, tensor<4x8xf32>, tensor<8xf32>)
// CHECK-DAG: graph.matmul %{{.*}}, %{{.*}} {transpose_a = true} : tensor<?x4xbf16, #graph.batch<3>>, tensor<?x8xbf16, #graph.batch<3>> to tensor<4x8xf32>
// CHECK-DAG: graph.reduce_sum %{{.*}} : tensor<?x3x8xf32> to tensor<8xf32>
func.func private @block0(%x: tensor<?x3x4xf32>, %l: tensor<?x3xi64> {graph.label = "labels"}, %g: tensor<4xf32> {graph.parameter = "trainable"}, %h: tensor<4xf32> {graph.parameter = "trainable"}, %w: tensor<4x8xf32> {graph.parameter = "trainable"}, %b: tensor<8xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0:3 = graph.layer_norm %x, %g, %h {epsilon = 1.0e-5 : f64} : tensor<?x3x4xf32>, tensor<4xf32>, tensor<4xf32> to tensor<?x3x4xf32>, tensor<?x3xf32>, tensor<?x3xf32>
  %1 = graph.matmul %0#0, %w bias %b : tensor<8xf32> : tensor<?x3x4xf32>, tensor<4x8xf32> to tensor<?x3x8xf32>
  %loss, %weights, %lse = graph.cross_entropy %1, %l : tensor<?x3x8xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x3x4xf32> {graph.input = "x"}, %l: tensor<?x3xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w = graph.get_parameter @w : tensor<4x8xf32>
  %b = graph.get_parameter @b : tensor<8xf32>
  %g = graph.get_parameter @g : tensor<4xf32>
  %0:2 = func.call @block0(%x, %l, %g, %g, %w, %b) : (tensor<?x3x4xf32>, tensor<?x3xi64>, tensor<4xf32>, tensor<4xf32>, tensor<4x8xf32>, tensor<8xf32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// -----

// What the model reads keeps its type and is cast where it is used.
graph.parameter @w : tensor<4x8xf32> from "w"
// CHECK-LABEL: func.func private @block0.forward
// CHECK-SAME: (%[[X:[^:]*]]: tensor<?x4xf32> {graph.input = "x"}
// CHECK: graph.cast %[[X]] : tensor<?x4xf32> to tensor<?x4xbf16>
// CHECK-LABEL: func.func private @block0.backward_weight
// CHECK-SAME: (%{{[^:]*}}: tensor<?x4xf32> {graph.input = "x"}
func.func private @block0(%x: tensor<?x4xf32> {graph.input = "x"}, %l: tensor<?xi64> {graph.label = "labels"}, %w: tensor<4x8xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4xf32>, tensor<4x8xf32> to tensor<?x8xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %l : tensor<?x8xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}, %l: tensor<?xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w = graph.get_parameter @w : tensor<4x8xf32>
  %0:2 = func.call @block0(%x, %l, %w) : (tensor<?x4xf32>, tensor<?xi64>, tensor<4x8xf32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// -----

// The gradients of a weight that is used twice are summed before anything is
// rounded, and so is what scales a gradient or sums it over a batch of products.
graph.parameter @w : tensor<4x4xf32> from "w"
graph.parameter @v : tensor<1x4x4xf32> from "v"
// CHECK-LABEL: func.func private @block0.backward_weight
// CHECK-SAME: -> (tensor<4x4xf32>, tensor<1x4x4xf32>)
// CHECK-DAG: %[[A:.*]] = graph.matmul %{{.*}}, %{{.*}} {transpose_a = true} : tensor<?x4xbf16, #graph.batch<3>>, tensor<?x4xbf16, #graph.batch<3>> to tensor<4x4xf32>
// CHECK-DAG: %[[B:.*]] = graph.matmul %{{.*}}, %{{.*}} {transpose_a = true} : tensor<?x4xbf16, #graph.batch<3>>, tensor<?x4xbf16, #graph.batch<3>> to tensor<4x4xf32>
// CHECK-DAG: %[[M:.*]] = graph.mul %{{.*}}, %{{.*}} : tensor<4x4xf32>, tensor<f32> to tensor<4x4xf32>
// CHECK-DAG: graph.add %{{.*}}, %{{.*}} : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
// CHECK-DAG: %[[C:.*]] = graph.matmul %{{.*}}, %{{.*}} {transpose_a = true} : tensor<?x3x4xbf16>, tensor<?x3x4xbf16> to tensor<?x4x4xf32>
// CHECK-DAG: graph.reduce_sum %[[C]] {{.*}} : tensor<?x4x4xf32> to tensor<
// CHECK-NOT: graph.cast %{{.*}} : tensor<4x4xbf16>
// CHECK: return
func.func private @block0(%x: tensor<?x3x4xf32>, %l: tensor<?x3xi64> {graph.label = "labels"}, %w: tensor<4x4xf32> {graph.parameter = "trainable"}, %v: tensor<1x4x4xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %half = graph.constant dense<5.0e-01> : tensor<f32>
  %0 = graph.matmul %x, %w : tensor<?x3x4xf32>, tensor<4x4xf32> to tensor<?x3x4xf32>
  %1 = graph.relu %0 : tensor<?x3x4xf32>
  %scaled = graph.mul %w, %half : tensor<4x4xf32>, tensor<f32> to tensor<4x4xf32>
  %2 = graph.matmul %1, %scaled : tensor<?x3x4xf32>, tensor<4x4xf32> to tensor<?x3x4xf32>
  %3 = graph.relu %2 : tensor<?x3x4xf32>
  %4 = graph.matmul %3, %v : tensor<?x3x4xf32>, tensor<1x4x4xf32> to tensor<?x3x4xf32>
  %loss, %weights, %lse = graph.cross_entropy %4, %l : tensor<?x3x4xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x3x4xf32> {graph.input = "x"}, %l: tensor<?x3xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w = graph.get_parameter @w : tensor<4x4xf32>
  %v = graph.get_parameter @v : tensor<1x4x4xf32>
  %0:2 = func.call @block0(%x, %l, %w, %v) : (tensor<?x3x4xf32>, tensor<?x3xi64>, tensor<4x4xf32>, tensor<1x4x4xf32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}
