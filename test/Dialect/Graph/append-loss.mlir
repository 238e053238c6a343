// RUN: tombolo-opt %s -graph-append-loss="label=targets ignore-index=0" | FileCheck %s

// The output named logits is what the loss is taken of; the labels have its
// leading dimensions.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[X:.*]]: tensor<?x4x8xf32> {graph.input = "x"}
// CHECK-SAME: %[[L:.*]]: tensor<?x4xi64> {graph.label = "targets"}
// CHECK-SAME: -> (tensor<f32>, tensor<f32>)
func.func @main(%x: tensor<?x4x8xf32> {graph.input = "x"}) -> (tensor<?x4x8xf32> {graph.output = "hidden"}, tensor<?x4x8xf32> {graph.output = "logits"}) {
  %0 = graph.neg %x : tensor<?x4x8xf32>
  // CHECK: %[[LOGITS:.*]] = graph.exp
  %1 = graph.exp %0 : tensor<?x4x8xf32>
  // CHECK: %[[LOSS:.*]], %[[W:.*]], %{{.*}} = graph.cross_entropy %[[LOGITS]], %[[L]] {ignore_index = 0 : i64}
  // CHECK: return %[[LOSS]], %[[W]]
  return %0, %1 : tensor<?x4x8xf32>, tensor<?x4x8xf32>
}
