// RUN: tombolo-opt --plan-allocate-buffers -split-input-file -verify-diagnostics %s | FileCheck %s

// Buffers lie by region, what is kept from step to step first; a slot's number
// is taken modulo the slots.
// CHECK-LABEL: plan.program @p stats <64> updates <0> arena_bytes 640
// CHECK: plan.region "updates" at 0 bytes 64
// CHECK: plan.region "stats" at 64 bytes 64
// CHECK: plan.region "saved" at 128 bytes 384
// CHECK: plan.region "workspace" at 512 bytes 128
// CHECK-NOT: plan.buffer
// CHECK: plan.load "x" to <136 + 128 * (v0 + 1 mod 3)> microbatch <1 + v0>
// CHECK: plan.call @f [#plan.address<160 + 32 * v1 + 128 * (v0 mod 3)>] workspace <512>
plan.program @p stats <@stats[0]> updates <@updates[0]> {
  plan.buffer @work in "workspace" 1 x 128
  plan.buffer @acts in "saved" 3 x 128
  plan.buffer @stats in "stats" 1 x 64
  plan.buffer @updates in "updates" 1 x 64
  plan.step {
    plan.loop 0 count 4 {
      plan.load "x" to <@acts[v0 + 1] + 8> microbatch <v0 + 1> on compute
      plan.loop 1 count 2 {
        plan.call @f [#plan.address<@acts[v0] + 32 * v1 + 32>] workspace <@work[0]> on compute
      }
    }
  }
  plan.finish {
  }
}

// -----

// Only a microbatch can be taken modulo the slots.
plan.program @p stats <0> updates <8> {
  plan.buffer @acts in "saved" 3 x 128
  plan.step {
    plan.loop 0 count 4 {
      // expected-error@+1 {{has a slot that is no microbatch}}
      plan.load "x" to <@acts[2 * v0]> microbatch <v0> on compute
    }
  }
  plan.finish {
  }
}

// -----

// An arena has a limit far beyond any chip.
plan.program @p stats <0> updates <8> {
  // expected-error@+1 {{makes the arena larger than 2^56 bytes}}
  plan.buffer @acts in "saved" 4294967296 x 4294967296
  plan.step {
  }
  plan.finish {
  }
}

// -----

// With a server the base of trainable parameters and what is on its way are
// planned on the host: 8 bytes for each of 2 x 4 + 4 elements, none for frozen ones.
// CHECK-LABEL: plan.program @p stats <256> updates <192> arena_bytes 320 host_bytes 96
plan.program @p stats <@stats[0]> updates <@updates[0]> {
  plan.buffer @params in "parameters" 1 x 192
  plan.buffer @stats in "stats" 1 x 64
  plan.buffer @updates in "updates" 1 x 64
  plan.parameters #plan.names<"layer.", 0, 1, ".w"> from ["a", "b"] count 2 at <@params[0]> stride 64 : tensor<4xf32> owner
  plan.parameters ["tied"] from ["c"] count 1 at <@params[0] + 128> stride 64 : tensor<4xf32>
  plan.parameters ["fixed"] from ["d"] count 1 at <@params[0] + 128> stride 64 : tensor<4xf32> frozen owner
  plan.step {
  }
  plan.finish {
  }
}
plan.server inner_steps 4 overlap_steps 0 fragments 1 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 primaries ["a"] backups [""] witness ""
