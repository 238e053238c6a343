// RUN: tombolo-opt %s -graph-assign-dropout | FileCheck %s --check-prefix=SAME
// RUN: tombolo-opt %s -graph-assign-dropout=ratio=0.5 | FileCheck %s --check-prefix=HALF
// RUN: tombolo-opt %s -graph-assign-dropout=ratio=0 | FileCheck %s --check-prefix=NONE
// RUN: not tombolo-opt %s -graph-assign-dropout=ratio=1 2>&1 | FileCheck %s --check-prefix=ONE

// Without a ratio the model's stays.
// SAME: graph.dropout %{{.*}}, %{{.*}} {ratio = 1.000000e-01 : f64}
// HALF: graph.dropout %{{.*}}, %{{.*}} {ratio = 5.000000e-01 : f64}

// A ratio of 0 is no dropout, and nothing says any more what masks depend on.
// NONE: func.func @main(%[[X:.*]]: tensor<?x4xf32> {graph.input = "x"}) ->
// NONE-NEXT: return %[[X]]

// ONE: error: dropout: expected a ratio in [0, 1), got 1
func.func @main(%x: tensor<?x4xf32> {graph.input = "x"}, %s: tensor<4xi64> {graph.stamp}) -> tensor<?x4xf32> {
  %0 = graph.dropout %x, %s {ratio = 0.1 : f64} : tensor<?x4xf32>, tensor<4xi64> to tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
