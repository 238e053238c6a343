// RUN: tombolo-opt %s | tombolo-opt | FileCheck %s

// Parameters are symbols; their names may hold any character.
// CHECK: graph.parameter @"model.0/w" : tensor<4x8xf32> from "onnx::w"
graph.parameter @"model.0/w" : tensor<4x8xf32> from "onnx::w"
// CHECK: graph.parameter @mask : tensor<8xf32> from "mask" frozen
graph.parameter @mask : tensor<8xf32> from "mask" frozen

// The batch is the dynamic dimension; rows that are a multiple of it say so.
// CHECK-LABEL: @views
// CHECK: graph.reshape %{{.*}} : tensor<?x3x4xf32> to tensor<?x4xf32, #graph.batch<3>>
func.func @views(%x: tensor<?x3x4xf32>) -> (tensor<?x4xf32, #graph.batch<3>>, tensor<4x?x3xf32>, tensor<?x3x4x5xf32>) {
  %0 = graph.reshape %x : tensor<?x3x4xf32> to tensor<?x4xf32, #graph.batch<3>>
  %1 = graph.transpose %x, [2, 0, 1] : tensor<?x3x4xf32> to tensor<4x?x3xf32>
  %2 = graph.slice %x {axis = 2, offset = 1, size = 2, step = 2} : tensor<?x3x4xf32> to tensor<?x3x2xf32>
  %3:2 = graph.split %x {axis = 2, sizes = array<i64: 1, 3>} : tensor<?x3x4xf32> to tensor<?x3x1xf32>, tensor<?x3x3xf32>
  %4 = graph.concat %3#0, %3#1 {axis = 2} : tensor<?x3x1xf32>, tensor<?x3x3xf32> to tensor<?x3x4xf32>
  %5 = graph.pad %2 {low = array<i64: 0, 0, 1>} : tensor<?x3x2xf32> to tensor<?x3x4xf32>
  %6 = graph.reshape %4 : tensor<?x3x4xf32> to tensor<?x3x4x1xf32>
  %7 = graph.broadcast %6 : tensor<?x3x4x1xf32> to tensor<?x3x4x5xf32>
  return %0, %1, %7 : tensor<?x4xf32, #graph.batch<3>>, tensor<4x?x3xf32>, tensor<?x3x4x5xf32>
}

// CHECK-LABEL: @compute
func.func @compute(%x: tensor<?x4xf32>, %i: tensor<?xi64>) -> tensor<f32> {
  %w = graph.get_parameter @"model.0/w" : tensor<4x8xf32>
  %b = graph.get_parameter @mask : tensor<8xf32>
  // CHECK: graph.matmul %{{.*}}, %{{.*}} bias %{{.*}} : tensor<8xf32> : tensor<?x4xf32>, tensor<4x8xf32> to tensor<?x8xf32>
  %0 = graph.matmul %x, %w bias %b : tensor<8xf32> : tensor<?x4xf32>, tensor<4x8xf32> to tensor<?x8xf32>
  %1 = graph.gelu %0 {approximate = "tanh"} : tensor<?x8xf32>
  %2:3 = graph.layer_norm %1, %b, %b {epsilon = 1.0e-5 : f64} : tensor<?x8xf32>, tensor<8xf32>, tensor<8xf32> to tensor<?x8xf32>, tensor<?xf32>, tensor<?xf32>
  %3 = graph.constant dense<2.0> : tensor<f32>
  %4 = graph.mul %2#0, %3 : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %5 = graph.reduce_sum %4 {axes = array<i64: 1>, keep_dims = true} : tensor<?x8xf32> to tensor<?x1xf32>
  %6 = graph.sub %4, %5 : tensor<?x8xf32>, tensor<?x1xf32> to tensor<?x8xf32>
  %7 = graph.softmax %6 : tensor<?x8xf32>
  %m = graph.causal_mask {offset = 1} : tensor<8x8xi1>
  %loss, %weights, %lse = graph.cross_entropy %7, %i {ignore_index = -1} : tensor<?x8xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
  return %loss : tensor<f32>
}

// CHECK-LABEL: @attention
func.func @attention(%q: tensor<?x2x4x8xbf16>) -> tensor<?x2x4x8xbf16> {
  // CHECK: graph.attention %{{.*}} {causal = true, scale = 1.250000e-01 : f64}
  %o, %lse = graph.attention %q, %q, %q {causal = true, scale = 0.125 : f64} : tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16> to tensor<?x2x4x8xbf16>, tensor<?x2x4xf32>
  %dq, %dk, %dv = graph.attention_backward %o, %q, %q, %q, %o, %lse {causal = true, scale = 0.125 : f64} : tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>, tensor<?x2x4xf32> to tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>, tensor<?x2x4x8xbf16>
  return %dq : tensor<?x2x4x8xbf16>
}

// The optimizer works on flat slices of parameters.
// CHECK-LABEL: @optimizer
func.func @optimizer(%p: tensor<8xf32>, %w: tensor<1xf32>, %u: tensor<1xi64>) -> (tensor<8xf32>, tensor<8xf32>) {
  %n = graph.optimizer_advance %w, %u : tensor<1xf32>, tensor<1xi64> to tensor<1xi64>
  // CHECK: graph.adamw
  %0:3 = graph.adamw %p, %p, %w, %n, %p, %p {learning_rate = 1.0e-3 : f64, beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<8xf32>, tensor<8xf32>, tensor<1xf32>, tensor<1xi64>, tensor<8xf32>, tensor<8xf32> to tensor<8xf32>, tensor<8xf32>, tensor<8xf32>
  // CHECK: graph.sgd
  %1 = graph.sgd %p, %p, %w, %n {learning_rate = 1.0e-3 : f64, momentum = 0.0 : f64, weight_decay = 0.0 : f64} : tensor<8xf32>, tensor<8xf32>, tensor<1xf32>, tensor<1xi64> to tensor<8xf32>
  return %0#0, %1 : tensor<8xf32>, tensor<8xf32>
}

// Parts of a table and of a vocabulary.
// CHECK-LABEL: @parts
func.func @parts(%t: tensor<4x8xf32>, %i: tensor<?xi64>, %g: tensor<?x8xf32>, %x: tensor<?x4xf32>) {
  %n = graph.tensor_index : tensor<i64>
  // CHECK: graph.gather %{{.*}}, %{{.*}} part %{{.*}} {count = 2 : i64} : tensor<4x8xf32>, tensor<?xi64>, tensor<i64> to tensor<?x8xf32>
  %0 = graph.gather %t, %i part %n {count = 2 : i64} : tensor<4x8xf32>, tensor<?xi64>, tensor<i64> to tensor<?x8xf32>
  // CHECK: graph.gather_backward %{{.*}}, %{{.*}} part %{{.*}} {count = 2 : i64}
  %1 = graph.gather_backward %g, %i part %n {count = 2 : i64} : tensor<?x8xf32>, tensor<?xi64>, tensor<i64> to tensor<4x8xf32>
  // CHECK: graph.cross_entropy_shard %{{.*}}, %{{.*}} part %{{.*}} {count = 2 : i64} : tensor<?x4xf32>, tensor<?xi64>, tensor<i64> to tensor<?xf32>, tensor<?xf32>
  %2:2 = graph.cross_entropy_shard %x, %i part %n {count = 2 : i64} : tensor<?x4xf32>, tensor<?xi64>, tensor<i64> to tensor<?xf32>, tensor<?xf32>
  %3 = graph.all_gather %2#0 {count = 2 : i64} : tensor<?xf32> to tensor<2x?xf32>
  // CHECK: graph.cross_entropy_merge %{{.*}}, %{{.*}}, %{{.*}} : tensor<2x?xf32>, tensor<?xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
  %4:3 = graph.cross_entropy_merge %3, %2#1, %i : tensor<2x?xf32>, tensor<?xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
  return
}
