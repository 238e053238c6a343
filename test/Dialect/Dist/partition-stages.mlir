// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages | FileCheck %s

// Consecutive calls of one block are one run, with a parameter list for each; a
// data argument tells which result of the block before it reads.
// CHECK-LABEL: dist.stage blocks 1
// CHECK: dist.run @first sources [-1] parameters {{\[\[}}@layer.0.weight]]
// CHECK-NOT: functions
// CHECK-LABEL: dist.stage blocks 3
// CHECK: dist.run @layer sources [0] parameters {{\[\[}}@layer.1.weight], [@layer.2.weight]]
// CHECK: dist.run @loss sources [0, -1] parameters {{\[\[}}@head.weight]]
dist.strategy global_batch 8 {
  dist.island on ["north"] batch 8 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "north/a" count 2 tensor_parallel 1 share 1
    }
    dist.stage blocks 3 recompute "none" {
      dist.replicas on "north/a" count 2 tensor_parallel 1 share 1
    }
  }
}
