// RUN: tombolo-opt %s -split-input-file -verify-diagnostics -graph-differentiate

// An op without a gradient on the way to a trained parameter is named.
graph.parameter @w : tensor<4x8xf32> from "w"
func.func private @block0(%x: tensor<?x4xf32> {graph.input = "x"}, %w: tensor<4x8xf32> {graph.parameter = "trainable"}) -> tensor<f32> attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4xf32>, tensor<4x8xf32> to tensor<?x8xf32>
  // expected-error @below {{'graph.reduce_max' op has no gradient but lies between a trained parameter and the loss}}
  %1 = graph.reduce_max %0 {axes = array<i64: 0, 1>} : tensor<?x8xf32> to tensor<f32>
  return %1 : tensor<f32>
}
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}) -> tensor<f32> {
  %w = graph.get_parameter @w : tensor<4x8xf32>
  %0 = func.call @block0(%x, %w) : (tensor<?x4xf32>, tensor<4x8xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// expected-error @below {{the first result of @main is not a loss computed by a block; run graph-append-loss and graph-find-blocks first}}
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}) -> tensor<?x4xf32> {
  return %x : tensor<?x4xf32>
}

// -----

// A block that is differentiated already is not differentiated twice.
// expected-error @below {{block is already differentiated}}
func.func private @block0(%x: tensor<4xf32> {graph.input = "x"}) -> tensor<f32> attributes {graph.block, graph.forward = @f} {
  %1 = graph.reduce_sum %x {axes = array<i64: 0>} : tensor<4xf32> to tensor<f32>
  return %1 : tensor<f32>
}
func.func @main(%x: tensor<4xf32> {graph.input = "x"}) -> tensor<f32> {
  %0 = func.call @block0(%x) : (tensor<4xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// A model of which nothing trains is refused.
graph.parameter @w : tensor<4xf32> from "w" frozen
func.func private @block0(%x: tensor<?x4xf32> {graph.input = "x"}, %w: tensor<4xf32> {graph.parameter = "frozen"}) -> tensor<f32> attributes {graph.block} {
  %0 = graph.mul %x, %w : tensor<?x4xf32>, tensor<4xf32> to tensor<?x4xf32>
  %1 = graph.reduce_sum %0 {axes = array<i64: 0, 1>} : tensor<?x4xf32> to tensor<f32>
  return %1 : tensor<f32>
}
// expected-error @below {{nothing is left to train: all 1 parameters are frozen or out of the loss's reach; freeze fewer}}
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}) -> tensor<f32> {
  %w = graph.get_parameter @w : tensor<4xf32>
  %0 = func.call @block0(%x, %w) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}
