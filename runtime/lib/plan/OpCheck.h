//===- OpCheck.h - one op under check ---------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_PLAN_OPCHECK_H
#define TOMBOLO_RUNTIME_LIB_PLAN_OPCHECK_H

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <vector>

namespace tombolo::runtime::detail {

using namespace plan::v1;

using Dims = std::vector<std::uint64_t>;

inline std::string text(const Dims &dims) {
  std::string out = "[";
  for (std::size_t i = 0; i < dims.size(); ++i)
    out += (i ? ", " : "") + std::to_string(dims[i]);
  return out + "]";
}

/// One op under check: operands by position, and the tests rules are made of.
class OpCheck {
public:
  OpCheck(const Segment &segment, const Op &op, const std::string &place)
      : segment(segment), op(op), place(place) {}

  template <typename... Parts>
  [[noreturn]] void fail(const Parts &...parts) const {
    throw Error(place, ": ", opcodeName(op.opcode()), ": ", parts...);
  }

  int ins() const { return op.inputs_size(); }
  int outs() const { return op.outputs_size(); }
  const Value &in(int i) const {
    return segment.values(static_cast<int>(op.inputs(i)));
  }
  const Value &out(int i) const {
    return segment.values(static_cast<int>(op.outputs(i)));
  }
  static Dims dims(const Value &value) {
    return Dims(value.dims().begin(), value.dims().end());
  }
  static std::uint64_t count(const Dims &dims) {
    std::uint64_t n = 1;
    for (std::uint64_t dim : dims)
      n *= dim; // bounded: the value's bytes have been checked
    return n;
  }

  void arity(int minIn, int maxIn, int minOut, int maxOut) const {
    if (ins() < minIn || ins() > maxIn)
      fail("expected ", range(minIn, maxIn), " inputs, got ", ins());
    if (outs() < minOut || outs() > maxOut)
      fail("expected ", range(minOut, maxOut), " outputs, got ", outs());
  }
  void arity(int in, int out) const { arity(in, in, out, out); }

  void type(const char *what, const Value &value,
            std::initializer_list<DType> allowed) const {
    for (DType dtype : allowed)
      if (value.dtype() == dtype)
        return;
    std::string names;
    for (DType dtype : allowed)
      names += (names.empty() ? "" : " or ") + std::string(dtypeName(dtype));
    fail(what, ": expected ", names, ", got ", dtypeName(value.dtype()));
  }
  void real(const char *what, const Value &value) const {
    type(what, value, {DTYPE_F32, DTYPE_BF16});
  }
  void index(const char *what, const Value &value) const {
    type(what, value, {DTYPE_I64, DTYPE_I32});
  }
  void sameType(const Value &a, const Value &b) const {
    if (a.dtype() != b.dtype())
      fail("expected equal dtypes, got ", dtypeName(a.dtype()), " and ",
           dtypeName(b.dtype()));
  }
  void shape(const char *what, const Value &value, const Dims &expected) const {
    if (dims(value) != expected)
      fail(what, ": expected shape ", text(expected), ", got ",
           text(dims(value)));
  }
  void single(const char *what, const Value &value, DType dtype) const {
    type(what, value, {dtype});
    if (count(dims(value)) != 1)
      fail(what, ": expected one element, got shape ", text(dims(value)));
  }
  void rank(const char *what, const Value &value, std::size_t least) const {
    if (dims(value).size() < least)
      fail(what, ": expected at least ", least, " dimensions, got shape ",
           text(dims(value)));
  }

  Dims broadcast(const Dims &a, const Dims &b) const {
    Dims out(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
      std::uint64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
      if (x != y && x != 1 && y != 1)
        fail("shapes ", text(a), " and ", text(b), " do not broadcast");
      out[out.size() - 1 - i] = x == 1 ? y : x;
    }
    return out;
  }

  // Attributes. What is read is remembered, so that what is left is unknown.
  const Attribute *find(const char *name) {
    known.push_back(name);
    for (const Attribute &attribute : op.attributes())
      if (attribute.name() == name)
        return &attribute;
    return nullptr;
  }
  const Attribute &need(const char *name, Attribute::ValueCase kind,
                        const char *kindName) {
    const Attribute *attribute = find(name);
    if (!attribute)
      fail("attribute '", name, "' is missing");
    if (attribute->value_case() != kind)
      fail("attribute '", name, "': expected ", kindName);
    return *attribute;
  }
  std::int64_t integer(const char *name) {
    return need(name, Attribute::kInteger, "an integer").integer();
  }
  double number(const char *name) {
    double value = need(name, Attribute::kReal, "a real number").real();
    if (!std::isfinite(value))
      fail("attribute '", name, "': expected a finite number");
    return value;
  }
  bool flag(const char *name) {
    const Attribute *attribute = find(name);
    if (attribute && attribute->value_case() != Attribute::kFlag)
      fail("attribute '", name, "': expected a flag");
    return attribute && attribute->flag();
  }
  std::vector<std::int64_t> integers(const char *name) {
    const Integers &list =
        need(name, Attribute::kIntegers, "a list of integers").integers();
    return {list.values().begin(), list.values().end()};
  }
  std::uint64_t axis(std::size_t rank) {
    std::int64_t value = integer("axis");
    if (value < 0 || value >= static_cast<std::int64_t>(rank))
      fail("attribute 'axis': expected 0 to ", rank, " (exclusive), got ",
           value);
    return static_cast<std::uint64_t>(value);
  }
  void approximate() {
    const std::string &value =
        need("approximate", Attribute::kText, "a text").text();
    if (value != "none" && value != "tanh")
      fail("attribute 'approximate': expected 'none' or 'tanh', got '", value,
           "'");
  }
  void finish() {
    for (int i = 0; i < op.attributes_size(); ++i) {
      const std::string &name = op.attributes(i).name();
      if (std::find(known.begin(), known.end(), name) == known.end())
        fail("unknown attribute '", name, "'");
      for (int k = 0; k < i; ++k)
        if (op.attributes(k).name() == name)
          fail("attribute '", name, "' stands twice");
    }
  }

private:
  static std::string range(int low, int high) {
    return low == high ? std::to_string(low)
                       : std::to_string(low) + " to " + std::to_string(high);
  }
  const Segment &segment;
  const Op &op;
  const std::string &place;
  std::vector<std::string> known;
};

// Ops on windows over space (CheckConv.cpp).
void checkConv(OpCheck &c);
void checkConvBackwardInput(OpCheck &c);
void checkConvBackwardWeight(OpCheck &c);
void checkPool(OpCheck &c);
void checkPoolBackward(OpCheck &c);
void checkBatchNorm(OpCheck &c);
void checkBatchNormBackward(OpCheck &c);
void checkLogSoftmax(OpCheck &c);

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_PLAN_OPCHECK_H
