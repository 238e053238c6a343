//===- PlanAttrs.cpp - attributes of the plan dialect -------------------
//---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace tombolo::plan;

#include "tombolo/Dialect/Plan/IR/PlanEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "tombolo/Dialect/Plan/IR/PlanAttrs.cpp.inc"

void PlanDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "tombolo/Dialect/Plan/IR/PlanAttrs.cpp.inc"
      >();
}

AffineMap StridedAttr::getAffineMap() const {
  return makeStridedLinearLayoutMap(getStrides(), 0, getContext());
}

LogicalResult
StridedAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError,
                    ArrayRef<int64_t> strides) {
  if (llvm::any_of(strides, [](int64_t stride) { return stride < 0; }))
    return emitError() << "expected strides that are not negative";
  return success();
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

ExprAttr ExprAttr::scaledBy(int64_t factor) const {
  SmallVector<Term> terms;
  if (factor != 0)
    for (Term term : getTerms()) {
      term.factor *= factor;
      terms.push_back(term);
    }
  return get(getContext(), getConstant() * factor, terms);
}

ExprAttr ExprAttr::plus(int64_t constant) const {
  return get(getContext(), getConstant() + constant, getTerms());
}

ExprAttr ExprAttr::plus(ExprAttr other) const {
  SmallVector<Term> terms(getTerms());
  for (const Term &term : other.getTerms()) {
    auto *same = llvm::find_if(terms, [&](const Term &mine) {
      return mine.variable == term.variable && mine.offset == term.offset &&
             mine.modulus == term.modulus;
    });
    if (same != terms.end())
      same->factor += term.factor;
    else
      terms.push_back(term);
  }
  llvm::erase_if(terms, [](const Term &term) { return term.factor == 0; });
  return get(getContext(), getConstant() + other.getConstant(), terms);
}

FailureOr<ExprAttr> ExprAttr::mod(uint64_t modulus) const {
  int64_t constant = getConstant();
  if (modulus == 0)
    return failure();
  if (modulus == 1)
    return get(getContext(), 0);
  if (isConstant()) {
    if (constant < 0)
      return failure();
    return get(getContext(), constant % static_cast<int64_t>(modulus));
  }
  if (getTerms().size() != 1)
    return failure();
  Term term = getTerms().front();
  if (term.factor != 1 || term.modulus != 0)
    return failure();
  term.offset += constant;
  term.modulus = modulus;
  return get(getContext(), 0, {term});
}

int64_t ExprAttr::evaluate(ArrayRef<int64_t> values) const {
  int64_t sum = getConstant();
  for (const Term &term : getTerms()) {
    int64_t value = values[term.variable] + term.offset;
    if (term.modulus != 0)
      value %= static_cast<int64_t>(term.modulus);
    sum += term.factor * value;
  }
  return sum;
}

/// term := integer | [integer `*`] atom
/// atom := vN | `(` vN [`+` integer] [`mod` integer] `)`
static ParseResult parseVariable(AsmParser &parser, int64_t &variable) {
  StringRef keyword;
  if (parser.parseKeyword(&keyword))
    return failure();
  if (!keyword.consume_front("v") || keyword.getAsInteger(10, variable) ||
      variable < 0)
    return parser.emitError(parser.getCurrentLocation(),
                            "expected a loop variable such as v0");
  return success();
}

static ParseResult parseAtom(AsmParser &parser, Term &term) {
  if (failed(parser.parseOptionalLParen()))
    return parseVariable(parser, term.variable);
  if (parseVariable(parser, term.variable))
    return failure();
  if (succeeded(parser.parseOptionalPlus()) && parser.parseInteger(term.offset))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("mod"))) {
    int64_t modulus;
    auto loc = parser.getCurrentLocation();
    if (parser.parseInteger(modulus))
      return failure();
    if (modulus <= 0)
      return parser.emitError(loc, "expected a positive modulus");
    term.modulus = modulus;
  }
  return parser.parseRParen();
}

static FailureOr<ExprAttr> parseExpr(AsmParser &parser) {
  int64_t constant = 0;
  SmallVector<Term> terms;
  do {
    int64_t number = 1;
    OptionalParseResult integer = parser.parseOptionalInteger(number);
    if (integer.has_value()) {
      if (failed(*integer))
        return failure();
      if (failed(parser.parseOptionalStar())) {
        constant += number;
        continue;
      }
    }
    Term term;
    term.factor = number;
    if (parseAtom(parser, term))
      return failure();
    terms.push_back(term);
  } while (succeeded(parser.parseOptionalPlus()));
  return ExprAttr::get(parser.getContext(), constant, terms);
}

static void printExpr(AsmPrinter &printer, ExprAttr expr) {
  bool first = true;
  if (expr.getConstant() != 0 || expr.isConstant()) {
    printer << expr.getConstant();
    first = false;
  }
  for (const Term &term : expr.getTerms()) {
    if (!first)
      printer << " + ";
    first = false;
    if (term.factor != 1)
      printer << term.factor << " * ";
    bool bare = term.offset == 0 && term.modulus == 0;
    printer << (bare ? "v" : "(v") << term.variable;
    if (term.offset != 0)
      printer << " + " << term.offset;
    if (term.modulus != 0)
      printer << " mod " << term.modulus;
    if (!bare)
      printer << ")";
  }
}

Attribute ExprAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess())
    return {};
  FailureOr<ExprAttr> expr = parseExpr(parser);
  if (failed(expr) || parser.parseGreater())
    return {};
  return *expr;
}

void ExprAttr::print(AsmPrinter &printer) const {
  printer << "<";
  printExpr(printer, *this);
  printer << ">";
}

//===----------------------------------------------------------------------===//
// Addresses and waits
//===----------------------------------------------------------------------===//

Attribute AddressAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess())
    return {};
  StringAttr name;
  FlatSymbolRefAttr buffer;
  ExprAttr slot;
  ExprAttr offset = ExprAttr::get(parser.getContext());
  bool hasOffset = true;
  if (succeeded(parser.parseOptionalSymbolName(name))) {
    buffer = FlatSymbolRefAttr::get(name);
    if (parser.parseLSquare())
      return {};
    FailureOr<ExprAttr> expr = parseExpr(parser);
    if (failed(expr) || parser.parseRSquare())
      return {};
    slot = *expr;
    hasOffset = succeeded(parser.parseOptionalPlus());
  }
  if (hasOffset) {
    FailureOr<ExprAttr> expr = parseExpr(parser);
    if (failed(expr))
      return {};
    offset = *expr;
  }
  if (parser.parseGreater())
    return {};
  return get(parser.getContext(), buffer, slot, offset);
}

void AddressAttr::print(AsmPrinter &printer) const {
  printer << "<";
  bool zero = getOffset().isConstant() && getOffset().getConstant() == 0;
  if (getBuffer()) {
    printer << getBuffer() << "[";
    printExpr(printer, getSlot());
    printer << "]";
    if (!zero)
      printer << " + ";
  }
  if (!getBuffer() || !zero)
    printExpr(printer, getOffset());
  printer << ">";
}

Attribute WaitAttr::parse(AsmParser &parser, Type) {
  StringAttr name;
  if (parser.parseLess() || parser.parseSymbolName(name) ||
      parser.parseKeyword("at"))
    return {};
  FailureOr<ExprAttr> expr = parseExpr(parser);
  if (failed(expr) || parser.parseGreater())
    return {};
  return get(parser.getContext(), FlatSymbolRefAttr::get(name), *expr);
}

void WaitAttr::print(AsmPrinter &printer) const {
  printer << "<" << getSemaphore() << " at ";
  printExpr(printer, getValue());
  printer << ">";
}

LogicalResult GuardAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                uint64_t modulus, uint64_t remainder) {
  if (modulus == 0 || remainder >= modulus)
    return emitError() << "expected a remainder below the modulus, got "
                       << remainder << " mod " << modulus;
  return success();
}
