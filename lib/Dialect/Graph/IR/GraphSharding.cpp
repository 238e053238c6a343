//===- GraphSharding.cpp - using and writing sharding rules ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphSharding.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <numeric>

using namespace mlir;

namespace tombolo::graph {

using Dimension = ShardingRule::Dimension;
using Tensor = ShardingRule::Tensor;

//===----------------------------------------------------------------------===//
// Using rules
//===----------------------------------------------------------------------===//

/// Whether a dimension of this size may be seen as [outer, count, rest],
/// whatever the batch.
static bool canSplitSize(Dim size, int64_t outer, int64_t count) {
  if (outer < 1 || count < 1 || outer > size.size)
    return false;
  // A multiple of the batch splits in front of the batch only, or behind it:
  // which of both the type does not say, so only whole parts are allowed.
  if (size.batch && outer != 1)
    return false;
  return size.size % outer == 0 && (size.size / outer) % count == 0;
}

bool canBeInState(RankedTensorType type, ShardingState state, int64_t count) {
  if (state.isPartial())
    return isa<FloatType>(type.getElementType());
  if (state.isWhole())
    return true;
  return state.dimension >= 0 && state.dimension < type.getRank() &&
         canSplitSize(getDims(type)[state.dimension], state.outer, count);
}

RankedTensorType getLocalType(RankedTensorType type, ShardingState state,
                              int64_t count) {
  if (!state.isSplit())
    return type;
  Dims dims = getDims(type);
  dims[state.dimension].size /= count;
  return getTensorType(dims, type.getElementType());
}

/// Where a tensor has a factor: the dimension and the product of the factors
/// before it, which is no number when the batch is among them.
struct FactorPlace {
  int64_t dimension;
  Dim before;
};
static std::optional<FactorPlace> findFactor(const ShardingRule &rule,
                                             const Tensor &tensor, int factor) {
  for (auto [index, dimension] : llvm::enumerate(tensor)) {
    Dim before;
    for (int other : dimension) {
      if (other == factor)
        return FactorPlace{static_cast<int64_t>(index), before};
      before.size *= rule.factors[other].size.size;
      before.batch |= rule.factors[other].size.batch;
    }
  }
  return std::nullopt;
}

bool canSplit(const ShardingRule &rule, ShardingChoice choice, int64_t count) {
  if (choice.factor < 0 ||
      choice.factor >= static_cast<int>(rule.factors.size()))
    return false;
  const ShardingFactor &factor = rule.factors[choice.factor];
  if (!factor.splittable || (factor.consecutive && choice.outer != 1) ||
      !canSplitSize(factor.size, choice.outer, count))
    return false;
  for (auto *tensors : {&rule.operands, &rule.results})
    for (const Tensor &tensor : *tensors)
      if (auto place = findFactor(rule, tensor, choice.factor))
        if (place->before.batch)
          return false;
  return true;
}

SmallVector<ShardingChoice> getChoices(const ShardingRule &rule,
                                       int64_t count) {
  SmallVector<ShardingChoice> choices;
  for (int factor = 0, end = rule.factors.size(); factor < end; ++factor)
    if (canSplit(rule, {factor, 1}, count))
      choices.push_back({factor, 1});
  return choices;
}

static ShardingState getState(const ShardingRule &rule, ShardingChoice choice,
                              const Tensor &tensor, ShardingState otherwise) {
  if (choice.factor >= 0)
    if (auto place = findFactor(rule, tensor, choice.factor))
      return ShardingState::split(place->dimension,
                                  place->before.size * choice.outer);
  return otherwise;
}

ShardingState getOperandState(const ShardingRule &rule, ShardingChoice choice,
                              unsigned operand) {
  return getState(rule, choice, rule.operands[operand], ShardingState::whole());
}

ShardingState getResultState(const ShardingRule &rule, ShardingChoice choice,
                             unsigned result) {
  bool reduced = choice.factor >= 0 && rule.factors[choice.factor].reduced;
  return getState(rule, choice, rule.results[result],
                  reduced ? ShardingState::partial() : ShardingState::whole());
}

static std::optional<ShardingChoice> findChoice(const ShardingRule &rule,
                                                const Tensor &tensor,
                                                ShardingState state,
                                                int64_t count) {
  if (!state.isSplit() || state.dimension < 0 ||
      state.dimension >= static_cast<int64_t>(tensor.size()))
    return std::nullopt;
  int64_t before = 1;
  for (int factor : tensor[state.dimension]) {
    if (before > state.outer || state.outer % before != 0)
      break;
    ShardingChoice choice{factor, state.outer / before};
    if (canSplit(rule, choice, count))
      return choice;
    if (rule.factors[factor].size.batch)
      break;
    before *= rule.factors[factor].size.size;
  }
  return std::nullopt;
}

std::optional<ShardingChoice> getChoiceForOperand(const ShardingRule &rule,
                                                  unsigned operand,
                                                  ShardingState state,
                                                  int64_t count) {
  return findChoice(rule, rule.operands[operand], state, count);
}

std::optional<ShardingChoice> getChoiceForResult(const ShardingRule &rule,
                                                 unsigned result,
                                                 ShardingState state,
                                                 int64_t count) {
  return findChoice(rule, rule.results[result], state, count);
}

bool isLinearIn(const ShardingRule &rule, ArrayRef<int> operands) {
  return llvm::any_of(rule.linear,
                      [&](ArrayRef<int> set) { return set == operands; });
}

FailureOr<SmallVector<Value>> buildShard(Operation *op, OpBuilder &builder,
                                         ValueRange operands,
                                         const ShardingRule &rule,
                                         ShardingChoice choice,
                                         const ShardContext &context) {
  SmallVector<Type> types;
  for (auto [index, type] : llvm::enumerate(op->getResultTypes()))
    types.push_back(getLocalType(cast<RankedTensorType>(type),
                                 getResultState(rule, choice, index),
                                 context.count));
  if (choice.factor < 0)
    return buildShardByClone(op, builder, operands, types);
  return cast<ShardingRuleOpInterface>(op).buildShard(builder, operands, types,
                                                      choice.factor, context);
}

FailureOr<SmallVector<Value>> buildShardByClone(Operation *op,
                                                OpBuilder &builder,
                                                ValueRange operands,
                                                TypeRange resultTypes) {
  OperationState state(op->getLoc(), op->getName().getStringRef(), operands,
                       resultTypes, op->getAttrs());
  return SmallVector<Value>(builder.create(state)->getResults());
}

std::string toString(ShardingState state) {
  if (state.isWhole())
    return "whole";
  if (state.isPartial())
    return "partial";
  std::string text = "split " + std::to_string(state.dimension);
  return state.outer == 1 ? text
                          : text + " outer " + std::to_string(state.outer);
}

/// a ... z, a1 ... z1, a2 ...
static std::string getLetter(int factor) {
  std::string text(1, static_cast<char>('a' + factor % 26));
  return factor < 26 ? text : text + std::to_string(factor / 26);
}

std::string toString(const ShardingRule &rule) {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto print = [&](ArrayRef<Tensor> tensors) {
    os << '(';
    llvm::interleaveComma(tensors, os, [&](const Tensor &tensor) {
      os << '[';
      llvm::interleaveComma(tensor, os, [&](const Dimension &dimension) {
        if (dimension.empty())
          os << '1';
        llvm::interleave(
            dimension, os, [&](int factor) { os << getLetter(factor); }, " ");
      });
      os << ']';
    });
    os << ')';
  };
  print(rule.operands);
  os << " -> ";
  print(rule.results);
  os << " {";
  int number = 0;
  llvm::interleaveComma(rule.factors, os, [&](const ShardingFactor &factor) {
    std::string size = toString(ArrayRef(factor.size));
    os << getLetter(number++) << '='
       << StringRef(size).drop_front().drop_back();
    if (!factor.splittable)
      os << " whole";
    else if (factor.consecutive)
      os << " consecutive";
    if (factor.splittable && factor.reduced)
      os << " reduced";
    if (!factor.allReduced.empty() || !factor.allGathered.empty())
      os << " exchanged";
  });
  os << '}';
  if (!rule.linear.empty())
    os << " linear";
  for (ArrayRef<int> set : rule.linear) {
    os << " {";
    llvm::interleaveComma(set, os);
    os << '}';
  }
  return text;
}

//===----------------------------------------------------------------------===//
// Writing rules
//===----------------------------------------------------------------------===//

int addFactor(ShardingRule &rule, Dim size, bool splittable) {
  if (size.isOne())
    return -1;
  ShardingFactor factor;
  factor.size = size;
  factor.splittable = splittable;
  rule.factors.push_back(factor);
  return rule.factors.size() - 1;
}

void setReduced(ShardingRule &rule) {
  auto has = [&](const Tensor &tensor, int factor) {
    return findFactor(rule, tensor, factor).has_value();
  };
  for (int factor = 0, end = rule.factors.size(); factor < end; ++factor) {
    auto isIn = [&](const Tensor &tensor) { return has(tensor, factor); };
    rule.factors[factor].reduced = rule.factors[factor].splittable &&
                                   llvm::any_of(rule.operands, isIn) &&
                                   !llvm::all_of(rule.results, isIn);
  }
}

namespace {

/// The words of an einsum rule over the tensors of an op.
class EinsumRule {
public:
  EinsumRule(Operation *op, StringRef words, StringRef whole) {
    auto [operandWords, resultWords] = words.split("->");
    addTensors(op->getOperandTypes(), operandWords);
    operands = tensors.size();
    addTensors(op->getResultTypes(), resultWords);
    for (auto &tensor : tensors)
      findSizes(tensor);
    for (auto &[letter, sizes] : letters)
      for (Dim size : sizes)
        factors[letter].push_back(
            addFactor(rule, size, !whole.contains(letter)));
  }

  ShardingRule take() {
    for (auto [index, tensor] : llvm::enumerate(tensors))
      (index < operands ? rule.operands : rule.results)
          .push_back(getTensor(tensor));
    setReduced(rule);
    return std::move(rule);
  }

private:
  struct Named {
    StringRef word;
    Dims dims;
  };

  void addTensors(TypeRange types, StringRef words) {
    for (Type type : types) {
      auto [word, rest] = words.split(',');
      tensors.push_back({word.trim(), getDims(cast<RankedTensorType>(type))});
      words = rest;
    }
  }

  /// Calls `visit` with each letter of the word and the dimensions it has.
  template <typename Visit> void forLetters(const Named &tensor, Visit visit) {
    size_t single = llvm::count_if(tensor.word, llvm::isLower);
    size_t many = tensor.dims.size() - single, next = 0;
    for (char letter : tensor.word) {
      size_t count = llvm::isLower(letter) ? 1 : many;
      visit(letter, ArrayRef<Dim>(tensor.dims).slice(next, count));
      next += count;
    }
  }

  void findSizes(const Named &tensor) {
    forLetters(tensor, [&](char letter, ArrayRef<Dim> dims) {
      // In the order of the words, so that factors are, too.
      auto known = llvm::find_if(
          letters, [&](auto &entry) { return entry.first == letter; });
      if (known == letters.end())
        letters.emplace_back(letter, Dims(dims));
      else
        known->second = *broadcastDims(known->second, dims);
    });
  }

  Tensor getTensor(const Named &tensor) {
    Tensor result;
    forLetters(tensor, [&](char letter, ArrayRef<Dim> dims) {
      ArrayRef<int> all = factors[letter];
      for (auto [dim, factor] : llvm::zip(dims, all.take_back(dims.size())))
        result.push_back(factor < 0 || dim.isOne() ? Dimension()
                                                   : Dimension{factor});
    });
    return result;
  }

  ShardingRule rule;
  SmallVector<Named> tensors;
  size_t operands;
  SmallVector<std::pair<char, Dims>> letters;
  llvm::SmallDenseMap<char, SmallVector<int>> factors;
};

} // namespace

ShardingRule getEinsumRule(Operation *op, StringRef words, StringRef whole,
                           OperandSets linear) {
  ShardingRule rule = EinsumRule(op, words, whole).take();
  rule.linear = std::move(linear);
  return rule;
}

ShardingRule getElementwiseRule(Operation *op, OperandSets linear) {
  std::string words;
  for (unsigned i = 1; i < op->getNumOperands(); ++i)
    words += "R, ";
  words += "R -> R";
  for (unsigned i = 1; i < op->getNumResults(); ++i)
    words += ", R";
  return getEinsumRule(op, words, {}, std::move(linear));
}

static bool divides(Dim divisor, Dim size) {
  return size.size % divisor.size == 0 && (size.batch || !divisor.batch);
}
static Dim quotient(Dim size, Dim divisor) {
  return {size.size / divisor.size, size.batch && !divisor.batch};
}
static Dim commonDivisor(Dim lhs, Dim rhs) {
  if (divides(lhs, rhs))
    return lhs;
  if (divides(rhs, lhs))
    return rhs;
  return {std::gcd(lhs.size, rhs.size), lhs.batch && rhs.batch};
}

void setReshape(ShardingRule &rule, ArrayRef<Dim> from, ArrayRef<Dim> to,
                Tensor &operand, Tensor &result) {
  // What is not taken yet of each dimension, and the factors taken from its
  // major and its minor end.
  Dims left(from), right(to);
  Tensor leftMinor(from.size()), rightMinor(to.size());
  operand.assign(from.size(), {});
  result.assign(to.size(), {});
  auto take = [&](bool major) {
    auto next = [&](Dims &dims) -> int64_t {
      int64_t size = dims.size();
      for (int64_t i = 0; i < size; ++i)
        if (int64_t at = major ? i : size - 1 - i; !dims[at].isOne())
          return at;
      return -1;
    };
    while (true) {
      int64_t l = next(left), r = next(right);
      if (l < 0 || r < 0)
        return;
      Dim common = commonDivisor(left[l], right[r]);
      if (common.isOne())
        return;
      int factor = addFactor(rule, common);
      left[l] = quotient(left[l], common);
      right[r] = quotient(right[r], common);
      (major ? operand : leftMinor)[l].push_back(factor);
      (major ? result : rightMinor)[r].push_back(factor);
    }
  };
  take(/*major=*/true);
  take(/*major=*/false);
  auto finish = [&](Dims &rest, Tensor &minor, Tensor &tensor) {
    for (auto [index, size] : llvm::enumerate(rest)) {
      if (int factor = addFactor(rule, size, /*splittable=*/false); factor >= 0)
        tensor[index].push_back(factor);
      tensor[index].append(minor[index].rbegin(), minor[index].rend());
    }
  };
  finish(left, leftMinor, operand);
  finish(right, rightMinor, result);
}

} // namespace tombolo::graph
