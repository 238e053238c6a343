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

LogicalResult ExprAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                               int64_t, ArrayRef<Term>, uint64_t divisor) {
  if (divisor == 0)
    return emitError() << "expected a positive divisor";
  return success();
}

ExprAttr ExprAttr::scaledBy(int64_t factor) const {
  assert(getDivisor() == 1 && "a quotient cannot be scaled");
  SmallVector<Term> terms;
  if (factor != 0)
    for (Term term : getTerms()) {
      term.factor *= factor;
      terms.push_back(term);
    }
  return get(getContext(), getConstant() * factor, terms);
}

ExprAttr ExprAttr::plus(int64_t constant) const {
  return get(getContext(),
             getConstant() + constant * static_cast<int64_t>(getDivisor()),
             getTerms(), getDivisor());
}

ExprAttr ExprAttr::plus(ExprAttr other) const {
  if (getDivisor() != other.getDivisor()) {
    if (getDivisor() == 1)
      return other.plus(*this);
    other = other.scaledBy(static_cast<int64_t>(getDivisor()));
  }
  SmallVector<Term> terms(getTerms());
  for (const Term &term : other.getTerms()) {
    auto *same = llvm::find_if(terms, [&](const Term &mine) {
      return mine.variable == term.variable && mine.offset == term.offset &&
             mine.modulus == term.modulus && mine.coordinate == term.coordinate;
    });
    if (same != terms.end())
      same->factor += term.factor;
    else
      terms.push_back(term);
  }
  llvm::erase_if(terms, [](const Term &term) { return term.factor == 0; });
  return get(getContext(), getConstant() + other.getConstant(), terms,
             getDivisor());
}

FailureOr<ExprAttr> ExprAttr::mod(uint64_t modulus) const {
  int64_t constant = getConstant();
  if (modulus == 0 || getDivisor() != 1)
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

static constexpr StringLiteral kTensorIndex = "tensor_index";
static constexpr StringLiteral kReplica = "replica";

/// sum := term {`+` term} [`floordiv` integer]
/// term := integer | [integer `*`] atom
/// atom := name | `(` name [`+` integer] [`mod` integer] `)`
/// name := vN | `tensor_index` | `replica`
static ParseResult parseVariable(AsmParser &parser, Term &term) {
  StringRef keyword;
  if (parser.parseKeyword(&keyword))
    return failure();
  if (keyword == kTensorIndex)
    term.coordinate = Coordinate::TensorIndex;
  else if (keyword == kReplica)
    term.coordinate = Coordinate::Replica;
  else if (!keyword.consume_front("v") ||
           keyword.getAsInteger(10, term.variable) || term.variable < 0)
    return parser.emitError(parser.getCurrentLocation(),
                            "expected a loop variable such as v0");
  return success();
}

static ParseResult parseAtom(AsmParser &parser, Term &term) {
  if (failed(parser.parseOptionalLParen()))
    return parseVariable(parser, term);
  if (parseVariable(parser, term))
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
  uint64_t divisor = 1;
  if (succeeded(parser.parseOptionalKeyword("floordiv")) &&
      parser.parseInteger(divisor))
    return failure();
  return parser.getChecked<ExprAttr>(parser.getContext(), constant,
                                     ArrayRef<Term>(terms), divisor);
}

static void printExpr(AsmPrinter &printer, ExprAttr expr) {
  bool first = true;
  if (expr.getConstant() != 0 || expr.getTerms().empty()) {
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
    if (!bare)
      printer << "(";
    if (term.coordinate == Coordinate::TensorIndex)
      printer << kTensorIndex;
    else if (term.coordinate == Coordinate::Replica)
      printer << kReplica;
    else
      printer << "v" << term.variable;
    if (term.offset != 0)
      printer << " + " << term.offset;
    if (term.modulus != 0)
      printer << " mod " << term.modulus;
    if (!bare)
      printer << ")";
  }
  if (expr.getDivisor() != 1)
    printer << " floordiv " << expr.getDivisor();
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

//===----------------------------------------------------------------------===//
// Figures and ranges
//===----------------------------------------------------------------------===//

/// Their words, in the order in which they are written.
static const std::pair<StringRef, double WorkFigures::*> kWorkFigures[] = {
    {"flops", &WorkFigures::flops},
    {"bytes", &WorkFigures::bytes},
    {"streamed", &WorkFigures::streamed},
    {"scores", &WorkFigures::scores},
    {"ops", &WorkFigures::ops}};

Attribute WorkAttr::parse(AsmParser &parser, Type) {
  WorkFigures figures;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess())
    return {};
  for (auto [i, word] : llvm::enumerate(kWorkFigures)) {
    llvm::APFloat figure(0.0);
    if ((i > 0 && parser.parseComma()) || parser.parseKeyword(word.first) ||
        parser.parseFloat(figure.getSemantics(), figure))
      return {};
    figures.*word.second = figure.convertToDouble();
  }
  if (parser.parseGreater())
    return {};
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(),
                    figures);
}

void WorkAttr::print(AsmPrinter &printer) const {
  WorkFigures figures = getFigures();
  printer << '<';
  llvm::interleaveComma(kWorkFigures, printer, [&](auto &word) {
    printer << word.first << ' ';
    printer.printFloat(llvm::APFloat(figures.*word.second));
  });
  printer << '>';
}

LogicalResult WorkAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                               WorkFigures figures) {
  for (auto [word, member] : kWorkFigures)
    if (!std::isfinite(figures.*member) || figures.*member < 0)
      return emitError() << "expected " << word
                         << " as a finite figure of at least 0, got "
                         << figures.*member;
  return success();
}

LogicalResult GuardAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                uint64_t modulus, uint64_t remainder) {
  if (modulus == 0 || remainder >= modulus)
    return emitError() << "expected a remainder below the modulus, got "
                       << remainder << " mod " << modulus;
  return success();
}

LogicalResult SliceAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t begin, int64_t length, int64_t count,
                                int64_t stride, int64_t tensorStride) {
  if (begin < 0 || length <= 0 || count <= 0 || tensorStride < 0 ||
      (count > 1 && stride < length))
    return emitError() << "expected runs that are not empty and do not "
                          "overlap, got "
                       << length << " by " << count << ", " << stride
                       << " apart";
  return success();
}
