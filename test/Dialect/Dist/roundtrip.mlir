// RUN: tombolo-opt %s | tombolo-opt | FileCheck %s

// One op for each level of strategy.yaml.
// CHECK-LABEL: dist.strategy global_batch 128 {
dist.strategy global_batch 128 {
  // CHECK: dist.island on ["north"] batch 96 microbatch 4 schedule "1f1b" chunks 1 {
  dist.island on ["north"] batch 96 microbatch 4 schedule "1f1b" chunks 1 {
    // CHECK: dist.stage blocks 20 recompute "none" {
    dist.stage blocks 20 recompute "none" {
      // CHECK: dist.replicas on "north/a" count 2 tensor_parallel 4 share 1
      dist.replicas on "north/a" count 2 tensor_parallel 4 share 1
    }
    // CHECK: dist.stage blocks 12 recompute "full" optimizer_sharding {
    dist.stage blocks 12 recompute "full" optimizer_sharding {
      dist.replicas on "north/b" count 1 tensor_parallel 2 share 3
      dist.replicas on "north/c" count 1 tensor_parallel 4 share 1
    }
  }
  // CHECK: dist.island on ["south", "west"] batch 32 microbatch 4 schedule "gpipe" chunks 1 inner_steps 8 {
  dist.island on ["south", "west"] batch 32 microbatch 4 schedule "gpipe" chunks 1 inner_steps 8 {
    // CHECK: dist.stage blocks 32 recompute "7" {
    dist.stage blocks 32 recompute "7" {
      dist.replicas on "south/a" count 1 tensor_parallel 1 share 1
    }
  }
  // CHECK: dist.server inner_steps 16 fragments 8 overlap_steps 2 compression "int8" outer "nesterov"
  // CHECK-SAME: quorum 1 deadline_seconds 6.000000e+01 witness "north" {
  dist.server inner_steps 16 fragments 8 overlap_steps 2 compression "int8" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 witness "north" {
    // CHECK: dist.fragment 0 primary "north" backup "south"
    dist.fragment 0 primary "north" backup "south"
    // CHECK: dist.fragment 1 primary "south"
    dist.fragment 1 primary "south"
  }
}
