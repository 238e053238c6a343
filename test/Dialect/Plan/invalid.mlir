// RUN: tombolo-opt %s -split-input-file -verify-diagnostics

// Every argument has a name and an access; the memref's type is row-major.
// expected-error@+1 {{expected a row-major argument, got 'memref<2x4xf32, strided<[1, 2]>>'}}
plan.segment @f(%x: memref<2x4xf32, strided<[1, 2]>> read "x") {
}

// -----

// An access is one of three words.
// expected-error@+1 {{expected read, write or read_write}}
plan.segment @f(%x: memref<2x4xf32> sometimes "x") {
}

// -----

// A view stays inside the memory it looks at.
plan.segment @f(%x: memref<2x4xf32> read "x") {
  // expected-error@+1 {{reaches byte 36 of memory of 32 bytes}}
  %0 = plan.view %x[4] : memref<2x4xf32> to memref<8xf32>
}

// -----

// A view begins at a whole element.
plan.segment @f(%x: memref<2x4xf32> read "x") {
  // expected-error@+1 {{expected a byte offset that is a multiple of the element's size, got 2}}
  %0 = plan.view %x[2] : memref<2x4xf32> to memref<4xf32>
}

// -----

// Scratch memory ends where the segment says.
plan.segment @f(%x: memref<2x4xf32> read "x") workspace 64 {
  // expected-error@+1 {{reaches byte 96 of a workspace of 64 bytes}}
  %0 = plan.workspace[64] : memref<8xf32>
}

// -----

// Sizes are known.
plan.segment @f(%x: memref<2x4xf32> read "x") workspace 64 {
  // expected-error@+1 {{expected a static memref with strides and no offset, got 'memref<?xf32>'}}
  %0 = plan.workspace[0] : memref<?xf32>
}

// -----

// Work is said in figures that can be added up.
// expected-error@+1 {{expected streamed as a finite figure of at least 0, got -3}}
plan.segment @f(%x: memref<2x4xf32> read "x") attributes {work = #plan.work<flops 1.0, bytes 0.0, streamed -3.0, scores 0.0, ops 1.0>} {
}

// -----

// A setting has one of the types of the message.
plan.segment @f(%x: memref<2x4xf32> write "x") {
  // expected-error@+1 {{setting 'value': expected i64, f64, bool, string or array<i64>, got 1.000000e+00 : f32}}
  plan.compute "fill" outs(%x : memref<2x4xf32>) with {value = 1.0 : f32}
}

// -----

// An address names a buffer of its program.
// expected-error@+1 {{unknown buffer @nowhere}}
plan.program @p stats <@nowhere[0]> updates <0> {
  plan.step {
  }
  plan.finish {
  }
}

// -----

// An expression uses variables of the loops around it.
plan.program @p stats <0> updates <0> {
  plan.step {
    plan.loop 0 count 2 {
    }
    // expected-error@+1 {{v0 is no variable of a loop around it}}
    plan.load "x" to <64 * v0> microbatch <0> on compute
  }
  plan.finish {
  }
}

// -----

// A variable belongs to one loop.
plan.program @p stats <0> updates <0> {
  plan.step {
    plan.loop 0 count 2 {
    }
    // expected-error@+1 {{variable 0 belongs to another loop}}
    plan.loop 0 count 2 {
    }
  }
  plan.finish {
  }
}

// -----

// Semaphores have names.
plan.program @p stats <0> updates <0> {
  plan.step {
    // expected-error@+1 {{unknown semaphore @s}}
    plan.push 0 on exchange wait [#plan.wait<@s at 1>]
  }
  plan.finish {
  }
}

// -----

// A step and a finish, each once.
// expected-error@+1 {{expected one plan.step and one plan.finish}}
plan.program @p stats <0> updates <0> {
  plan.step {
  }
}

// -----

// Names of a family are as many as its parameters.
plan.program @p stats <0> updates <0> {
  // expected-error@+1 {{expected 2 names, got 1}}
  plan.parameters ["a"] from ["a"] count 2 at <0> stride 64 : tensor<4xf32> owner
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Parameters of a family do not overlap.
plan.program @p stats <0> updates <0> {
  // expected-error@+1 {{expected a stride of at least 16 bytes, got 8}}
  plan.parameters ["a", "b"] from ["a", "b"] count 2 at <0> stride 8 : tensor<4xf32> owner
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Slots keep the alignment.
plan.program @p stats <0> updates <0> {
  // expected-error@+1 {{expected slots of a multiple of 64 bytes, got 2 x 100}}
  plan.buffer @b in "saved" 2 x 100
  plan.step {
  }
  plan.finish {
  }
}

// -----

// A guard's remainder can occur.
plan.program @p stats <0> updates <0> {
  plan.step {
    // expected-error@+1 {{expected a remainder below the modulus, got 4 mod 4}}
    plan.push 0 on exchange guard <4, 4>
  }
  plan.finish {
  }
}

// -----

// The optimizer's numbers are all there.
// expected-error@+1 {{expected a real setting 'beta2'}}
plan.training "adamw" learning_rate 1.0e-3 global_batch 8 precision "f32" {beta1 = 0.9 : f64}

// -----

// What is added is a number with a fraction.
plan.program @p stats <0> updates <8> {
  plan.step {
    // expected-error@+1 {{expected f32 or bf16 to add, got 'i64'}}
    plan.collective "all_reduce_sum" over tensor <0> elements 4 : i64 on collective
  }
  plan.finish {
  }
}

// -----

// Slices lie inside the parameter.
plan.program @p stats <0> updates <8> {
  // expected-error@+1 {{#plan.slice<0, 4 by 5, 8, 4> is no part of 'tensor<4x8xf32>'}}
  plan.parameters ["w"] from ["w"] count 1 at <0> stride 64 : tensor<4x8xf32> slices [#plan.slice<0, 4 by 5, 8, 4>]
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Runs of a slice do not overlap.
plan.program @p stats <0> updates <8> {
  // expected-error@+1 {{expected runs that are not empty and do not overlap, got 4 by 2, 2 apart}}
  plan.parameters ["w"] from ["w"] count 1 at <0> stride 64 : tensor<4x8xf32> slices [#plan.slice<0, 4 by 2, 2, 4>]
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Parts begin at addresses of slots.
plan.program @p stats <0> updates <8> {
  // expected-error@+1 {{expected parts of a multiple of 64 bytes, got 96}}
  plan.state "exp_avg" at <0> part 96
  plan.step {
  }
  plan.finish {
  }
}

// -----

// Nothing is divided by zero.
plan.program @p stats <0> updates <8> {
  plan.step {
    // expected-error@+1 {{expected a positive divisor}}
    plan.send 1 tensor_index <tensor_index floordiv 0> <0> bytes 16 microbatch <0> on send_forward
  }
  plan.finish {
  }
}
