// RUN: tombolo-opt %s -graph-append-loss -graph-find-blocks -graph-differentiate --mlir-print-op-generic -o %t
// RUN: %python %S/Inputs/evaluate.py gradients %t | FileCheck %s --check-prefix=GRADIENTS
// RUN: tombolo-opt %s -graph-append-loss -graph-find-blocks -graph-differentiate -graph-specialize-batch=batch=3 -o %t.static
// RUN: tombolo-opt %t.static --mlir-print-op-generic -o %t.functions
// RUN: tombolo-opt %t.static -graph-convert-segments=drop-callers --mlir-print-op-generic -o %t.segments
// RUN: %python %S/Inputs/evaluate.py segments %t.functions %t.segments | FileCheck %s --check-prefix=SEGMENTS

// Convolutions with strides, dilations, padding that differs before and behind,
// and groups; maxima and means over windows; batch norm through its statistics:
// gradients are those of PyTorch's autograd and of central differences.
// GRADIENTS: 6 gradients agree
// GRADIENTS: slopes agree
// GRADIENTS: batch_norm, {{.*}}conv, {{.*}}log_softmax, {{.*}}pool
// SEGMENTS: {{[0-9]+}} segments agree

graph.parameter @first : tensor<4x3x3x2xf32> from "first"
graph.parameter @gamma : tensor<4xf32> from "gamma"
graph.parameter @beta : tensor<4xf32> from "beta"
graph.parameter @second : tensor<6x2x2x2xf32> from "second"
graph.parameter @scale : tensor<6x1x1xf32> from "scale"
graph.parameter @last : tensor<6x5xf32> from "last"

func.func @main(%x: tensor<?x3x9x8xf32> {graph.input = "x"}) -> (tensor<?x5xf32> {graph.output = "logits"}) {
  %first = graph.get_parameter @first : tensor<4x3x3x2xf32>
  %gamma = graph.get_parameter @gamma : tensor<4xf32>
  %beta = graph.get_parameter @beta : tensor<4xf32>
  %second = graph.get_parameter @second : tensor<6x2x2x2xf32>
  %scale = graph.get_parameter @scale : tensor<6x1x1xf32>
  %last = graph.get_parameter @last : tensor<6x5xf32>
  %0 = graph.conv %x, %first {strides = array<i64: 2, 1>, dilations = array<i64: 1, 2>, low = array<i64: 1, 0>, high = array<i64: 0, 1>, groups = 1 : i64} : tensor<?x3x9x8xf32>, tensor<4x3x3x2xf32> to tensor<?x4x4x7xf32>
  %1:3 = graph.batch_norm %0, %gamma, %beta {epsilon = 1.0e-5 : f64} : tensor<?x4x4x7xf32>, tensor<4xf32>, tensor<4xf32> to tensor<?x4x4x7xf32>, tensor<4xf32>, tensor<4xf32>
  %2 = graph.pool %1#0 {kernel = array<i64: 3, 2>, strides = array<i64: 1, 2>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 1>} : tensor<?x4x4x7xf32> to tensor<?x4x4x4xf32>
  %3 = graph.conv %2, %second {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 1, 1>, groups = 2 : i64} : tensor<?x4x4x4xf32>, tensor<6x2x2x2xf32> to tensor<?x6x4x4xf32>
  %4 = graph.pool %3 {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, average = true} : tensor<?x6x4x4xf32> to tensor<?x6x3x3xf32>
  %5 = graph.mul %4, %scale : tensor<?x6x3x3xf32>, tensor<6x1x1xf32> to tensor<?x6x3x3xf32>
  %6 = graph.pool %5 {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, low = array<i64: 0, 1>, high = array<i64: 0, 1>, average = true, count_padding = true} : tensor<?x6x3x3xf32> to tensor<?x6x1x3xf32>
  %7 = graph.reduce_mean %6 {axes = array<i64: 2, 3>} : tensor<?x6x1x3xf32> to tensor<?x6xf32>
  %8 = graph.matmul %7, %last : tensor<?x6xf32>, tensor<6x5xf32> to tensor<?x5xf32>
  %9 = graph.log_softmax %8 : tensor<?x5xf32>
  return %9 : tensor<?x5xf32>
}
