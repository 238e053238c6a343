// RUN: tombolo-opt %s -dist-select-strategy | FileCheck %s --check-prefix=FIRST
// RUN: tombolo-opt %s -dist-select-strategy=index=1 | FileCheck %s --check-prefix=SECOND

// One strategy stays: the first unless told.
// FIRST: dist.strategy global_batch 8
// FIRST-NOT: dist.strategy
// SECOND: dist.strategy global_batch 16
// SECOND-NOT: dist.strategy
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
}
dist.strategy global_batch 16 {
  dist.island on ["s"] batch 16 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
}
