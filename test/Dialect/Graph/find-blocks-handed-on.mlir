// RUN: tombolo-opt %s -split-input-file -graph-find-blocks | FileCheck %s

graph.parameter @encoder : tensor<8x8xf32> from "encoder"
graph.parameter @embedding : tensor<8x8xf32> from "embedding"
graph.parameter @self0 : tensor<8x8xf32> from "self0"
graph.parameter @cross0 : tensor<8x8xf32> from "cross0"
graph.parameter @self1 : tensor<8x8xf32> from "self1"
graph.parameter @cross1 : tensor<8x8xf32> from "cross1"
graph.parameter @head : tensor<8x8xf32> from "head"

// What the encoder computes is read by each layer of the decoder: two tensors
// cross the cuts between these. Blocks hand it on; the last layer, too, so that
// layers are one function, and the block behind takes it and does not use it.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x8xf32> {{.*}}, %[[Y:[a-z0-9]+]]: tensor<?x8xf32>
// CHECK: %[[E:.*]]:2 = call @block0(%[[X]], %[[Y]],
// CHECK: %[[L0:.*]]:2 = call @block1(%[[E]]#1, %[[E]]#0,
// CHECK: %[[L1:.*]]:2 = call @block1(%[[L0]]#0, %[[L0]]#1,
// CHECK: %[[R:.*]] = call @block2(%[[L1]]#0, %[[L1]]#1,
// CHECK: return %[[R]]
func.func @main(%x: tensor<?x8xf32> {graph.input = "x"}, %y: tensor<?x8xf32> {graph.input = "y"}) -> tensor<?x8xf32> {
  %encoder = graph.get_parameter @encoder : tensor<8x8xf32>
  %embedding = graph.get_parameter @embedding : tensor<8x8xf32>
  %self0 = graph.get_parameter @self0 : tensor<8x8xf32>
  %cross0 = graph.get_parameter @cross0 : tensor<8x8xf32>
  %self1 = graph.get_parameter @self1 : tensor<8x8xf32>
  %cross1 = graph.get_parameter @cross1 : tensor<8x8xf32>
  %head = graph.get_parameter @head : tensor<8x8xf32>
  %m0 = graph.matmul %x, %encoder : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %m = graph.tanh %m0 : tensor<?x8xf32>
  %d = graph.matmul %y, %embedding : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %a0 = graph.matmul %d, %self0 : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %c0 = graph.matmul %m, %cross0 : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %l0 = graph.add %a0, %c0 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %a1 = graph.matmul %l0, %self1 : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %c1 = graph.matmul %m, %cross1 : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %l1 = graph.add %a1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %n = graph.exp %l1 : tensor<?x8xf32>
  %h = graph.matmul %n, %head : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  return %h : tensor<?x8xf32>
}

// -----

graph.parameter @w0 : tensor<8x8xf32> from "w0"
graph.parameter @w1 : tensor<8x8xf32> from "w1"

// What is made of inputs alone by cheap ops (a mask) is made again in each block
// rather than sent from one to the next.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x8xf32> {{.*}}, %[[MASK:[a-z0-9]+]]: tensor<?x8xi64>
// CHECK: %[[A:.*]] = call @[[B:.*]](%[[X]]
// CHECK: call @{{.*}}(%[[A]], %[[MASK]]
func.func @main(%x: tensor<?x8xf32> {graph.input = "x"}, %mask: tensor<?x8xi64> {graph.input = "mask"}) -> tensor<?x8xf32> {
  %w0 = graph.get_parameter @w0 : tensor<8x8xf32>
  %w1 = graph.get_parameter @w1 : tensor<8x8xf32>
  %one = graph.constant dense<1.0> : tensor<f32>
  %f = graph.cast %mask : tensor<?x8xi64> to tensor<?x8xf32>
  %bias = graph.sub %one, %f : tensor<f32>, tensor<?x8xf32> to tensor<?x8xf32>
  %0 = graph.matmul %x, %w0 : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %1 = graph.add %0, %bias : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  %2 = graph.matmul %1, %w1 : tensor<?x8xf32>, tensor<8x8xf32> to tensor<?x8xf32>
  %3 = graph.add %2, %bias : tensor<?x8xf32>, tensor<?x8xf32> to tensor<?x8xf32>
  return %3 : tensor<?x8xf32>
}
