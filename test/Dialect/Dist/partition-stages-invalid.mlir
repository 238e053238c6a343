// RUN: cat %S/Inputs/model.mlir %S/Inputs/refused/blocks.mlir | not tombolo-opt --dist-partition-stages 2>&1 | FileCheck %s --check-prefix=BLOCKS
// RUN: cat %S/Inputs/model.mlir %S/Inputs/refused/schedule.mlir | not tombolo-opt --dist-partition-stages 2>&1 | FileCheck %s --check-prefix=SCHEDULE
// RUN: sed 's/call @layer(%1/call @layer(%0/' %S/Inputs/model.mlir > %t.skip
// RUN: cat %t.skip %s | not tombolo-opt --dist-partition-stages 2>&1 | FileCheck %s --check-prefix=SKIP

// The blocks of the stages are those of the model.
// BLOCKS: error: islands[0].stages: the stages have 5 blocks, the model has 4

// Every chunk of a stage has blocks.
// SCHEDULE: error: expected a block for each of 5 chunks, got 4


// A block reads the block before it.
// SKIP: error: block 2 (@layer) reads a tensor of an earlier block than the one before it, which is not there yet
dist.strategy global_batch 8 {
  dist.island on ["north"] batch 8 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
    dist.stage blocks 3 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
}
