// RUN: tombolo-opt %s -split-input-file -verify-diagnostics --plan-allocate-buffers

// Only a microbatch can be taken modulo the slots, in a call as elsewhere.
plan.program @p stats <0> updates <8> {
  plan.buffer @a in "saved" 3 x 64
  plan.step {
    plan.loop 0 count 4 {
      // expected-error@+1 {{has a slot that is no microbatch}}
      plan.call @f [#plan.address<@a[2 * v0]>] on compute
    }
  }
  plan.finish {
  }
}

// -----

// All buffers together stay below the limit.
plan.program @p stats <0> updates <8> {
  plan.buffer @a in "saved" 562949953421312 x 64
  // expected-error@+1 {{makes the arena larger than 2^56 bytes}}
  plan.buffer @b in "saved" 1125899906842624 x 64
  plan.step {
  }
  plan.finish {
  }
}
