//===- SegmentMemory.h - where the values of a segment lie ------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_CONVERSION_GRAPHTOPLAN_SEGMENTMEMORY_H
#define TOMBOLO_LIB_CONVERSION_GRAPHTOPLAN_SEGMENTMEMORY_H

#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include <vector>

namespace tombolo {

/// Memory of its own: an argument of the segment, a part of its workspace or a
/// constant.
struct SegmentBuffer {
  enum class Kind { Argument, Workspace, Constant };
  Kind kind = Kind::Workspace;
  unsigned argument = 0;
  mlir::ElementsAttr constant;
  int64_t bytes = 0;
  /// First and last step that touch it; both -1 when none does.
  int64_t first = -1, last = -1;
  /// Bytes from the start of the workspace, once packed.
  int64_t offset = 0;
};

/// A strided view of a buffer.
struct Place {
  int buffer = -1;
  graph::StridedView view;
  mlir::Type elementType;

  explicit operator bool() const { return buffer >= 0; }
};

/// One op of the segment.
struct SegmentStep {
  llvm::StringRef opcode;
  llvm::SmallVector<Place> inputs, outputs;
  mlir::DictionaryAttr settings;
  bool accumulate = false;
  mlir::Location location;
};

struct SegmentMemory {
  std::vector<SegmentBuffer> buffers;
  std::vector<SegmentStep> steps;
  /// Arguments of the segment: types, and whether each is written.
  llvm::SmallVector<mlir::RankedTensorType> argumentTypes;
  llvm::SmallVector<bool> argumentRead, argumentWritten;
  int64_t workspaceBytes = 0;
};

/// Whether the view's elements lie one after the other in row-major order.
bool isRowMajor(const graph::StridedView &view);

/// Decides where every value lies and which steps compute it.
mlir::FailureOr<SegmentMemory> placeValues(mlir::func::FuncOp function);

/// Gives every workspace buffer an offset such that no two that are needed at
/// the same time overlap (packMemory).
void packWorkspace(SegmentMemory &memory);

} // namespace tombolo

#endif // TOMBOLO_LIB_CONVERSION_GRAPHTOPLAN_SEGMENTMEMORY_H
