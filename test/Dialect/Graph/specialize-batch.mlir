// RUN: tombolo-opt %s -graph-specialize-batch=batch=4 | FileCheck %s

// Every multiple of the batch becomes a number; views and results agree.
// CHECK-LABEL: func.func @rows
// CHECK-SAME: (%{{.*}}: tensor<4x3x8xf32>) -> tensor<12x8xf32>
func.func @rows(%x: tensor<?x3x8xf32>) -> tensor<?x8xf32, #graph.batch<3>> {
  // CHECK: graph.reshape %{{.*}} : tensor<4x3x8xf32> to tensor<12x8xf32>
  %0 = graph.reshape %x : tensor<?x3x8xf32> to tensor<?x8xf32, #graph.batch<3>>
  %1 = graph.softmax %0 : tensor<?x8xf32, #graph.batch<3>>
  return %1 : tensor<?x8xf32, #graph.batch<3>>
}
