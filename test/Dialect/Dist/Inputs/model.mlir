// Three layers and a loss, as graph-find-blocks leaves them.
graph.parameter @layer.0.weight : tensor<4x4xf32> from "w0"
graph.parameter @layer.1.weight : tensor<4x4xf32> from "w1"
graph.parameter @layer.2.weight : tensor<4x4xf32> from "w2"
graph.parameter @head.weight : tensor<4x5xf32> from "h"
func.func private @layer(%x: tensor<?x4xf32>, %w: tensor<4x4xf32> {graph.parameter = "trainable"}) -> tensor<?x4xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  %1 = graph.relu %0 : tensor<?x4xf32>
  return %1 : tensor<?x4xf32>
}
func.func private @first(%x: tensor<?x4xf32> {graph.input = "x"}, %w: tensor<4x4xf32> {graph.parameter = "trainable"}) -> tensor<?x4xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
func.func private @loss(%x: tensor<?x4xf32>, %y: tensor<?xi64> {graph.label = "y"}, %w: tensor<4x5xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4xf32>, tensor<4x5xf32> to tensor<?x5xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %y : tensor<?x5xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}, %y: tensor<?xi64> {graph.label = "y"}) -> (tensor<f32>, tensor<f32>) {
  %w0 = graph.get_parameter @layer.0.weight : tensor<4x4xf32>
  %w1 = graph.get_parameter @layer.1.weight : tensor<4x4xf32>
  %w2 = graph.get_parameter @layer.2.weight : tensor<4x4xf32>
  %h = graph.get_parameter @head.weight : tensor<4x5xf32>
  %0 = call @first(%x, %w0) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %1 = call @layer(%0, %w1) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %2 = call @layer(%1, %w2) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %3:2 = call @loss(%2, %y, %h) : (tensor<?x4xf32>, tensor<?xi64>, tensor<4x5xf32>) -> (tensor<f32>, tensor<f32>)
  return %3#0, %3#1 : tensor<f32>, tensor<f32>
}
