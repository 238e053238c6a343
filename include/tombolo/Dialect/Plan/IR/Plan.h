//===- Plan.h - the plan dialect --------------------------*- C++ -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_PLAN_IR_PLAN_H
#define TOMBOLO_DIALECT_PLAN_IR_PLAN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace tombolo::plan {

/// Where a rank stands in its stage; the numbers are those of plan.proto.
enum class Coordinate { None = 0, TensorIndex = 1, Replica = 2 };

/// factor * ((x + offset) mod modulus), x a loop's variable unless a coordinate
/// is named; modulus 0: no mod.
struct Term {
  int64_t variable = 0;
  int64_t factor = 1;
  int64_t offset = 0;
  uint64_t modulus = 0;
  Coordinate coordinate = Coordinate::None;

  bool operator==(const Term &) const = default;
};

inline llvm::hash_code hash_value(const Term &term) {
  return llvm::hash_combine(term.variable, term.factor, term.offset,
                            term.modulus, term.coordinate);
}

/// What one call of a segment does.
struct WorkFigures {
  double flops = 0;
  double bytes = 0;    // moved by contractions, which do so while they compute
  double streamed = 0; // moved by all other ops
  double scores = 0;   // of attention, backward counting twice
  double ops = 0;      // that a chip is told to run

  bool operator==(const WorkFigures &) const = default;
};

inline llvm::hash_code hash_value(const WorkFigures &work) {
  auto bits = [](double figure) { return llvm::bit_cast<uint64_t>(figure); };
  return llvm::hash_combine(bits(work.flops), bits(work.bytes),
                            bits(work.streamed), bits(work.scores),
                            bits(work.ops));
}

/// Arena and slot addresses are multiples of this many bytes.
constexpr int64_t alignment = 64;
inline int64_t alignUp(int64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

/// Bytes of one element: 1 for i1.
int64_t elementBytes(mlir::Type elementType);
/// Bytes of a static, row-major tensor or memref.
int64_t storageBytes(mlir::ShapedType type);

/// Strides (elements) of a memref whose layout is static.
llvm::SmallVector<int64_t> stridesOf(mlir::MemRefType type);
/// The memref of these strides.
mlir::MemRefType getMemoryType(llvm::ArrayRef<int64_t> shape,
                               mlir::Type elementType,
                               llvm::ArrayRef<int64_t> strides);

} // namespace tombolo::plan

#include "tombolo/Dialect/Plan/IR/AttributeNames.h"
#include "tombolo/Dialect/Plan/IR/PlanDialect.h.inc"
#include "tombolo/Dialect/Plan/IR/PlanEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "tombolo/Dialect/Plan/IR/PlanAttrs.h.inc"

#include "tombolo/Dialect/Plan/IR/PlanInterfaces.h.inc"

#define GET_OP_CLASSES
#include "tombolo/Dialect/Plan/IR/PlanOps.h.inc"

#endif // TOMBOLO_DIALECT_PLAN_IR_PLAN_H
