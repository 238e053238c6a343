// RUN: tombolo-opt %s -graph-find-blocks -graph-differentiate --mlir-print-op-generic -o %t
// RUN: %python %S/Inputs/evaluate.py gradients %t | FileCheck %s --check-prefix=GRADIENTS
// RUN: tombolo-opt %s -graph-find-blocks -graph-differentiate -graph-specialize-batch=batch=3 -o %t.static
// RUN: tombolo-opt %t.static --mlir-print-op-generic -o %t.functions
// RUN: tombolo-opt %t.static -graph-convert-segments=drop-callers --mlir-print-op-generic -o %t.segments
// RUN: %python %S/Inputs/evaluate.py segments %t.functions %t.segments | FileCheck %s --check-prefix=SEGMENTS

// Every op that has a gradient lies between some parameter and the loss; what
// the three functions of the blocks compute is what PyTorch's autograd gives
// for the model (in f64) and what central differences of the loss give, and the
// segments compute what the functions do.
// GRADIENTS: 22 gradients agree
// GRADIENTS: 88 slopes agree
// GRADIENTS: gradients flow through add, attention, broadcast, concat, cross_entropy, div, erf, exp, gather, gelu, hard_swish, layer_norm, log, matmul, mul, neg, pad, pow, reciprocal, reduce_mean, reduce_sum, relu, reshape, sigmoid, slice, softmax, softplus, split, sqrt, sub, tanh, transpose, where{{$}}
// SEGMENTS: {{[0-9]+}} segments agree

graph.parameter @table : tensor<5x8xf32> from "table"
graph.parameter @position : tensor<4x8xf32> from "position"
graph.parameter @gamma : tensor<8xf32> from "gamma"
graph.parameter @beta : tensor<8xf32> from "beta"
graph.parameter @qkv : tensor<8x24xf32> from "qkv"
graph.parameter @qkv_bias : tensor<24xf32> from "qkv_bias"
graph.parameter @proj : tensor<8x8xf32> from "proj"
graph.parameter @up : tensor<16x8xf32> from "up"
graph.parameter @up_bias : tensor<16xf32> from "up_bias"
graph.parameter @down : tensor<16x8xf32> from "down"
graph.parameter @a : tensor<8xf32> from "a"
graph.parameter @b : tensor<4x1xf32> from "b"
graph.parameter @c : tensor<8xf32> from "c"
graph.parameter @d : tensor<8xf32> from "d"
graph.parameter @e : tensor<8xf32> from "e"
graph.parameter @f : tensor<1x4x8xf32> from "f"
graph.parameter @g : tensor<8xf32> from "g"
graph.parameter @h : tensor<8xf32> from "h"
graph.parameter @batched : tensor<2x4x4xf32> from "batched"
graph.parameter @left : tensor<4x4xf32> from "left"
graph.parameter @strip : tensor<12xf32> from "strip"
graph.parameter @part : tensor<4x3xf32> from "part"

func.func @main(%ids: tensor<?x4xi64> {graph.input = "ids"}, %labels: tensor<?x4xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  // Embedding: gather and broadcasting.
  %table = graph.get_parameter @table : tensor<5x8xf32>
  %position = graph.get_parameter @position : tensor<4x8xf32>
  %e0 = graph.gather %table, %ids : tensor<5x8xf32>, tensor<?x4xi64> to tensor<?x4x8xf32>
  %x0 = graph.add %e0, %position : tensor<?x4x8xf32>, tensor<4x8xf32> to tensor<?x4x8xf32>

  // A pre-norm attention half: norm, split, views, attention, products.
  %gamma = graph.get_parameter @gamma : tensor<8xf32>
  %beta = graph.get_parameter @beta : tensor<8xf32>
  %qkv = graph.get_parameter @qkv : tensor<8x24xf32>
  %qkv_bias = graph.get_parameter @qkv_bias : tensor<24xf32>
  %proj = graph.get_parameter @proj : tensor<8x8xf32>
  %n:3 = graph.layer_norm %x0, %gamma, %beta {epsilon = 1.0e-5 : f64} : tensor<?x4x8xf32>, tensor<8xf32>, tensor<8xf32> to tensor<?x4x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>
  %p = graph.matmul %n#0, %qkv bias %qkv_bias : tensor<24xf32> : tensor<?x4x8xf32>, tensor<8x24xf32> to tensor<?x4x24xf32>
  %s:3 = graph.split %p {axis = 2, sizes = array<i64: 8, 8, 8>} : tensor<?x4x24xf32> to tensor<?x4x8xf32>, tensor<?x4x8xf32>, tensor<?x4x8xf32>
  %q0 = graph.reshape %s#0 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %q = graph.transpose %q0, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %k0 = graph.reshape %s#1 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %k = graph.transpose %k0, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %v0 = graph.reshape %s#2 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %v = graph.transpose %v0, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %o:2 = graph.attention %q, %k, %v {causal = true, scale = 0.5 : f64} : tensor<?x2x4x4xf32>, tensor<?x2x4x4xf32>, tensor<?x2x4x4xf32> to tensor<?x2x4x4xf32>, tensor<?x2x4xf32>
  %o1 = graph.transpose %o#0, [0, 2, 1, 3] : tensor<?x2x4x4xf32> to tensor<?x4x2x4xf32>
  %o2 = graph.reshape %o1 : tensor<?x4x2x4xf32> to tensor<?x4x8xf32>
  %o3 = graph.matmul %o2, %proj {transpose_b = true} : tensor<?x4x8xf32>, tensor<8x8xf32> to tensor<?x4x8xf32>
  %x1 = graph.add %x0, %o3 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>

  // Attention taken apart: batched products, a mask, softmax; batched weights.
  %batched = graph.get_parameter @batched : tensor<2x4x4xf32>
  %left = graph.get_parameter @left : tensor<4x4xf32>
  %y0 = graph.reshape %x1 : tensor<?x4x8xf32> to tensor<?x4x2x4xf32>
  %y1 = graph.transpose %y0, [0, 2, 1, 3] : tensor<?x4x2x4xf32> to tensor<?x2x4x4xf32>
  %y2 = graph.matmul %y1, %batched {transpose_a = true} : tensor<?x2x4x4xf32>, tensor<2x4x4xf32> to tensor<?x2x4x4xf32>
  %y3 = graph.matmul %y1, %y2 {transpose_b = true} : tensor<?x2x4x4xf32>, tensor<?x2x4x4xf32> to tensor<?x2x4x4xf32>
  %mask = graph.causal_mask : tensor<1x1x4x4xi1>
  %low = graph.constant dense<-1.0e4> : tensor<f32>
  %y4 = graph.where %mask, %y3, %low : tensor<1x1x4x4xi1>, tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %y5 = graph.softmax %y4 : tensor<?x2x4x4xf32>
  %y6 = graph.matmul %left, %y5 {transpose_a = true, transpose_b = true} : tensor<4x4xf32>, tensor<?x2x4x4xf32> to tensor<?x2x4x4xf32>
  %y7 = graph.transpose %y6, [0, 2, 1, 3] : tensor<?x2x4x4xf32> to tensor<?x4x2x4xf32>
  %y8 = graph.reshape %y7 : tensor<?x4x2x4xf32> to tensor<?x4x8xf32>
  %x2 = graph.add %x1, %y8 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>

  // Both GELUs.
  %up = graph.get_parameter @up : tensor<16x8xf32>
  %up_bias = graph.get_parameter @up_bias : tensor<16xf32>
  %down = graph.get_parameter @down : tensor<16x8xf32>
  %z0 = graph.transpose %up, [1, 0] : tensor<16x8xf32> to tensor<8x16xf32>
  %z1 = graph.matmul %x2, %z0 bias %up_bias : tensor<16xf32> : tensor<?x4x8xf32>, tensor<8x16xf32> to tensor<?x4x16xf32>
  %z2 = graph.gelu %z1 {approximate = "tanh"} : tensor<?x4x16xf32>
  %z3 = graph.matmul %z2, %down : tensor<?x4x16xf32>, tensor<16x8xf32> to tensor<?x4x8xf32>
  %z4 = graph.gelu %z3 : tensor<?x4x8xf32>

  // Elementwise ops with broadcasting on either side.
  %a = graph.get_parameter @a : tensor<8xf32>
  %b = graph.get_parameter @b : tensor<4x1xf32>
  %c = graph.get_parameter @c : tensor<8xf32>
  %d = graph.get_parameter @d : tensor<8xf32>
  %u0 = graph.mul %z4, %a : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %u1 = graph.sub %b, %u0 : tensor<4x1xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>
  %u2 = graph.sigmoid %u1 : tensor<?x4x8xf32>
  %u3 = graph.div %u2, %c : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %u4 = graph.pow %u3, %d : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %u5 = graph.sqrt %u4 : tensor<?x4x8xf32>
  %u6 = graph.reciprocal %u5 : tensor<?x4x8xf32>
  %u7 = graph.log %u6 : tensor<?x4x8xf32>
  %u8 = graph.tanh %u7 : tensor<?x4x8xf32>
  %u9 = graph.erf %u8 : tensor<?x4x8xf32>
  %u10 = graph.neg %u9 : tensor<?x4x8xf32>
  %u11 = graph.exp %u10 : tensor<?x4x8xf32>
  %half = graph.constant dense<0.9> : tensor<f32>
  %u12 = graph.sub %u11, %half : tensor<?x4x8xf32>, tensor<f32> to tensor<?x4x8xf32>
  %u13 = graph.relu %u12 : tensor<?x4x8xf32>

  %u14 = graph.softplus %u13 : tensor<?x4x8xf32>
  // Values on all three pieces of hard_swish.
  %wide = graph.constant dense<9.0> : tensor<f32>
  %u15 = graph.mul %u10, %wide : tensor<?x4x8xf32>, tensor<f32> to tensor<?x4x8xf32>
  %u16 = graph.hard_swish %u15 : tensor<?x4x8xf32>
  %u17 = graph.add %u14, %u16 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>

  // Norms taken apart: reductions, with and without their dimension.
  %e = graph.get_parameter @e : tensor<8xf32>
  %f = graph.get_parameter @f : tensor<1x4x8xf32>
  %r0 = graph.add %u17, %x2 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>
  %r1 = graph.reduce_mean %r0 {axes = array<i64: 2>, keep_dims = true} : tensor<?x4x8xf32> to tensor<?x4x1xf32>
  %r2 = graph.sub %r0, %r1 : tensor<?x4x8xf32>, tensor<?x4x1xf32> to tensor<?x4x8xf32>
  %r3 = graph.mul %r2, %e : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %r4 = graph.reduce_sum %r3 {axes = array<i64: 1>} : tensor<?x4x8xf32> to tensor<?x8xf32>
  %r5 = graph.reshape %r4 : tensor<?x8xf32> to tensor<?x1x8xf32>
  %r6 = graph.broadcast %f : tensor<1x4x8xf32> to tensor<?x4x8xf32>
  %r7 = graph.mul %r6, %r5 : tensor<?x4x8xf32>, tensor<?x1x8xf32> to tensor<?x4x8xf32>

  // Slices, pads, concats and splits with a part that nothing reads.
  %g = graph.get_parameter @g : tensor<8xf32>
  %h = graph.get_parameter @h : tensor<8xf32>
  %strip = graph.get_parameter @strip : tensor<12xf32>
  %part = graph.get_parameter @part : tensor<4x3xf32>
  %mask8 = graph.constant dense<[true, false, true, true, false, true, true, true]> : tensor<8xi1>
  %w0 = graph.slice %r7 {axis = 2, offset = 1, size = 5} : tensor<?x4x8xf32> to tensor<?x4x5xf32>
  %w1 = graph.slice %r7 {axis = 2, offset = 1, size = 3, step = 3} : tensor<?x4x8xf32> to tensor<?x4x3xf32>
  %w2 = graph.add %w1, %part : tensor<?x4x3xf32>, tensor<4x3xf32> to tensor<?x4x3xf32>
  %w3 = graph.concat %w0, %w2 {axis = 2} : tensor<?x4x5xf32>, tensor<?x4x3xf32> to tensor<?x4x8xf32>
  %w4 = graph.mul %w3, %g : tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %w5 = graph.pad %w4 {low = array<i64: 0, 0, 4>} : tensor<?x4x8xf32> to tensor<?x4x12xf32>
  %w6 = graph.mul %w5, %strip : tensor<?x4x12xf32>, tensor<12xf32> to tensor<?x4x12xf32>
  %w7:3 = graph.split %w6 {axis = 2, sizes = array<i64: 3, 8, 1>} : tensor<?x4x12xf32> to tensor<?x4x3xf32>, tensor<?x4x8xf32>, tensor<?x4x1xf32>
  %w8 = graph.where %mask8, %w7#1, %h : tensor<8xi1>, tensor<?x4x8xf32>, tensor<8xf32> to tensor<?x4x8xf32>
  %w9 = graph.add %w8, %x2 : tensor<?x4x8xf32>, tensor<?x4x8xf32> to tensor<?x4x8xf32>

  // The head is tied to the embedding.
  %t = graph.transpose %table, [1, 0] : tensor<5x8xf32> to tensor<8x5xf32>
  %logits = graph.matmul %w9, %t : tensor<?x4x8xf32>, tensor<8x5xf32> to tensor<?x4x5xf32>
  %loss, %weights, %lse = graph.cross_entropy %logits, %labels {ignore_index = 2} : tensor<?x4x5xf32>, tensor<?x4xi64> to tensor<f32>, tensor<f32>, tensor<?x4xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
