// RUN: tombolo-opt %s --graph-fuse-patterns | FileCheck %s

// Scaled scores, masked with minus infinity.
// CHECK-LABEL: @causal
func.func @causal(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK: %[[O:.*]], %{{.*}} = graph.attention %arg0, %arg1, %arg2 {causal = true, scale = 0.34999
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %c_a = graph.constant dense<0.35> : tensor<f32>
  %a = graph.mul %s, %c_a : tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %m = graph.causal_mask : tensor<1x1x4x4xi1>
  %neg = graph.constant dense<0xFF800000> : tensor<f32>
  %b = graph.where %m, %a, %neg : tensor<1x1x4x4xi1>, tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %b : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// The mask first, finite, negated; then the scale.
// CHECK-LABEL: @finite
func.func @finite(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK: %[[O:.*]], %{{.*}} = graph.attention %arg0, %arg1, %arg2 {causal = true, scale = 0.34999
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %m = graph.causal_mask : tensor<1x1x4x4xi1>
  %neg = graph.constant dense<-1.0e9> : tensor<f32>
  %t = graph.constant dense<true> : tensor<i1>
  %f = graph.constant dense<false> : tensor<i1>
  %n = graph.where %m, %f, %t : tensor<1x1x4x4xi1>, tensor<i1>, tensor<i1> to tensor<1x1x4x4xi1>
  %a = graph.where %n, %neg, %s : tensor<1x1x4x4xi1>, tensor<f32>, tensor<?x2x4x4xf32> to tensor<?x2x4x4xf32>
  %c_b = graph.constant dense<0.35> : tensor<f32>
  %b = graph.mul %a, %c_b : tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %b : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// A mask that is added.
// CHECK-LABEL: @additive
func.func @additive(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK: %[[O:.*]], %{{.*}} = graph.attention %arg0, %arg1, %arg2 {causal = true, scale = 1.0
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %m = graph.causal_mask : tensor<4x4xi1>
  %zero = graph.constant dense<0.0> : tensor<f32>
  %neg = graph.constant dense<-1.0e4> : tensor<f32>
  %a = graph.where %m, %zero, %neg : tensor<4x4xi1>, tensor<f32>, tensor<f32> to tensor<4x4xf32>
  %b = graph.add %a, %s : tensor<4x4xf32>, tensor<?x2x4x4xf32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %b : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// Without a mask.
// CHECK-LABEL: @full
func.func @full(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK: %[[O:.*]], %{{.*}} = graph.attention %arg0, %arg1, %arg2 {causal = false, scale = 0.34999
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %c_a = graph.constant dense<0.35> : tensor<f32>
  %a = graph.mul %s, %c_a : tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %a : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// The scale on the query, below its transpose; the key as it lies.
// CHECK-LABEL: @scaled_query
func.func @scaled_query(%q: tensor<?x4x2x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK: %[[Q:.*]] = graph.transpose %arg0, [0, 2, 1, 3]
  // CHECK: %[[O:.*]], %{{.*}} = graph.attention %[[Q]], %arg1, %arg2 {causal = false, scale = 2.500000e-01 : f64}
  %c = graph.constant dense<4.0> : tensor<f32>
  %d = graph.div %q, %c : tensor<?x4x2x8xf32>, tensor<f32> to tensor<?x4x2x8xf32>
  %t = graph.transpose %d, [0, 2, 1, 3] : tensor<?x4x2x8xf32> to tensor<?x2x4x8xf32>
  %s = graph.matmul %t, %k {transpose_b = true} : tensor<?x2x4x8xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %s : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// A mask that is not aligned with the last row stays.
// CHECK-LABEL: @shifted
func.func @shifted(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK-NOT: graph.attention
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %m = graph.causal_mask {offset = 1 : i64} : tensor<1x1x4x4xi1>
  %neg = graph.constant dense<0xFF800000> : tensor<f32>
  %a = graph.where %m, %s, %neg : tensor<1x1x4x4xi1>, tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %a : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// A mask value that softmax still sees stays.
// CHECK-LABEL: @small
func.func @small(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK-NOT: graph.attention
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %m = graph.causal_mask : tensor<1x1x4x4xi1>
  %neg = graph.constant dense<-1.0e2> : tensor<f32>
  %a = graph.where %m, %s, %neg : tensor<1x1x4x4xi1>, tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %a : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// A negative scale above the mask would lift what is masked.
// CHECK-LABEL: @negative
func.func @negative(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> tensor<?x2x4x8xf32> {
  // CHECK-NOT: graph.attention
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %m = graph.causal_mask : tensor<1x1x4x4xi1>
  %neg = graph.constant dense<-1.0e9> : tensor<f32>
  %a = graph.where %m, %s, %neg : tensor<1x1x4x4xi1>, tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %c_b = graph.constant dense<-1.0> : tensor<f32>
  %b = graph.mul %a, %c_b : tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %b : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// Any other mask stays.
// CHECK-LABEL: @other_mask
func.func @other_mask(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>, %m: tensor<?x1x4x4xi1>) -> tensor<?x2x4x8xf32> {
  // CHECK-NOT: graph.attention
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %neg = graph.constant dense<0xFF800000> : tensor<f32>
  %a = graph.where %m, %s, %neg : tensor<?x1x4x4xi1>, tensor<?x2x4x4xf32>, tensor<f32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %a : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o : tensor<?x2x4x8xf32>
}

// Weights that something else reads stay.
// CHECK-LABEL: @read_twice
func.func @read_twice(%q: tensor<?x2x4x8xf32>, %k: tensor<?x2x4x8xf32>, %v: tensor<?x2x4x8xf32>) -> (tensor<?x2x4x8xf32>, tensor<?x2x4x4xf32>) {
  // CHECK-NOT: graph.attention
  %kt = graph.transpose %k, [0, 1, 3, 2] : tensor<?x2x4x8xf32> to tensor<?x2x8x4xf32>
  %s = graph.matmul %q, %kt : tensor<?x2x4x8xf32>, tensor<?x2x8x4xf32> to tensor<?x2x4x4xf32>
  %p = graph.softmax %s : tensor<?x2x4x4xf32>
  %o = graph.matmul %p, %v : tensor<?x2x4x4xf32>, tensor<?x2x4x8xf32> to tensor<?x2x4x8xf32>
  return %o, %p : tensor<?x2x4x8xf32>, tensor<?x2x4x4xf32>
}
