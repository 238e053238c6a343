// RUN: tombolo-opt %s | tombolo-opt | FileCheck %s

// AdamW as the outer optimizer has three more constants.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  // CHECK: outer "adamw" learning_rate 1.000000e-03 momentum 9.000000e-01
  // CHECK-SAME: beta2 0.99{{[0-9]+}} epsilon 1.000000e-08 weight_decay 1.000000e-02 quorum 1
  dist.server inner_steps 4 fragments 1 overlap_steps 0 compression "none" outer "adamw" learning_rate 0.001 momentum 0.9 beta2 0.999 epsilon 1.0e-8 weight_decay 0.01 quorum 1 deadline_seconds 60.0 {
  }
}
