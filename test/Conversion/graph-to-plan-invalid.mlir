// RUN: tombolo-opt %s -split-input-file -verify-diagnostics -graph-convert-segments

// expected-error @below {{argument of type 'tensor<?x4xf32>' depends on the batch size; specialize the function first}}
func.func @dynamic(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  return %x : tensor<?x4xf32>
}

// -----

// expected-error @below {{result 0 cannot take the memory of argument 0, which does not exist or has another type}}
func.func @in_place(%x: tensor<4xf32>) -> (tensor<2xf32> {plan.in_place = 0 : i64}) {
  %0 = graph.slice %x {axis = 0, offset = 0, size = 2} : tensor<4xf32> to tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

// expected-error @below {{has no body to convert to a segment}}
func.func private @f(tensor<4xf32>) -> tensor<4xf32>
func.func @call(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
