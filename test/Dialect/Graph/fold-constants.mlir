// RUN: tombolo-opt %s --graph-fold-constants | FileCheck %s

// Elementwise ops of constants are computed, with broadcasting.
// CHECK-LABEL: @elementwise
func.func @elementwise() -> (tensor<2x2xi64>, tensor<f32>, tensor<2x2xi1>) {
  // CHECK-DAG: graph.constant dense<{{\[\[}}11, 12], [21, 22]]> : tensor<2x2xi64>
  // CHECK-DAG: graph.constant dense<1.250000e-01> : tensor<f32>
  // CHECK-DAG: graph.constant dense<{{\[\[}}true, false], [true, true]]> : tensor<2x2xi1>
  // CHECK-NEXT: return
  %tens = graph.constant dense<[[10], [20]]> : tensor<2x1xi64>
  %ones = graph.constant dense<[1, 2]> : tensor<2xi64>
  %0 = graph.add %tens, %ones : tensor<2x1xi64>, tensor<2xi64> to tensor<2x2xi64>
  %size = graph.constant dense<64> : tensor<i64>
  %1 = graph.cast %size : tensor<i64> to tensor<f32>
  %2 = graph.sqrt %1 : tensor<f32>
  %3 = graph.reciprocal %2 : tensor<f32>
  %limits = graph.constant dense<[[1], [30]]> : tensor<2x1xi64>
  %other = graph.constant dense<[0, 4]> : tensor<2xi64>
  %4 = graph.mul %other, %ones : tensor<2xi64>, tensor<2xi64> to tensor<2xi64>
  %5 = graph.less %4, %limits : tensor<2xi64>, tensor<2x1xi64> to tensor<2x2xi1>
  return %0, %3, %5 : tensor<2x2xi64>, tensor<f32>, tensor<2x2xi1>
}

// An integer division by zero is left to the executor.
// CHECK-LABEL: @fault
func.func @fault() -> tensor<i64> {
  // CHECK: graph.div
  %one = graph.constant dense<1> : tensor<i64>
  %zero = graph.constant dense<0> : tensor<i64>
  %0 = graph.div %one, %zero : tensor<i64>, tensor<i64> to tensor<i64>
  return %0 : tensor<i64>
}

// Transposes and slices of constants.
// CHECK-LABEL: @movements
func.func @movements() -> (tensor<3x2xi64>, tensor<2x2xi64>) {
  // CHECK-DAG: dense<{{\[\[}}1, 4], [2, 5], [3, 6]]>
  // CHECK-DAG: dense<{{\[\[}}1, 3], [4, 6]]>
  %0 = graph.constant dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi64>
  %1 = graph.transpose %0, [1, 0] : tensor<2x3xi64> to tensor<3x2xi64>
  %2 = graph.slice %0 {axis = 1 : i64, offset = 0 : i64, size = 2 : i64, step = 2 : i64} : tensor<2x3xi64> to tensor<2x2xi64>
  return %1, %2 : tensor<3x2xi64>, tensor<2x2xi64>
}

// All positions of a table are the table; some in a row are a slice.
// CHECK-LABEL: @positions
func.func @positions(%table: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>, tensor<8xf32>) {
  // CHECK: %[[S:.*]] = graph.slice %arg0 {axis = 0 : i64, offset = 1 : i64, size = 2 : i64}
  // CHECK: %[[G:.*]] = graph.gather
  // CHECK: %[[L:.*]] = graph.slice %arg0 {axis = 0 : i64, offset = 3 : i64, size = 1 : i64}
  // CHECK: %[[R:.*]] = graph.reshape %[[L]] : tensor<1x8xf32> to tensor<8xf32>
  // CHECK: return %arg0, %[[S]], %[[G]], %[[R]]
  %all = graph.constant dense<[0, 1, 2, 3]> : tensor<4xi64>
  %0 = graph.gather %table, %all : tensor<4x8xf32>, tensor<4xi64> to tensor<4x8xf32>
  %some = graph.constant dense<[1, 2]> : tensor<2xi64>
  %1 = graph.gather %table, %some : tensor<4x8xf32>, tensor<2xi64> to tensor<2x8xf32>
  %backwards = graph.constant dense<[2, 1]> : tensor<2xi64>
  %2 = graph.gather %table, %backwards : tensor<4x8xf32>, tensor<2xi64> to tensor<2x8xf32>
  %last = graph.constant dense<3> : tensor<i64>
  %3 = graph.gather %table, %last : tensor<4x8xf32>, tensor<i64> to tensor<8xf32>
  return %0, %1, %2, %3 : tensor<4x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>, tensor<8xf32>
}

// Slices that share out an axis are one split.
// CHECK-LABEL: @split
func.func @split(%x: tensor<?x6xf32>) -> (tensor<?x4xf32>, tensor<?x2xf32>) {
  // CHECK: %[[P:.*]]:2 = graph.split %arg0 {axis = 1 : i64, sizes = array<i64: 2, 4>}
  // CHECK: return %[[P]]#1, %[[P]]#0
  %0 = graph.slice %x {axis = 1 : i64, offset = 2 : i64, size = 4 : i64} : tensor<?x6xf32> to tensor<?x4xf32>
  %1 = graph.slice %x {axis = 1 : i64, offset = 0 : i64, size = 2 : i64} : tensor<?x6xf32> to tensor<?x2xf32>
  return %0, %1 : tensor<?x4xf32>, tensor<?x2xf32>
}

// Slices that overlap are not.
// CHECK-LABEL: @overlap
func.func @overlap(%x: tensor<?x6xf32>) -> (tensor<?x4xf32>, tensor<?x3xf32>) {
  // CHECK-NOT: graph.split
  %0 = graph.slice %x {axis = 1 : i64, offset = 2 : i64, size = 4 : i64} : tensor<?x6xf32> to tensor<?x4xf32>
  %1 = graph.slice %x {axis = 1 : i64, offset = 0 : i64, size = 3 : i64} : tensor<?x6xf32> to tensor<?x3xf32>
  return %0, %1 : tensor<?x4xf32>, tensor<?x3xf32>
}

// An elementwise op reads what is broadcast for it; a known condition chooses.
// CHECK-LABEL: @broadcasts
func.func @broadcasts(%x: tensor<?x4xf32>, %y: tensor<4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  // CHECK: %[[S:.*]] = graph.add %arg0, %arg1 : tensor<?x4xf32>, tensor<4xf32>
  // CHECK: return %[[S]], %arg0
  %0 = graph.broadcast %y : tensor<4xf32> to tensor<?x4xf32>
  %1 = graph.add %x, %0 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %true = graph.constant dense<true> : tensor<1x4xi1>
  %2 = graph.where %true, %x, %1 : tensor<1x4xi1>, tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  return %1, %2 : tensor<?x4xf32>, tensor<?x4xf32>
}

// A causal mask stays an op.
// CHECK-LABEL: @mask
func.func @mask() -> tensor<4096x4096xi1> {
  // CHECK: graph.causal_mask
  %0 = graph.causal_mask : tensor<4096x4096xi1>
  return %0 : tensor<4096x4096xi1>
}
