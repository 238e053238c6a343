// RUN: tombolo-opt %s | tombolo-opt | FileCheck %s

// A segment with a view, workspace, a constant and settings of every kind.
// CHECK-LABEL: plan.segment @f(%{{.*}}: memref<2x4xf32> read "x", %{{.*}}: memref<4x2xf32> write "y") workspace 64 attributes {work = #plan.work<flops 1.200000e+09, bytes 1.002000e+02, streamed 3.000000e+00, scores 6.400000e+01, ops 2.000000e+00>}
// CHECK: plan.view %{{.*}}[0] : memref<2x4xf32> to memref<4x2xf32, strided<[1, 4]>>
// CHECK: plan.view %{{.*}}[0] : memref<2x4xf32> to memref<3x2x4xf32, #plan.strided<[0, 4, 1]>>
// CHECK: plan.workspace[0] : memref<4x2xf32>
// CHECK: plan.constant dense<1.000000e+00> : tensor<2xf32> : memref<2xf32>
// CHECK: plan.compute "add" ins(%{{.*}}, %{{.*}} : memref<4x2xf32, strided<[1, 4]>>, memref<2xf32>) outs(%{{.*}} : memref<4x2xf32>)
// CHECK: plan.compute "matmul" {{.*}} accumulate with {axes = array<i64: 0, 1>, causal = true, n = 3 : i64, scale = 5.000000e-01 : f64, text = "none"}
plan.segment @f(%x: memref<2x4xf32> read "x", %y: memref<4x2xf32> write "y") workspace 64 attributes {work = #plan.work<flops 1.2e9, bytes 100.2, streamed 3.0, scores 64.0, ops 2.0>} {
  %0 = plan.view %x[0] : memref<2x4xf32> to memref<4x2xf32, strided<[1, 4]>>
  %b = plan.view %x[0] : memref<2x4xf32> to memref<3x2x4xf32, #plan.strided<[0, 4, 1]>>
  %1 = plan.workspace[0] : memref<4x2xf32>
  %2 = plan.constant dense<1.0> : tensor<2xf32> : memref<2xf32>
  plan.compute "add" ins(%0, %2 : memref<4x2xf32, strided<[1, 4]>>, memref<2xf32>) outs(%1 : memref<4x2xf32>)
  plan.compute "matmul" ins(%1 : memref<4x2xf32>) outs(%y : memref<4x2xf32>) accumulate with {axes = array<i64: 0, 1>, causal = true, n = 3 : i64, scale = 0.5 : f64, text = "none"}
}

// A program before its buffers are placed: every instruction, expressions with
// and without mod, waits and signals.
// CHECK-LABEL: plan.program @p stats <@stats[0]> updates <@stats[0] + 8>
// CHECK: plan.buffer @acts in "saved" 2 x 128
// CHECK: plan.parameters #plan.names<"layer.", 0, 1, ".w"> from ["a", "b"] count 2 at <@acts[0]> stride 64 : tensor<4xf32> owner
// CHECK: plan.state "exp_avg" at <@acts[0]>
// CHECK: plan.loop 0 count 4
// CHECK: plan.load "tokens" to <@acts[v0]> microbatch <v0> on compute
// CHECK: plan.receive 1 <@acts[2 + v0] + 64> bytes 64 microbatch <v0> on receive_forward wait [#plan.wait<@s at -1 + v0>] signal [@s]
// CHECK: plan.loop 1 count 3
// CHECK: plan.call @f [#plan.address<@acts[v0] + 8 + 16 * v1>, #plan.address<@acts[v0] + 32 * (v1 + 1 mod 2)>] workspace <@acts[0]> on compute
// CHECK: plan.send 1 {{.*}} on send_forward
// CHECK: plan.collective "all_reduce_sum" over replicas <@acts[0]> elements 8 : f32 on collective
// CHECK: plan.push 0 on exchange guard <16, 0>
// CHECK: plan.apply 0 on exchange
plan.program @p stats <@stats[0]> updates <@stats[0] + 8> {
  plan.buffer @acts in "saved" 2 x 128
  plan.buffer @stats in "stats" 1 x 64
  plan.parameters #plan.names<"layer.", 0, 1, ".w"> from ["a", "b"] count 2 at <@acts[0]> stride 64 : tensor<4xf32> owner
  plan.state "exp_avg" at <@acts[0]>
  plan.semaphore @s
  plan.step {
    plan.loop 0 count 4 {
      plan.load "tokens" to <@acts[v0]> microbatch <v0> on compute
      plan.receive 1 <@acts[v0 + 2] + 64> bytes 64 microbatch <v0> on receive_forward wait [#plan.wait<@s at v0 + -1>] signal [@s]
      plan.loop 1 count 3 {
        plan.call @f [#plan.address<@acts[v0] + 16 * v1 + 8>, #plan.address<@acts[v0] + 32 * (v1 + 1 mod 2)>] workspace <@acts[0]> on compute
      }
      plan.send 1 <@acts[v0]> bytes 64 microbatch <v0> on send_forward
    }
    plan.collective "all_reduce_sum" over replicas <@acts[0]> elements 8 : f32 on collective
    plan.push 0 on exchange guard <16, 0>
    plan.apply 0 on exchange guard <16, 0>
  }
  plan.finish {
  }
}

// A program whose addresses are bytes of the arena.
// CHECK-LABEL: plan.program @q stats <64> updates <128> arena_bytes 4096 host_bytes 64
// CHECK: plan.region "parameters" at 0 bytes 64
plan.program @q stats <64> updates <128> arena_bytes 4096 host_bytes 64 {
  plan.region "parameters" at 0 bytes 64
  plan.step {
  }
  plan.finish {
  }
}

// What depends on where the rank stands in its stage: coordinates, a quotient,
// slices of parameters, state of a replica's part, collectives over a replica.
// CHECK-LABEL: plan.program @r stats <64> updates <128> tensor_index <192> arena_bytes 4096
// CHECK: plan.parameters ["w"] from ["w"] count 1 at <0> stride 64 : tensor<4x8xf32> slices [#plan.slice<0, 4 by 4, 8, 4>] owner
// CHECK: plan.state "exp_avg" at <64> part 128
// CHECK: plan.collective "all_to_all" over tensor <32 * tensor_index> elements 8 : i64
// CHECK: plan.collective "reduce_scatter_sum" over replicas <64 * replica> elements 16 : f32
// CHECK: plan.send 1 tensor_index <1 + 2 * tensor_index floordiv 4> <16 * (tensor_index + 1 mod 2)> bytes 16
plan.program @r stats <64> updates <128> tensor_index <192> arena_bytes 4096 {
  plan.parameters ["w"] from ["w"] count 1 at <0> stride 64 : tensor<4x8xf32> slices [#plan.slice<0, 4 by 4, 8, 4>] owner
  plan.state "exp_avg" at <64> part 128
  plan.step {
    plan.collective "all_to_all" over tensor <32 * tensor_index> elements 8 : i64 on collective
    plan.collective "reduce_scatter_sum" over replicas <64 * replica> elements 16 : f32 on collective
    plan.send 1 tensor_index <2 * tensor_index + 1 floordiv 4> <16 * (tensor_index + 1 mod 2)> bytes 16 microbatch <0> on send_forward
  }
  plan.finish {
  }
}

// The other messages of a plan.
// CHECK: plan.model hash "00" topology "01" tokens_per_sample 8 vocabulary 100
// CHECK: plan.input "labels" : tensor<8xi64> label
// CHECK: plan.training "sgd" learning_rate 1.000000e-03 global_batch 8 precision "f32" {momentum = 0.000000e+00 : f64, weight_decay = 0.000000e+00 : f64}
// CHECK: plan.island ["a"] batch 8 microbatch 2
// CHECK: plan.replicas @q on "a" "p" count 2 tensor_parallel 1 share 1
// CHECK: plan.server inner_steps 4
// CHECK: plan.prediction {step_seconds = 1.000000e+00 : f64}
plan.model hash "00" topology "01" tokens_per_sample 8 vocabulary 100 {
  plan.input "tokens" : tensor<8xi64>
  plan.input "labels" : tensor<8xi64> label
}
plan.training "sgd" learning_rate 1.0e-3 global_batch 8 precision "f32" {momentum = 0.0 : f64, weight_decay = 0.0 : f64}
plan.island ["a"] batch 8 microbatch 2 {
  plan.stage {
    plan.replicas @q on "a" "p" count 2 tensor_parallel 1 share 1
  }
}
plan.server inner_steps 4 overlap_steps 0 fragments 1 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 primaries ["a"] backups [""] witness ""
plan.prediction {step_seconds = 1.0 : f64}
