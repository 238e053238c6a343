//===- BuildEinsum.cpp - building sums of products ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Operands are multiplied from left to right. Of two, letters that both have
// and something behind needs are the batch of a matrix product, letters that
// both have and nothing behind needs are summed by it, and the letters of one
// alone are its rows and its columns.
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include "llvm/ADT/StringExtras.h"

#include <map>

using namespace mlir;

namespace tombolo::importer {

namespace {

/// One letter for each dimension; those of an ellipsis are digits, counted from
/// the last.
using Letters = std::string;

/// A value and what its dimensions are called.
struct Term {
  Value value;
  Letters letters;
};

bool has(StringRef letters, char letter) { return letters.contains(letter); }

class Einsum {
public:
  explicit Einsum(NodeContext &context) : context(context) {}

  LogicalResult build();

private:
  FailureOr<Letters> expand(StringRef subscripts, size_t ellipsis);
  FailureOr<Term> sumOut(Term term, StringRef needed);
  FailureOr<Term> multiply(const Term &lhs, const Term &rhs, StringRef needed);
  Value arrange(const Term &term, ArrayRef<StringRef> groups, bool keepFirst);
  Affine sizeOf(char letter) const { return sizes.at(letter); }
  Shape shapeOf(StringRef letters) const {
    Shape shape;
    for (char letter : letters)
      shape.push_back(sizeOf(letter));
    return shape;
  }

  NodeContext &context;
  std::map<char, Affine> sizes;
};

/// Replaces "..." by `ellipsis` digits.
FailureOr<Letters> Einsum::expand(StringRef subscripts, size_t ellipsis) {
  Letters letters;
  size_t dots = subscripts.find("...");
  for (size_t i = 0; i < subscripts.size(); ++i) {
    if (i == dots) {
      for (size_t j = 0; j < ellipsis; ++j)
        letters += static_cast<char>('0' + (ellipsis - 1 - j));
      i += 2;
    } else if (llvm::isAlpha(subscripts[i])) {
      if (has(letters, subscripts[i]))
        return context.emitError() << "repeats the letter '" << subscripts[i]
                                   << "' in one operand, which is not there "
                                      "yet";
      letters += subscripts[i];
    } else {
      return context.emitError()
             << "has unusable subscripts '" << subscripts << "'";
    }
  }
  return letters;
}

/// Without the letters that nothing needs.
FailureOr<Term> Einsum::sumOut(Term term, StringRef needed) {
  SmallVector<int64_t> axes;
  Letters kept;
  for (auto [i, letter] : llvm::enumerate(term.letters)) {
    if (has(needed, letter))
      kept += letter;
    else
      axes.push_back(i);
  }
  if (axes.empty())
    return term;
  Builder &builder = context.getBuilder();
  Value sum = context.make<graph::ReduceSumOp>(term.value, [&](auto &to) {
    to.axes = builder.getDenseI64ArrayAttr(axes);
    to.keep_dims = builder.getBoolAttr(false);
  });
  if (!sum)
    return failure();
  return Term{sum, kept};
}

/// The value with its letters in the order of `groups`, each group one
/// dimension but the first, whose letters stay apart.
Value Einsum::arrange(const Term &term, ArrayRef<StringRef> groups,
                      bool keepFirst) {
  SmallVector<int64_t> permutation;
  Shape shape;
  for (auto [i, group] : llvm::enumerate(groups)) {
    std::optional<Affine> length = Affine{1, 0};
    for (char letter : group) {
      permutation.push_back(StringRef(term.letters).find(letter));
      if (i == 0 && keepFirst)
        shape.push_back(sizeOf(letter));
      else if (length)
        length = mul(*length, sizeOf(letter));
    }
    if (!length) {
      context.emitError() << "multiplies the batch by itself";
      return {};
    }
    if (i != 0 || !keepFirst)
      shape.push_back(*length);
  }
  Value value = context.makeTranspose(term.value, permutation);
  return value ? context.makeReshape(value, shape) : Value();
}

FailureOr<Term> Einsum::multiply(const Term &lhs, const Term &rhs,
                                 StringRef needed) {
  Letters batch, summed, rows, columns;
  for (char letter : lhs.letters) {
    bool both = has(rhs.letters, letter);
    (both ? (has(needed, letter) ? batch : summed) : rows) += letter;
  }
  for (char letter : rhs.letters)
    if (!has(lhs.letters, letter))
      columns += letter;
  Value left = arrange(lhs, {batch, rows, summed}, /*keepFirst=*/true);
  Value right = arrange(rhs, {batch, summed, columns}, /*keepFirst=*/true);
  if (!left || !right)
    return failure();
  Value product = context.makeMatmul(left, right, {}, false, false);
  Letters letters = batch + rows + columns;
  product = product ? context.makeReshape(product, shapeOf(letters)) : Value();
  if (!product)
    return failure();
  return Term{product, letters};
}

LogicalResult Einsum::build() {
  std::string equation = context.getString("equation", "");
  llvm::erase(equation, ' ');
  auto [left, right] = StringRef(equation).split("->");
  bool hasResult = StringRef(equation).contains("->");
  SmallVector<StringRef> subscripts;
  left.split(subscripts, ',');
  if (subscripts.size() != context.getNumOperands())
    return context.emitError() << "has subscripts for " << subscripts.size()
                               << " operands, got " << context.getNumOperands();
  std::vector<Term> terms;
  size_t mostDots = 0;
  Letters all;
  for (auto [i, text] : llvm::enumerate(subscripts)) {
    Value value = context.hasOperand(i) ? context.getValue(i) : Value();
    if (!value || failed(context.requireFloat(value)))
      return context.hasOperand(i)
                 ? failure()
                 : LogicalResult(context.emitError() << "lacks an operand");
    Shape shape = context.getOperandShape(i);
    bool dots = text.contains("...");
    size_t named = text.size() - (dots ? 3 : 0);
    if (dots ? named > shape.size() : named != shape.size())
      return context.emitError()
             << "subscripts '" << text << "' do not fit " << value.getType();
    size_t ellipsis = shape.size() - named;
    if (ellipsis > 9)
      return context.emitError() << "has more than 9 dimensions for dots";
    mostDots = std::max(mostDots, ellipsis);
    FailureOr<Letters> letters = expand(text, ellipsis);
    if (failed(letters))
      return failure();
    for (auto [letter, size] : llvm::zip(*letters, shape)) {
      auto [at, isNew] = sizes.try_emplace(letter, size);
      if (!(at->second == size))
        return context.emitError()
               << "letter '" << letter << "' has sizes "
               << toString({at->second}) << " and " << toString({size});
    }
    all += *letters;
    terms.push_back({value, *letters});
  }
  Letters result;
  if (hasResult) {
    FailureOr<Letters> letters = expand(right, mostDots);
    if (failed(letters))
      return failure();
    result = *letters;
  } else {
    // The dots, then the letters that occur once, in the alphabet's order.
    for (auto &[letter, size] : sizes)
      if (llvm::isDigit(letter))
        result.insert(result.begin(), letter);
    for (auto &[letter, size] : sizes)
      if (llvm::isAlpha(letter) && llvm::count(all, letter) == 1)
        result += letter;
  }
  for (char letter : result)
    if (!sizes.count(letter))
      return context.emitError()
             << "the result's letter '" << letter << "' is of no operand";
  Term product;
  for (auto [i, term] : llvm::enumerate(terms)) {
    Letters needed = result;
    for (const Term &later : ArrayRef(terms).drop_front(i + 1))
      needed += later.letters;
    FailureOr<Term> own =
        sumOut(term, needed + (i ? product.letters : Letters()));
    if (failed(own))
      return failure();
    FailureOr<Term> next = *own;
    if (i)
      next = multiply(product, *own, needed);
    if (failed(next))
      return failure();
    FailureOr<Term> rest = sumOut(*next, needed);
    if (failed(rest))
      return failure();
    product = *rest;
  }
  SmallVector<int64_t> permutation;
  for (char letter : result)
    permutation.push_back(StringRef(product.letters).find(letter));
  return context.setResult(0,
                           context.makeTranspose(product.value, permutation));
}

} // namespace

LogicalResult buildEinsum(NodeContext &context) {
  return Einsum(context).build();
}

} // namespace tombolo::importer
