// RUN: tombolo-opt %s "--graph-infer-shapes=inputs=x=?x32x8,y=32x8" | FileCheck %s
// RUN: tombolo-opt %s --graph-infer-shapes | FileCheck %s --check-prefix=SAME

// Inferred results, functions and calls follow the arguments.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %arg0: tensor<?x32x8xf32>
// CHECK-SAME: -> (tensor<?x32x4xf32>, tensor<?x8xf32, #graph.batch<32>>, tensor<?x32x8xf32>)
// SAME-LABEL: func.func @main
// SAME-SAME: -> (tensor<?x16x4xf32>, tensor<?x8xf32, #graph.batch<16>>, tensor<?x16x8xf32>)
func.func @main(%x: tensor<?x16x8xf32> {graph.input = "x"}, %y: tensor<16x8xf32> {graph.input = "y"}, %w: tensor<4x8xf32>) -> (tensor<?x16x4xf32>, tensor<?x8xf32, #graph.batch<16>>, tensor<?x16x8xf32>) {
  // CHECK: graph.relu %arg0 : tensor<?x32x8xf32>
  %0 = graph.relu %x : tensor<?x16x8xf32>
  // CHECK: graph.matmul {{.*}} : tensor<?x32x8xf32>, tensor<4x8xf32> to tensor<?x32x4xf32>
  %1 = graph.matmul %0, %w {transpose_b = true} : tensor<?x16x8xf32>, tensor<4x8xf32> to tensor<?x16x4xf32>
  // The dimension of a reshape that stands for the batch takes the difference.
  // CHECK: graph.reshape {{.*}} : tensor<?x32x8xf32> to tensor<?x8xf32, #graph.batch<32>>
  %2 = graph.reshape %0 : tensor<?x16x8xf32> to tensor<?x8xf32, #graph.batch<16>>
  // CHECK: graph.broadcast {{.*}} : tensor<32x8xf32> to tensor<?x32x8xf32>
  %3 = graph.broadcast %y : tensor<16x8xf32> to tensor<?x16x8xf32>
  return %1, %2, %3 : tensor<?x16x4xf32>, tensor<?x8xf32, #graph.batch<16>>, tensor<?x16x8xf32>
}
