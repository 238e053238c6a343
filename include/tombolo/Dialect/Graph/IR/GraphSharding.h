//===- GraphSharding.h - using and writing sharding rules -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a choice on a rule means for the tensors of an op, the local op that
// follows from it, and helpers for ops to write their rules with.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHSHARDING_H
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHSHARDING_H

#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"

namespace tombolo::graph {

//===----------------------------------------------------------------------===//
// Using rules
//===----------------------------------------------------------------------===//

/// How a tensor lies on the `count` chips of a tensor-parallel replica.
struct ShardingState {
  enum class Kind {
    Whole,   ///< every chip has it all
    Partial, ///< the sum over the chips is the tensor
    Split,   ///< `dimension` seen as [outer, count, rest]: chip i has [:, i, :]
  };
  Kind kind = Kind::Whole;
  int64_t dimension = 0;
  int64_t outer = 1;

  static ShardingState whole() { return {}; }
  static ShardingState partial() { return {Kind::Partial, 0, 1}; }
  static ShardingState split(int64_t dimension, int64_t outer = 1) {
    return {Kind::Split, dimension, outer};
  }
  bool isWhole() const { return kind == Kind::Whole; }
  bool isPartial() const { return kind == Kind::Partial; }
  bool isSplit() const { return kind == Kind::Split; }
  bool operator==(const ShardingState &other) const {
    return kind == other.kind && dimension == other.dimension &&
           outer == other.outer;
  }
  bool operator!=(const ShardingState &other) const {
    return !(*this == other);
  }
};

/// What an op splits over the chips: factor `factor` of its rule seen as
/// [outer, count, rest]; nothing when `factor` is -1 (then every chip computes
/// the whole, or partial sums of it from partial operands).
struct ShardingChoice {
  int factor = -1;
  int64_t outer = 1;

  bool operator==(const ShardingChoice &other) const {
    return factor == other.factor && outer == other.outer;
  }
};

/// Whether a tensor of this type can be in this state on `count` chips.
bool canBeInState(mlir::RankedTensorType type, ShardingState state,
                  int64_t count);

/// What one chip has of a tensor of this type, which can be in this state.
mlir::RankedTensorType getLocalType(mlir::RankedTensorType type,
                                    ShardingState state, int64_t count);

/// Whether the factor may be split so on `count` chips.
bool canSplit(const ShardingRule &rule, ShardingChoice choice, int64_t count);

/// All choices of one factor with outer 1 that `count` chips can make; strided
/// ones follow from the states of operands and results, with the functions
/// below.
llvm::SmallVector<ShardingChoice> getChoices(const ShardingRule &rule,
                                             int64_t count);

/// The state that a choice asks of an operand: split, or whole when it has not
/// the factor.
ShardingState getOperandState(const ShardingRule &rule, ShardingChoice choice,
                              unsigned operand);
/// The state that a choice gives to a result: split, partial when it has not
/// the factor and that is reduced, else whole.
ShardingState getResultState(const ShardingRule &rule, ShardingChoice choice,
                             unsigned result);

/// The choice under which an operand is in this split state; nullopt when there
/// is none on `count` chips.
std::optional<ShardingChoice>
getChoiceForOperand(const ShardingRule &rule, unsigned operand,
                    ShardingState state, int64_t count);
/// The choice under which a result is in this split state.
std::optional<ShardingChoice> getChoiceForResult(const ShardingRule &rule,
                                                 unsigned result,
                                                 ShardingState state,
                                                 int64_t count);

/// Whether results are partial sums when exactly the operands of these numbers
/// (ascending) are partial and the others whole, with no factor split.
bool isLinearIn(const ShardingRule &rule, llvm::ArrayRef<int> operands);

/// Builds what one chip computes of `op` under a choice that its rule allows;
/// `operands` are local. Returns the local results.
mlir::FailureOr<llvm::SmallVector<mlir::Value>>
buildShard(mlir::Operation *op, mlir::OpBuilder &builder,
           mlir::ValueRange operands, const ShardingRule &rule,
           ShardingChoice choice, const ShardContext &context);

/// "whole", "partial", "split 1" or "split 1 outer 3".
std::string toString(ShardingState state);

/// "([a, b], [b, c]) -> ([a, c]) {a=4, b=8 reduced, c=2 whole} linear {0} {1}":
/// factors by letters, "whole" those that cannot be split; 1 is a dimension
/// without factors.
std::string toString(const ShardingRule &rule);

//===----------------------------------------------------------------------===//
// Writing rules
//===----------------------------------------------------------------------===//

/// Sets of operands, as in `ShardingRule::linear`.
using OperandSets = llvm::SmallVector<llvm::SmallVector<int, 2>, 2>;

/// A rule from words like those of einsum, one per operand and result:
/// "Bmk, Bkn -> Bmn". A small letter is a dimension, the same in all words; a
/// capital one is any number of dimensions, which broadcast as in NumPy. Words
/// of optional operands that are absent are left out at the end. Letters in
/// `whole` cannot be split. Factors that some result lacks are reduced.
ShardingRule getEinsumRule(mlir::Operation *op, llvm::StringRef words,
                           llvm::StringRef whole = {}, OperandSets linear = {});

/// All operands broadcast to the shape that all results have.
ShardingRule getElementwiseRule(mlir::Operation *op, OperandSets linear = {});

/// A new factor of the rule, or -1 for size 1, which needs none.
int addFactor(ShardingRule &rule, Dim size, bool splittable = true);

/// Marks as reduced the factors that some operand has and some result lacks.
void setReduced(ShardingRule &rule);

/// The factors of a reshape: the common refinement of both shapes, from the
/// major and from the minor end; where they do not refine each other, factors
/// that stay whole.
void setReshape(ShardingRule &rule, llvm::ArrayRef<Dim> from,
                llvm::ArrayRef<Dim> to, ShardingRule::Tensor &operand,
                ShardingRule::Tensor &result);

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHSHARDING_H
