// RUN: tombolo-opt %s --plan-expand-collectives -split-input-file -verify-diagnostics

// A collective is over all chips of a replica and no others.
func.func private @f(%x: tensor<4xf32>) -> tensor<3x4xf32> {
  // expected-error@+1 {{is over 3 chips, a replica of "p" has 2}}
  %0 = graph.all_gather %x {count = 3 : i64} : tensor<4xf32> to tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}
plan.island ["a"] batch 2 microbatch 2 {
  plan.stage {
    plan.replicas @p on "a" "p" count 1 tensor_parallel 2 share 1
  }
}
plan.program @p stats <@a[0]> updates <@a[0]> {
  plan.buffer @a in "saved" 1 x 128
  plan.step {
    plan.call @f [#plan.address<@a[0]>, #plan.address<@a[0] + 64>] on compute
  }
  plan.finish {
  }
}

// -----

// One chip has nobody to talk to.
func.func private @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{is over several chips, a replica of "p" has 1}}
  %0 = graph.all_reduce %x : tensor<4xf32> to tensor<4xf32>
  return %0 : tensor<4xf32>
}
plan.island ["a"] batch 2 microbatch 2 {
  plan.stage {
    plan.replicas @p on "a" "p" count 1 tensor_parallel 1 share 1
  }
}
plan.program @p stats <@a[0]> updates <@a[0]> {
  plan.buffer @a in "saved" 1 x 128
  plan.step {
    plan.call @f [#plan.address<@a[0]>, #plan.address<@a[0] + 64>] on compute
  }
  plan.finish {
  }
}

// -----

// A call passes memory for every argument and result.
func.func private @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.all_reduce %x : tensor<4xf32> to tensor<4xf32>
  return %0 : tensor<4xf32>
}
plan.program @p stats <@a[0]> updates <@a[0]> {
  plan.buffer @a in "saved" 1 x 128
  plan.step {
    // expected-error@+1 {{expected 2 addresses for @f, got 1}}
    plan.call @f [#plan.address<@a[0]>] on compute
  }
  plan.finish {
  }
}

// -----

// What is updated in place is updated by one part.
// expected-error@+1 {{writes result 0 in place, which a function with collectives cannot}}
func.func private @f(%x: tensor<4xf32>) -> (tensor<4xf32> {plan.in_place = 0 : i64}) {
  %0 = graph.all_reduce %x : tensor<4xf32> to tensor<4xf32>
  return %0 : tensor<4xf32>
}
plan.program @p stats <@a[0]> updates <@a[0]> {
  plan.buffer @a in "saved" 1 x 128
  plan.step {
    plan.call @f [#plan.address<@a[0]>] on compute
  }
  plan.finish {
  }
}
