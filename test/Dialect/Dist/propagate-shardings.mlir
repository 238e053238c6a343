// RUN: cat %S/Inputs/sharding/mlp.mlir %s > %t
// RUN: tombolo-opt %t --graph-differentiate --dist-partition-stages --dist-specialize-blocks --dist-propagate-shardings -o %t.decided
// RUN: FileCheck %s --input-file=%t.decided
// RUN: tombolo-opt %t.decided --dist-insert-collectives | FileCheck %s --check-prefix=LOCAL
// RUN: tombolo-opt %t.decided --dist-propagate-shardings | diff %t.decided -
// RUN: tombolo-opt %t.decided --dist-insert-collectives -o %t.local
// RUN: tombolo-opt %t.local --dist-insert-collectives | diff %t.local -

// From the seeds of four parameters: the first product splits its columns, the
// activation follows, the second product splits what it sums over. Types are
// still whole.
// CHECK-LABEL: func.func private @mlp.forward.m2.f32.t2
// CHECK-SAME: tensor<8x16xf32> {graph.parameter = "trainable", graph.split = array<i64: 1, 1, 2>}
// CHECK-SAME: tensor<16xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}
// CHECK-SAME: tensor<16x8xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}
// CHECK-SAME: graph.choices_over = 2
// CHECK: graph.matmul {{.*}} {graph.choice = array<i64: 3, 1>} {{.*}} to tensor<2x4x16xf32>
// CHECK: graph.gelu {{.*}} {graph.choice = array<i64: 2, 1>}
// CHECK: graph.matmul {{.*}} {graph.choice = array<i64: 2, 1>} {{.*}} to tensor<2x4x8xf32>
// CHECK-NEXT: graph.add %{{[^{]*}} : tensor<2x4x8xf32>

// The gradient is split where the value is, and partial sums come out of the
// product over the split columns.
// CHECK-LABEL: func.func private @mlp.backward_weight.m2.f32.t2
// CHECK: graph.matmul {{.*}}graph.choice

// One all-reduce, of what the product by rows gives; the first chip alone adds
// its bias.
// LOCAL-LABEL: func.func private @mlp.forward.m2.f32.t2
// LOCAL-SAME: %arg1: tensor<8x8xf32> {graph.parameter = "trainable", graph.split = array<i64: 1, 1, 2>}
// LOCAL-SAME: %arg2: tensor<8xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}
// LOCAL-SAME: %arg3: tensor<8x8xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}
// LOCAL-SAME: %arg4: tensor<8xf32> {graph.parameter = "trainable"}
// LOCAL-SAME: graph.tensor_parallel = 2
// LOCAL: %[[INDEX:.*]] = graph.tensor_index
// LOCAL: %[[COLUMNS:.*]] = graph.matmul %arg0, %arg1 bias %arg2 {{.*}} to tensor<2x4x8xf32>
// LOCAL-NEXT: %[[GELU:.*]] = graph.gelu %[[COLUMNS]]
// LOCAL: graph.equal %[[INDEX]]
// LOCAL: %[[BIAS:.*]] = graph.where {{.*}} %arg4
// LOCAL: %[[ROWS:.*]] = graph.matmul %[[GELU]], %arg3 bias %[[BIAS]]
// LOCAL-NEXT: %[[SUM:.*]] = graph.all_reduce %[[ROWS]]
// LOCAL-NEXT: graph.add %arg0, %[[SUM]]
// LOCAL-NOT: graph.choice

// Nothing needs a gradient of the model's input, and gradients of parameters
// need no exchange: those of split parameters are split, that of the bias of
// the sum is of a whole gradient.
// LOCAL-LABEL: func.func private @mlp.backward_weight.m2.f32.t2
// LOCAL-NOT: graph.all_
// LOCAL-NOT: graph.partial
// LOCAL: return {{.*}} : tensor<8x8xf32>, tensor<8xf32>, tensor<8x8xf32>, tensor<8xf32>

// The vocabulary is split: no logits are gathered, only one number per token
// and chip.
// LOCAL-LABEL: func.func private @loss.forward.m2.f32.t2
// LOCAL: graph.cross_entropy_shard {{.*}} tensor<2x4x3xf32>
// LOCAL: graph.all_gather {{.*}} to tensor<2x2x4xf32>
// LOCAL: graph.cross_entropy_merge
// LOCAL-NOT: to tensor<2x4x6xf32>
// LOCAL-LABEL: func.func private @loss.backward_input.m2.f32.t2
// LOCAL: graph.cross_entropy_backward {{.*}} tensor<2x4x3xf32>
// LOCAL: graph.all_reduce {{.*}} tensor<2x4x8xf32>

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
