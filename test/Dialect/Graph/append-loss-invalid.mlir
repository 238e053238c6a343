// RUN: tombolo-opt %s -split-input-file -verify-diagnostics -graph-append-loss

// expected-error @below {{output 0 must be a float tensor to take a loss of, got 'tensor<?xi64>'}}
func.func @main(%x: tensor<?xi64>) -> tensor<?xi64> {
  return %x : tensor<?xi64>
}

// -----

// expected-error @below {{the output must be a float tensor [batch..., classes] to take a cross-entropy of, got 'tensor<?xf32>'}}
func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}

// -----

// expected-error @below {{the model already has an input for labels 'labels'}}
func.func @main(%x: tensor<?x2xf32> {graph.input = "labels"}) -> tensor<?x2xf32> {
  return %x : tensor<?x2xf32>
}

// -----

// expected-error @below {{the model has no function @main}}
module {
}
