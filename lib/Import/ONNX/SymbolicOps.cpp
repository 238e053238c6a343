//===- SymbolicOps.cpp - evaluating elementwise operators -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <cmath>

namespace tombolo::importer {
namespace {

using Integers = std::optional<Affine> (*)(Affine, Affine);
using Reals = double (*)(double, double);

/// lhs + sign * rhs of two linear tensors of integers: exact without writing
/// them out.
std::optional<Symbolic> addLinear(const Symbolic &lhs, const Symbolic &rhs,
                                  int64_t sign) {
  if (lhs.getForm() != Symbolic::Form::Linear ||
      rhs.getForm() != Symbolic::Form::Linear || isFloat(lhs.getType()))
    return std::nullopt;
  std::optional<Shape> shape = broadcastShapes(lhs.getShape(), rhs.getShape());
  if (!shape)
    return std::nullopt;
  std::optional<Affine> scaled = mul({sign, 0}, rhs.getBase().asInteger());
  std::optional<Affine> base =
      scaled ? add(lhs.getBase().asInteger(), *scaled) : std::nullopt;
  if (!base)
    return std::nullopt;
  llvm::SmallVector<int64_t> coefficients(shape->size(), 0);
  auto accumulate = [&](const Symbolic &operand, int64_t factor) {
    size_t skip = shape->size() - operand.getRank();
    for (auto [d, c] : llvm::enumerate(operand.getCoefficients())) {
      std::optional<Affine> term = mul({factor, 0}, {c, 0});
      std::optional<Affine> sum =
          term ? add({coefficients[skip + d], 0}, *term) : std::nullopt;
      if (!sum)
        return false;
      coefficients[skip + d] = sum->constant;
    }
    return true;
  };
  if (!accumulate(lhs, 1) || !accumulate(rhs, sign))
    return std::nullopt;
  return Symbolic::linear(lhs.getType(), *shape, Scalar::integer(*base),
                          coefficients);
}

/// A linear tensor times a constant.
std::optional<Symbolic> scaleLinear(const Symbolic &linear,
                                    const Symbolic &factor) {
  std::optional<Scalar> splat = factor.getSplat();
  if (linear.getForm() != Symbolic::Form::Linear || isFloat(linear.getType()) ||
      !splat || !splat->asInteger().isConstant())
    return std::nullopt;
  std::optional<Shape> shape =
      broadcastShapes(linear.getShape(), factor.getShape());
  std::optional<Affine> base =
      mul(linear.getBase().asInteger(), splat->asInteger());
  if (!shape || !base)
    return std::nullopt;
  llvm::SmallVector<int64_t> coefficients(shape->size() - linear.getRank(), 0);
  for (int64_t c : linear.getCoefficients()) {
    std::optional<Affine> scaled = mul({c, 0}, splat->asInteger());
    if (!scaled)
      return std::nullopt;
    coefficients.push_back(scaled->constant);
  }
  return Symbolic::linear(linear.getType(), *shape, Scalar::integer(*base),
                          coefficients);
}

/// All operands, when all are known and of one type.
std::optional<llvm::SmallVector<const Symbolic *>>
getOperands(NodeContext &context) {
  llvm::SmallVector<const Symbolic *> operands;
  for (size_t i = 0; i < context.getNumOperands(); ++i) {
    operands.push_back(context.getSymbolic(i));
    if (!operands.back() ||
        operands.back()->getType() != operands.front()->getType())
      return std::nullopt;
  }
  if (operands.empty())
    return std::nullopt;
  return operands;
}

/// A function of any number of operands of one type, folded from the left.
bool evaluateArithmetic(NodeContext &context, Integers integers, Reals reals) {
  auto operands = getOperands(context);
  if (!operands)
    return false;
  ElementType type = operands->front()->getType();
  return setIfKnown(
      context,
      elementwise(*operands, type,
                  [&](llvm::ArrayRef<Scalar> values) -> std::optional<Scalar> {
                    Scalar result = values.front();
                    for (Scalar value : values.drop_front()) {
                      if (isFloat(type)) {
                        result = roundReal(
                            type, reals(result.asReal(), value.asReal()));
                        continue;
                      }
                      std::optional<Affine> next =
                          integers(result.asInteger(), value.asInteger());
                      if (!next)
                        return std::nullopt;
                      result = Scalar::integer(*next);
                    }
                    return result;
                  }));
}

/// The triangle where a linear difference of the last two indices is below or
/// at most zero.
std::optional<Symbolic> compareLinear(const Symbolic &difference,
                                      bool orEqual) {
  size_t rank = difference.getRank();
  Affine base = difference.getBase().asInteger();
  if (difference.getForm() != Symbolic::Form::Linear || rank < 2 ||
      !base.isConstant())
    return std::nullopt;
  llvm::ArrayRef<int64_t> coefficients = difference.getCoefficients();
  for (int64_t c : coefficients.drop_back(2))
    if (c != 0)
      return std::nullopt;
  int64_t i = coefficients[rank - 2], j = coefficients[rank - 1];
  // Integers: d < 0 is d <= -1.
  std::optional<Affine> bound = add(base, {orEqual ? 0 : 1, 0});
  if (!bound)
    return std::nullopt;
  int64_t b = bound->constant;
  Shape shape(difference.getShape());
  Scalar yes = Scalar::boolean(true), no = Scalar::boolean(false);
  if (b == std::numeric_limits<int64_t>::min())
    return std::nullopt;
  // b - i + j <= 0 is j <= i - b.
  if (i == -1 && j == 1)
    return Symbolic::triangle(ElementType::Bool, shape, yes, no, -b);
  // b + i - j <= 0 is not j <= i + b - 1.
  if (i == 1 && j == -1)
    return Symbolic::triangle(ElementType::Bool, shape, no, yes, b - 1);
  return std::nullopt;
}

/// `accept` gets the sign of lhs - rhs.
bool evaluateComparison(NodeContext &context, bool (*accept)(int), bool swap,
                        std::optional<bool> orEqual) {
  auto operands = getOperands(context);
  if (!operands)
    return false;
  if (orEqual) {
    const Symbolic &lhs = *(*operands)[swap], &rhs = *(*operands)[!swap];
    std::optional<Symbolic> difference = addLinear(lhs, rhs, -1);
    if (difference && !difference->getSplat())
      if (auto triangle = compareLinear(*difference, *orEqual))
        return setIfKnown(context, std::move(triangle));
  }
  bool real = isFloat(operands->front()->getType());
  return setIfKnown(
      context,
      elementwise(*operands, ElementType::Bool,
                  [&](llvm::ArrayRef<Scalar> values) -> std::optional<Scalar> {
                    if (real) {
                      double lhs = values[0].asReal(), rhs = values[1].asReal();
                      // Nothing is true of a NaN.
                      return Scalar::boolean(lhs == lhs && rhs == rhs &&
                                             accept((lhs > rhs) - (lhs < rhs)));
                    }
                    std::optional<int> sign =
                        compare(values[0].asInteger(), values[1].asInteger());
                    if (!sign)
                      return std::nullopt;
                    return Scalar::boolean(accept(*sign));
                  }));
}

bool evaluateReal(NodeContext &context, double (*function)(double)) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand || !isFloat(operand->getType()))
    return false;
  ElementType type = operand->getType();
  return setIfKnown(context, operand->map(type, [&](Scalar value) {
    return std::optional<Scalar>(roundReal(type, function(value.asReal())));
  }));
}

bool evaluateLogic(NodeContext &context, bool (*function)(bool, bool)) {
  auto operands = getOperands(context);
  if (!operands || operands->front()->getType() != ElementType::Bool)
    return false;
  return setIfKnown(
      context, elementwise(*operands, ElementType::Bool,
                           [&](llvm::ArrayRef<Scalar> values) {
                             return std::optional<Scalar>(Scalar::boolean(
                                 function(values[0].bits, values[1].bits)));
                           }));
}

std::optional<Affine> smaller(Affine lhs, Affine rhs) {
  std::optional<int> sign = compare(lhs, rhs);
  return sign ? std::optional(*sign < 0 ? lhs : rhs) : std::nullopt;
}
std::optional<Affine> larger(Affine lhs, Affine rhs) {
  std::optional<int> sign = compare(lhs, rhs);
  return sign ? std::optional(*sign > 0 ? lhs : rhs) : std::nullopt;
}

} // namespace

bool evaluateAdd(NodeContext &context) {
  if (auto operands = getOperands(context))
    if (auto sum = addLinear(*(*operands)[0], *(*operands)[1], 1))
      return setIfKnown(context, std::move(sum));
  return evaluateArithmetic(context, add,
                            [](double x, double y) { return x + y; });
}

bool evaluateSub(NodeContext &context) {
  if (auto operands = getOperands(context))
    if (auto sum = addLinear(*(*operands)[0], *(*operands)[1], -1))
      return setIfKnown(context, std::move(sum));
  return evaluateArithmetic(context, sub,
                            [](double x, double y) { return x - y; });
}

bool evaluateMul(NodeContext &context) {
  if (auto operands = getOperands(context))
    for (bool swap : {false, true})
      if (auto product = scaleLinear(*(*operands)[swap], *(*operands)[!swap]))
        return setIfKnown(context, std::move(product));
  return evaluateArithmetic(context, mul,
                            [](double x, double y) { return x * y; });
}

bool evaluateDiv(NodeContext &context) {
  return evaluateArithmetic(context, div,
                            [](double x, double y) { return x / y; });
}

bool evaluateMod(NodeContext &context) {
  bool isFmod = context.getInt("fmod", 0);
  auto operands = getOperands(context);
  if (!operands || isFloat(operands->front()->getType()))
    return false;
  return setIfKnown(
      context,
      elementwise(*operands, operands->front()->getType(),
                  [&](llvm::ArrayRef<Scalar> values) -> std::optional<Scalar> {
                    Affine lhs = values[0].asInteger();
                    Affine rhs = values[1].asInteger();
                    if (!rhs.isConstant() || rhs.constant == 0)
                      return std::nullopt;
                    if (rhs.constant == 1 || rhs.constant == -1)
                      return Scalar::integer({});
                    if (lhs.batch % rhs.constant)
                      return std::nullopt;
                    // As C for fmod, with the divisor's sign otherwise. With a
                    // batch part the sign of lhs may not be known.
                    int64_t rest = lhs.constant % rhs.constant;
                    if (lhs.batch && rest)
                      return std::nullopt;
                    if (!isFmod && rest && (rest < 0) != (rhs.constant < 0))
                      rest += rhs.constant;
                    return Scalar::integer({rest, 0});
                  }));
}

bool evaluatePow(NodeContext &context) {
  const Symbolic *base = context.getSymbolic(0);
  const Symbolic *exponent = context.getSymbolic(1);
  if (!base || !exponent || !isFloat(base->getType()))
    return false;
  ElementType type = base->getType();
  bool real = isFloat(exponent->getType());
  return setIfKnown(
      context,
      elementwise({base, exponent}, type,
                  [&](llvm::ArrayRef<Scalar> values) -> std::optional<Scalar> {
                    if (!real && values[1].batch)
                      return std::nullopt;
                    return roundReal(
                        type,
                        std::pow(values[0].asReal(),
                                 real ? values[1].asReal()
                                      : static_cast<double>(values[1].bits)));
                  }));
}

bool evaluateMin(NodeContext &context) {
  return evaluateArithmetic(context, smaller,
                            [](double x, double y) { return std::min(x, y); });
}

bool evaluateMax(NodeContext &context) {
  return evaluateArithmetic(context, larger,
                            [](double x, double y) { return std::max(x, y); });
}

bool evaluateEqual(NodeContext &context) {
  return evaluateComparison(
      context, [](int sign) { return sign == 0; }, false, std::nullopt);
}

bool evaluateLess(NodeContext &context) {
  return evaluateComparison(
      context, [](int sign) { return sign < 0; }, false, false);
}

bool evaluateLessOrEqual(NodeContext &context) {
  return evaluateComparison(
      context, [](int sign) { return sign <= 0; }, false, true);
}

bool evaluateGreater(NodeContext &context) {
  return evaluateComparison(
      context, [](int sign) { return sign > 0; }, true, false);
}

bool evaluateGreaterOrEqual(NodeContext &context) {
  return evaluateComparison(
      context, [](int sign) { return sign >= 0; }, true, true);
}

bool evaluateAnd(NodeContext &context) {
  return evaluateLogic(context, [](bool x, bool y) { return x && y; });
}

bool evaluateOr(NodeContext &context) {
  return evaluateLogic(context, [](bool x, bool y) { return x || y; });
}

bool evaluateXor(NodeContext &context) {
  return evaluateLogic(context, [](bool x, bool y) { return x != y; });
}

bool evaluateNot(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand || operand->getType() != ElementType::Bool)
    return false;
  return setIfKnown(context, operand->map(ElementType::Bool, [](Scalar value) {
    return std::optional<Scalar>(Scalar::boolean(!value.bits));
  }));
}

bool evaluateNeg(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  if (isFloat(operand->getType()))
    return evaluateReal(context, [](double x) { return -x; });
  if (auto negated =
          scaleLinear(*operand, Symbolic::scalar(operand->getType(),
                                                 Scalar::integer({-1, 0}))))
    return setIfKnown(context, std::move(negated));
  return setIfKnown(context,
                    operand->map(operand->getType(),
                                 [](Scalar value) -> std::optional<Scalar> {
                                   std::optional<Affine> negated =
                                       sub({}, value.asInteger());
                                   if (!negated)
                                     return std::nullopt;
                                   return Scalar::integer(*negated);
                                 }));
}

bool evaluateAbs(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  if (isFloat(operand->getType()))
    return evaluateReal(context, [](double x) { return std::fabs(x); });
  return setIfKnown(
      context,
      operand->map(operand->getType(),
                   [](Scalar value) -> std::optional<Scalar> {
                     std::optional<int> sign = compare(value.asInteger(), {});
                     std::optional<Affine> result =
                         sign ? mul({*sign < 0 ? -1 : 1, 0}, value.asInteger())
                              : std::nullopt;
                     if (!result)
                       return std::nullopt;
                     return Scalar::integer(*result);
                   }));
}

bool evaluateFloor(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::floor(x); });
}
bool evaluateCeil(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::ceil(x); });
}
bool evaluateSqrt(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::sqrt(x); });
}
bool evaluateReciprocal(NodeContext &context) {
  return evaluateReal(context, [](double x) { return 1.0 / x; });
}
bool evaluateExp(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::exp(x); });
}
bool evaluateLog(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::log(x); });
}
bool evaluateCos(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::cos(x); });
}
bool evaluateSin(NodeContext &context) {
  return evaluateReal(context, [](double x) { return std::sin(x); });
}

bool evaluateCast(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  std::optional<ElementType> to =
      getElementType(static_cast<int>(context.getInt("to", 0)));
  if (!operand || !to)
    return false;
  ElementType from = operand->getType();
  // Integers of all widths are kept in 64 bits: shapes fit into any of them.
  bool sameKind = isFloat(from) == isFloat(*to) && *to != ElementType::Bool;
  if (sameKind && !isFloat(from) &&
      operand->getForm() == Symbolic::Form::Linear)
    return setIfKnown(context, Symbolic::linear(*to, Shape(operand->getShape()),
                                                operand->getBase(),
                                                operand->getCoefficients()));
  return setIfKnown(
      context, operand->map(*to, [&](Scalar value) -> std::optional<Scalar> {
        if (isFloat(from) && isFloat(*to))
          return roundReal(*to, value.asReal());
        if (isFloat(from) && *to == ElementType::Bool)
          return Scalar::boolean(value.asReal() != 0);
        if (isFloat(from)) {
          double truncated = std::trunc(value.asReal());
          if (!(std::fabs(truncated) < 0x1p62))
            return std::nullopt;
          return Scalar::integer({static_cast<int64_t>(truncated), 0});
        }
        if (*to == ElementType::Bool) {
          std::optional<int> sign = compare(value.asInteger(), {});
          // Different from 0 for every B, though the sign be unknown: rare.
          if (!sign)
            return std::nullopt;
          return Scalar::boolean(*sign != 0);
        }
        if (isFloat(*to)) {
          if (value.batch)
            return std::nullopt;
          return roundReal(*to, static_cast<double>(value.bits));
        }
        return value;
      }));
}

bool evaluateWhere(NodeContext &context) {
  const Symbolic *condition = context.getSymbolic(0);
  const Symbolic *lhs = context.getSymbolic(1), *rhs = context.getSymbolic(2);
  if (!condition || !lhs || !rhs || lhs->getType() != rhs->getType())
    return false;
  return setIfKnown(context,
                    elementwise({condition, lhs, rhs}, lhs->getType(),
                                [](llvm::ArrayRef<Scalar> values) {
                                  return std::optional<Scalar>(
                                      values[0].bits ? values[1] : values[2]);
                                }));
}

} // namespace tombolo::importer
