// RUN: tombolo-opt %s -canonicalize | FileCheck %s

// Chains of views become one, views that change nothing vanish.
// CHECK-LABEL: @views
func.func @views(%x: tensor<?x3x4xf32>) -> (tensor<?x3x4xf32>, tensor<4x?x3xf32>, tensor<?x3x4xf32>) {
  // CHECK: %[[T:.*]] = graph.transpose %arg0, [2, 0, 1]
  // CHECK: return %arg0, %[[T]], %arg0
  %0 = graph.reshape %x : tensor<?x3x4xf32> to tensor<?x12xf32>
  %1 = graph.reshape %0 : tensor<?x12xf32> to tensor<?x3x4xf32>
  %2 = graph.transpose %x, [0, 2, 1] : tensor<?x3x4xf32> to tensor<?x4x3xf32>
  %3 = graph.transpose %2, [1, 0, 2] : tensor<?x4x3xf32> to tensor<4x?x3xf32>
  %4 = graph.cast %x : tensor<?x3x4xf32> to tensor<?x3x4xf32>
  return %1, %3, %4 : tensor<?x3x4xf32>, tensor<4x?x3xf32>, tensor<?x3x4xf32>
}

// Adding zeros and multiplying by one do nothing.
// CHECK-LABEL: @neutral
func.func @neutral(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  // CHECK-NEXT: return %arg0
  %zero = graph.constant dense<0.0> : tensor<f32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %0 = graph.add %x, %zero : tensor<?x4xf32>, tensor<f32> to tensor<?x4xf32>
  %1 = graph.mul %one, %0 : tensor<4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  return %1 : tensor<?x4xf32>
}
