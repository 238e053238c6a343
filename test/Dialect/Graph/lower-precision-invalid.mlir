// RUN: tombolo-opt %s -verify-diagnostics -graph-lower-precision

// expected-error @below {{block is not differentiated: it has no attribute 'graph.forward'; run graph-differentiate first}}
func.func private @block0(%x: tensor<4xf32>) -> tensor<4xf32> attributes {graph.block} {
  return %x : tensor<4xf32>
}
