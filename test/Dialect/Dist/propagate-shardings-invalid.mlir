// RUN: cat %S/Inputs/sharding/mlp.mlir %s > %t
// RUN: tombolo-opt %t --graph-differentiate --dist-partition-stages --dist-specialize-blocks -o %t.static
// RUN: sed 's/block 1 tensor_parallel 2/block 7 tensor_parallel 2/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=BLOCK
// RUN: sed 's/fc.weight = array/fd.weight = array/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: sed 's/fc.weight = array<i64: 1, 1>/fc.weight = array<i64: 2, 1>/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=DIMENSION
// RUN: sed 's/fc.weight = array<i64: 1, 1>/fc.weight = array<i64: 1, 16>/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=DEGREE
// RUN: sed 's/fc.weight = array<i64: 1, 1>/fc.weight = array<i64: 1, 3>/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=OUTER
// RUN: sed 's/inputs \[array<i64>\]/inputs [array<i64: 1, 1>]/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=BOUNDARY
// RUN: sed 's/inputs \[array<i64>\]/inputs [array<i64: 0, 1>]/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=BATCH
// RUN: sed 's/inputs \[\]/inputs [array<i64: 1, 1>]/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=INPUT
// RUN: sed 's/inputs \[\]/inputs [array<i64>, array<i64>]/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=COUNT
// RUN: sed 's/ops \[\]/ops [array<i64: 0, 9, 0, 1>]/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=OP
// RUN: sed 's/ops \[\]/ops [array<i64: 0, 1, 7, 1>]/' %t.static | not tombolo-opt --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=FACTOR
// RUN: not tombolo-opt %t.static --dist-insert-collectives 2>&1 | FileCheck %s --check-prefix=ORDER
// RUN: not tombolo-opt %t --graph-differentiate --dist-partition-stages --dist-propagate-shardings 2>&1 | FileCheck %s --check-prefix=FUNCTIONS
// RUN: sed 's/^  dist.sharding block 0/  dist.sharding block 1 tensor_parallel 2 parameters {} inputs [] outputs [] ops []\n&/' %t | not tombolo-opt 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: sed 's/"fc.weight" = array<i64: 1, 1>/"fc.weight" = array<i64: -1, 1>/' %t | not tombolo-opt 2>&1 | FileCheck %s --check-prefix=STATE

// Seeds name blocks and parameters of the model.
// BLOCK: error: sharding: the model has 2 blocks, got block 7
// NAME: error: sharding: block 0 has no parameter 'fd.weight'; it has fc.weight, fc.bias, proj.weight, proj.bias

// A dimension must be there, and outer and the degree must divide it.
// DIMENSION: error: sharding: parameters.fc.weight of block 0 has no dimension 2, it is tensor<8x16xf32>
// DEGREE: error: sharding: parameters.fc.weight of block 0 cannot be split at dimension 1: tensor_parallel 2 does not divide 1; tried dimension 1 of tensor<8x16xf32> as [16, 2, rest]
// OUTER: error: sharding: parameters.fc.weight of block 0 cannot be split at dimension 1 with outer 3: it does not divide 16; tried dimension 1 of tensor<8x16xf32> as [3, 2, rest]
// BATCH: error: sharding: inputs[0] of block 1 cannot be split at dimension 0, which the batch is in

// Blocks agree about the tensor between them; inputs of the model are whole.
// BOUNDARY: error: sharding: block @loss takes input 0 as split 1, block @mlp leaves it as whole
// INPUT: error: sharding: inputs[0] of block 0 is an input of the model, which every chip has whole
// COUNT: error: sharding: block 0 has 1 inputs, got 2

// A seeded op is there, and its rule allows the choice.
// OP: error: a seed is for op 9 of the function, which has 4
// FACTOR: error: a seed asks for choice 7 outer 1 on 2 chips, which the op's rule does not allow
// FACTOR: note: the rule:

// Passes run in their order.
// ORDER: error: expected 'graph.choices_over = 2', run dist-propagate-shardings first
// FUNCTIONS: error: 'dist.run' op has no functions yet, run dist-specialize-blocks

// The op itself: one for each kind of block and degree, states that exist.
// TWICE: error: 'dist.sharding' op block 1 has a second sharding for tensor_parallel 2
// STATE: error: 'dist.sharding' op expected parameter "fc.weight" to be [] or [dim, outer]

dist.strategy global_batch 2 {
  dist.island on ["north"] batch 2 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 2 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 2 share 1
    }
  }
  dist.sharding block 0 tensor_parallel 2
      parameters {"fc.weight" = array<i64: 1, 1>, "fc.bias" = array<i64: 0, 1>, "proj.weight" = array<i64: 0, 1>}
      inputs [] outputs [] ops []
  dist.sharding block 1 tensor_parallel 2 parameters {"head.weight" = array<i64: 1, 1>}
      inputs [array<i64>] outputs [] ops []
}
