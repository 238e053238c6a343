// RUN: tombolo-opt %s -split-input-file -graph-find-blocks | FileCheck %s

// Three equal layers of two residual halves are one function called three
// times; what stands before and after is one block each.
graph.parameter @table : tensor<9x4xf32> from "table"
graph.parameter @a0 : tensor<4x4xf32> from "a0"
graph.parameter @b0 : tensor<4x4xf32> from "b0"
graph.parameter @a1 : tensor<4x4xf32> from "a1"
graph.parameter @b1 : tensor<4x4xf32> from "b1"
graph.parameter @a2 : tensor<4x4xf32> from "a2"
graph.parameter @b2 : tensor<4x4xf32> from "b2"
// CHECK-LABEL: func.func private @block0
// CHECK-SAME: (%{{.*}}: tensor<?xi64> {graph.input = "ids"}, %{{.*}}: tensor<9x4xf32> {graph.parameter = "trainable"}) -> tensor<?x4xf32> attributes {graph.block}
// CHECK-NEXT: graph.gather
// CHECK-NEXT: return
// CHECK-LABEL: func.func private @block1
// CHECK-SAME: (%[[X:.*]]: tensor<?x4xf32>, %[[A:.*]]: tensor<4x4xf32> {{.*}}, %[[B:.*]]: tensor<4x4xf32> {graph.parameter = "trainable"})
// CHECK: graph.constant
// CHECK: graph.mul
// CHECK: graph.relu
// CHECK: graph.matmul
// CHECK: graph.add
// CHECK: return
// CHECK-LABEL: func.func private @block2
// CHECK-SAME: %{{.*}}: tensor<?xi64> {graph.label = "labels"}, %{{.*}}: tensor<9x4xf32>
// CHECK: graph.transpose
// CHECK: graph.matmul
// CHECK: graph.cross_entropy
// CHECK-NOT: func.func private
// CHECK-LABEL: func.func @main
// CHECK: %[[E:.*]] = call @block0(%arg0, %[[TABLE:.*]]) :
// CHECK: %[[L0:.*]] = call @block1(%[[E]], %{{.*}}, %{{.*}}) :
// CHECK: %[[L1:.*]] = call @block1(%[[L0]], %{{.*}}, %{{.*}}) :
// CHECK: %[[L2:.*]] = call @block1(%[[L1]], %{{.*}}, %{{.*}}) :
// A tied parameter is an argument of both blocks.
// CHECK: %[[OUT:.*]]:2 = call @block2(%[[L2]], %arg1, %[[TABLE]]) :
// CHECK: return %[[OUT]]#0, %[[OUT]]#1
func.func @main(%ids: tensor<?xi64> {graph.input = "ids"}, %labels: tensor<?xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %table = graph.get_parameter @table : tensor<9x4xf32>
  %half = graph.constant dense<0.5> : tensor<f32>
  %x = graph.gather %table, %ids : tensor<9x4xf32>, tensor<?xi64> to tensor<?x4xf32>
  %a0 = graph.get_parameter @a0 : tensor<4x4xf32>
  %0 = graph.matmul %x, %a0 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %1 = graph.mul %0, %half : tensor<?x4xf32>, tensor<f32> to tensor<?x4xf32>
  %2 = graph.add %x, %1 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %3 = graph.relu %2 : tensor<?x4xf32>
  %b0 = graph.get_parameter @b0 : tensor<4x4xf32>
  %4 = graph.matmul %3, %b0 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %5 = graph.add %2, %4 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %a1 = graph.get_parameter @a1 : tensor<4x4xf32>
  %6 = graph.matmul %5, %a1 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %7 = graph.mul %6, %half : tensor<?x4xf32>, tensor<f32> to tensor<?x4xf32>
  %8 = graph.add %5, %7 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %9 = graph.relu %8 : tensor<?x4xf32>
  %b1 = graph.get_parameter @b1 : tensor<4x4xf32>
  %10 = graph.matmul %9, %b1 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %11 = graph.add %8, %10 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %a2 = graph.get_parameter @a2 : tensor<4x4xf32>
  %12 = graph.matmul %11, %a2 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %13 = graph.mul %12, %half : tensor<?x4xf32>, tensor<f32> to tensor<?x4xf32>
  %14 = graph.add %11, %13 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %15 = graph.relu %14 : tensor<?x4xf32>
  %b2 = graph.get_parameter @b2 : tensor<4x4xf32>
  %16 = graph.matmul %15, %b2 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %17 = graph.add %14, %16 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %t = graph.transpose %table, [1, 0] : tensor<9x4xf32> to tensor<4x9xf32>
  %18 = graph.matmul %17, %t : tensor<?x4xf32>, tensor<4x9xf32> to tensor<?x9xf32>
  %loss, %weights, %lse = graph.cross_entropy %18, %labels : tensor<?x9xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}

// -----

// Post-norm layers: a norm behind the embedding belongs to the first block,
// not to the front of a rotated layer.
graph.parameter @g : tensor<4xf32> from "g"
graph.parameter @w : tensor<9x4xf32> from "w"
graph.parameter @w0 : tensor<4x4xf32> from "w0"
graph.parameter @w1 : tensor<4x4xf32> from "w1"
// CHECK-LABEL: func.func private @block0
// CHECK: graph.gather
// CHECK: graph.layer_norm
// CHECK: return
// CHECK-LABEL: func.func private @block1
// CHECK-NOT: graph.layer_norm
// CHECK: graph.matmul
// CHECK: graph.layer_norm
// CHECK: return
// CHECK-LABEL: func.func @main
// CHECK: call @block0
// CHECK: call @block1
// CHECK: %[[R:.*]] = call @block1
// CHECK: return %[[R]]
func.func @main(%ids: tensor<?xi64> {graph.input = "ids"}) -> tensor<?x4xf32> {
  %g = graph.get_parameter @g : tensor<4xf32>
  %w = graph.get_parameter @w : tensor<9x4xf32>
  %w0 = graph.get_parameter @w0 : tensor<4x4xf32>
  %w1 = graph.get_parameter @w1 : tensor<4x4xf32>
  %e = graph.gather %w, %ids : tensor<9x4xf32>, tensor<?xi64> to tensor<?x4xf32>
  %0:3 = graph.layer_norm %e, %g, %g {epsilon = 1.0e-5 : f64} : tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32> to tensor<?x4xf32>, tensor<?xf32>, tensor<?xf32>
  %1 = graph.matmul %0#0, %w0 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %2 = graph.add %0#0, %1 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %3:3 = graph.layer_norm %2, %g, %g {epsilon = 1.0e-5 : f64} : tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32> to tensor<?x4xf32>, tensor<?xf32>, tensor<?xf32>
  %4 = graph.matmul %3#0, %w1 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %5 = graph.add %3#0, %4 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
  %6:3 = graph.layer_norm %5, %g, %g {epsilon = 1.0e-5 : f64} : tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32> to tensor<?x4xf32>, tensor<?xf32>, tensor<?xf32>
  return %6#0 : tensor<?x4xf32>
}

// -----

// Where nothing repeats, what lies between cuts is a block; what has no
// parameters goes with the one before. Frozen parameters say so.
graph.parameter @w0 : tensor<4x5xf32> from "w0" frozen
graph.parameter @w1 : tensor<5x6xf32> from "w1"
// CHECK-LABEL: func.func private @block0
// CHECK-SAME: {graph.parameter = "frozen"}
// CHECK: graph.matmul
// CHECK: graph.relu
// CHECK-LABEL: func.func private @block1
// CHECK-SAME: {graph.parameter = "trainable"}
// CHECK: graph.matmul
// CHECK: graph.softmax
// CHECK-LABEL: func.func @main
// CHECK: call @block0
// CHECK: call @block1
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}) -> tensor<?x6xf32> {
  %w0 = graph.get_parameter @w0 : tensor<4x5xf32>
  %w1 = graph.get_parameter @w1 : tensor<5x6xf32>
  %0 = graph.matmul %x, %w0 : tensor<?x4xf32>, tensor<4x5xf32> to tensor<?x5xf32>
  %1 = graph.relu %0 : tensor<?x5xf32>
  %2 = graph.matmul %1, %w1 : tensor<?x5xf32>, tensor<5x6xf32> to tensor<?x6xf32>
  %3 = graph.softmax %2 : tensor<?x6xf32>
  return %3 : tensor<?x6xf32>
}

// -----

// An input and a frozen parameter of one type are not the same: the blocks that
// read them are two.
graph.parameter @w : tensor<4x4xf32> from "w" frozen
graph.parameter @v : tensor<4x4xf32> from "v"
// CHECK: func.func private @[[FROZEN:block[0-9]+]]({{.*}}graph.parameter = "frozen"
// CHECK-LABEL: func.func @main
// CHECK-COUNT-1: call @[[FROZEN]](
// CHECK-NOT: call @[[FROZEN]](
// CHECK: return
func.func @main(%m: tensor<4x4xf32> {graph.input = "m"}, %x: tensor<?x4xf32> {graph.input = "x"}) -> tensor<?x4xf32> {
  %w = graph.get_parameter @w : tensor<4x4xf32>
  %v = graph.get_parameter @v : tensor<4x4xf32>
  %0 = graph.relu %x : tensor<?x4xf32>
  %1 = graph.matmul %0, %w : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %2 = graph.matmul %1, %m : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %3 = graph.matmul %2, %v : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  return %3 : tensor<?x4xf32>
}
