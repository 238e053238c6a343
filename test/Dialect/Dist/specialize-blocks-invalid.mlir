// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --dist-partition-stages --dist-specialize-blocks 2>&1 | FileCheck %s --check-prefix=PLAIN
// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --graph-differentiate --dist-partition-stages --dist-specialize-blocks=precision=f64 2>&1 | FileCheck %s --check-prefix=PRECISION

// Blocks have to be differentiated before.
// PLAIN: error: {{.*}}differentiate
// There are two precisions.
// PRECISION: error: expected precision f32 or bf16, got 'f64'
dist.strategy global_batch 2 {
  dist.island on ["north"] batch 2 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
}
