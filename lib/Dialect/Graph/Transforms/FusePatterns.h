//===- FusePatterns.h - fusions, one file each ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_FUSEPATTERNS_H
#define TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_FUSEPATTERNS_H

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/PatternMatch.h"

#include <optional>

namespace tombolo::graph {

void addLayerNormPatterns(mlir::RewritePatternSet &patterns);
void addGeluPatterns(mlir::RewritePatternSet &patterns);
void addMatmulPatterns(mlir::RewritePatternSet &patterns);
void addAttentionPatterns(mlir::RewritePatternSet &patterns);

/// The number that every element of a float constant is, also behind views.
std::optional<double> getConstantNumber(mlir::Value value);

/// Whether `value` is `expected` up to the rounding of an exporter's constant.
inline bool isNear(double value, double expected) {
  double error = value - expected;
  double bound = 1e-5 * (expected < 0 ? -expected : expected);
  return error <= bound && -error <= bound;
}

/// A product: `scale` times the factors. Multiplications and divisions by
/// constants and powers with a small whole exponent are taken apart; a factor
/// that is used elsewhere as well, or is none of these, stays whole.
struct Product {
  double scale = 1;
  llvm::SmallVector<mlir::Value> factors;
};
Product getProduct(mlir::Value value);

/// Whether two values are the same, or made by equal ops of the same operands
/// (exporters repeat subexpressions).
bool isSameValue(mlir::Value lhs, mlir::Value rhs);

/// The last dimension of a tensor.
inline Dim getLastDim(mlir::Value value) { return getDims(value).back(); }

/// `value` as a tensor of one dimension of `size`, when it has no other
/// dimension than leading ones; null otherwise.
mlir::Value asChannels(mlir::OpBuilder &builder, mlir::Value value, Dim size);
bool hasOnlyChannels(mlir::Value value, Dim size);

} // namespace tombolo::graph

#endif // TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_FUSEPATTERNS_H
