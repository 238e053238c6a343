// RUN: tombolo-opt %s -graph-test-sharding-rules --mlir-print-op-generic -o %t
// RUN: %python %S/Inputs/evaluate.py shards %t | FileCheck %s
// RUN: FileCheck %s --check-prefix=UNTESTED --input-file=%t

// For every op and every factor of its rule that 2, 3 or 4 chips can split, also
// in strided parts, the local ops of all chips together compute what the op
// computes; and it is linear where its rule says so.
// CHECK: neg: 15 choices, 1 linear sets agree
// CHECK-NEXT: exp: 15 choices, 0 linear sets agree
// CHECK-NEXT: log: 15 choices, 0 linear sets agree
// CHECK-NEXT: sqrt: 15 choices, 0 linear sets agree
// CHECK-NEXT: reciprocal: 15 choices, 0 linear sets agree
// CHECK-NEXT: tanh: 15 choices, 0 linear sets agree
// CHECK-NEXT: erf: 15 choices, 0 linear sets agree
// CHECK-NEXT: sigmoid: 15 choices, 0 linear sets agree
// CHECK-NEXT: relu: 15 choices, 0 linear sets agree
// CHECK-NEXT: softplus: 15 choices, 0 linear sets agree
// CHECK-NEXT: hard_swish: 15 choices, 0 linear sets agree
// CHECK-NEXT: gelu: 15 choices, 0 linear sets agree
// CHECK-NEXT: softmax: 7 choices, 0 linear sets agree
// CHECK-NEXT: relu_backward: 15 choices, 1 linear sets agree
// CHECK-NEXT: hard_swish_backward: 15 choices, 1 linear sets agree
// CHECK-NEXT: gelu_backward: 15 choices, 1 linear sets agree
// CHECK-NEXT: softmax_backward: 7 choices, 1 linear sets agree
// CHECK-NEXT: add: 22 choices, 1 linear sets agree
// CHECK-NEXT: sub: 22 choices, 1 linear sets agree
// CHECK-NEXT: mul: 22 choices, 2 linear sets agree
// CHECK-NEXT: div: 22 choices, 1 linear sets agree
// CHECK-NEXT: pow: 22 choices, 0 linear sets agree
// CHECK-NEXT: equal: 15 choices, 0 linear sets agree
// CHECK-NEXT: less: 15 choices, 0 linear sets agree
// CHECK-NEXT: where: 14 choices, 1 linear sets agree
// CHECK-NEXT: where_zero: 14 choices, 2 linear sets agree
// CHECK-NEXT: cast: 15 choices, 1 linear sets agree
// CHECK-NEXT: reshape_split_last: 15 choices, 1 linear sets agree
// CHECK-NEXT: reshape_merge: 14 choices, 1 linear sets agree
// CHECK-NEXT: reshape_regroup: 5 choices, 1 linear sets agree
// CHECK-NEXT: reshape_odd: 9 choices, 1 linear sets agree
// CHECK-NEXT: reshape_ones: 15 choices, 1 linear sets agree
// CHECK-NEXT: reshape_middle: 9 choices, 1 linear sets agree
// CHECK-NEXT: reshape_heads: 15 choices, 1 linear sets agree
// CHECK-NEXT: transpose: 14 choices, 1 linear sets agree
// CHECK-NEXT: broadcast: 14 choices, 1 linear sets agree
// CHECK-NEXT: slice_part: 14 choices, 1 linear sets agree
// CHECK-NEXT: slice_uneven: 10 choices, 1 linear sets agree
// CHECK-NEXT: slice_step: 10 choices, 1 linear sets agree
// CHECK-NEXT: slice_odd_step: 3 choices, 1 linear sets agree
// CHECK-NEXT: split_even: 10 choices, 1 linear sets agree
// CHECK-NEXT: split_grouped: 10 choices, 1 linear sets agree
// CHECK-NEXT: concat: 10 choices, 1 linear sets agree
// CHECK-NEXT: pad: 10 choices, 1 linear sets agree
// CHECK-NEXT: gather: 21 choices, 1 linear sets agree
// CHECK-NEXT: gather_inner: 14 choices, 1 linear sets agree
// CHECK-NEXT: gather_integers: 6 choices, 0 linear sets agree
// CHECK-NEXT: gather_backward: 21 choices, 1 linear sets agree
// CHECK-NEXT: gather_backward_inner: 14 choices, 1 linear sets agree
// CHECK-NEXT: reduce_sum: 14 choices, 1 linear sets agree
// CHECK-NEXT: reduce_sum_kept: 14 choices, 1 linear sets agree
// CHECK-NEXT: reduce_mean: 14 choices, 1 linear sets agree
// CHECK-NEXT: reduce_mean_kept: 14 choices, 1 linear sets agree
// CHECK-NEXT: reduce_max: 7 choices, 0 linear sets agree
// CHECK-NEXT: reduce_max_kept: 7 choices, 0 linear sets agree
// CHECK-NEXT: layer_norm: 10 choices, 0 linear sets agree
// CHECK-NEXT: layer_norm_backward_input: 10 choices, 1 linear sets agree
// CHECK-NEXT: layer_norm_backward_weight: 18 choices, 1 linear sets agree
// CHECK-NEXT: cross_entropy: 10 choices, 0 linear sets agree
// CHECK-NEXT: cross_entropy_backward: 10 choices, 0 linear sets agree
// CHECK-NEXT: matmul: 22 choices, 2 linear sets agree
// CHECK-NEXT: matmul_bias: 22 choices, 2 linear sets agree
// CHECK-NEXT: matmul_batched: 17 choices, 2 linear sets agree
// CHECK-NEXT: attention: 8 choices, 0 linear sets agree
// CHECK-NEXT: attention_backward: 8 choices, 1 linear sets agree
// CHECK-NEXT: log_softmax: 7 choices, 0 linear sets agree
// CHECK-NEXT: conv: 14 choices, 2 linear sets agree
// CHECK-NEXT: conv_groups: 3 choices, 2 linear sets agree
// CHECK-NEXT: conv_backward_input: 14 choices, 2 linear sets agree
// CHECK-NEXT: conv_backward_weight: 14 choices, 2 linear sets agree
// CHECK-NEXT: pool: 7 choices, 0 linear sets agree
// CHECK-NEXT: pool_mean: 7 choices, 1 linear sets agree
// CHECK-NEXT: pool_backward: 7 choices, 1 linear sets agree
// CHECK-NEXT: batch_norm: 7 choices, 0 linear sets agree
// CHECK-NEXT: batch_norm_backward: 7 choices, 0 linear sets agree
// CHECK-NEXT: cross_entropy_weighted: 10 choices, 0 linear sets agree
// CHECK-NEXT: cross_entropy_backward_weighted: 10 choices, 0 linear sets agree
// CHECK-NEXT: dropout: 6 choices, 1 linear sets agree
// CHECK-NEXT: conv_backward_input_grouped: 7 choices, 2 linear sets agree
// CHECK-NEXT: conv_backward_weight_grouped: 7 choices, 2 linear sets agree

// What has no rule: updates of flat slices, and what sharding itself makes.
// UNTESTED: test.untested = ["graph.adamw", "graph.clip_weight", "graph.cross_entropy_merge", "graph.cross_entropy_shard", "graph.optimizer_advance", "graph.sgd", "graph.shard"]

func.func @neg(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.neg %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @exp(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.exp %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @log(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.log %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @sqrt(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.sqrt %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @reciprocal(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.reciprocal %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @tanh(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.tanh %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @erf(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.erf %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @sigmoid(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.sigmoid %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @relu(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.relu %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @softplus(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.softplus %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @hard_swish(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.hard_swish %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @gelu(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.gelu %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @softmax(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.softmax %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @relu_backward(%g: tensor<12x24xf32>, %x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.relu_backward %g, %x : tensor<12x24xf32>, tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @hard_swish_backward(%g: tensor<12x24xf32>, %x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.hard_swish_backward %g, %x : tensor<12x24xf32>, tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @gelu_backward(%g: tensor<12x24xf32>, %x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.gelu_backward %g, %x : tensor<12x24xf32>, tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @softmax_backward(%g: tensor<12x24xf32>, %y: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.softmax_backward %g, %y : tensor<12x24xf32>, tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @add(%x: tensor<12x1x24xf32>, %y: tensor<12x24xf32>) -> (tensor<12x12x24xf32>) {
  %y0 = graph.add %x, %y : tensor<12x1x24xf32>, tensor<12x24xf32> to tensor<12x12x24xf32>
  return %y0 : tensor<12x12x24xf32>
}

func.func @sub(%x: tensor<12x1x24xf32>, %y: tensor<12x24xf32>) -> (tensor<12x12x24xf32>) {
  %y0 = graph.sub %x, %y : tensor<12x1x24xf32>, tensor<12x24xf32> to tensor<12x12x24xf32>
  return %y0 : tensor<12x12x24xf32>
}

func.func @mul(%x: tensor<12x1x24xf32>, %y: tensor<12x24xf32>) -> (tensor<12x12x24xf32>) {
  %y0 = graph.mul %x, %y : tensor<12x1x24xf32>, tensor<12x24xf32> to tensor<12x12x24xf32>
  return %y0 : tensor<12x12x24xf32>
}

func.func @div(%x: tensor<12x1x24xf32>, %y: tensor<12x24xf32>) -> (tensor<12x12x24xf32>) {
  %y0 = graph.div %x, %y : tensor<12x1x24xf32>, tensor<12x24xf32> to tensor<12x12x24xf32>
  return %y0 : tensor<12x12x24xf32>
}

func.func @pow(%x: tensor<12x1x24xf32>, %y: tensor<12x24xf32>) -> (tensor<12x12x24xf32>) {
  %y0 = graph.pow %x, %y : tensor<12x1x24xf32>, tensor<12x24xf32> to tensor<12x12x24xf32>
  return %y0 : tensor<12x12x24xf32>
}

func.func @equal(%x: tensor<12x24xf32>, %y: tensor<24xf32>) -> (tensor<12x24xi1>) {
  %y0 = graph.equal %x, %y : tensor<12x24xf32>, tensor<24xf32> to tensor<12x24xi1>
  return %y0 : tensor<12x24xi1>
}

func.func @less(%x: tensor<12x24xf32>, %y: tensor<24xf32>) -> (tensor<12x24xi1>) {
  %y0 = graph.less %x, %y : tensor<12x24xf32>, tensor<24xf32> to tensor<12x24xi1>
  return %y0 : tensor<12x24xi1>
}

func.func @where(%c: tensor<12x1xi1>, %x: tensor<12x12xf32>, %y: tensor<12xf32>) -> (tensor<12x12xf32>) {
  %y0 = graph.where %c, %x, %y : tensor<12x1xi1>, tensor<12x12xf32>, tensor<12xf32> to tensor<12x12xf32>
  return %y0 : tensor<12x12xf32>
}

func.func @where_zero(%c: tensor<12x1xi1>, %x: tensor<12x12xf32>) -> (tensor<12x12xf32>) {
  %zero = graph.constant dense<0.0> : tensor<f32>
  %y0 = graph.where %c, %x, %zero : tensor<12x1xi1>, tensor<12x12xf32>, tensor<f32> to tensor<12x12xf32>
  return %y0 : tensor<12x12xf32>
}

func.func @cast(%x: tensor<12x24xf32>) -> (tensor<12x24xbf16>) {
  %y0 = graph.cast %x : tensor<12x24xf32> to tensor<12x24xbf16>
  return %y0 : tensor<12x24xbf16>
}

func.func @reshape_split_last(%x: tensor<12x24xf32>) -> (tensor<12x2x12xf32>) {
  %y0 = graph.reshape %x : tensor<12x24xf32> to tensor<12x2x12xf32>
  return %y0 : tensor<12x2x12xf32>
}

func.func @reshape_merge(%x: tensor<4x12x6xf32>) -> (tensor<48x6xf32>) {
  %y0 = graph.reshape %x : tensor<4x12x6xf32> to tensor<48x6xf32>
  return %y0 : tensor<48x6xf32>
}

func.func @reshape_regroup(%x: tensor<4x6xf32>) -> (tensor<8x3xf32>) {
  %y0 = graph.reshape %x : tensor<4x6xf32> to tensor<8x3xf32>
  return %y0 : tensor<8x3xf32>
}

func.func @reshape_odd(%x: tensor<4x6x12xf32>) -> (tensor<6x4x12xf32>) {
  %y0 = graph.reshape %x : tensor<4x6x12xf32> to tensor<6x4x12xf32>
  return %y0 : tensor<6x4x12xf32>
}

func.func @reshape_ones(%x: tensor<12x1x24xf32>) -> (tensor<1x12x24x1xf32>) {
  %y0 = graph.reshape %x : tensor<12x1x24xf32> to tensor<1x12x24x1xf32>
  return %y0 : tensor<1x12x24x1xf32>
}

func.func @reshape_middle(%x: tensor<6x4x6x4xf32>) -> (tensor<4x36x4xf32>) {
  %y0 = graph.reshape %x : tensor<6x4x6x4xf32> to tensor<4x36x4xf32>
  return %y0 : tensor<4x36x4xf32>
}

func.func @reshape_heads(%x: tensor<2x12x24xf32>) -> (tensor<24x4x6xf32>) {
  %y0 = graph.reshape %x : tensor<2x12x24xf32> to tensor<24x4x6xf32>
  return %y0 : tensor<24x4x6xf32>
}

func.func @transpose(%x: tensor<4x12x6xf32>) -> (tensor<6x4x12xf32>) {
  %y0 = graph.transpose %x, [2, 0, 1] : tensor<4x12x6xf32> to tensor<6x4x12xf32>
  return %y0 : tensor<6x4x12xf32>
}

func.func @broadcast(%x: tensor<12x1xf32>) -> (tensor<4x12x6xf32>) {
  %y0 = graph.broadcast %x : tensor<12x1xf32> to tensor<4x12x6xf32>
  return %y0 : tensor<4x12x6xf32>
}

func.func @slice_part(%x: tensor<12x36xf32>) -> (tensor<12x12xf32>) {
  %y0 = graph.slice %x {axis = 1, offset = 12, size = 12} : tensor<12x36xf32> to tensor<12x12xf32>
  return %y0 : tensor<12x12xf32>
}

func.func @slice_uneven(%x: tensor<36x4xf32>) -> (tensor<24x4xf32>) {
  %y0 = graph.slice %x {axis = 0, offset = 12, size = 24} : tensor<36x4xf32> to tensor<24x4xf32>
  return %y0 : tensor<24x4xf32>
}

func.func @slice_step(%x: tensor<24x4xf32>) -> (tensor<12x4xf32>) {
  %y0 = graph.slice %x {axis = 0, offset = 1, size = 12, step = 2} : tensor<24x4xf32> to tensor<12x4xf32>
  return %y0 : tensor<12x4xf32>
}

func.func @slice_odd_step(%x: tensor<24x4xf32>) -> (tensor<6x4xf32>) {
  %y0 = graph.slice %x {axis = 0, offset = 4, size = 6, step = 3} : tensor<24x4xf32> to tensor<6x4xf32>
  return %y0 : tensor<6x4xf32>
}

func.func @split_even(%x: tensor<4x36xf32>) -> (tensor<4x12xf32>, tensor<4x12xf32>, tensor<4x12xf32>) {
  %y0:3 = graph.split %x {axis = 1, sizes = array<i64: 12, 12, 12>} : tensor<4x36xf32> to tensor<4x12xf32>, tensor<4x12xf32>, tensor<4x12xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<4x12xf32>, tensor<4x12xf32>, tensor<4x12xf32>
}

func.func @split_grouped(%x: tensor<4x48xf32>) -> (tensor<4x24xf32>, tensor<4x12xf32>, tensor<4x12xf32>) {
  %y0:3 = graph.split %x {axis = 1, sizes = array<i64: 24, 12, 12>} : tensor<4x48xf32> to tensor<4x24xf32>, tensor<4x12xf32>, tensor<4x12xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<4x24xf32>, tensor<4x12xf32>, tensor<4x12xf32>
}

func.func @concat(%x: tensor<4x24xf32>, %y: tensor<4x12xf32>) -> (tensor<4x36xf32>) {
  %y0 = graph.concat %x, %y {axis = 1} : tensor<4x24xf32>, tensor<4x12xf32> to tensor<4x36xf32>
  return %y0 : tensor<4x36xf32>
}

func.func @pad(%x: tensor<4x12xf32>) -> (tensor<4x36xf32>) {
  %y0 = graph.pad %x {low = array<i64: 0, 12>} : tensor<4x12xf32> to tensor<4x36xf32>
  return %y0 : tensor<4x36xf32>
}

func.func @gather(%t: tensor<12x24xf32>, %i: tensor<4x12xi64>) -> (tensor<4x12x24xf32>) {
  %y0 = graph.gather %t, %i {axis = 0} : tensor<12x24xf32>, tensor<4x12xi64> to tensor<4x12x24xf32>
  return %y0 : tensor<4x12x24xf32>
}

func.func @gather_inner(%t: tensor<4x12x6xf32>, %i: tensor<8xi32>) -> (tensor<4x8x6xf32>) {
  %y0 = graph.gather %t, %i {axis = 1} : tensor<4x12x6xf32>, tensor<8xi32> to tensor<4x8x6xf32>
  return %y0 : tensor<4x8x6xf32>
}

func.func @gather_integers(%t: tensor<12x4xi64>, %i: tensor<4xi64>) -> (tensor<4x4xi64>) {
  %y0 = graph.gather %t, %i {axis = 0} : tensor<12x4xi64>, tensor<4xi64> to tensor<4x4xi64>
  return %y0 : tensor<4x4xi64>
}

func.func @gather_backward(%g: tensor<4x12x24xf32>, %i: tensor<4x12xi64>) -> (tensor<12x24xf32>) {
  %y0 = graph.gather_backward %g, %i {axis = 0} : tensor<4x12x24xf32>, tensor<4x12xi64> to tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @gather_backward_inner(%g: tensor<4x8x6xf32>, %i: tensor<8xi32>) -> (tensor<4x12x6xf32>) {
  %y0 = graph.gather_backward %g, %i {axis = 1} : tensor<4x8x6xf32>, tensor<8xi32> to tensor<4x12x6xf32>
  return %y0 : tensor<4x12x6xf32>
}

func.func @reduce_sum(%x: tensor<4x12x6xf32>) -> (tensor<4x6xf32>) {
  %y0 = graph.reduce_sum %x {axes = array<i64: 1>} : tensor<4x12x6xf32> to tensor<4x6xf32>
  return %y0 : tensor<4x6xf32>
}

func.func @reduce_sum_kept(%x: tensor<4x12x6xf32>) -> (tensor<1x12x1xf32>) {
  %y0 = graph.reduce_sum %x {axes = array<i64: 0, 2>, keep_dims = true} : tensor<4x12x6xf32> to tensor<1x12x1xf32>
  return %y0 : tensor<1x12x1xf32>
}

func.func @reduce_mean(%x: tensor<4x12x6xf32>) -> (tensor<4x6xf32>) {
  %y0 = graph.reduce_mean %x {axes = array<i64: 1>} : tensor<4x12x6xf32> to tensor<4x6xf32>
  return %y0 : tensor<4x6xf32>
}

func.func @reduce_mean_kept(%x: tensor<4x12x6xf32>) -> (tensor<1x12x1xf32>) {
  %y0 = graph.reduce_mean %x {axes = array<i64: 0, 2>, keep_dims = true} : tensor<4x12x6xf32> to tensor<1x12x1xf32>
  return %y0 : tensor<1x12x1xf32>
}

func.func @reduce_max(%x: tensor<4x12x6xf32>) -> (tensor<4x6xf32>) {
  %y0 = graph.reduce_max %x {axes = array<i64: 1>} : tensor<4x12x6xf32> to tensor<4x6xf32>
  return %y0 : tensor<4x6xf32>
}

func.func @reduce_max_kept(%x: tensor<4x12x6xf32>) -> (tensor<1x12x1xf32>) {
  %y0 = graph.reduce_max %x {axes = array<i64: 0, 2>, keep_dims = true} : tensor<4x12x6xf32> to tensor<1x12x1xf32>
  return %y0 : tensor<1x12x1xf32>
}

func.func @layer_norm(%x: tensor<4x12x24xf32>, %g: tensor<24xf32>, %b: tensor<24xf32>) -> (tensor<4x12x24xf32>, tensor<4x12xf32>, tensor<4x12xf32>) {
  %y0:3 = graph.layer_norm %x, %g, %b {epsilon = 1.0e-5 : f64} : tensor<4x12x24xf32>, tensor<24xf32>, tensor<24xf32> to tensor<4x12x24xf32>, tensor<4x12xf32>, tensor<4x12xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<4x12x24xf32>, tensor<4x12xf32>, tensor<4x12xf32>
}

func.func @layer_norm_backward_input(%d: tensor<4x12x24xf32>, %x: tensor<4x12x24xf32>, %g: tensor<24xf32>, %m: tensor<4x12xf32>, %r: tensor<4x12xf32>) -> (tensor<4x12x24xf32>) {
  %y0 = graph.layer_norm_backward_input %d, %x, %g, %m, %r : tensor<4x12x24xf32>, tensor<4x12x24xf32>, tensor<24xf32>, tensor<4x12xf32>, tensor<4x12xf32>
  return %y0 : tensor<4x12x24xf32>
}

func.func @layer_norm_backward_weight(%d: tensor<4x12x24xf32>, %x: tensor<4x12x24xf32>, %m: tensor<4x12xf32>, %r: tensor<4x12xf32>) -> (tensor<24xf32>, tensor<24xf32>) {
  %y0:2 = graph.layer_norm_backward_weight %d, %x, %m, %r : tensor<4x12x24xf32>, tensor<4x12x24xf32>, tensor<4x12xf32>, tensor<4x12xf32> to tensor<24xf32>, tensor<24xf32>
  return %y0#0, %y0#1 : tensor<24xf32>, tensor<24xf32>
}

func.func @cross_entropy(%x: tensor<4x6x12xf32>, %l: tensor<4x6xi64>) -> (tensor<f32>, tensor<f32>, tensor<4x6xf32>) {
  %y0:3 = graph.cross_entropy %x, %l {ignore_index = -100} : tensor<4x6x12xf32>, tensor<4x6xi64> to tensor<f32>, tensor<f32>, tensor<4x6xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<f32>, tensor<f32>, tensor<4x6xf32>
}

func.func @cross_entropy_backward(%x: tensor<4x6x12xf32>, %l: tensor<4x6xi64>, %e: tensor<4x6xf32>) -> (tensor<4x6x12xf32>) {
  %y0 = graph.cross_entropy_backward %x, %l, %e {ignore_index = -100} : tensor<4x6x12xf32>, tensor<4x6xi64>, tensor<4x6xf32> to tensor<4x6x12xf32>
  return %y0 : tensor<4x6x12xf32>
}

func.func @matmul(%a: tensor<4x12x6xf32>, %b: tensor<6x24xf32>) -> (tensor<4x12x24xf32>) {
  %y0 = graph.matmul %a, %b : tensor<4x12x6xf32>, tensor<6x24xf32> to tensor<4x12x24xf32>
  return %y0 : tensor<4x12x24xf32>
}

func.func @matmul_bias(%a: tensor<4x12x24xf32>, %b: tensor<6x24xf32>, %c: tensor<6xf32>) -> (tensor<4x12x6xf32>) {
  %y0 = graph.matmul %a, %b bias %c : tensor<6xf32> {transpose_b = true} : tensor<4x12x24xf32>, tensor<6x24xf32> to tensor<4x12x6xf32>
  return %y0 : tensor<4x12x6xf32>
}

func.func @matmul_batched(%a: tensor<1x3x24x4xf32>, %b: tensor<2x3x24x6xf32>) -> (tensor<2x3x4x6xf32>) {
  %y0 = graph.matmul %a, %b {transpose_a = true} : tensor<1x3x24x4xf32>, tensor<2x3x24x6xf32> to tensor<2x3x4x6xf32>
  return %y0 : tensor<2x3x4x6xf32>
}

func.func @attention(%q: tensor<2x12x4x6xf32>, %k: tensor<2x12x8x6xf32>, %v: tensor<2x12x8x3xf32>) -> (tensor<2x12x4x3xf32>, tensor<2x12x4xf32>) {
  %y0:2 = graph.attention %q, %k, %v {causal = true, scale = 0.5 : f64} : tensor<2x12x4x6xf32>, tensor<2x12x8x6xf32>, tensor<2x12x8x3xf32> to tensor<2x12x4x3xf32>, tensor<2x12x4xf32>
  return %y0#0, %y0#1 : tensor<2x12x4x3xf32>, tensor<2x12x4xf32>
}

func.func @attention_backward(%d: tensor<2x12x4x3xf32>, %q: tensor<2x12x4x6xf32>, %k: tensor<2x12x8x6xf32>, %v: tensor<2x12x8x3xf32>, %o: tensor<2x12x4x3xf32>, %l: tensor<2x12x4xf32>) -> (tensor<2x12x4x6xf32>, tensor<2x12x8x6xf32>, tensor<2x12x8x3xf32>) {
  %y0:3 = graph.attention_backward %d, %q, %k, %v, %o, %l {causal = true, scale = 0.5 : f64} : tensor<2x12x4x3xf32>, tensor<2x12x4x6xf32>, tensor<2x12x8x6xf32>, tensor<2x12x8x3xf32>, tensor<2x12x4x3xf32>, tensor<2x12x4xf32> to tensor<2x12x4x6xf32>, tensor<2x12x8x6xf32>, tensor<2x12x8x3xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<2x12x4x6xf32>, tensor<2x12x8x6xf32>, tensor<2x12x8x3xf32>
}

func.func @log_softmax(%x: tensor<12x24xf32>) -> (tensor<12x24xf32>) {
  %y0 = graph.log_softmax %x : tensor<12x24xf32>
  return %y0 : tensor<12x24xf32>
}

func.func @conv(%x: tensor<4x6x5x4xf32>, %w: tensor<12x6x3x2xf32>) -> (tensor<4x12x3x3xf32>) {
  %y0 = graph.conv %x, %w {strides = array<i64: 2, 1>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 0>, groups = 1 : i64} : tensor<4x6x5x4xf32>, tensor<12x6x3x2xf32> to tensor<4x12x3x3xf32>
  return %y0 : tensor<4x12x3x3xf32>
}

func.func @conv_groups(%x: tensor<4x6x5xf32>, %w: tensor<12x3x3xf32>) -> (tensor<4x12x5xf32>) {
  %y0 = graph.conv %x, %w {strides = array<i64: 1>, dilations = array<i64: 1>, low = array<i64: 1>, high = array<i64: 1>, groups = 2 : i64} : tensor<4x6x5xf32>, tensor<12x3x3xf32> to tensor<4x12x5xf32>
  return %y0 : tensor<4x12x5xf32>
}

func.func @conv_backward_input(%d: tensor<4x12x5xf32>, %w: tensor<12x6x3xf32>) -> (tensor<4x6x5xf32>) {
  %y0 = graph.conv_backward_input %d, %w {strides = array<i64: 1>, dilations = array<i64: 1>, low = array<i64: 1>, high = array<i64: 1>, groups = 1 : i64} : tensor<4x12x5xf32>, tensor<12x6x3xf32> to tensor<4x6x5xf32>
  return %y0 : tensor<4x6x5xf32>
}

func.func @conv_backward_weight(%d: tensor<4x12x5xf32>, %x: tensor<4x6x5xf32>) -> (tensor<12x6x3xf32>) {
  %y0 = graph.conv_backward_weight %d, %x {strides = array<i64: 1>, dilations = array<i64: 1>, low = array<i64: 1>, high = array<i64: 1>, groups = 1 : i64} : tensor<4x12x5xf32>, tensor<4x6x5xf32> to tensor<12x6x3xf32>
  return %y0 : tensor<12x6x3xf32>
}

func.func @pool(%x: tensor<4x6x5x4xf32>) -> (tensor<4x6x3x3xf32>) {
  %y0 = graph.pool %x {kernel = array<i64: 3, 2>, strides = array<i64: 2, 1>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 0>} : tensor<4x6x5x4xf32> to tensor<4x6x3x3xf32>
  return %y0 : tensor<4x6x3x3xf32>
}

func.func @pool_mean(%x: tensor<4x6x5x4xf32>) -> (tensor<4x6x3x3xf32>) {
  %y0 = graph.pool %x {kernel = array<i64: 3, 2>, strides = array<i64: 2, 1>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 0>, average = true} : tensor<4x6x5x4xf32> to tensor<4x6x3x3xf32>
  return %y0 : tensor<4x6x3x3xf32>
}

func.func @pool_backward(%d: tensor<4x6x3x3xf32>, %x: tensor<4x6x5x4xf32>) -> (tensor<4x6x5x4xf32>) {
  %y0 = graph.pool_backward %d, %x {kernel = array<i64: 3, 2>, strides = array<i64: 2, 1>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 0>} : tensor<4x6x3x3xf32>, tensor<4x6x5x4xf32> to tensor<4x6x5x4xf32>
  return %y0 : tensor<4x6x5x4xf32>
}

func.func @batch_norm(%x: tensor<4x12x5xf32>, %g: tensor<12xf32>, %b: tensor<12xf32>) -> (tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>) {
  %y0:3 = graph.batch_norm %x, %g, %b {epsilon = 1.0e-5 : f64} : tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32> to tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>
}

func.func @batch_norm_backward(%d: tensor<4x12x5xf32>, %x: tensor<4x12x5xf32>, %g: tensor<12xf32>, %m: tensor<12xf32>, %v: tensor<12xf32>) -> (tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>) {
  %y0:3 = graph.batch_norm_backward %d, %x, %g, %m, %v {epsilon = 1.0e-5 : f64} : tensor<4x12x5xf32>, tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>, tensor<12xf32> to tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<4x12x5xf32>, tensor<12xf32>, tensor<12xf32>
}

func.func @cross_entropy_weighted(%x: tensor<4x6x12xf32>, %l: tensor<4x6xi64>, %w: tensor<4x6xf32>) -> (tensor<f32>, tensor<f32>, tensor<4x6xf32>) {
  %y0:3 = graph.cross_entropy %x, %l weights %w : tensor<4x6xf32> : tensor<4x6x12xf32>, tensor<4x6xi64> to tensor<f32>, tensor<f32>, tensor<4x6xf32>
  return %y0#0, %y0#1, %y0#2 : tensor<f32>, tensor<f32>, tensor<4x6xf32>
}

func.func @cross_entropy_backward_weighted(%x: tensor<4x6x12xf32>, %l: tensor<4x6xi64>, %e: tensor<4x6xf32>, %w: tensor<4x6xf32>) -> (tensor<4x6x12xf32>) {
  %y0 = graph.cross_entropy_backward %x, %l, %e weights %w : tensor<4x6xf32> : tensor<4x6x12xf32>, tensor<4x6xi64>, tensor<4x6xf32> to tensor<4x6x12xf32>
  return %y0 : tensor<4x6x12xf32>
}

func.func @dropout(%x: tensor<4x12x24xf32>, %s: tensor<4xi64>) -> (tensor<4x12x24xf32>) {
  %y0 = graph.dropout %x, %s {ratio = 0.25 : f64, site = 3 : i64} : tensor<4x12x24xf32>, tensor<4xi64> to tensor<4x12x24xf32>
  return %y0 : tensor<4x12x24xf32>
}

func.func @conv_backward_input_grouped(%g: tensor<12x8x4x3xf32>, %w: tensor<8x3x3x1xf32>) -> (tensor<12x12x4x3xf32>) {
  %y0 = graph.conv_backward_input %g, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 0>, groups = 4 : i64} : tensor<12x8x4x3xf32>, tensor<8x3x3x1xf32> to tensor<12x12x4x3xf32>
  return %y0 : tensor<12x12x4x3xf32>
}

func.func @conv_backward_weight_grouped(%g: tensor<12x8x4x3xf32>, %x: tensor<12x12x4x3xf32>) -> (tensor<8x3x3x1xf32>) {
  %y0 = graph.conv_backward_weight %g, %x {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, low = array<i64: 1, 0>, high = array<i64: 1, 0>, groups = 4 : i64} : tensor<12x8x4x3xf32>, tensor<12x12x4x3xf32> to tensor<8x3x3x1xf32>
  return %y0 : tensor<8x3x3x1xf32>
}
