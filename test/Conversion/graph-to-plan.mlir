// RUN: tombolo-opt %s -split-input-file -graph-convert-segments | FileCheck %s

// Q, K and V are strided views of one product; attention writes its heads
// interleaved, as the next product reads them; the residual is added in the
// result's own memory: neither a copy nor workspace.
// CHECK-LABEL: plan.segment @forward
// CHECK-SAME: %[[X:[^:]*]]: memref<2x4x8xf32> read "x"
// CHECK-SAME: %[[Y:arg3]]: memref<2x4x8xf32> write "r0", %[[QKV:arg4]]: memref<2x4x24xf32> write "r1", %[[O:arg5]]: memref<2x4x8xf32> write "r2", %[[LSE:arg6]]: memref<2x2x4xf32> write "r3") {
// CHECK: plan.compute "matmul" ins(%[[X]], %arg1 : {{.*}}) outs(%arg4 :
// CHECK-DAG: %[[Q:.*]] = plan.view %arg4[0] : memref<2x4x24xf32> to memref<2x2x4x4xf32, strided<[96, 4, 24, 1]>>
// CHECK-DAG: %[[K:.*]] = plan.view %arg4[32] :
// CHECK-DAG: %[[V:.*]] = plan.view %arg4[64] :
// CHECK-DAG: %[[OV:.*]] = plan.view %arg5[0] : memref<2x4x8xf32> to memref<2x2x4x4xf32, strided<[32, 4, 8, 1]>>
// CHECK: plan.compute "attention" ins(%[[Q]], %[[K]], %[[V]] : {{.*}}) outs(%[[OV]], %arg6 :
// CHECK: plan.compute "matmul" ins(%arg5, %arg2 : {{.*}}) outs(%arg3 :
// CHECK: plan.compute "add" ins(%[[X]], %arg3 : {{.*}}) outs(%arg3 :
// CHECK-NOT: "copy"
func.func @forward(%x: tensor<2x4x8xf32> {graph.input = "x"}, %w: tensor<8x24xf32>, %p: tensor<8x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4x24xf32>, tensor<2x4x8xf32>, tensor<2x2x4xf32>) {
  %0 = graph.matmul %x, %w : tensor<2x4x8xf32>, tensor<8x24xf32> to tensor<2x4x24xf32>
  %1:3 = graph.split %0 {axis = 2, sizes = array<i64: 8, 8, 8>} : tensor<2x4x24xf32> to tensor<2x4x8xf32>, tensor<2x4x8xf32>, tensor<2x4x8xf32>
  %2 = graph.reshape %1#0 : tensor<2x4x8xf32> to tensor<2x4x2x4xf32>
  %q = graph.transpose %2, [0, 2, 1, 3] : tensor<2x4x2x4xf32> to tensor<2x2x4x4xf32>
  %3 = graph.reshape %1#1 : tensor<2x4x8xf32> to tensor<2x4x2x4xf32>
  %k = graph.transpose %3, [0, 2, 1, 3] : tensor<2x4x2x4xf32> to tensor<2x2x4x4xf32>
  %4 = graph.reshape %1#2 : tensor<2x4x8xf32> to tensor<2x4x2x4xf32>
  %v = graph.transpose %4, [0, 2, 1, 3] : tensor<2x4x2x4xf32> to tensor<2x2x4x4xf32>
  %o:2 = graph.attention %q, %k, %v {causal = true, scale = 0.5 : f64} : tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32> to tensor<2x2x4x4xf32>, tensor<2x2x4xf32>
  %5 = graph.transpose %o#0, [0, 2, 1, 3] : tensor<2x2x4x4xf32> to tensor<2x4x2x4xf32>
  %6 = graph.reshape %5 : tensor<2x4x2x4xf32> to tensor<2x4x8xf32>
  %7 = graph.matmul %6, %p : tensor<2x4x8xf32>, tensor<8x8xf32> to tensor<2x4x8xf32>
  %8 = graph.add %x, %7 : tensor<2x4x8xf32>, tensor<2x4x8xf32> to tensor<2x4x8xf32>
  return %8, %0, %6, %o#1 : tensor<2x4x8xf32>, tensor<2x4x24xf32>, tensor<2x4x8xf32>, tensor<2x2x4xf32>
}

// -----

// The parts of a concat are computed in the whole where their op can write
// strides (matmul), and copied where it cannot (softmax).
// CHECK-LABEL: plan.segment @concat
// CHECK-SAME: workspace 64
// CHECK: %[[S0:.*]] = plan.view %arg2[0] : memref<4x8xf32> to memref<4x4xf32, strided<[8, 1]>>
// CHECK: "matmul" {{.*}} outs(%[[S0]] :
// CHECK: %[[W:.*]] = plan.workspace[0]
// CHECK: "softmax" {{.*}} outs(%[[W]] :
// CHECK: %[[S1:.*]] = plan.view %arg2[16]
// CHECK: "copy" ins(%[[W]] : {{.*}}) outs(%[[S1]] :
func.func @concat(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>) -> tensor<4x8xf32> {
  %0 = graph.matmul %x, %y : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  %1 = graph.softmax %x : tensor<4x4xf32>
  %2 = graph.concat %0, %1 {axis = 1} : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x8xf32>
  return %2 : tensor<4x8xf32>
}

// -----

// What may be added to is; a result that something else reads, or that only a
// reshape away is a sum, is added by a copy or through the reshape.
// CHECK-LABEL: plan.segment @accumulate
// CHECK-SAME: read_write "r0", {{.*}} read_write "r1", {{.*}} write "r2"
// CHECK: "matmul" ins(%arg0, %arg0 : {{.*}}) outs(%[[V:[0-9a-z]*]] : {{.*}}) accumulate
// CHECK: "softmax" {{.*}} outs(%arg3 :
// CHECK: "copy" ins(%arg3 : {{.*}}) outs(%arg2 : {{.*}}) accumulate
func.func @accumulate(%x: tensor<4x4xf32>) -> (tensor<16xf32> {plan.accumulate}, tensor<4x4xf32> {plan.accumulate}, tensor<4x4xf32>) {
  %0 = graph.matmul %x, %x {transpose_a = true} : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  %1 = graph.reshape %0 : tensor<4x4xf32> to tensor<16xf32>
  %2 = graph.softmax %x : tensor<4x4xf32>
  return %1, %2, %2 : tensor<16xf32>, tensor<4x4xf32>, tensor<4x4xf32>
}

// -----

// Workspace is shared by values that are not alive together: four products in
// a row need two places.
// CHECK-LABEL: plan.segment @workspace
// CHECK-SAME: workspace 128
func.func @workspace(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %0 = graph.matmul %x, %x : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  %1 = graph.matmul %0, %x : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  %2 = graph.matmul %1, %x : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  %3 = graph.matmul %2, %x : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  %4 = graph.matmul %3, %x : tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  return %4 : tensor<4x4xf32>
}

// -----

// An optimizer updates its argument; the result has no memory of its own.
// CHECK-LABEL: plan.segment @optimizer
// CHECK-SAME: (%arg0: memref<16xf32> read_write "a0", %arg1: memref<16xf32> read "a1", %arg2: memref<1xf32> read "a2", %arg3: memref<1xi64> read_write "a3") {
// CHECK: "optimizer_advance" ins(%arg2, %arg3 : {{.*}}) outs(%arg3 :
// CHECK: "sgd" ins(%arg0, %arg1, %arg2, %arg3 : {{.*}}) outs(%arg0 :
func.func @optimizer(%p: tensor<16xf32>, %g: tensor<16xf32>, %w: tensor<1xf32>, %u: tensor<1xi64>) -> (tensor<16xf32> {plan.in_place = 0 : i64}, tensor<1xi64> {plan.in_place = 3 : i64}) {
  %0 = graph.optimizer_advance %w, %u : tensor<1xf32>, tensor<1xi64> to tensor<1xi64>
  %1 = graph.sgd %p, %g, %w, %0 {learning_rate = 1.0e-3 : f64, momentum = 0.0 : f64, weight_decay = 0.0 : f64} : tensor<16xf32>, tensor<16xf32>, tensor<1xf32>, tensor<1xi64> to tensor<16xf32>
  return %1, %0 : tensor<16xf32>, tensor<1xi64>
}

// -----

// Arguments and views of them are copied to results; masks and constants of
// one number cost no bytes in the plan.
// CHECK-LABEL: plan.segment @leaves
// CHECK-DAG: "fill" outs(%{{.*}} : memref<4x4xf32>) with {value = 5.000000e-01 : f64}
// CHECK-DAG: "less" ins(%{{.*}}, %{{.*}} : memref<1x4xi64>, memref<4x1xi64>) outs(%{{.*}} : memref<4x4xi1>)
// CHECK: "where"
// CHECK: %[[T:.*]] = plan.view %arg0[0] : memref<4x4xf32> to memref<4x4xf32, strided<[1, 4]>>
// CHECK: "copy" ins(%[[T]] : {{.*}}) outs(%arg1 :
func.func @leaves(%x: tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>) {
  %0 = graph.transpose %x, [1, 0] : tensor<4x4xf32> to tensor<4x4xf32>
  %1 = graph.constant dense<0.5> : tensor<4x4xf32>
  %2 = graph.causal_mask : tensor<4x4xi1>
  %3 = graph.where %2, %x, %1 : tensor<4x4xi1>, tensor<4x4xf32>, tensor<4x4xf32> to tensor<4x4xf32>
  return %0, %3 : tensor<4x4xf32>, tensor<4x4xf32>
}
