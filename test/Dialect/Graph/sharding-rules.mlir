// RUN: tombolo-opt %s -graph-print-sharding-rules -split-input-file -verify-diagnostics

// A letter is a factor; contracted ones are reduced. A bias is added once, so
// it must be partial with either operand.
func.func @matmul(%x: tensor<2x8x16xf32>, %w: tensor<16x12xf32>, %b: tensor<12xf32>) {
  // expected-remark@+1 {{sharding rule ([a, b, c], [c, d], [d]) -> ([a, b, d]) {a=2, b=8, c=16 reduced, d=12} linear {0, 2} {1, 2}}}
  %0 = graph.matmul %x, %w bias %b : tensor<12xf32> : tensor<2x8x16xf32>, tensor<16x12xf32> to tensor<2x8x12xf32>
  return
}

// -----

// The batch is a factor like others; a multiple of it stands in front of what
// it was multiplied with.
func.func @batch(%x: tensor<?x8x16xf32>, %y: tensor<16xf32>) {
  // expected-remark@+1 {{sharding rule ([a, b, c]) -> ([a b, c]) {a=batch, b=8, c=16} linear {0}}}
  %0 = graph.reshape %x : tensor<?x8x16xf32> to tensor<?x16xf32, #graph.batch<8>>
  // expected-remark@+1 {{sharding rule ([a, b], [b]) -> ([a, b]) {a=batch*8, b=16} linear {0, 1}}}
  %1 = graph.add %0, %y : tensor<?x16xf32, #graph.batch<8>>, tensor<16xf32> to tensor<?x16xf32, #graph.batch<8>>
  return
}

// -----

// A fused QKV tensor: three runs, of which each splits by heads.
func.func @heads(%x: tensor<2x8x48xf32>) {
  // expected-remark@+1 {{sharding rule ([a, b, d c]) -> ([a, b, c], [a, b, c], [a, b, c]) {a=2, b=8, c=16, d=3 whole} linear {0}}}
  %0:3 = graph.split %x {axis = 2, sizes = array<i64: 16, 16, 16>} : tensor<2x8x48xf32> to tensor<2x8x16xf32>, tensor<2x8x16xf32>, tensor<2x8x16xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c d]) -> ([a, b, c, d]) {a=2, b=8, c=4, d=4} linear {0}}}
  %1 = graph.reshape %0#0 : tensor<2x8x16xf32> to tensor<2x8x4x4xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c, d]) -> ([a, c, b, d]) {a=2, b=8, c=4, d=4} linear {0}}}
  %2 = graph.transpose %1, [0, 2, 1, 3] : tensor<2x8x4x4xf32> to tensor<2x4x8x4xf32>
  return
}

// -----

// Grouped queries: each of 4 heads of keys stands for 2 of queries. Heads split
// by groups, at most 4 ways.
func.func @groups(%k: tensor<2x4x8x16xf32>) {
  // expected-remark@+1 {{sharding rule ([a, b, c, d]) -> ([a, b, 1, c, d]) {a=2, b=4, c=8, d=16} linear {0}}}
  %0 = graph.reshape %k : tensor<2x4x8x16xf32> to tensor<2x4x1x8x16xf32>
  // expected-remark@+1 {{sharding rule ([a, b, 1, d, e]) -> ([a, b, c, d, e]) {a=2, b=4, c=2, d=8, e=16} linear {0}}}
  %1 = graph.broadcast %0 : tensor<2x4x1x8x16xf32> to tensor<2x4x2x8x16xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c, d, e]) -> ([a, b c, d, e]) {a=2, b=4, c=2, d=8, e=16} linear {0}}}
  %2 = graph.reshape %1 : tensor<2x4x2x8x16xf32> to tensor<2x8x8x16xf32>
  return
}

// -----

// Shapes that do not refine each other: what they have in common is split, from
// both ends, the rest is not.
func.func @reshape(%x: tensor<4x6x5xf32>) {
  // expected-remark@+1 {{sharding rule ([a d, e c, b]) -> ([a f, g c, b]) {a=2, b=5, c=2, d=2 whole, e=3 whole, f=3 whole, g=2 whole} linear {0}}}
  %0 = graph.reshape %x : tensor<4x6x5xf32> to tensor<6x4x5xf32>
  return
}

// -----

// A table splits in consecutive parts: each chip looks up what it has.
func.func @table(%t: tensor<64x16xf32>, %i: tensor<?x8xi64>, %g: tensor<?x8x16xf32>) {
  // expected-remark@+1 {{sharding rule ([a, b], [c, d]) -> ([c, d, b]) {a=64 consecutive reduced, b=16, c=batch, d=8} linear {0}}}
  %0 = graph.gather %t, %i {axis = 0} : tensor<64x16xf32>, tensor<?x8xi64> to tensor<?x8x16xf32>
  // expected-remark@+1 {{sharding rule ([c, d, b], [c, d]) -> ([a, b]) {a=64 consecutive, b=16, c=batch reduced, d=8 reduced} linear {0}}}
  %1 = graph.gather_backward %g, %i {axis = 0} : tensor<?x8x16xf32>, tensor<?x8xi64> to tensor<64x16xf32>
  return
}

// -----

// The vocabulary splits, at the price of an exchange of one number per token;
// split tokens make partial losses.
func.func @loss(%x: tensor<2x8x64xf32>, %l: tensor<2x8xi64>) {
  // expected-remark@+1 {{sharding rule ([a, b, c], [a, b]) -> ([], [], [a, b]) {a=2 reduced, b=8 reduced, c=64 consecutive exchanged}}}
  %0:3 = graph.cross_entropy %x, %l : tensor<2x8x64xf32>, tensor<2x8xi64> to tensor<f32>, tensor<f32>, tensor<2x8xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c], [a, b], [a, b]) -> ([a, b, c]) {a=2, b=8, c=64 consecutive}}}
  %1 = graph.cross_entropy_backward %x, %l, %0#2 : tensor<2x8x64xf32>, tensor<2x8xi64>, tensor<2x8xf32> to tensor<2x8x64xf32>
  return
}

// -----

// A part of a table or vocabulary is not split again.
func.func @part(%t: tensor<32x16xf32>, %i: tensor<8xi64>, %x: tensor<8x32xf32>, %e: tensor<8xf32>, %n: tensor<i64>) {
  // expected-remark@+1 {{sharding rule ([a, b], [c], []) -> ([c, b]) {a=32 whole, b=16, c=8} linear {0}}}
  %0 = graph.gather %t, %i part %n {count = 2 : i64} : tensor<32x16xf32>, tensor<8xi64>, tensor<i64> to tensor<8x16xf32>
  // expected-remark@+1 {{sharding rule ([a, b], [a], [a], []) -> ([a, b]) {a=8, b=32 whole}}}
  %1 = graph.cross_entropy_backward %x, %i, %e part %n {count = 2 : i64} : tensor<8x32xf32>, tensor<8xi64>, tensor<8xf32>, tensor<i64> to tensor<8x32xf32>
  return
}

// -----

// What needs all elements at once stays whole: the channels of a norm, the
// scores of a softmax, positions in attention, what a maximum is taken of.
func.func @whole(%x: tensor<2x8x16xf32>, %c: tensor<16xf32>, %q: tensor<2x4x8x16xf32>) {
  // expected-remark@+1 {{sharding rule ([a, b, c], [c], [c]) -> ([a, b, c], [a, b], [a, b]) {a=2, b=8, c=16 whole}}}
  %0:3 = graph.layer_norm %x, %c, %c {epsilon = 1.0e-5 : f64} : tensor<2x8x16xf32>, tensor<16xf32>, tensor<16xf32> to tensor<2x8x16xf32>, tensor<2x8xf32>, tensor<2x8xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c]) -> ([a, b, c]) {a=2, b=8, c=16 whole}}}
  %1 = graph.softmax %x : tensor<2x8x16xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c]) -> ([a, c]) {a=2, b=8 whole, c=16}}}
  %2 = graph.reduce_max %x {axes = array<i64: 1>} : tensor<2x8x16xf32> to tensor<2x16xf32>
  // expected-remark@+1 {{sharding rule ([a, b, c, d], [a, b, e, d], [a, b, e, f]) -> ([a, b, c, f], [a, b, c]) {a=2, b=4, c=8 whole, d=16 whole, e=8 whole, f=16 whole}}}
  %3:2 = graph.attention %q, %q, %q {causal = true, scale = 0.25 : f64} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> to tensor<2x4x8x16xf32>, tensor<2x4x8xf32>
  return
}

// -----

// `where` is linear in one branch when the other is zero.
func.func @where(%c: tensor<8xi1>, %x: tensor<8xf32>) {
  %zero = graph.constant dense<0.0> : tensor<f32>
  // expected-remark@+1 {{linear {0}}}
  %zeros = graph.broadcast %zero : tensor<f32> to tensor<8xf32>
  // expected-remark@+1 {{linear {1, 2} {1}}}
  %0 = graph.where %c, %x, %zeros : tensor<8xi1>, tensor<8xf32>, tensor<8xf32> to tensor<8xf32>
  return
}

// -----

// Updates are of flat slices, which no chip shares with another; they and what
// sharding itself makes have no rule.
func.func @none(%p: tensor<64xf32>, %w: tensor<1xf32>, %u: tensor<1xi64>, %x: tensor<2x8xf32>, %n: tensor<i64>) {
  // expected-remark@+1 {{no sharding rule}}
  %0 = graph.sgd %p, %p, %w, %u {learning_rate = 0.1 : f64, momentum = 0.0 : f64, weight_decay = 0.0 : f64} : tensor<64xf32>, tensor<64xf32>, tensor<1xf32>, tensor<1xi64> to tensor<64xf32>
  // expected-remark@+1 {{no sharding rule}}
  %1 = graph.shard %x[%n] : tensor<2x8xf32>, tensor<i64> to tensor<8xf32>
  return
}
