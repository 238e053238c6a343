// RUN: tombolo-opt %s -graph-find-blocks -graph-assign-dropout -graph-differentiate --mlir-print-op-generic -o %t
// RUN: %python %S/Inputs/evaluate.py gradients %t | FileCheck %s

// Dropout, whose mask depends on nothing that is trained, also one that all samples
// share; a cast to the other type of floats and back.
// CHECK: 2 gradients agree
// CHECK: 8 slopes agree
// CHECK: gradients flow through cast, cross_entropy, dropout, matmul

graph.parameter @first : tensor<4x6xf32> from "first"
graph.parameter @second : tensor<6x5xf32> from "second"

func.func @main(%x: tensor<?x3x4xf32> {graph.input = "x"}, %labels: tensor<?x3xi64> {graph.label = "labels"}, %stamp: tensor<4xi64> {graph.stamp}) -> (tensor<f32>, tensor<f32>) {
  %first = graph.get_parameter @first : tensor<4x6xf32>
  %second = graph.get_parameter @second : tensor<6x5xf32>
  %0 = graph.matmul %x, %first : tensor<?x3x4xf32>, tensor<4x6xf32> to tensor<?x3x6xf32>
  %1 = graph.dropout %0, %stamp {ratio = 0.3 : f64} : tensor<?x3x6xf32>, tensor<4xi64> to tensor<?x3x6xf32>
  %2 = graph.cast %1 : tensor<?x3x6xf32> to tensor<?x3x6xbf16>
  %3 = graph.cast %2 : tensor<?x3x6xbf16> to tensor<?x3x6xf32>
  %4 = graph.dropout %3, %stamp {ratio = 0.4 : f64, shared} : tensor<?x3x6xf32>, tensor<4xi64> to tensor<?x3x6xf32>
  %5 = graph.matmul %4, %second : tensor<?x3x6xf32>, tensor<6x5xf32> to tensor<?x3x5xf32>
  %loss, %weights, %lse = graph.cross_entropy %5, %labels : tensor<?x3x5xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
