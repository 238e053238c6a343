// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages | FileCheck %s

// Chunk 1 of all stages follows chunk 0 of all, and what is one run in the model
// is one in each chunk.
// CHECK-LABEL: dist.stage blocks 2
// CHECK: dist.run @first sources [-1] parameters {{\[\[}}@layer.0.weight]]
// CHECK: dist.run @layer chunk 1 sources [0] parameters {{\[\[}}@layer.2.weight]]
// CHECK-LABEL: dist.stage blocks 2
// CHECK: dist.run @layer sources [0] parameters {{\[\[}}@layer.1.weight]]
// CHECK: dist.run @loss chunk 1 sources [0, -1] parameters {{\[\[}}@head.weight]]
dist.strategy global_batch 8 {
  dist.island on ["north"] batch 8 microbatch 2 schedule "interleaved" chunks 2 {
    dist.stage blocks 2 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
    dist.stage blocks 2 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
}
