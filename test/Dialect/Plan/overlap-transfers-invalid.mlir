// RUN: tombolo-opt %s -split-input-file -verify-diagnostics --plan-overlap-transfers

// How many microbatches there are decides how many slots pay.
// expected-error@+1 {{expected a positive attribute microbatches, as plan-schedule-microbatches leaves it}}
plan.program @p stats <0> updates <8> {
  plan.step {
  }
  plan.finish {
  }
}

// -----

// expected-error@+1 {{expected a positive attribute microbatches}}
plan.program @p stats <0> updates <8> attributes {microbatches = 0 : i64} {
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Lanes that have semaphores are ordered already.
// expected-error@+1 {{has semaphores already}}
plan.program @p stats <0> updates <8> attributes {microbatches = 4 : i64} {
  plan.semaphore @s
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Once buffers have lost their names it is too late.
plan.program @p stats <0> updates <8> attributes {microbatches = 4 : i64} {
  plan.step {
    plan.loop 0 count 4 {
      // expected-error@+1 {{has an address in no buffer, run plan-overlap-transfers before plan-allocate-buffers}}
      plan.send 1 <64> bytes 64 microbatch <v0> on send_forward
    }
  }
  plan.finish {
  }
}

// -----

plan.program @p stats <0> updates <8> attributes {microbatches = 4 : i64} {
  plan.step {
    // expected-error@+1 {{has an address in no buffer}}
    plan.call @f [#plan.address<64>] on compute
  }
  plan.finish {
  }
}

// -----

// What nobody computes is not sent.
plan.program @p stats <0> updates <8> attributes {microbatches = 4 : i64} {
  plan.buffer @a in "boundary" 1 x 64
  plan.step {
    plan.loop 0 count 4 {
      // expected-error@+1 {{moves a buffer that no call uses}}
      plan.send 1 <@a[v0]> bytes 64 microbatch <v0> on send_forward
    }
  }
  plan.finish {
  }
}

// -----

// A buffer has one direction.
plan.program @p stats <0> updates <8> attributes {microbatches = 4 : i64} {
  plan.buffer @a in "boundary" 1 x 64
  plan.step {
    plan.loop 0 count 4 {
      plan.call @f [#plan.address<@a[v0]>] on compute
      plan.send 1 <@a[v0]> bytes 64 microbatch <v0> on send_forward
      // expected-error@+1 {{moves buffer "a", which is both sent and received}}
      plan.receive 1 <@a[v0]> bytes 64 microbatch <v0> on receive_forward
    }
  }
  plan.finish {
  }
}
