// RUN: tombolo-opt %s --plan-expand-collectives -split-input-file | FileCheck %s

// A function is split at its collective, once for both calls. The sum happens
// where the first part leaves it; what the first part saves lies in the result.
// CHECK-LABEL: module @twice
// CHECK: func.func private @f.part0(%[[X:.*]]: tensor<2x4xf32>, %[[W:.*]]: tensor<4x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>)
// CHECK-NEXT: %[[H:.*]] = graph.matmul %[[X]], %[[W]]
// CHECK-NEXT: %[[Y:.*]] = graph.relu %[[H]]
// CHECK-NEXT: return %[[H]], %[[Y]]
// CHECK: func.func private @f.part1(%[[X:.*]]: tensor<2x4xf32>, %[[S:.*]]: tensor<2x4xf32>) -> tensor<2x4xf32>
// CHECK-NEXT: %[[Z:.*]] = graph.add %[[S]], %[[X]]
// CHECK-NEXT: return %[[Z]]
// CHECK-NOT: func.func
// CHECK: plan.buffer @crossing in "workspace" 1 x 64
// CHECK: plan.call @f.part0 [#plan.address<@a[0]>, #plan.address<@a[0] + 64>, #plan.address<@a[0] + 192>, #plan.address<@crossing[0]>] on compute {pass = "forward"}
// CHECK-NEXT: plan.collective "all_reduce_sum" over tensor <@crossing[0]> elements 8 : f32 on collective {pass = "forward"}
// CHECK-NEXT: plan.call @f.part1 [#plan.address<@a[0]>, #plan.address<@crossing[0]>, #plan.address<@a[0] + 128>] on compute
// CHECK: plan.loop 0 count 3
// CHECK-NEXT: plan.call @f.part0 [#plan.address<@a[v0] + 256>,
module @twice {
  func.func private @f(%x: tensor<2x4xf32>, %w: tensor<4x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>) {
    %0 = graph.matmul %x, %w : tensor<2x4xf32>, tensor<4x4xf32> to tensor<2x4xf32>
    %1 = graph.relu %0 : tensor<2x4xf32>
    %2 = graph.all_reduce %1 : tensor<2x4xf32> to tensor<2x4xf32>
    %3 = graph.add %2, %x : tensor<2x4xf32>, tensor<2x4xf32> to tensor<2x4xf32>
    return %3, %0 : tensor<2x4xf32>, tensor<2x4xf32>
  }
  plan.island ["a"] batch 2 microbatch 2 {
    plan.stage {
      plan.replicas @p on "a" "p" count 1 tensor_parallel 2 share 1
    }
  }
  plan.program @p stats <@a[0]> updates <@a[0]> {
    plan.buffer @a in "saved" 1 x 512
    plan.step {
      plan.call @f [#plan.address<@a[0]>, #plan.address<@a[0] + 64>, #plan.address<@a[0] + 128>, #plan.address<@a[0] + 192>] on compute {pass = "forward"}
      plan.loop 0 count 3 {
        plan.call @f [#plan.address<@a[v0] + 256>, #plan.address<@a[0] + 64>, #plan.address<@a[0] + 128>, #plan.address<@a[0] + 192>] on compute
      }
    }
    plan.finish {
    }
  }
}

// -----

// A sum that is the function's result happens in the result's memory, also
// behind a reshape; nothing crosses.
// CHECK-LABEL: module @result
// CHECK-NOT: @crossing
// CHECK: plan.call @f.part0 [#plan.address<@a[0]>, #plan.address<@a[0] + 64>]
// CHECK-NEXT: plan.collective "all_reduce_sum" over tensor <@a[0] + 64> elements 8 : f32
// CHECK-NEXT: }
module @result {
  func.func private @f(%x: tensor<2x4xf32>) -> tensor<8xf32> {
    %0 = graph.relu %x : tensor<2x4xf32>
    %1 = graph.all_reduce %0 : tensor<2x4xf32> to tensor<2x4xf32>
    %2 = graph.reshape %1 : tensor<2x4xf32> to tensor<8xf32>
    return %2 : tensor<8xf32>
  }
  plan.island ["a"] batch 2 microbatch 2 {
    plan.stage {
      plan.replicas @p on "a" "p" count 1 tensor_parallel 2 share 1
    }
  }
  plan.program @p stats <@a[0]> updates <@a[0]> {
    plan.buffer @a in "saved" 1 x 128
    plan.step {
      plan.call @f [#plan.address<@a[0]>, #plan.address<@a[0] + 64>] on compute
    }
    plan.finish {
    }
  }
}

// -----

// A chip writes its part where it belongs in the whole that is gathered, and
// reads its part of a scattered sum there; views are made where they are read.
// Sums that do not wait for each other happen in one round; memory that is no
// longer needed is used again.
// CHECK-LABEL: module @parts
// CHECK: func.func private @f.part0(%{{.*}}: tensor<2x4xf32>) -> tensor<2x4xf32>
// CHECK: func.func private @f.part1(%[[G:.*]]: tensor<2x2x4xf32>) -> (tensor<2x2x4xf32>, tensor<2x2x4xf32>)
// CHECK: graph.transpose %[[G]]
// CHECK: func.func private @f.part2(%{{.*}}: tensor<i64>, %{{.*}}: tensor<2x4xf32>, %{{.*}}: tensor<2x2x4xf32>) -> tensor<2x4xf32>
// CHECK: graph.shard
// CHECK: plan.program @p stats <@a[0]> updates <@a[0]> tensor_index <@tensor_index[0]>
// CHECK: plan.buffer @crossing in "workspace" 1 x 192
// CHECK: plan.buffer @tensor_index in "tensor_index" 1 x 64
// CHECK: plan.call @f.part0 [#plan.address<@a[0]>, #plan.address<@crossing[0] + {{.*}}32 * tensor_index>]
// CHECK-NEXT: plan.collective "all_gather" over tensor <@crossing[0]{{.*}}> elements 16 : f32
// CHECK-NEXT: plan.call @f.part1
// CHECK-NEXT: plan.collective "reduce_scatter_sum" over tensor <@crossing[0]{{.*}}> elements 16 : f32
// CHECK-NEXT: plan.collective "all_to_all" over tensor <@crossing[0]{{.*}}> elements 16 : f32
// CHECK-NEXT: plan.call @f.part2 [#plan.address<@tensor_index[0]>, #plan.address<@crossing[0] + 64 + 32 * tensor_index>, #plan.address<@crossing[0] + 128>, #plan.address<@a[0] + 64>]
module @parts {
  func.func private @f(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
    %i = graph.tensor_index : tensor<i64>
    %0 = graph.relu %x : tensor<2x4xf32>
    %1 = graph.all_gather %0 {count = 2 : i64} : tensor<2x4xf32> to tensor<2x2x4xf32>
    %2 = graph.transpose %1, [1, 0, 2] : tensor<2x2x4xf32> to tensor<2x2x4xf32>
    %3 = graph.relu %2 : tensor<2x2x4xf32>
    %4 = graph.reduce_scatter %3 : tensor<2x2x4xf32> to tensor<2x4xf32>
    %5 = graph.neg %3 : tensor<2x2x4xf32>
    %6 = graph.all_to_all %5 : tensor<2x2x4xf32> to tensor<2x2x4xf32>
    %7 = graph.shard %6 [%i] : tensor<2x2x4xf32>, tensor<i64> to tensor<2x4xf32>
    %8 = graph.add %4, %7 : tensor<2x4xf32>, tensor<2x4xf32> to tensor<2x4xf32>
    return %8 : tensor<2x4xf32>
  }
  plan.island ["a"] batch 2 microbatch 2 {
    plan.stage {
      plan.replicas @p on "a" "p" count 1 tensor_parallel 2 share 1
    }
  }
  plan.program @p stats <@a[0]> updates <@a[0]> {
    plan.buffer @a in "saved" 1 x 128
    plan.step {
      plan.call @f [#plan.address<@a[0]>, #plan.address<@a[0] + 64>] on compute
    }
    plan.finish {
    }
  }
}
