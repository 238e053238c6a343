// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --graph-differentiate --dist-partition-stages --dist-specialize-blocks=precision=bf16 | FileCheck %s

// Each distinct block becomes three static functions for the microbatch, in
// bf16 where activations cross; the islands with microbatch 2 share theirs.
// CHECK: dist.strategy
// CHECK: microbatch 2
// CHECK: dist.run @layer {{.*}} functions @layer.forward.m2.bf16, @layer.backward_input.m2.bf16, @layer.backward_weight.m2.bf16
// CHECK: microbatch 1
// CHECK: dist.run @layer {{.*}} functions @layer.forward.m1.bf16
// CHECK: microbatch 2
// CHECK: dist.run @layer {{.*}} functions @layer.forward.m2.bf16
// CHECK-DAG: func.func private @layer.forward.m2.bf16(%{{.*}}: tensor<2x4xbf16>, %{{.*}}: tensor<4x4xf32>
// CHECK-DAG: func.func private @layer.backward_weight.m2.bf16({{.*}} -> tensor<4x4xf32>
// CHECK-DAG: func.func private @layer.forward.m1.bf16(%{{.*}}: tensor<1x4xbf16>
dist.strategy global_batch 6 {
  dist.island on ["north"] batch 2 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.island on ["south"] batch 2 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "south/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.island on ["west"] batch 2 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "west/a" count 1 tensor_parallel 1 share 1
    }
  }
}
