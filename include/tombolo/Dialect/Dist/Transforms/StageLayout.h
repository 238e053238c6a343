//===- StageLayout.h - where a stage's parameters lie ---------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_TRANSFORMS_STAGELAYOUT_H
#define TOMBOLO_DIALECT_DIST_TRANSFORMS_STAGELAYOUT_H

#include "tombolo/Dialect/Dist/IR/Dist.h"

#include "mlir/IR/SymbolTable.h"

#include <tuple>

namespace tombolo::dist {

/// Where the parameters of one run lie: parameter k of block l at
/// offsets[k] + l * strides[k] of its region, in bytes.
struct RunLayout {
  llvm::SmallVector<int64_t> offsets;
  llvm::SmallVector<int64_t> strides;
  llvm::SmallVector<bool> frozen;
};

/// What a chip has of a parameter: dimension `dim` of size N is seen as
/// [outer, count, N / (outer * count)]; chip i of its replica has [:, i, :].
struct ParameterSplit {
  int64_t dim = 0;
  int64_t outer = 1;
  int64_t count = 1;
  bool operator==(const ParameterSplit &) const = default;
};

/// Parameters of one type that lie evenly: parameter k of all blocks of a run.
struct ParameterFamily {
  llvm::SmallVector<mlir::FlatSymbolRefAttr> parameters;
  mlir::RankedTensorType type;         // of the whole parameter
  std::optional<ParameterSplit> split; // none: all of it is here
  bool frozen = false;
  /// Whether this stage is the first that has it.
  bool owner = true;
  int64_t offset = 0;
  int64_t stride = 0;
};

/// What trainable parameters have in common that are reduced and updated
/// together.
struct ParameterClass {
  /// Whole on each chip of a replica, with gradients that are still to be summed
  /// over these; whole with whole gradients; split over the chips.
  enum Section { Partial, Whole, Split } section = Whole;
  /// The stages of the island that each have a copy of a tied parameter,
  /// ascending; empty: only this stage uses it.
  std::vector<int64_t> stages;
  /// Weight decay does not apply.
  bool undecayed = false;

  bool operator<(const ParameterClass &other) const {
    return std::tie(section, stages, undecayed) <
           std::tie(other.section, other.stages, other.undecayed);
  }
  bool operator==(const ParameterClass &) const = default;
};

/// Bytes [begin, begin + bytes) of the trainable region: all parameters of one
/// class. With parts, replica r updates part r.
struct ParameterRange {
  ParameterClass kind;
  int64_t begin = 0;
  int64_t bytes = 0;
  int64_t parts = 1;
  int64_t partBytes() const { return bytes / parts; }
};

/// Two regions, trainable and frozen. The trainable one has a range for each
/// class of parameters, in the order of classes; each range, and the frozen
/// region, is filled in the order of the stage's runs, block by block, parameters
/// rounded up to 64 bytes. A tied parameter lies where its first user in the
/// stage put it.
///
/// Where the optimizer is sharded, replica r updates part r of each range, which
/// is rounded up so that the parts are equal; ranges that other stages have, too,
/// are not sharded.
struct StageLayout {
  std::vector<RunLayout> runs;
  std::vector<ParameterFamily> families;
  std::vector<ParameterRange> ranges;
  int64_t trainableBytes = 0;
  int64_t frozenBytes = 0;
};

/// Computes the layout of a stage that has its runs; what is split and what is
/// partial is read off the functions that its runs name, if they name any.
/// Fails with a diagnostic when a run names a parameter that does not exist or
/// functions that do not fit.
mlir::FailureOr<StageLayout> layOut(StageOp stage, mlir::SymbolTable &symbols);

/// What a function of one chip says of an argument with this attribute
/// (graph.split), checked against the whole value's type.
mlir::FailureOr<ParameterSplit> readSplit(mlir::Attribute attribute,
                                          mlir::RankedTensorType whole,
                                          mlir::Location loc);

/// The type of what one chip has.
mlir::RankedTensorType getLocalType(mlir::RankedTensorType whole,
                                    const ParameterSplit &split);

} // namespace tombolo::dist

#endif // TOMBOLO_DIALECT_DIST_TRANSFORMS_STAGELAYOUT_H
