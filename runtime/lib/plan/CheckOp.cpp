//===- CheckOp.cpp - one segment op against docs/PlanFormat.md ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCheck.h"
#include "ValidateParts.h"
#include "Views.h"

#include <algorithm>
#include <cctype>
#include <map>

namespace tombolo::runtime {

using namespace plan::v1;
using namespace detail;

std::uint64_t elementBytes(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
  case DTYPE_I32:
    return 4;
  case DTYPE_BF16:
    return 2;
  case DTYPE_I64:
    return 8;
  case DTYPE_BOOL:
    return 1;
  default:
    return 0;
  }
}

const char *dtypeName(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
    return "f32";
  case DTYPE_BF16:
    return "bf16";
  case DTYPE_I32:
    return "i32";
  case DTYPE_I64:
    return "i64";
  case DTYPE_BOOL:
    return "bool";
  default:
    return "unknown";
  }
}

std::string opcodeName(Opcode opcode) {
  if (!Opcode_IsValid(opcode) || opcode == OPCODE_UNSPECIFIED)
    return "";
  std::string name = Opcode_Name(opcode).substr(sizeof("OPCODE_") - 1);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return name;
}

namespace {

constexpr int kMany = 1 << 16;

void checkCopy(OpCheck &c) {
  c.arity(1, 1);
  c.sameType(c.in(0), c.out(0));
  c.shape("output", c.out(0), c.dims(c.in(0)));
}

void checkConcat(OpCheck &c) {
  c.arity(1, kMany, 1, 1);
  Dims expected = c.dims(c.in(0));
  std::uint64_t axis = c.axis(expected.size());
  for (int i = 1; i < c.ins(); ++i) {
    c.sameType(c.in(0), c.in(i));
    Dims next = c.dims(c.in(i));
    if (next.size() != expected.size())
      c.fail("input ", i, ": expected ", expected.size(),
             " dimensions, got shape ", text(next));
    std::uint64_t sum = expected[axis] + next[axis];
    next[axis] = expected[axis];
    if (next != expected)
      c.fail("input ", i, ": shape differs from the first's outside axis ",
             axis);
    expected[axis] = sum;
  }
  c.sameType(c.in(0), c.out(0));
  c.shape("output", c.out(0), expected);
}

Dims gathered(OpCheck &c, const Dims &table, const Value &indices) {
  std::uint64_t axis = c.axis(table.size());
  Dims index = c.dims(indices);
  Dims out(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(axis));
  out.insert(out.end(), index.begin(), index.end());
  out.insert(out.end(), table.begin() + static_cast<std::ptrdiff_t>(axis) + 1,
             table.end());
  return out;
}

/// The optional operand `index` at position `at`: which of `count` equal parts
/// of a split axis is here. Both stand together.
void checkShardIndex(OpCheck &c, int at) {
  if (c.ins() <= at) {
    if (c.find("count"))
      c.fail("attribute 'count' needs an operand 'index'");
    return;
  }
  c.single("index", c.in(at), DTYPE_I64);
  std::int64_t count = c.integer("count");
  if (count < 1 || count > static_cast<std::int64_t>(kMaxRanks))
    c.fail("attribute 'count': expected 1 to ", kMaxRanks, ", got ", count);
}

void checkShard(OpCheck &c) {
  c.arity(2, 1);
  c.rank("x", c.in(0), 1);
  c.single("index", c.in(1), DTYPE_I64);
  c.sameType(c.in(0), c.out(0));
  Dims y = c.dims(c.in(0));
  y.erase(y.begin());
  c.shape("output", c.out(0), y);
}

void checkGather(OpCheck &c) {
  c.arity(2, 3, 1, 1);
  checkShardIndex(c, 2);
  c.index("indices", c.in(1));
  c.sameType(c.in(0), c.out(0));
  c.shape("output", c.out(0), gathered(c, c.dims(c.in(0)), c.in(1)));
}

void checkGatherBackward(OpCheck &c) {
  c.arity(2, 3, 1, 1);
  checkShardIndex(c, 2);
  c.index("indices", c.in(1));
  c.real("dy", c.in(0));
  c.real("dtable", c.out(0));
  c.shape("dy", c.in(0), gathered(c, c.dims(c.out(0)), c.in(1)));
}

void checkCast(OpCheck &c) {
  c.arity(1, 1);
  c.shape("output", c.out(0), c.dims(c.in(0)));
}

void checkFill(OpCheck &c) {
  c.arity(0, 1);
  // Infinities are wanted here (a mask), NaN never is.
  if (std::isnan(c.need("value", Attribute::kReal, "a real number").real()))
    c.fail("attribute 'value' is not a number");
}

void checkPad(OpCheck &c) {
  c.arity(1, 1);
  c.sameType(c.in(0), c.out(0));
  Dims x = c.dims(c.in(0)), y = c.dims(c.out(0));
  std::vector<std::int64_t> low = c.integers("low");
  if (x.size() != y.size() || low.size() != y.size())
    c.fail("input ", text(x), ", output ", text(y), " and ", low.size(),
           " offsets 'low' differ in rank");
  for (std::size_t i = 0; i < low.size(); ++i)
    if (low[i] < 0 || x[i] > y[i] ||
        static_cast<std::uint64_t>(low[i]) > y[i] - x[i])
      c.fail("dimension ", i, ": input at offset ", low[i],
             " does not fit the output");
}

void checkBinary(OpCheck &c) {
  c.arity(2, 1);
  c.real("x", c.in(0));
  c.real("y", c.in(1));
  c.real("output", c.out(0));
  c.shape("output", c.out(0), c.broadcast(c.dims(c.in(0)), c.dims(c.in(1))));
}

void checkUnary(OpCheck &c) {
  c.arity(1, 1);
  c.real("x", c.in(0));
  c.real("output", c.out(0));
  c.shape("output", c.out(0), c.dims(c.in(0)));
}

void checkGelu(OpCheck &c) {
  checkUnary(c);
  c.approximate();
}

/// Two inputs and an output of one shape.
void checkPair(OpCheck &c) {
  c.arity(2, 1);
  for (int i = 0; i < 2; ++i)
    c.real(i ? "second input" : "first input", c.in(i));
  c.real("output", c.out(0));
  c.shape("second input", c.in(1), c.dims(c.in(0)));
  c.shape("output", c.out(0), c.dims(c.in(0)));
}

void checkGeluBackward(OpCheck &c) {
  checkPair(c);
  c.approximate();
}

void checkWhere(OpCheck &c) {
  c.arity(3, 1);
  c.type("condition", c.in(0), {DTYPE_BOOL});
  c.sameType(c.in(1), c.in(2));
  c.sameType(c.in(1), c.out(0));
  c.shape("output", c.out(0),
          c.broadcast(c.dims(c.in(0)),
                      c.broadcast(c.dims(c.in(1)), c.dims(c.in(2)))));
}

void checkCompare(OpCheck &c) {
  c.arity(2, 1);
  c.sameType(c.in(0), c.in(1));
  c.type("output", c.out(0), {DTYPE_BOOL});
  c.shape("output", c.out(0), c.broadcast(c.dims(c.in(0)), c.dims(c.in(1))));
}

void checkReduce(OpCheck &c) {
  c.arity(1, 1);
  c.real("x", c.in(0));
  c.real("output", c.out(0));
  Dims x = c.dims(c.in(0)), y;
  std::vector<std::int64_t> axes = c.integers("axes");
  bool keep = c.flag("keep_dims");
  std::int64_t before = -1;
  for (std::int64_t axis : axes) {
    if (axis <= before || axis >= static_cast<std::int64_t>(x.size()))
      c.fail("attribute 'axes': expected ascending numbers from 0 to ",
             x.size(), " (exclusive), got ", axis);
    before = axis;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    bool reduced = std::find(axes.begin(), axes.end(),
                             static_cast<std::int64_t>(i)) != axes.end();
    if (!reduced)
      y.push_back(x[i]);
    else if (keep)
      y.push_back(1);
  }
  c.shape("output", c.out(0), y);
}

void checkSoftmax(OpCheck &c) {
  checkUnary(c);
  c.rank("x", c.in(0), 1);
}

void checkSoftmaxBackward(OpCheck &c) {
  checkPair(c);
  c.rank("dy", c.in(0), 1);
}

void checkStatistics(OpCheck &c, const Value &mean, const Value &rstd,
                     Dims of) {
  of.pop_back();
  c.type("mean", mean, {DTYPE_F32});
  c.type("rstd", rstd, {DTYPE_F32});
  c.shape("mean", mean, of);
  c.shape("rstd", rstd, of);
}

void checkLayerNorm(OpCheck &c) {
  c.arity(3, 3);
  for (int i = 0; i < 3; ++i)
    c.real("input", c.in(i));
  c.rank("x", c.in(0), 1);
  Dims x = c.dims(c.in(0));
  c.shape("gamma", c.in(1), {x.back()});
  c.shape("beta", c.in(2), {x.back()});
  c.real("y", c.out(0));
  c.shape("y", c.out(0), x);
  checkStatistics(c, c.out(1), c.out(2), x);
  if (c.number("epsilon") < 0)
    c.fail("attribute 'epsilon': expected a number not below 0");
}

void checkLayerNormBackwardInput(OpCheck &c) {
  c.arity(5, 1);
  for (int i = 0; i < 3; ++i)
    c.real("input", c.in(i));
  c.rank("dy", c.in(0), 1);
  Dims x = c.dims(c.in(0));
  c.shape("x", c.in(1), x);
  c.shape("gamma", c.in(2), {x.back()});
  checkStatistics(c, c.in(3), c.in(4), x);
  c.real("dx", c.out(0));
  c.shape("dx", c.out(0), x);
}

void checkLayerNormBackwardWeight(OpCheck &c) {
  c.arity(4, 2);
  c.real("dy", c.in(0));
  c.real("x", c.in(1));
  c.rank("dy", c.in(0), 1);
  Dims x = c.dims(c.in(0));
  c.shape("x", c.in(1), x);
  checkStatistics(c, c.in(2), c.in(3), x);
  for (int i = 0; i < 2; ++i) {
    c.real(i ? "dbeta" : "dgamma", c.out(i));
    c.shape(i ? "dbeta" : "dgamma", c.out(i), {x.back()});
  }
}

/// The optional weights of the labels at position `at`.
void checkTokenWeights(OpCheck &c, int at, const Dims &rows) {
  c.type("token_weights", c.in(at), {DTYPE_F32});
  c.shape("token_weights", c.in(at), rows);
}

void checkCrossEntropy(OpCheck &c) {
  c.arity(2, 3, 3, 3);
  c.real("logits", c.in(0));
  c.rank("logits", c.in(0), 1);
  Dims rows = c.dims(c.in(0));
  rows.pop_back();
  c.type("labels", c.in(1), {DTYPE_I64});
  c.shape("labels", c.in(1), rows);
  c.single("loss", c.out(0), DTYPE_F32);
  c.single("weights", c.out(1), DTYPE_F32);
  c.type("lse", c.out(2), {DTYPE_F32});
  c.shape("lse", c.out(2), rows);
  c.integer("ignore_index");
  if (c.ins() > 2)
    checkTokenWeights(c, 2, rows);
}

void checkCrossEntropyShard(OpCheck &c) {
  c.arity(3, 2);
  checkShardIndex(c, 2);
  c.real("logits", c.in(0));
  c.rank("logits", c.in(0), 1);
  Dims rows = c.dims(c.in(0));
  rows.pop_back();
  c.type("labels", c.in(1), {DTYPE_I64});
  c.shape("labels", c.in(1), rows);
  for (int i = 0; i < 2; ++i) {
    c.type(i ? "picked" : "lse", c.out(i), {DTYPE_F32});
    c.shape(i ? "picked" : "lse", c.out(i), rows);
  }
  c.integer("ignore_index");
}

void checkCrossEntropyMerge(OpCheck &c) {
  c.arity(3, 4, 3, 3);
  c.type("parts", c.in(0), {DTYPE_F32});
  c.rank("parts", c.in(0), 1);
  Dims rows = c.dims(c.in(0));
  rows.erase(rows.begin());
  c.type("picked", c.in(1), {DTYPE_F32});
  c.shape("picked", c.in(1), rows);
  c.type("labels", c.in(2), {DTYPE_I64});
  c.shape("labels", c.in(2), rows);
  c.single("loss", c.out(0), DTYPE_F32);
  c.single("weights", c.out(1), DTYPE_F32);
  c.type("lse", c.out(2), {DTYPE_F32});
  c.shape("lse", c.out(2), rows);
  c.integer("ignore_index");
  if (c.ins() > 3)
    checkTokenWeights(c, 3, rows);
}

void checkCrossEntropyBackward(OpCheck &c) {
  c.arity(3, 5, 1, 1);
  // The index is the last operand; token weights stand before it.
  bool sharded = c.find("count") != nullptr;
  checkShardIndex(c, sharded ? std::max(3, c.ins() - 1) : c.ins());
  if (c.ins() - sharded > 4)
    c.fail("attribute 'count' is missing");
  c.real("logits", c.in(0));
  c.rank("logits", c.in(0), 1);
  Dims rows = c.dims(c.in(0));
  c.real("dlogits", c.out(0));
  c.shape("dlogits", c.out(0), rows);
  rows.pop_back();
  c.type("labels", c.in(1), {DTYPE_I64});
  c.shape("labels", c.in(1), rows);
  c.type("lse", c.in(2), {DTYPE_F32});
  c.shape("lse", c.in(2), rows);
  c.integer("ignore_index");
  if (c.ins() - sharded > 3)
    checkTokenWeights(c, 3, rows);
}

void checkMatmul(OpCheck &c) {
  c.arity(2, 3, 1, 1);
  bool transposeA = c.flag("transpose_a"), transposeB = c.flag("transpose_b");
  for (int i = 0; i < c.ins(); ++i)
    c.real("input", c.in(i));
  c.sameType(c.in(0), c.in(1));
  c.rank("a", c.in(0), 2);
  c.rank("b", c.in(1), 2);
  Dims a = c.dims(c.in(0)), b = c.dims(c.in(1));
  if (transposeA)
    std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (transposeB)
    std::swap(b[b.size() - 1], b[b.size() - 2]);
  std::uint64_t m = a[a.size() - 2], k = a.back(), n = b.back();
  if (b[b.size() - 2] != k)
    c.fail("contracted dimensions differ: ", k, " and ", b[b.size() - 2]);
  a.resize(a.size() - 2);
  b.resize(b.size() - 2);
  Dims y = c.broadcast(a, b);
  y.push_back(m);
  y.push_back(n);
  if (c.in(0).dtype() == DTYPE_F32)
    c.type("output", c.out(0), {DTYPE_F32});
  else
    c.real("output", c.out(0));
  c.shape("output", c.out(0), y);
  if (c.ins() == 3)
    c.shape("bias", c.in(2), {n});
}

struct AttentionShape {
  Dims q, k, v, o, lse;
};

AttentionShape attentionShape(OpCheck &c, int first) {
  AttentionShape s;
  for (int i = 0; i < 3; ++i) {
    c.real("q, k or v", c.in(first + i));
    c.rank("q, k or v", c.in(first + i), 2);
  }
  s.q = c.dims(c.in(first));
  s.k = c.dims(c.in(first + 1));
  s.v = c.dims(c.in(first + 2));
  std::uint64_t t = s.q[s.q.size() - 2], d = s.q.back();
  std::uint64_t keys = s.k[s.k.size() - 2];
  Dims lead(s.q.begin(), s.q.end() - 2);
  Dims k = lead, v = lead;
  k.insert(k.end(), {keys, d});
  v.insert(v.end(), {keys, s.v.back()});
  c.shape("k", c.in(first + 1), k);
  c.shape("v", c.in(first + 2), v);
  s.o = lead;
  s.o.insert(s.o.end(), {t, s.v.back()});
  s.lse = lead;
  s.lse.push_back(t);
  if (c.flag("causal") && keys < t)
    c.fail("causal with ", t, " queries and only ", keys,
           " keys leaves rows empty");
  c.number("scale");
  return s;
}

void checkAttention(OpCheck &c) {
  c.arity(3, 2);
  AttentionShape s = attentionShape(c, 0);
  c.real("o", c.out(0));
  c.shape("o", c.out(0), s.o);
  c.type("lse", c.out(1), {DTYPE_F32});
  c.shape("lse", c.out(1), s.lse);
}

void checkAttentionBackward(OpCheck &c) {
  c.arity(6, 3);
  AttentionShape s = attentionShape(c, 1);
  c.real("do", c.in(0));
  c.shape("do", c.in(0), s.o);
  c.real("o", c.in(4));
  c.shape("o", c.in(4), s.o);
  c.type("lse", c.in(5), {DTYPE_F32});
  c.shape("lse", c.in(5), s.lse);
  const Dims *expected[] = {&s.q, &s.k, &s.v};
  for (int i = 0; i < 3; ++i) {
    c.real("gradient", c.out(i));
    c.shape("gradient", c.out(i), *expected[i]);
  }
}

void checkDropout(OpCheck &c) {
  c.arity(2, 3, 1, 1);
  c.real("x", c.in(0));
  c.rank("x", c.in(0), 1);
  Dims x = c.dims(c.in(0));
  c.type("stamp", c.in(1), {DTYPE_I64});
  c.shape("stamp", c.in(1), {4});
  c.sameType(c.in(0), c.out(0));
  c.shape("output", c.out(0), x);
  if (double ratio = c.number("ratio"); ratio < 0 || ratio >= 1)
    c.fail("attribute 'ratio': expected 0 to 1 (exclusive), got ", ratio);
  if (std::int64_t site = c.integer("site"); site < 0 || site > 255)
    c.fail("attribute 'site': expected 0 to 255, got ", site);
  c.flag("shared");
  if (c.ins() == 2)
    return;
  c.single("index", c.in(2), DTYPE_I64);
  std::vector<std::int64_t> part = c.integers("part");
  if (part.size() != 3 || part[0] < 1 ||
      part[0] >= static_cast<std::int64_t>(x.size()) || part[1] < 1 ||
      part[2] < 1 || part[2] > kMany ||
      x[static_cast<std::size_t>(part[0])] %
              static_cast<std::uint64_t>(part[1]) !=
          0)
    c.fail("attribute 'part': expected a dimension, its outer parts and the "
           "count of parts");
}

void checkOptimizerAdvance(OpCheck &c) {
  c.arity(2, 1);
  c.single("weight", c.in(0), DTYPE_F32);
  c.single("updates", c.in(1), DTYPE_I64);
  c.single("updates", c.out(0), DTYPE_I64);
}

/// Flat slices of equal length, f32.
void checkFlat(OpCheck &c, const char *what, const Value &value,
               const Dims &n) {
  c.type(what, value, {DTYPE_F32});
  c.shape(what, value, n);
}

/// The learning rate's course; the attributes stand together or not at all.
void checkSchedule(OpCheck &c) {
  if (!c.find("schedule"))
    return;
  const std::string &schedule =
      c.need("schedule", Attribute::kText, "a text").text();
  if (schedule != "constant" && schedule != "cosine" && schedule != "linear")
    c.fail("attribute 'schedule': expected 'constant', 'cosine' or 'linear', "
           "got '",
           schedule, "'");
  std::int64_t warmup = c.integer("warmup_steps");
  if (warmup < 0)
    c.fail("attribute 'warmup_steps': expected a number not below 0, got ",
           warmup);
  if (schedule == "constant")
    return;
  if (std::int64_t decay = c.integer("decay_steps"); decay <= warmup)
    c.fail("attribute 'decay_steps': expected more than the ", warmup,
           " of 'warmup_steps', got ", decay);
}

void checkUpdate(OpCheck &c, int states) {
  c.arity(4 + states, 1 + states);
  Dims n = c.dims(c.in(0));
  if (n.size() != 1)
    c.fail("param: expected one dimension, got shape ", text(n));
  checkFlat(c, "param", c.in(0), n);
  checkFlat(c, "grad", c.in(1), n);
  c.single("weight", c.in(2), DTYPE_F32);
  c.single("updates", c.in(3), DTYPE_I64);
  for (int i = 0; i < states; ++i)
    checkFlat(c, "state", c.in(4 + i), n);
  for (int i = 0; i < 1 + states; ++i)
    checkFlat(c, "output", c.out(i), n);
  c.number("learning_rate");
  c.number("weight_decay");
  checkSchedule(c);
}

void checkSgd(OpCheck &c) {
  bool momentum = c.number("momentum") != 0;
  checkUpdate(c, momentum ? 1 : 0);
}

void checkAdamw(OpCheck &c) {
  checkUpdate(c, 2);
  for (const char *name : {"beta1", "beta2"}) {
    double beta = c.number(name);
    if (beta < 0 || beta >= 1)
      c.fail("attribute '", name, "': expected 0 to 1 (exclusive), got ", beta);
  }
  if (c.number("epsilon") < 0)
    c.fail("attribute 'epsilon': expected a number not below 0");
}

void checkSquareSum(OpCheck &c) {
  c.arity(1, 1);
  Dims n = c.dims(c.in(0));
  if (n.size() != 1)
    c.fail("x: expected one dimension, got shape ", text(n));
  checkFlat(c, "x", c.in(0), n);
  c.single("output", c.out(0), DTYPE_F32);
  if (double scale = c.number("scale"); scale <= 0 || scale > 1)
    c.fail("attribute 'scale': expected 0 (exclusive) to 1, got ", scale);
}

void checkClipWeight(OpCheck &c) {
  c.arity(2, 1);
  c.single("squares", c.in(0), DTYPE_F32);
  c.single("weight", c.in(1), DTYPE_F32);
  c.single("output", c.out(0), DTYPE_F32);
  if (double norm = c.number("max_norm"); norm <= 0)
    c.fail("attribute 'max_norm': expected a number above 0, got ", norm);
}

// Which outputs may, or must, be the very memory of an input.
enum class InPlace { Never, Elementwise, Logits, Update, Advance };

struct Rule {
  void (*check)(OpCheck &);
  bool accumulates = false;
  InPlace inPlace = InPlace::Never;
};

const Rule *findRule(Opcode opcode) {
  static const std::map<Opcode, Rule> rules = {
      {OPCODE_COPY, {checkCopy, true}},
      {OPCODE_CONCAT, {checkConcat, true}},
      {OPCODE_SHARD, {checkShard}},
      {OPCODE_GATHER, {checkGather}},
      {OPCODE_GATHER_BACKWARD, {checkGatherBackward, true}},
      {OPCODE_CAST, {checkCast}},
      {OPCODE_FILL, {checkFill}},
      {OPCODE_PAD, {checkPad, true}},
      {OPCODE_ADD, {checkBinary, true, InPlace::Elementwise}},
      {OPCODE_SUB, {checkBinary, true, InPlace::Elementwise}},
      {OPCODE_MUL, {checkBinary, true, InPlace::Elementwise}},
      {OPCODE_DIV, {checkBinary, true, InPlace::Elementwise}},
      {OPCODE_POW, {checkBinary, false, InPlace::Elementwise}},
      {OPCODE_NEG, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_EXP, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_LOG, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_SQRT, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_RECIPROCAL, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_TANH, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_ERF, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_SIGMOID, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_RELU, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_SOFTPLUS, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_HARD_SWISH, {checkUnary, true, InPlace::Elementwise}},
      {OPCODE_HARD_SWISH_BACKWARD, {checkPair}},
      {OPCODE_RELU_BACKWARD, {checkPair}},
      {OPCODE_GELU, {checkGelu}},
      {OPCODE_GELU_BACKWARD, {checkGeluBackward}},
      {OPCODE_WHERE, {checkWhere}},
      {OPCODE_EQUAL, {checkCompare}},
      {OPCODE_LESS, {checkCompare}},
      {OPCODE_REDUCE_SUM, {checkReduce, true}},
      {OPCODE_REDUCE_MEAN, {checkReduce, true}},
      {OPCODE_REDUCE_MAX, {checkReduce, true}},
      {OPCODE_SOFTMAX, {checkSoftmax}},
      {OPCODE_SOFTMAX_BACKWARD, {checkSoftmaxBackward}},
      {OPCODE_LAYER_NORM, {checkLayerNorm}},
      {OPCODE_LAYER_NORM_BACKWARD_INPUT, {checkLayerNormBackwardInput}},
      {OPCODE_LAYER_NORM_BACKWARD_WEIGHT, {checkLayerNormBackwardWeight, true}},
      {OPCODE_CROSS_ENTROPY, {checkCrossEntropy, true}},
      {OPCODE_CROSS_ENTROPY_SHARD, {checkCrossEntropyShard}},
      {OPCODE_CROSS_ENTROPY_MERGE, {checkCrossEntropyMerge, true}},
      {OPCODE_CROSS_ENTROPY_BACKWARD,
       {checkCrossEntropyBackward, false, InPlace::Logits}},
      {OPCODE_LOG_SOFTMAX, {checkLogSoftmax}},
      {OPCODE_CONV, {checkConv}},
      {OPCODE_CONV_BACKWARD_INPUT, {checkConvBackwardInput}},
      {OPCODE_CONV_BACKWARD_WEIGHT, {checkConvBackwardWeight, true}},
      {OPCODE_POOL, {checkPool}},
      {OPCODE_POOL_BACKWARD, {checkPoolBackward}},
      {OPCODE_BATCH_NORM, {checkBatchNorm}},
      {OPCODE_BATCH_NORM_BACKWARD, {checkBatchNormBackward}},
      {OPCODE_MATMUL, {checkMatmul, true}},
      {OPCODE_ATTENTION, {checkAttention}},
      {OPCODE_ATTENTION_BACKWARD, {checkAttentionBackward}},
      {OPCODE_OPTIMIZER_ADVANCE,
       {checkOptimizerAdvance, false, InPlace::Advance}},
      {OPCODE_SGD, {checkSgd, false, InPlace::Update}},
      {OPCODE_ADAMW, {checkAdamw, false, InPlace::Update}},
      {OPCODE_DROPOUT, {checkDropout, false, InPlace::Logits}},
      {OPCODE_SQUARE_SUM, {checkSquareSum, true}},
      {OPCODE_CLIP_WEIGHT, {checkClipWeight}},
  };
  auto found = rules.find(opcode);
  return found == rules.end() ? nullptr : &found->second;
}

bool mayBeInPlace(const Op &op, const Rule &rule, int output, int input,
                  const Value &in, const Value &out) {
  switch (rule.inPlace) {
  case InPlace::Never:
    return false;
  case InPlace::Elementwise:
    return identical(in, out);
  case InPlace::Logits:
    return input == 0 && identical(in, out);
  case InPlace::Update:
    return input == (output == 0 ? 0 : 3 + output) && identical(in, out);
  case InPlace::Advance:
    return input == 1 && identical(in, out);
  }
  return false;
}

void checkAliases(OpCheck &c, const Op &op, const Rule &rule) {
  for (int o = 0; o < c.outs(); ++o) {
    const Value &out = c.out(o);
    if (isView(out)) {
      bool allowed = op.opcode() == OPCODE_COPY ||
                     ((op.opcode() == OPCODE_MATMUL ||
                       (op.opcode() == OPCODE_ATTENTION && o == 0) ||
                       op.opcode() == OPCODE_ATTENTION_BACKWARD) &&
                      (out.dims(out.dims_size() - 1) == 1 ||
                       out.strides(out.strides_size() - 1) == 1));
      if (!allowed)
        c.fail("output ", o, " must be row-major, it has strides");
      if (overlapsItself(out))
        c.fail("output ", o, ": the strides write an element twice");
    }
    bool found = false;
    for (int i = 0; i < c.ins(); ++i) {
      if (mayBeInPlace(op, rule, o, i, c.in(i), out)) {
        found = true;
        continue;
      }
      if (mayOverlap(c.in(i), out))
        c.fail("output ", o, " overlaps input ", i);
    }
    if (!found &&
        (rule.inPlace == InPlace::Update || rule.inPlace == InPlace::Advance))
      c.fail("output ", o, " must be the memory of its input (in place)");
    for (int other = 0; other < o; ++other)
      if (mayOverlap(c.out(other), out))
        c.fail("output ", o, " overlaps output ", other);
  }
}

} // namespace

void checkOp(const Segment &segment, const Op &op, const std::string &place) {
  const Rule *rule = findRule(op.opcode());
  if (!rule)
    throw Error(place, ": unknown opcode ", static_cast<int>(op.opcode()),
                "; the plan needs a newer runtime");
  OpCheck check(segment, op, place);
  rule->check(check);
  check.finish();
  if (op.accumulate()) {
    if (!rule->accumulates)
      check.fail("cannot accumulate");
    for (int i = 0; i < check.outs(); ++i)
      check.type("accumulated output", check.out(i), {DTYPE_F32});
  }
  checkAliases(check, op, *rule);
}

} // namespace tombolo::runtime
