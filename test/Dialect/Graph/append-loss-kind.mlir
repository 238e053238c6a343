// RUN: tombolo-opt %s -verify-diagnostics -graph-append-loss=kind=hinge

// expected-error @below {{unknown loss 'hinge', expected cross-entropy, mse, bce or output}}
func.func @main(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  return %x : tensor<?x2xf32>
}
