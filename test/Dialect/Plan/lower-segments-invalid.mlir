// RUN: tombolo-opt %s -split-input-file -verify-diagnostics --plan-lower-segments

// A call names a segment or a function.
plan.program @p stats <0> updates <8> {
  plan.step {
    // expected-error@+1 {{unknown segment @f}}
    plan.call @f [#plan.address<0>] on compute
  }
  plan.finish {
  }
}

// -----

plan.program @p stats <0> updates <8> {
  plan.step {
    // expected-error@+1 {{unknown segment @p}}
    plan.call @p [#plan.address<0>] on compute
  }
  plan.finish {
  }
}

// -----

// There is one address for each argument and each result.
plan.program @p stats <0> updates <8> {
  plan.step {
    // expected-error@+1 {{expected 2 addresses for @f, got 1}}
    plan.call @f [#plan.address<0>] on compute
  }
  plan.finish {
  }
}
func.func @f(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = graph.relu %x : tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

// Memory has a size.
plan.program @p stats <0> updates <8> {
  plan.step {
    plan.call @f [#plan.address<0>] on compute
  }
  plan.finish {
  }
}
// expected-error@+1 {{argument of type 'tensor<?xf32>' depends on the batch size; specialize the function first}}
func.func @f(%x: tensor<?xf32>) {
  return
}

// -----

// A declaration computes nothing.
plan.program @p stats <0> updates <8> {
  plan.step {
    plan.call @f [#plan.address<0>] on compute
  }
  plan.finish {
  }
}
// expected-error@+1 {{has no body to convert to a segment}}
func.func private @f(%x: tensor<2xf32>)

// -----

// Segments are straight-line compute.
plan.program @p stats <0> updates <8> {
  plan.step {
    plan.call @f [#plan.address<0>] on compute
  }
  plan.finish {
  }
}
func.func @f(%x: tensor<2xf32>) {
  // expected-error@+1 {{is no op of plan segments}}
  func.call @g(%x) : (tensor<2xf32>) -> ()
  return
}
func.func private @g(%x: tensor<2xf32>)
