// RUN: tombolo-opt %s -graph-append-loss=kind=mse | FileCheck %s --check-prefix=MSE
// RUN: tombolo-opt %s -graph-append-loss=kind=bce | FileCheck %s --check-prefix=BCE
// RUN: tombolo-opt %s -graph-append-loss=kind=mse -graph-find-blocks | FileCheck %s --check-prefix=BLOCK

// Labels are like the output; the loss is a sum over all elements and the
// weight their number, whatever the batch will be.
// MSE: @main(%{{.*}}: tensor<?x3xf32>{{.*}}, %[[Y:.*]]: tensor<?x3xf32> {graph.label = "labels"})
// MSE: %[[OUT:.*]] = graph.neg
// MSE: %[[E:.*]] = graph.sub %[[OUT]], %[[Y]]
// MSE: %[[S:.*]] = graph.mul %[[E]], %[[E]]
// MSE: %[[SUM:.*]] = graph.reduce_sum %[[S]] {axes = array<i64: 0, 1>}
// MSE: %[[ONE:.*]] = graph.constant dense<1.0
// MSE: %[[ONES:.*]] = graph.broadcast %[[ONE]] : tensor<f32> to tensor<?x3xf32>
// MSE: %[[N:.*]] = graph.reduce_sum %[[ONES]] {axes = array<i64: 0, 1>}
// MSE: return %[[SUM]], %[[N]]

// BCE: %[[OUT:.*]] = graph.neg
// BCE-DAG: %[[P:.*]] = graph.softplus %[[OUT]]
// BCE-DAG: %[[XY:.*]] = graph.mul %[[OUT]], %{{.*}}
// BCE: %[[L:.*]] = graph.sub %[[P]], %[[XY]]
// BCE: graph.reduce_sum %[[L]]

// The weight does not depend on the inputs, and is the block's result all the same.
// BLOCK: %[[R:.*]]:2 = call @block0
// BLOCK: return %[[R]]#0, %[[R]]#1
func.func @main(%x: tensor<?x3xf32> {graph.input = "x"}) -> (tensor<?x3xf32> {graph.output = "y"}) {
  %0 = graph.neg %x : tensor<?x3xf32>
  return %0 : tensor<?x3xf32>
}
