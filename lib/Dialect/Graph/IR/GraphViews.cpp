//===- GraphViews.cpp - which results are strided views of operands -------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

/// The result's shape at the batch size that the source has; failure when the
/// source does not tell it.
static FailureOr<SmallVector<int64_t>>
getResultShape(RankedTensorType input, RankedTensorType result,
               const StridedView &source) {
  int64_t batch = 0;
  for (auto [index, dim] : llvm::enumerate(getDims(input)))
    if (dim.batch)
      batch = source.shape[index] / dim.size;
  if (batch == 0 && !result.hasStaticShape())
    return failure();
  return llvm::to_vector(getStaticType(result, batch).getShape());
}

// As PyTorch's Tensor.view: runs of source dimensions that are dense among
// themselves can be cut anew, nothing else can.
FailureOr<SmallVector<int64_t>>
tombolo::graph::getReshapedStrides(const StridedView &source,
                                   ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  int64_t next = static_cast<int64_t>(shape.size()) - 1;
  int64_t runStride = 1; // stride of the run's innermost dimension
  int64_t runElements = 1, takenElements = 1;
  bool open = false;
  for (int64_t d = static_cast<int64_t>(source.shape.size()) - 1; d >= 0; --d) {
    if (source.shape[d] == 1)
      continue;
    if (!open) {
      runStride = source.strides[d];
      runElements = takenElements = 1;
      open = true;
    }
    runElements *= source.shape[d];
    int64_t outer = d - 1;
    while (outer >= 0 && source.shape[outer] == 1)
      --outer;
    if (outer >= 0 && source.strides[outer] == runElements * runStride)
      continue; // the run goes on
    while (next >= 0 && (takenElements < runElements || shape[next] == 1)) {
      strides[next] = takenElements * runStride;
      takenElements *= shape[next];
      --next;
    }
    if (takenElements != runElements)
      return failure();
    open = false;
  }
  for (; next >= 0; --next) {
    if (shape[next] != 1)
      return failure();
    strides[next] = 1;
  }
  return strides;
}

FailureOr<StridedView> ReshapeOp::getView(unsigned index,
                                          const StridedView &source) {
  FailureOr<SmallVector<int64_t>> shape =
      getResultShape(getInput().getType(), getType(), source);
  if (failed(shape))
    return failure();
  StridedView view;
  view.shape = *shape;
  view.offset = source.offset;
  FailureOr<SmallVector<int64_t>> strides =
      getReshapedStrides(source, view.shape);
  if (failed(strides))
    return failure();
  view.strides = *strides;
  return view;
}

FailureOr<StridedView> TransposeOp::getView(unsigned index,
                                            const StridedView &source) {
  StridedView view;
  view.offset = source.offset;
  for (int64_t dim : getPermutation()) {
    view.shape.push_back(source.shape[dim]);
    view.strides.push_back(source.strides[dim]);
  }
  return view;
}

FailureOr<StridedView> BroadcastOp::getView(unsigned index,
                                            const StridedView &source) {
  FailureOr<SmallVector<int64_t>> shape =
      getResultShape(getInput().getType(), getType(), source);
  if (failed(shape))
    return failure();
  StridedView view;
  view.offset = source.offset;
  view.shape = *shape;
  view.strides.assign(view.shape.size(), 0);
  size_t skip = view.shape.size() - source.shape.size();
  for (size_t i = 0; i < source.shape.size(); ++i)
    if (source.shape[i] == view.shape[skip + i])
      view.strides[skip + i] = source.strides[i];
  return view;
}

FailureOr<StridedView> SliceOp::getView(unsigned index,
                                        const StridedView &source) {
  StridedView view = source;
  view.shape[getAxis()] = getSize();
  view.strides[getAxis()] *= getStep();
  view.offset += static_cast<int64_t>(getOffset()) * source.strides[getAxis()];
  return view;
}

FailureOr<StridedView> SplitOp::getView(unsigned index,
                                        const StridedView &source) {
  StridedView view = source;
  view.shape[getAxis()] = getSizes()[index];
  for (int64_t size : getSizes().take_front(index))
    view.offset += size * source.strides[getAxis()];
  return view;
}
