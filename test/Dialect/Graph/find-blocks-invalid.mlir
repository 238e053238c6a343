// RUN: tombolo-opt %s -split-input-file -verify-diagnostics -graph-find-blocks

// expected-error @below {{the model has no function @main}}
module {
}

// -----

func.func private @f(tensor<?xf32>) -> tensor<?xf32>
func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
  // expected-error @below {{@main must not call functions before blocks are found}}
  %0 = func.call @f(%x) : (tensor<?xf32>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// expected-error @below {{no output of the model depends on its inputs}}
func.func @main(%x: tensor<?xf32>) -> tensor<f32> {
  %0 = graph.constant dense<1.0> : tensor<f32>
  return %0 : tensor<f32>
}
