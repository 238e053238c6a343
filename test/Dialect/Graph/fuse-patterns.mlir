// RUN: tombolo-opt %s --graph-fuse-patterns | FileCheck %s

// The steps of a layer norm, its variance by pow.
// CHECK-LABEL: @layer_norm
func.func @layer_norm(%x: tensor<?x4x8xf32>, %gamma: tensor<8xf32>, %beta: tensor<8xf32>) -> tensor<?x4x8xf32> {
  // CHECK: %[[Y:.*]], %{{.*}}, %{{.*}} = graph.layer_norm %arg0, %arg1, %arg2 {epsilon = 9.9999997473787516E-6 : f64}
  // CHECK-NEXT: return %[[Y]]
  %two = graph.constant dense<2.0> : tensor<f32>
  %eps = graph.constant dense<1.0e-5> : tensor<f32>
  %mean = graph.reduce_mean %x {axes = array<i64: 2>, keep_dims = true} : tensor<?x4x8xf32> to tensor<?x4x1xf32>
  %d = graph.sub %x, %mean : tensor<?x4x8xf32>, tensor<?x4x1xf32> to tensor<?x4x8xf32>
  %sq = graph.pow %d, %two : tensor<?x4x8xf32>, tensor<f32> to tensor<?x4x8xf32>
  %var = graph.reduce_mean %sq {axes = array<i64: 2>, keep_dims = true} : tensor<?x4x8xf32> to tensor<?x4x1xf32>
  %ve = graph.add %var, %eps : tensor<?x4x1xf32>, tensor<f32> to tensor<?x4x1xf32>
  %std = graph.sqrt %ve : tensor<?x4x1xf32>
  %n = graph.div %d, %std : tensor<?x4x8xf32>, tensor<?x4x1xf32> to tensor<?x4x8xf32>
  %s = graph.mul %n, %gamma : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %y = graph.add %s, %beta : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  return %y : tensor<?x4x8xf32>
}

// A norm without factor and addend has those that do nothing; a subtraction
// that the exporter repeated is the same value.
// CHECK-LABEL: @plain_norm
func.func @plain_norm(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK-DAG: %[[ONE:.*]] = graph.constant dense<1.000000e+00>
  // CHECK-DAG: %[[ZERO:.*]] = graph.constant dense<0.000000e+00>
  // CHECK-DAG: %[[G:.*]] = graph.broadcast %[[ONE]]
  // CHECK-DAG: %[[B:.*]] = graph.broadcast %[[ZERO]]
  // CHECK: graph.layer_norm %arg0, %[[G]], %[[B]]
  %eps = graph.constant dense<1.0e-5> : tensor<f32>
  %mean = graph.reduce_mean %x {axes = array<i64: 1>, keep_dims = true} : tensor<?x8xf32> to tensor<?x1xf32>
  %d = graph.sub %x, %mean : tensor<?x8xf32>, tensor<?x1xf32> to tensor<?x8xf32>
  %d2 = graph.sub %x, %mean : tensor<?x8xf32>, tensor<?x1xf32> to tensor<?x8xf32>
  %sq = graph.mul %d2, %d2 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %var = graph.reduce_mean %sq {axes = array<i64: 1>, keep_dims = true} : tensor<?x8xf32> to tensor<?x1xf32>
  %ve = graph.add %var, %eps : tensor<?x1xf32>, tensor<f32> to tensor<?x1xf32>
  %std = graph.sqrt %ve : tensor<?x1xf32>
  %inv = graph.reciprocal %std : tensor<?x1xf32>
  %n = graph.mul %d, %inv : tensor<?x8xf32>, tensor<?x1xf32> to tensor<?x8xf32>
  return %n : tensor<?x8xf32>
}

// A deviation of something else is no norm.
// CHECK-LABEL: @no_norm
func.func @no_norm(%x: tensor<?x8xf32>, %z: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK-NOT: layer_norm
  %two = graph.constant dense<2.0> : tensor<f32>
  %eps = graph.constant dense<1.0e-5> : tensor<f32>
  %mean = graph.reduce_mean %x {axes = array<i64: 1>, keep_dims = true} : tensor<?x8xf32> to tensor<?x1xf32>
  %d = graph.sub %x, %mean : tensor<?x8xf32>, tensor<?x1xf32> to tensor<?x8xf32>
  %sq = graph.pow %z, %two : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %var = graph.reduce_mean %sq {axes = array<i64: 1>, keep_dims = true} : tensor<?x8xf32> to tensor<?x1xf32>
  %ve = graph.add %var, %eps : tensor<?x1xf32>, tensor<f32> to tensor<?x1xf32>
  %std = graph.sqrt %ve : tensor<?x1xf32>
  %n = graph.div %d, %std : tensor<?x8xf32>, tensor<?x1xf32> to tensor<?x8xf32>
  return %n : tensor<?x8xf32>
}

// GELU by erf, the half applied first or last.
// CHECK-LABEL: @gelu_erf
func.func @gelu_erf(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  // CHECK: %[[A:.*]] = graph.gelu %arg0 : tensor<?x8xf32>
  // CHECK: %[[B:.*]] = graph.gelu %arg0 : tensor<?x8xf32>
  // CHECK: return %[[A]], %[[B]]
  %root = graph.constant dense<1.41421354> : tensor<f32>
  %invroot = graph.constant dense<0.707106769> : tensor<f32>
  %one = graph.constant dense<1.0> : tensor<f32>
  %half = graph.constant dense<0.5> : tensor<f32>
  %0 = graph.div %x, %root : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %1 = graph.erf %0 : tensor<?x8xf32>
  %2 = graph.add %1, %one : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %3 = graph.mul %x, %2 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %4 = graph.mul %3, %half : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %5 = graph.mul %x, %invroot : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %6 = graph.erf %5 : tensor<?x8xf32>
  %7 = graph.add %6, %one : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %8 = graph.mul %half, %x : tensor<f32>, tensor<?x8xf32> to tensor<?x8xf32>
  %9 = graph.mul %8, %7 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  return %4, %9 : tensor<?x8xf32>, tensor<?x8xf32>
}

// GELU by tanh, the cube by pow.
// CHECK-LABEL: @gelu_tanh
func.func @gelu_tanh(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: %[[Y:.*]] = graph.gelu %arg0 {approximate = "tanh"}
  // CHECK-NEXT: return %[[Y]]
  %three = graph.constant dense<3.0> : tensor<f32>
  %cubic = graph.constant dense<0.044715> : tensor<f32>
  %scale = graph.constant dense<0.797884583> : tensor<f32>
  %one = graph.constant dense<1.0> : tensor<f32>
  %half = graph.constant dense<0.5> : tensor<f32>
  %0 = graph.pow %x, %three : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %1 = graph.mul %0, %cubic : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %2 = graph.add %x, %1 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %3 = graph.mul %2, %scale : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %4 = graph.tanh %3 : tensor<?x8xf32>
  %5 = graph.add %4, %one : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %6 = graph.mul %x, %half : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %7 = graph.mul %6, %5 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  return %7 : tensor<?x8xf32>
}

// Another constant is another function.
// CHECK-LABEL: @no_gelu
func.func @no_gelu(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK-NOT: graph.gelu
  %root = graph.constant dense<1.4> : tensor<f32>
  %one = graph.constant dense<1.0> : tensor<f32>
  %half = graph.constant dense<0.5> : tensor<f32>
  %0 = graph.div %x, %root : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %1 = graph.erf %0 : tensor<?x8xf32>
  %2 = graph.add %1, %one : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  %3 = graph.mul %x, %2 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %4 = graph.mul %3, %half : tensor<?x8xf32>, tensor<f32> to tensor<?x8xf32>
  return %4 : tensor<?x8xf32>
}

// A bias on either side, and the transpose of a weight.
// CHECK-LABEL: @linear
func.func @linear(%x: tensor<?x4x8xf32>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> tensor<?x4x16xf32> {
  // CHECK: graph.matmul %arg0, %arg1 bias %arg2 : tensor<16xf32> {transpose_b = true}
  %t = graph.transpose %w, [1, 0] : tensor<16x8xf32> to tensor<8x16xf32>
  %0 = graph.matmul %x, %t : tensor<?x4x8xf32>, tensor<8x16xf32> to tensor<?x4x16xf32>
  %1 = graph.add %b, %0 : tensor<16xf32>, tensor<?x4x16xf32> to tensor<?x4x16xf32>
  return %1 : tensor<?x4x16xf32>
}

// A residual is no bias, nor is what is added to a product read elsewhere.
// CHECK-LABEL: @no_bias
func.func @no_bias(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %b: tensor<8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>) {
  // CHECK-NOT: bias
  %0 = graph.matmul %x, %w : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %1 = graph.add %0, %x : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %2 = graph.add %0, %b : tensor<?x8xf32>, tensor<8xf32> to tensor<?x8xf32>
  return %0, %1, %2 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>
}
