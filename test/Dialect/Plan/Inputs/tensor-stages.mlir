// Two stages, of two chips and of DEGREE chips to a replica, as
// dist-insert-collectives leaves them; tests put a number for DEGREE.
module attributes {dist.precision = "f32", graph.model_hash = "0000000000000000000000000000000000000000000000000000000000000000"} {
  graph.parameter @embed : tensor<4x4xf32> from "e"
  graph.parameter @layer.1.up : tensor<4x8xf32> from "u1"
  graph.parameter @layer.1.down : tensor<8x4xf32> from "d1"
  graph.parameter @layer.2.up : tensor<4x8xf32> from "u2"
  graph.parameter @layer.2.down : tensor<8x4xf32> from "d2"
  graph.parameter @head : tensor<4x5xf32> from "h"
  func.func private @first.forward(%arg0: tensor<?x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}) -> tensor<?x4xf32> {
    %0 = graph.matmul %arg0, %arg1 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
    return %0 : tensor<?x4xf32>
  }
  func.func private @first.backward_input(%arg0: tensor<?x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}, %arg2: tensor<?x4xf32>) {
    return
  }
  func.func private @first.backward_weight(%arg0: tensor<?x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}, %arg2: tensor<?x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.matmul %arg0, %arg2 {transpose_a = true} : tensor<?x4xf32>, tensor<?x4xf32> to tensor<4x4xf32>
    return %0 : tensor<4x4xf32>
  }
  func.func private @first(%arg0: tensor<?x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}) -> tensor<?x4xf32> attributes {graph.backward_input = @first.backward_input, graph.backward_weight = @first.backward_weight, graph.block, graph.carried_count = 0 : i64, graph.forward = @first.forward, graph.saved_count = 0 : i64} {
    %0 = graph.matmul %arg0, %arg1 : tensor<?x4xf32>, tensor<4x4xf32> to tensor<?x4xf32>
    return %0 : tensor<?x4xf32>
  }
  func.func private @layer.forward(%arg0: tensor<?x4xf32>, %arg1: tensor<4x8xf32> {graph.parameter = "trainable"}, %arg2: tensor<8x4xf32> {graph.parameter = "trainable"}) -> (tensor<?x4xf32>, tensor<?x8xf32>) {
    %0 = graph.matmul %arg0, %arg1 : tensor<?x4xf32>, tensor<4x8xf32> to tensor<?x8xf32>
    %1 = graph.relu %0 : tensor<?x8xf32>
    %2 = graph.matmul %1, %arg2 : tensor<?x8xf32>, tensor<8x4xf32> to tensor<?x4xf32>
    %3 = graph.add %2, %arg0 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
    return %3, %1 : tensor<?x4xf32>, tensor<?x8xf32>
  }
  func.func private @layer.backward_input(%arg0: tensor<?x4xf32>, %arg1: tensor<?x8xf32>, %arg2: tensor<4x8xf32> {graph.parameter = "trainable"}, %arg3: tensor<8x4xf32> {graph.parameter = "trainable"}, %arg4: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x8xf32>) {
    %0 = graph.matmul %arg4, %arg3 {transpose_b = true} : tensor<?x4xf32>, tensor<8x4xf32> to tensor<?x8xf32>
    %1 = graph.relu_backward %0, %arg1 : tensor<?x8xf32>, tensor<?x8xf32>
    %2 = graph.matmul %1, %arg2 {transpose_b = true} : tensor<?x8xf32>, tensor<4x8xf32> to tensor<?x4xf32>
    %3 = graph.add %arg4, %2 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
    return %3, %1 : tensor<?x4xf32>, tensor<?x8xf32>
  }
  func.func private @layer.backward_weight(%arg0: tensor<?x4xf32>, %arg1: tensor<?x8xf32>, %arg2: tensor<4x8xf32> {graph.parameter = "trainable"}, %arg3: tensor<8x4xf32> {graph.parameter = "trainable"}, %arg4: tensor<?x4xf32>, %arg5: tensor<?x8xf32>) -> (tensor<4x8xf32>, tensor<8x4xf32>) {
    %0 = graph.matmul %arg1, %arg4 {transpose_a = true} : tensor<?x8xf32>, tensor<?x4xf32> to tensor<8x4xf32>
    %1 = graph.matmul %arg0, %arg5 {transpose_a = true} : tensor<?x4xf32>, tensor<?x8xf32> to tensor<4x8xf32>
    return %1, %0 : tensor<4x8xf32>, tensor<8x4xf32>
  }
  func.func private @layer(%arg0: tensor<?x4xf32>, %arg1: tensor<4x8xf32> {graph.parameter = "trainable"}, %arg2: tensor<8x4xf32> {graph.parameter = "trainable"}) -> tensor<?x4xf32> attributes {graph.backward_input = @layer.backward_input, graph.backward_weight = @layer.backward_weight, graph.block, graph.carried_count = 1 : i64, graph.forward = @layer.forward, graph.saved_count = 1 : i64} {
    %0 = graph.matmul %arg0, %arg1 : tensor<?x4xf32>, tensor<4x8xf32> to tensor<?x8xf32>
    %1 = graph.relu %0 : tensor<?x8xf32>
    %2 = graph.matmul %1, %arg2 : tensor<?x8xf32>, tensor<8x4xf32> to tensor<?x4xf32>
    %3 = graph.add %2, %arg0 : tensor<?x4xf32>, tensor<?x4xf32> to tensor<?x4xf32>
    return %3 : tensor<?x4xf32>
  }
  func.func private @loss.forward(%arg0: tensor<?x4xf32>, %arg1: tensor<?xi64> {graph.label = "y"}, %arg2: tensor<4x5xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>, tensor<?x5xf32>, tensor<?xf32>) {
    %0 = graph.matmul %arg0, %arg2 : tensor<?x4xf32>, tensor<4x5xf32> to tensor<?x5xf32>
    %loss, %weights, %lse = graph.cross_entropy %0, %arg1 : tensor<?x5xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
    return %loss, %weights, %0, %lse : tensor<f32>, tensor<f32>, tensor<?x5xf32>, tensor<?xf32>
  }
  func.func private @loss.backward_input(%arg0: tensor<?x4xf32>, %arg1: tensor<?xi64> {graph.label = "y"}, %arg2: tensor<?x5xf32>, %arg3: tensor<?xf32>, %arg4: tensor<4x5xf32> {graph.parameter = "trainable"}) -> (tensor<?x4xf32>, tensor<?x5xf32>) {
    %0 = graph.cross_entropy_backward %arg2, %arg1, %arg3 : tensor<?x5xf32>, tensor<?xi64>, tensor<?xf32> to tensor<?x5xf32>
    %1 = graph.matmul %0, %arg4 {transpose_b = true} : tensor<?x5xf32>, tensor<4x5xf32> to tensor<?x4xf32>
    return %1, %0 : tensor<?x4xf32>, tensor<?x5xf32>
  }
  func.func private @loss.backward_weight(%arg0: tensor<?x4xf32>, %arg1: tensor<?xi64> {graph.label = "y"}, %arg2: tensor<?x5xf32>, %arg3: tensor<?xf32>, %arg4: tensor<4x5xf32> {graph.parameter = "trainable"}, %arg5: tensor<?x5xf32>) -> tensor<4x5xf32> {
    %0 = graph.matmul %arg0, %arg5 {transpose_a = true} : tensor<?x4xf32>, tensor<?x5xf32> to tensor<4x5xf32>
    return %0 : tensor<4x5xf32>
  }
  func.func private @loss(%arg0: tensor<?x4xf32>, %arg1: tensor<?xi64> {graph.label = "y"}, %arg2: tensor<4x5xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.backward_input = @loss.backward_input, graph.backward_weight = @loss.backward_weight, graph.block, graph.carried_count = 1 : i64, graph.forward = @loss.forward, graph.saved_count = 2 : i64} {
    %0 = graph.matmul %arg0, %arg2 : tensor<?x4xf32>, tensor<4x5xf32> to tensor<?x5xf32>
    %loss, %weights, %lse = graph.cross_entropy %0, %arg1 : tensor<?x5xf32>, tensor<?xi64> to tensor<f32>, tensor<f32>, tensor<?xf32>
    return %loss, %weights : tensor<f32>, tensor<f32>
  }
  func.func @main(%arg0: tensor<?x4xf32> {graph.input = "x"}, %arg1: tensor<?xi64> {graph.label = "y"}) -> (tensor<f32>, tensor<f32>) {
    %0 = graph.get_parameter @embed : tensor<4x4xf32>
    %1 = graph.get_parameter @layer.1.up : tensor<4x8xf32>
    %2 = graph.get_parameter @layer.1.down : tensor<8x4xf32>
    %3 = graph.get_parameter @layer.2.up : tensor<4x8xf32>
    %4 = graph.get_parameter @layer.2.down : tensor<8x4xf32>
    %5 = graph.get_parameter @head : tensor<4x5xf32>
    %6 = call @first(%arg0, %0) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    %7 = call @layer(%6, %1, %2) : (tensor<?x4xf32>, tensor<4x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
    %8 = call @layer(%7, %3, %4) : (tensor<?x4xf32>, tensor<4x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
    %9:2 = call @loss(%8, %arg1, %5) : (tensor<?x4xf32>, tensor<?xi64>, tensor<4x5xf32>) -> (tensor<f32>, tensor<f32>)
    return %9#0, %9#1 : tensor<f32>, tensor<f32>
  }
  topo.topology {
    topo.chip @c {matmul_efficiency = 6.000000e-01 : f64, memory_efficiency = 8.000000e-01 : f64, memory_gbytes_per_second = 1.000000e+01 : f64, memory_gib = 1.000000e+00 : f64, tflops_f32 = 1.000000e+00 : f64}
    topo.site @north {
      topo.pool @a of @c nodes 1 chips_per_node 8 nics_per_node 1 {intra_gbits_per_second = 1.000000e+01 : f64, intra_latency_us = 1.000000e+01 : f64}
    }
  }
  dist.strategy global_batch 8 {
    dist.island on ["north"] batch 8 microbatch 2 schedule "1f1b" chunks 1 {
      dist.stage blocks 3 recompute "none" {
        dist.replicas on "north/a" count 1 tensor_parallel 2 share 1
        dist.run @first sources [-1] parameters [[@embed]] functions @first.forward.m2.f32, @first.backward_input.m2.f32, @first.backward_weight.m2.f32
        dist.run @layer sources [0] parameters [[@layer.1.up, @layer.1.down], [@layer.2.up, @layer.2.down]] functions @layer.forward.m2.f32, @layer.backward_input.m2.f32, @layer.backward_weight.m2.f32
      }
      dist.stage blocks 1 recompute "none" {
        dist.replicas on "north/a" count 1 tensor_parallel DEGREE share 1
        dist.run @loss sources [0, -1] parameters [[@head]] functions @loss.forward.m2.f32, @loss.backward_input.m2.f32, @loss.backward_weight.m2.f32
      }
    }
  }
  func.func private @first.forward.m2.f32(%arg0: tensor<2x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}) -> tensor<2x4xf32> attributes {graph.tensor_parallel = 2 : i64} {
    %0 = graph.matmul %arg0, %arg1 : tensor<2x4xf32>, tensor<4x4xf32> to tensor<2x4xf32>
    return %0 : tensor<2x4xf32>
  }
  func.func private @first.backward_input.m2.f32(%arg0: tensor<2x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}, %arg2: tensor<2x4xf32>) attributes {graph.tensor_parallel = 2 : i64} {
    return
  }
  func.func private @first.backward_weight.m2.f32(%arg0: tensor<2x4xf32> {graph.input = "x"}, %arg1: tensor<4x4xf32> {graph.parameter = "trainable"}, %arg2: tensor<2x4xf32>) -> tensor<4x4xf32> attributes {graph.tensor_parallel = 2 : i64} {
    %0 = graph.matmul %arg0, %arg2 {transpose_a = true} : tensor<2x4xf32>, tensor<2x4xf32> to tensor<4x4xf32>
    return %0 : tensor<4x4xf32>
  }
  // Column- and row-parallel halves of 8: one sum over the chips each way.
  func.func private @layer.forward.m2.f32(%x: tensor<2x4xf32>, %u: tensor<4x4xf32> {graph.parameter = "trainable", graph.split = array<i64: 1, 1, 2>}, %d: tensor<4x4xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}) -> (tensor<2x4xf32>, tensor<2x4xf32>) attributes {graph.tensor_parallel = 2 : i64} {
    %0 = graph.matmul %x, %u : tensor<2x4xf32>, tensor<4x4xf32> to tensor<2x4xf32>
    %1 = graph.relu %0 : tensor<2x4xf32>
    %2 = graph.matmul %1, %d : tensor<2x4xf32>, tensor<4x4xf32> to tensor<2x4xf32>
    %3 = graph.all_reduce %2 : tensor<2x4xf32> to tensor<2x4xf32>
    %4 = graph.add %3, %x : tensor<2x4xf32>, tensor<2x4xf32> to tensor<2x4xf32>
    return %4, %1 : tensor<2x4xf32>, tensor<2x4xf32>
  }
  func.func private @layer.backward_input.m2.f32(%x: tensor<2x4xf32>, %h: tensor<2x4xf32>, %u: tensor<4x4xf32> {graph.parameter = "trainable", graph.split = array<i64: 1, 1, 2>}, %d: tensor<4x4xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}, %dy: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>) attributes {graph.tensor_parallel = 2 : i64} {
    %0 = graph.matmul %dy, %d {transpose_b = true} : tensor<2x4xf32>, tensor<4x4xf32> to tensor<2x4xf32>
    %1 = graph.relu_backward %0, %h : tensor<2x4xf32>, tensor<2x4xf32>
    %2 = graph.matmul %1, %u {transpose_b = true} : tensor<2x4xf32>, tensor<4x4xf32> to tensor<2x4xf32>
    %3 = graph.all_reduce %2 : tensor<2x4xf32> to tensor<2x4xf32>
    %4 = graph.add %dy, %3 : tensor<2x4xf32>, tensor<2x4xf32> to tensor<2x4xf32>
    return %4, %1 : tensor<2x4xf32>, tensor<2x4xf32>
  }
  func.func private @layer.backward_weight.m2.f32(%x: tensor<2x4xf32>, %h: tensor<2x4xf32>, %u: tensor<4x4xf32> {graph.parameter = "trainable", graph.split = array<i64: 1, 1, 2>}, %d: tensor<4x4xf32> {graph.parameter = "trainable", graph.split = array<i64: 0, 1, 2>}, %dy: tensor<2x4xf32>, %c: tensor<2x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>) attributes {graph.tensor_parallel = 2 : i64} {
    %0 = graph.matmul %h, %dy {transpose_a = true} : tensor<2x4xf32>, tensor<2x4xf32> to tensor<4x4xf32>
    %1 = graph.matmul %x, %c {transpose_a = true} : tensor<2x4xf32>, tensor<2x4xf32> to tensor<4x4xf32>
    return %1, %0 : tensor<4x4xf32>, tensor<4x4xf32>
  }
  func.func private @loss.forward.m2.f32(%arg0: tensor<2x4xf32>, %arg1: tensor<2xi64> {graph.label = "y"}, %arg2: tensor<4x5xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>, tensor<2x5xf32>, tensor<2xf32>) attributes {graph.tensor_parallel = DEGREE : i64} {
    %0 = graph.matmul %arg0, %arg2 : tensor<2x4xf32>, tensor<4x5xf32> to tensor<2x5xf32>
    %loss, %weights, %lse = graph.cross_entropy %0, %arg1 : tensor<2x5xf32>, tensor<2xi64> to tensor<f32>, tensor<f32>, tensor<2xf32>
    return %loss, %weights, %0, %lse : tensor<f32>, tensor<f32>, tensor<2x5xf32>, tensor<2xf32>
  }
  func.func private @loss.backward_input.m2.f32(%arg0: tensor<2x4xf32>, %arg1: tensor<2xi64> {graph.label = "y"}, %arg2: tensor<2x5xf32>, %arg3: tensor<2xf32>, %arg4: tensor<4x5xf32> {graph.parameter = "trainable"}) -> (tensor<2x4xf32>, tensor<2x5xf32>) attributes {graph.tensor_parallel = DEGREE : i64} {
    %0 = graph.cross_entropy_backward %arg2, %arg1, %arg3 : tensor<2x5xf32>, tensor<2xi64>, tensor<2xf32> to tensor<2x5xf32>
    %1 = graph.matmul %0, %arg4 {transpose_b = true} : tensor<2x5xf32>, tensor<4x5xf32> to tensor<2x4xf32>
    return %1, %0 : tensor<2x4xf32>, tensor<2x5xf32>
  }
  func.func private @loss.backward_weight.m2.f32(%arg0: tensor<2x4xf32>, %arg1: tensor<2xi64> {graph.label = "y"}, %arg2: tensor<2x5xf32>, %arg3: tensor<2xf32>, %arg4: tensor<4x5xf32> {graph.parameter = "trainable"}, %arg5: tensor<2x5xf32>) -> tensor<4x5xf32> attributes {graph.tensor_parallel = DEGREE : i64} {
    %0 = graph.matmul %arg0, %arg5 {transpose_a = true} : tensor<2x4xf32>, tensor<2x5xf32> to tensor<4x5xf32>
    return %0 : tensor<4x5xf32>
  }
}

