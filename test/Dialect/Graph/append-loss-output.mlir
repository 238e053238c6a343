// RUN: tombolo-opt %s -split-input-file -verify-diagnostics -graph-append-loss=kind=output | FileCheck %s

// A scalar is a mean over the microbatch: it counts once for each sample.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%{{.*}}: tensor<?x3xf32> {graph.input = "x"}) -> (tensor<f32>, tensor<f32>)
// CHECK: %[[MEAN:.*]] = graph.reduce_mean
// CHECK: %[[ALL:.*]] = graph.broadcast %[[MEAN]] : tensor<f32> to tensor<?xf32>
// CHECK: graph.reduce_sum %[[ALL]]
func.func @main(%x: tensor<?x3xf32> {graph.input = "x"}) -> (tensor<?x3xf32> {graph.output = "y"}, tensor<f32> {graph.output = "loss"}) {
  %0 = graph.reduce_mean %x {axes = array<i64: 0, 1>} : tensor<?x3xf32> to tensor<f32>
  return %x, %0 : tensor<?x3xf32>, tensor<f32>
}

// -----

// A loss for each sample counts once.
// CHECK-LABEL: func.func @main
// CHECK: %[[EACH:.*]] = graph.reduce_mean
// CHECK: graph.reduce_sum %[[EACH]] {axes = array<i64: 0>}
func.func @main(%x: tensor<?x3xf32> {graph.input = "x"}) -> tensor<?xf32> {
  %0 = graph.reduce_mean %x {axes = array<i64: 1>} : tensor<?x3xf32> to tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// expected-error @below {{the output must be one number, or one for each sample, to be the loss, got 'tensor<?x3xf32>'}}
func.func @main(%x: tensor<?x3xf32> {graph.input = "x"}) -> tensor<?x3xf32> {
  return %x : tensor<?x3xf32>
}
