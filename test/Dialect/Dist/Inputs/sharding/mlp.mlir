// A product by columns, one by rows, and a loss.
graph.parameter @fc.weight : tensor<8x16xf32> from "fc.weight"
graph.parameter @fc.bias : tensor<16xf32> from "fc.bias"
graph.parameter @proj.weight : tensor<16x8xf32> from "proj.weight"
graph.parameter @proj.bias : tensor<8xf32> from "proj.bias"
graph.parameter @head.weight : tensor<8x6xf32> from "head.weight"
func.func private @mlp(%x: tensor<?x4x8xf32> {graph.input = "x"}, %w1: tensor<8x16xf32> {graph.parameter = "trainable"}, %b1: tensor<16xf32> {graph.parameter = "trainable"}, %w2: tensor<16x8xf32> {graph.parameter = "trainable"}, %b2: tensor<8xf32> {graph.parameter = "trainable"}) -> tensor<?x4x8xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %w1 bias %b1 : tensor<16xf32> : tensor<?x4x8xf32>, tensor<8x16xf32> to tensor<?x4x16xf32>
  %1 = graph.gelu %0 : tensor<?x4x16xf32>
  %2 = graph.matmul %1, %w2 bias %b2 : tensor<8xf32> : tensor<?x4x16xf32>, tensor<16x8xf32> to tensor<?x4x8xf32>
  %3 = graph.add %x, %2 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>
  return %3 : tensor<?x4x8xf32>
}
func.func private @loss(%x: tensor<?x4x8xf32>, %y: tensor<?x4xi64> {graph.label = "y"}, %w: tensor<8x6xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x4x8xf32>, tensor<8x6xf32> to tensor<?x4x6xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %y : tensor<?x4x6xf32>, tensor<?x4xi64> to tensor<f32>, tensor<f32>, tensor<?x4xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x4x8xf32> {graph.input = "x"}, %y: tensor<?x4xi64> {graph.label = "y"}) -> (tensor<f32>, tensor<f32>) {
  %w1 = graph.get_parameter @fc.weight : tensor<8x16xf32>
  %b1 = graph.get_parameter @fc.bias : tensor<16xf32>
  %w2 = graph.get_parameter @proj.weight : tensor<16x8xf32>
  %b2 = graph.get_parameter @proj.bias : tensor<8xf32>
  %h = graph.get_parameter @head.weight : tensor<8x6xf32>
  %0 = call @mlp(%x, %w1, %b1, %w2, %b2) : (tensor<?x4x8xf32>, tensor<8x16xf32>, tensor<16xf32>, tensor<16x8xf32>, tensor<8xf32>) -> tensor<?x4x8xf32>
  %1:2 = call @loss(%0, %y, %h) : (tensor<?x4x8xf32>, tensor<?x4xi64>, tensor<8x6xf32>) -> (tensor<f32>, tensor<f32>)
  return %1#0, %1#1 : tensor<f32>, tensor<f32>
}
