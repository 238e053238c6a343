// RUN: tombolo-opt %s "--graph-infer-shapes=inputs=x=?x7" -split-input-file -verify-diagnostics

// A type that cannot follow is an error at its op.
func.func @main(%x: tensor<?x8xf32> {graph.input = "x"}) -> tensor<?x2x4xf32> {
  // expected-error @+1 {{of type 'tensor<?x2x4xf32>' does not follow from its operands 'tensor<?x7xf32>'}}
  %0 = graph.reshape %x : tensor<?x8xf32> to tensor<?x2x4xf32>
  return %0 : tensor<?x2x4xf32>
}

// -----

// An op whose operands no longer go together says so itself.
func.func @main(%x: tensor<?x8xf32> {graph.input = "x"}, %y: tensor<8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{[batch, 7]}}
  %0 = graph.add %x, %y : tensor<?x8xf32>, tensor<8xf32> to tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{inputs: @main has no input named 'x'}}
module {
  func.func @main(%z: tensor<?x8xf32> {graph.input = "z"}) -> tensor<?x8xf32> {
    return %z : tensor<?x8xf32>
  }
}

// -----

// Functions are inferred callees first, so a cycle has no order.
func.func @main(%x: tensor<?x8xf32> {graph.input = "x"}) {
  return
}
// expected-error @+1 {{calls itself}}
func.func @cycle(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @cycle(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
