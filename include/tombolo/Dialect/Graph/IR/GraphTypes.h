//===- GraphTypes.h - tensor types with a batch dimension --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//
// A dimension of a graph tensor is a constant or a constant times the batch
// size. `Dim` is the view of it that shape inference works on.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHTYPES_H
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHTYPES_H

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/SmallVector.h"
#include <string>

namespace tombolo::graph {

/// `size`, or `size` times the batch size.
struct Dim {
  int64_t size = 1;
  bool batch = false;

  bool isOne() const { return !batch && size == 1; }
  /// The number of elements at this batch size.
  int64_t at(int64_t batchSize) const { return batch ? size * batchSize : size; }
  bool operator==(const Dim &other) const {
    return size == other.size && batch == other.batch;
  }
  bool operator!=(const Dim &other) const { return !(*this == other); }
};

using Dims = llvm::SmallVector<Dim, 4>;

/// Whether at most one dimension is dynamic and the encoding, if any, is a
/// `#graph.batch` that goes with it.
bool hasValidBatch(mlir::RankedTensorType type);

Dims getDims(mlir::RankedTensorType type);
inline Dims getDims(mlir::Value value) {
  return getDims(llvm::cast<mlir::RankedTensorType>(value.getType()));
}

/// The type with these dimensions, or null when more than one is a multiple of
/// the batch size.
mlir::RankedTensorType getTensorType(llvm::ArrayRef<Dim> dims,
                                     mlir::Type elementType);

/// The same shape with another element type.
mlir::RankedTensorType withElementType(mlir::RankedTensorType type,
                                       mlir::Type elementType);

/// The type at batch size `batch`: no dynamic dimension, no encoding.
mlir::RankedTensorType getStaticType(mlir::RankedTensorType type,
                                     int64_t batch);

/// The product of all dimensions.
Dim getNumElements(llvm::ArrayRef<Dim> dims);
int64_t getNumElements(mlir::Type type, int64_t batch);

/// Bytes of one element: 4, 2 (bf16), 8 (i64) or 1 (i1).
int64_t getElementBytes(mlir::Type elementType);

/// Bytes of a tensor at this batch size, or -1 when they overflow 64 bits.
int64_t getNumBytes(mlir::Type type, int64_t batch);

/// NumPy broadcasting of two shapes; nullopt when they do not go together.
std::optional<Dims> broadcastDims(llvm::ArrayRef<Dim> lhs,
                                  llvm::ArrayRef<Dim> rhs);

/// Row-major strides of a static shape, in elements.
llvm::SmallVector<int64_t> getRowMajorStrides(llvm::ArrayRef<int64_t> shape);

/// "[batch*128, 256]", for diagnostics.
std::string toString(llvm::ArrayRef<Dim> dims);

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHTYPES_H
