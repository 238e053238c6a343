// RUN: tombolo-opt %s -split-input-file -verify-diagnostics

// Only one dimension may depend on the batch.
func.func @two_batches(%x: tensor<?x?xf32>) {
  // expected-error @below {{at most one dynamic dimension}}
  %0 = graph.neg %x : tensor<?x?xf32>
  return
}

// -----

// expected-error @below {{multiple of the batch must be at least 2, got 1}}
func.func @multiple(%x: tensor<?xf32, #graph.batch<1>>) { return }

// -----

func.func @reshape(%x: tensor<?x3xf32>) {
  // expected-error @below {{must keep the number of elements, got [batch, 3] to [batch*2, 2]}}
  %0 = graph.reshape %x : tensor<?x3xf32> to tensor<?x2xf32, #graph.batch<2>>
  return
}

// -----

func.func @slice(%x: tensor<?x3xf32>) {
  // expected-error @below {{offset 1, size 2, step 2 leave the 3 elements of axis 1}}
  // expected-error @below {{failed to infer returned types}}
  %0 = graph.slice %x {axis = 1, offset = 1, size = 2, step = 2} : tensor<?x3xf32> to tensor<?x2xf32>
  return
}

// -----

func.func @batch_slice(%x: tensor<?x3xf32>) {
  // expected-error @below {{axis 0 is the batch, which is never cut}}
  // expected-error @below {{failed to infer returned types}}
  %0 = graph.slice %x {axis = 0, offset = 0, size = 1} : tensor<?x3xf32> to tensor<1x3xf32>
  return
}

// -----

func.func @split(%x: tensor<?x3xf32>) {
  // expected-error @below {{sizes add up to 2, axis 1 has 3 elements}}
  // expected-error @below {{failed to infer returned types}}
  %0 = graph.split %x {axis = 1, sizes = array<i64: 2>} : tensor<?x3xf32> to tensor<?x2xf32>
  return
}

// -----

func.func @transpose(%x: tensor<?x3xf32>) {
  // expected-error @below {{permutation is not one of 2 dimensions}}
  // expected-error @below {{failed to infer returned types}}
  %0 = graph.transpose %x, [0, 0] : tensor<?x3xf32> to tensor<?x3xf32>
  return
}

// -----

func.func @add(%x: tensor<?x3xf32>, %y: tensor<4xf32>) {
  // expected-error @below {{shapes [batch, 3] and [4] do not broadcast}}
  // expected-error @below {{failed to infer returned types}}
  %0 = graph.add %x, %y : tensor<?x3xf32>, tensor<4xf32> to tensor<?x3xf32>
  return
}

// -----

func.func @matmul(%x: tensor<?x3xf32>, %y: tensor<4x5xf32>) {
  // expected-error @below {{inner dimensions differ: [batch, 3] times [4, 5]}}
  %0 = graph.matmul %x, %y : tensor<?x3xf32>, tensor<4x5xf32> to tensor<?x5xf32>
  return
}

// -----

func.func @layer_norm(%x: tensor<?x3xf32>, %y: tensor<4xf32>) {
  // expected-error @below {{scale must have the shape of the last dimension of [batch, 3], got [4]}}
  // expected-error @below {{failed to infer returned types}}
  %0:3 = graph.layer_norm %x, %y, %y {epsilon = 1.0e-5 : f64} : tensor<?x3xf32>, tensor<4xf32>, tensor<4xf32> to tensor<?x3xf32>, tensor<?xf32>, tensor<?xf32>
  return
}

// -----

func.func @gelu(%x: tensor<?x3xf32>) {
  // expected-error @below {{approximate must be "none" or "tanh", got "fast"}}
  %0 = graph.gelu %x {approximate = "fast"} : tensor<?x3xf32>
  return
}

// -----

func.func @parameter() {
  // expected-error @below {{no parameter is named 'w'}}
  %0 = graph.get_parameter @w : tensor<3xf32>
  return
}

// -----

graph.parameter @w : tensor<4xf32> from "w"
func.func @parameter_type() {
  // expected-error @below {{parameter 'w' has type 'tensor<4xf32>', got 'tensor<3xf32>'}}
  %0 = graph.get_parameter @w : tensor<3xf32>
  return
}

// -----

func.func @attention(%q: tensor<?x4x8xf32>, %k: tensor<?x5x9xf32>) {
  // expected-error @below {{do not go together}}
  // expected-error @below {{failed to infer returned types}}
  %o, %l = graph.attention %q, %k, %k {causal = false, scale = 1.0 : f64} : tensor<?x4x8xf32>, tensor<?x5x9xf32>, tensor<?x5x9xf32> to tensor<?x4x8xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @cross_entropy(%x: tensor<?x4x8xf32>, %y: tensor<?x5xi64>) {
  // expected-error @below {{labels must have the leading dimensions of [batch, 4, 8], got [batch, 5]}}
  // expected-error @below {{failed to infer returned types}}
  %0:3 = graph.cross_entropy %x, %y : tensor<?x4x8xf32>, tensor<?x5xi64> to tensor<f32>, tensor<f32>, tensor<?x4xf32>
  return
}

// -----

// A part of a table tells of how many.
func.func @gather_part(%t: tensor<4x8xf32>, %i: tensor<3xi64>, %n: tensor<i64>) {
  // expected-error@+2 {{a part and the count of parts, at least 1, go together}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = graph.gather %t, %i part %n : tensor<4x8xf32>, tensor<3xi64>, tensor<i64> to tensor<3x8xf32>
  return
}

// -----

func.func @gather_backward_count(%g: tensor<3x8xf32>, %i: tensor<3xi64>) {
  // expected-error@+1 {{a part and the count of parts, at least 1, go together}}
  %0 = graph.gather_backward %g, %i {count = 2 : i64} : tensor<3x8xf32>, tensor<3xi64> to tensor<4x8xf32>
  return
}

// -----

func.func @cross_entropy_merge(%p: tensor<2x4xf32>, %x: tensor<5xf32>, %l: tensor<5xi64>) {
  // expected-error@+2 {{parts [2, 4], picked [5] and labels [5] do not go together}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:3 = graph.cross_entropy_merge %p, %x, %l : tensor<2x4xf32>, tensor<5xf32>, tensor<5xi64> to tensor<f32>, tensor<f32>, tensor<5xf32>
  return
}
