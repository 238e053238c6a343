//===- CheckOpTest.cpp - operand rules of the segment ops -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Validate.h"

#include "Expect.h"
#include "PlanBuilder.h"

#include <functional>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// A segment of one op over fresh, whole values.
class OneOp {
public:
  OneOp(Opcode opcode) { segment.add_ops()->set_opcode(opcode); }
  OneOp &in(DType dtype, std::initializer_list<std::uint64_t> dims) {
    op().add_inputs(add(dtype, dims, ACCESS_READ));
    return *this;
  }
  OneOp &out(DType dtype, std::initializer_list<std::uint64_t> dims) {
    op().add_outputs(add(dtype, dims, ACCESS_WRITE));
    return *this;
  }
  /// Output `i` is input `i` itself.
  OneOp &update(int input) {
    std::uint32_t value = op().inputs(input);
    segment.mutable_arguments(static_cast<int>(value))
        ->set_access(ACCESS_READ_WRITE);
    op().add_outputs(value);
    return *this;
  }
  OneOp &real(const char *name, double value) {
    attribute(op(), name).set_real(value);
    return *this;
  }
  OneOp &integer(const char *name, std::int64_t value) {
    attribute(op(), name).set_integer(value);
    return *this;
  }
  OneOp &flag(const char *name) {
    attribute(op(), name).set_flag(true);
    return *this;
  }
  OneOp &text(const char *name, const char *value) {
    attribute(op(), name).set_text(value);
    return *this;
  }
  OneOp &list(const char *name, std::initializer_list<std::int64_t> values) {
    Integers *list = attribute(op(), name).mutable_integers();
    for (std::int64_t value : values)
      list->add_values(value);
    return *this;
  }
  void check() const { validateSegment(segment, "segment"); }
  Op &op() { return *segment.mutable_ops(0); }
  Segment segment;

private:
  std::uint32_t add(DType dtype, std::initializer_list<std::uint64_t> dims,
                    Access access) {
    std::uint64_t bytes = elementBytes(dtype);
    for (std::uint64_t dim : dims)
      bytes *= dim;
    SegmentBuilder builder(segment, "one");
    return builder.value(builder.argument("a", bytes, access), dtype, dims);
  }
};

constexpr DType f32 = DTYPE_F32, bf16 = DTYPE_BF16, i64 = DTYPE_I64,
                boolean = DTYPE_BOOL;

/// A well-formed update without momentum.
OneOp plainSgd() {
  return OneOp(OPCODE_SGD)
      .in(f32, {8})
      .in(f32, {8})
      .in(f32, {})
      .in(i64, {})
      .update(0)
      .real("learning_rate", 1)
      .real("momentum", 0)
      .real("weight_decay", 0);
}

// One well-formed use of every op in the table is accepted.
TEST(CheckOp, AcceptsEveryOp) {
  OneOp good[] = {
      OneOp(OPCODE_COPY).in(i64, {2, 3}).out(i64, {2, 3}),
      OneOp(OPCODE_CONCAT)
          .in(f32, {2, 3})
          .in(f32, {2, 1})
          .out(f32, {2, 4})
          .integer("axis", 1),
      OneOp(OPCODE_GATHER)
          .in(f32, {9, 4})
          .in(i64, {2, 3})
          .out(f32, {2, 3, 4})
          .integer("axis", 0),
      OneOp(OPCODE_GATHER_BACKWARD)
          .in(f32, {2, 3, 4})
          .in(i64, {2, 3})
          .out(f32, {9, 4})
          .integer("axis", 0),
      OneOp(OPCODE_SHARD).in(i64, {3, 2}).in(i64, {}).out(i64, {2}),
      OneOp(OPCODE_GATHER)
          .in(f32, {9, 4})
          .in(i64, {2, 3})
          .in(i64, {1})
          .out(f32, {2, 3, 4})
          .integer("axis", 0)
          .integer("count", 8),
      OneOp(OPCODE_CROSS_ENTROPY_SHARD)
          .in(f32, {2, 3, 9})
          .in(i64, {2, 3})
          .in(i64, {})
          .out(f32, {2, 3})
          .out(f32, {2, 3})
          .integer("ignore_index", -100)
          .integer("count", 2),
      OneOp(OPCODE_CROSS_ENTROPY_BACKWARD)
          .in(f32, {2, 9})
          .in(i64, {2})
          .in(f32, {2})
          .in(f32, {2})
          .in(i64, {})
          .out(f32, {2, 9})
          .integer("count", 2)
          .integer("ignore_index", -100),
      OneOp(OPCODE_CROSS_ENTROPY_MERGE)
          .in(f32, {4, 2, 3})
          .in(f32, {2, 3})
          .in(i64, {2, 3})
          .in(f32, {2, 3})
          .out(f32, {})
          .out(f32, {1})
          .out(f32, {2, 3})
          .integer("ignore_index", -100),
      OneOp(OPCODE_CAST).in(f32, {2}).out(bf16, {2}),
      OneOp(OPCODE_FILL).out(f32, {2}).real("value", 1),
      OneOp(OPCODE_PAD).in(f32, {2, 3}).out(f32, {4, 3}).list("low", {1, 0}),
      OneOp(OPCODE_ADD).in(f32, {2, 3}).in(f32, {3}).out(f32, {2, 3}),
      OneOp(OPCODE_POW).in(f32, {2, 3}).in(f32, {}).out(f32, {2, 3}),
      OneOp(OPCODE_TANH).in(f32, {2}).out(f32, {2}),
      OneOp(OPCODE_RELU_BACKWARD).in(f32, {2}).in(f32, {2}).out(f32, {2}),
      OneOp(OPCODE_GELU).in(f32, {2}).out(f32, {2}).text("approximate", "tanh"),
      OneOp(OPCODE_GELU_BACKWARD)
          .in(f32, {2})
          .in(f32, {2})
          .out(f32, {2})
          .text("approximate", "none"),
      OneOp(OPCODE_WHERE)
          .in(boolean, {2, 1})
          .in(f32, {3})
          .in(f32, {})
          .out(f32, {2, 3}),
      OneOp(OPCODE_LESS).in(i64, {2}).in(i64, {1}).out(boolean, {2}),
      OneOp(OPCODE_REDUCE_MEAN)
          .in(f32, {2, 3, 4})
          .out(f32, {1, 3, 1})
          .list("axes", {0, 2})
          .flag("keep_dims"),
      OneOp(OPCODE_SOFTMAX).in(f32, {2, 3}).out(f32, {2, 3}),
      OneOp(OPCODE_SOFTMAX_BACKWARD).in(f32, {2}).in(f32, {2}).out(f32, {2}),
      OneOp(OPCODE_LAYER_NORM)
          .in(f32, {2, 3, 8})
          .in(f32, {8})
          .in(f32, {8})
          .out(f32, {2, 3, 8})
          .out(f32, {2, 3})
          .out(f32, {2, 3})
          .real("epsilon", 1e-5),
      OneOp(OPCODE_LAYER_NORM_BACKWARD_INPUT)
          .in(f32, {2, 8})
          .in(f32, {2, 8})
          .in(f32, {8})
          .in(f32, {2})
          .in(f32, {2})
          .out(f32, {2, 8}),
      OneOp(OPCODE_LAYER_NORM_BACKWARD_WEIGHT)
          .in(f32, {2, 8})
          .in(f32, {2, 8})
          .in(f32, {2})
          .in(f32, {2})
          .out(f32, {8})
          .out(f32, {8}),
      OneOp(OPCODE_CROSS_ENTROPY)
          .in(f32, {2, 3, 9})
          .in(i64, {2, 3})
          .out(f32, {})
          .out(f32, {1})
          .out(f32, {2, 3})
          .integer("ignore_index", -100),
      OneOp(OPCODE_CROSS_ENTROPY_BACKWARD)
          .in(f32, {2, 9})
          .in(i64, {2})
          .in(f32, {2})
          .out(f32, {2, 9})
          .integer("ignore_index", -100),
      OneOp(OPCODE_MATMUL)
          .in(f32, {5, 2, 3})
          .in(f32, {4, 3})
          .in(f32, {4})
          .out(f32, {5, 2, 4})
          .flag("transpose_b"),
      OneOp(OPCODE_ATTENTION)
          .in(f32, {2, 5, 8})
          .in(f32, {2, 7, 8})
          .in(f32, {2, 7, 6})
          .out(f32, {2, 5, 6})
          .out(f32, {2, 5})
          .flag("causal")
          .real("scale", 0.5),
      OneOp(OPCODE_ATTENTION_BACKWARD)
          .in(f32, {2, 5, 6})
          .in(f32, {2, 5, 8})
          .in(f32, {2, 7, 8})
          .in(f32, {2, 7, 6})
          .in(f32, {2, 5, 6})
          .in(f32, {2, 5})
          .out(f32, {2, 5, 8})
          .out(f32, {2, 7, 8})
          .out(f32, {2, 7, 6})
          .flag("causal")
          .real("scale", 0.5),
      OneOp(OPCODE_LOG_SOFTMAX).in(f32, {2, 5}).out(f32, {2, 5}),
      OneOp(OPCODE_CONV)
          .in(f32, {2, 4, 5, 4})
          .in(f32, {6, 2, 3, 2})
          .out(f32, {2, 6, 3, 3})
          .list("strides", {2, 1})
          .list("dilations", {1, 1})
          .list("low", {1, 0})
          .list("high", {1, 0})
          .integer("groups", 2),
      OneOp(OPCODE_CONV_BACKWARD_INPUT)
          .in(f32, {2, 6, 3})
          .in(f32, {6, 4, 3})
          .out(f32, {2, 4, 5})
          .list("strides", {2})
          .list("dilations", {1})
          .list("low", {1})
          .list("high", {1})
          .integer("groups", 1),
      OneOp(OPCODE_CONV_BACKWARD_WEIGHT)
          .in(f32, {2, 6, 3})
          .in(f32, {2, 4, 5})
          .out(f32, {6, 4, 3})
          .list("strides", {2})
          .list("dilations", {1})
          .list("low", {1})
          .list("high", {1})
          .integer("groups", 1),
      OneOp(OPCODE_POOL)
          .in(f32, {2, 4, 5})
          .out(f32, {2, 4, 3})
          .list("kernel", {3})
          .list("strides", {2})
          .list("dilations", {1})
          .list("low", {1})
          .list("high", {1}),
      OneOp(OPCODE_POOL_BACKWARD)
          .in(f32, {2, 4, 3})
          .in(f32, {2, 4, 5})
          .out(f32, {2, 4, 5})
          .list("kernel", {3})
          .list("strides", {2})
          .list("dilations", {1})
          .list("low", {1})
          .list("high", {1})
          .flag("average"),
      OneOp(OPCODE_BATCH_NORM)
          .in(f32, {2, 4, 5})
          .in(f32, {4})
          .in(f32, {4})
          .out(f32, {2, 4, 5})
          .out(f32, {4})
          .out(f32, {4})
          .real("epsilon", 1e-5),
      OneOp(OPCODE_BATCH_NORM_BACKWARD)
          .in(f32, {2, 4, 5})
          .in(f32, {2, 4, 5})
          .in(f32, {4})
          .in(f32, {4})
          .in(f32, {4})
          .out(f32, {2, 4, 5})
          .out(f32, {4})
          .out(f32, {4})
          .real("epsilon", 1e-5),
      OneOp(OPCODE_OPTIMIZER_ADVANCE).in(f32, {1}).in(i64, {}).update(1),
      OneOp(OPCODE_SGD)
          .in(f32, {8})
          .in(f32, {8})
          .in(f32, {})
          .in(i64, {})
          .in(f32, {8})
          .update(0)
          .update(4)
          .real("learning_rate", 1)
          .real("momentum", 0.9)
          .real("weight_decay", 0),
      OneOp(OPCODE_ADAMW)
          .in(f32, {8})
          .in(f32, {8})
          .in(f32, {})
          .in(i64, {})
          .in(f32, {8})
          .in(f32, {8})
          .update(0)
          .update(4)
          .update(5)
          .real("learning_rate", 1)
          .real("beta1", 0.9)
          .real("beta2", 0.99)
          .real("epsilon", 1e-8)
          .real("weight_decay", 0),
      OneOp(OPCODE_SQUARE_SUM).in(f32, {8}).out(f32, {}).real("scale", 0.5),
      OneOp(OPCODE_CLIP_WEIGHT)
          .in(f32, {})
          .in(f32, {})
          .out(f32, {})
          .real("max_norm", 1),
      plainSgd().text("schedule", "constant").integer("warmup_steps", 3),
      plainSgd()
          .text("schedule", "linear")
          .integer("warmup_steps", 0)
          .integer("decay_steps", 1),
  };
  for (const OneOp &one : good)
    EXPECT_NO_THROW(one.check()) << opcodeName(one.segment.ops(0).opcode());
}

struct Wrong {
  OneOp op;
  const char *message;
};

TEST(CheckOp, RefusesWrongOperands) {
  Wrong wrong[] = {
      {OneOp(OPCODE_COPY).in(f32, {2, 3}).out(f32, {3, 2}), "expected shape"},
      {OneOp(OPCODE_COPY).in(f32, {2}).out(bf16, {2}), "equal dtypes"},
      {OneOp(OPCODE_COPY).in(f32, {2}), "expected 1 outputs, got 0"},
      {OneOp(OPCODE_CONCAT).in(f32, {2}).out(f32, {2}), "'axis' is missing"},
      {OneOp(OPCODE_CONCAT).in(f32, {2}).out(f32, {2}).integer("axis", -1),
       "'axis': expected"},
      {OneOp(OPCODE_GATHER)
           .in(f32, {9, 4})
           .in(f32, {2})
           .out(f32, {2, 4})
           .integer("axis", 0),
       "indices: expected i64 or i32, got f32"},
      {OneOp(OPCODE_SHARD).in(f32, {3, 2}).in(i64, {}).out(f32, {3, 2}),
       "expected shape [2]"},
      {OneOp(OPCODE_SHARD).in(f32, {3, 2}).in(i64, {2}).out(f32, {2}),
       "index: expected one element"},
      {OneOp(OPCODE_GATHER)
           .in(f32, {9, 4})
           .in(i64, {2})
           .in(i64, {})
           .out(f32, {2, 4})
           .integer("axis", 0),
       "'count' is missing"},
      {OneOp(OPCODE_GATHER)
           .in(f32, {9, 4})
           .in(i64, {2})
           .out(f32, {2, 4})
           .integer("axis", 0)
           .integer("count", 2),
       "needs an operand 'index'"},
      {OneOp(OPCODE_GATHER)
           .in(f32, {9, 4})
           .in(i64, {2})
           .in(i64, {})
           .out(f32, {2, 4})
           .integer("axis", 0)
           .integer("count", INT64_MAX),
       "'count': expected 1 to"},
      {OneOp(OPCODE_CROSS_ENTROPY_SHARD)
           .in(f32, {2, 9})
           .in(i64, {2})
           .in(i64, {})
           .out(f32, {2})
           .out(f32, {2, 1})
           .integer("ignore_index", -100)
           .integer("count", 2),
       "picked: expected shape [2]"},
      {OneOp(OPCODE_CROSS_ENTROPY_BACKWARD)
           .in(f32, {2, 9})
           .in(i64, {2})
           .in(f32, {2})
           .in(i64, {})
           .out(f32, {2, 9})
           .integer("ignore_index", -100),
       "token_weights: expected f32"},
      {OneOp(OPCODE_CROSS_ENTROPY_BACKWARD)
           .in(f32, {2, 9})
           .in(i64, {2})
           .in(f32, {2})
           .in(f32, {2})
           .in(i64, {})
           .out(f32, {2, 9})
           .integer("ignore_index", -100),
       "'count' is missing"},
      {OneOp(OPCODE_CROSS_ENTROPY_BACKWARD)
           .in(f32, {2, 9})
           .in(i64, {2})
           .in(f32, {2})
           .out(f32, {2, 9})
           .integer("count", 2)
           .integer("ignore_index", -100),
       "needs an operand 'index'"},
      {OneOp(OPCODE_CROSS_ENTROPY_MERGE)
           .in(f32, {4, 2})
           .in(f32, {2})
           .in(i64, {4})
           .out(f32, {})
           .out(f32, {})
           .out(f32, {2})
           .integer("ignore_index", -100),
       "labels: expected shape [2]"},
      {OneOp(OPCODE_PAD).in(f32, {3}).out(f32, {4}).list("low", {2}),
       "does not fit"},
      {OneOp(OPCODE_ADD).in(f32, {2}).in(f32, {3}).out(f32, {3}),
       "do not broadcast"},
      {OneOp(OPCODE_ADD).in(i64, {2}).in(i64, {2}).out(i64, {2}),
       "expected f32 or bf16"},
      {OneOp(OPCODE_GELU).in(f32, {2}).out(f32, {2}).text("approximate", "?"),
       "expected 'none' or 'tanh'"},
      {OneOp(OPCODE_TANH).in(f32, {2}).out(f32, {2}).real("scale", 1),
       "unknown attribute 'scale'"},
      {OneOp(OPCODE_REDUCE_SUM)
           .in(f32, {2, 3})
           .out(f32, {3})
           .list("axes", {1, 0}),
       "ascending"},
      {OneOp(OPCODE_LAYER_NORM)
           .in(f32, {2, 8})
           .in(f32, {8})
           .in(f32, {8})
           .out(f32, {2, 8})
           .out(bf16, {2})
           .out(f32, {2})
           .real("epsilon", 1e-5),
       "mean: expected f32"},
      {OneOp(OPCODE_MATMUL).in(f32, {2, 3}).in(f32, {2, 3}).out(f32, {2, 3}),
       "contracted dimensions differ"},
      {OneOp(OPCODE_MATMUL).in(f32, {2, 3}).in(bf16, {3, 2}).out(f32, {2, 2}),
       "equal dtypes"},
      {OneOp(OPCODE_ATTENTION)
           .in(f32, {7, 8})
           .in(f32, {5, 8})
           .in(f32, {5, 8})
           .out(f32, {7, 8})
           .out(f32, {7})
           .flag("causal")
           .real("scale", 1),
       "leaves rows empty"},
      {OneOp(OPCODE_SGD)
           .in(f32, {8})
           .in(f32, {8})
           .in(f32, {})
           .in(i64, {})
           .out(f32, {8})
           .real("learning_rate", 1)
           .real("momentum", 0)
           .real("weight_decay", 0),
       "must be the memory of its input"},
      {plainSgd().text("schedule", "step").integer("warmup_steps", 0),
       "expected 'constant', 'cosine' or 'linear', got 'step'"},
      {plainSgd().text("schedule", "constant"), "'warmup_steps' is missing"},
      {plainSgd().integer("warmup_steps", 3),
       "unknown attribute 'warmup_steps'"},
      {plainSgd()
           .text("schedule", "constant")
           .integer("warmup_steps", 3)
           .integer("decay_steps", 9),
       "unknown attribute 'decay_steps'"},
      {plainSgd().text("schedule", "cosine").integer("warmup_steps", -1),
       "'warmup_steps': expected a number not below 0"},
      {plainSgd()
           .text("schedule", "cosine")
           .integer("warmup_steps", 3)
           .integer("decay_steps", 3),
       "'decay_steps': expected more than the 3"},
      {OneOp(OPCODE_SQUARE_SUM).in(f32, {2, 4}).out(f32, {}).real("scale", 1),
       "expected one dimension"},
      {OneOp(OPCODE_SQUARE_SUM).in(f32, {8}).out(f32, {}).real("scale", 0),
       "'scale': expected 0 (exclusive) to 1"},
      {OneOp(OPCODE_CLIP_WEIGHT)
           .in(f32, {})
           .in(f32, {})
           .out(f32, {})
           .real("max_norm", 0),
       "'max_norm': expected a number above 0"},
      {OneOp(OPCODE_SOFTMAX).in(f32, {2}).update(0), "overlaps input 0"},
      {OneOp(static_cast<Opcode>(77)).in(f32, {2}), "unknown opcode 77"},
  };
  for (Wrong &one : wrong)
    expectError([&] { one.op.check(); }, one.message);
}

TEST(CheckOp, AccumulatesOnlyWhereTheTableSays) {
  OneOp softmax = OneOp(OPCODE_SOFTMAX).in(f32, {2}).out(f32, {2});
  softmax.op().set_accumulate(true);
  expectError([&] { softmax.check(); }, "cannot accumulate");
  OneOp half = OneOp(OPCODE_COPY).in(bf16, {2}).out(bf16, {2});
  half.op().set_accumulate(true);
  expectError([&] { half.check(); }, "accumulated output");
  OneOp fresh = OneOp(OPCODE_COPY).in(f32, {2}).out(f32, {2});
  fresh.op().set_accumulate(true);
  expectError([&] { fresh.check(); }, "write-only and not yet written");
}

// The parts of a fused q, k, v interleave in memory and share no element.
TEST(CheckOp, TellsInterleavedViewsApart) {
  Segment segment;
  SegmentBuilder b(segment, "views");
  std::uint32_t memory = b.argument("qkv", 4 * 6 * 4, ACCESS_READ_WRITE);
  std::uint32_t first = b.value(memory, f32, {4, 2});
  std::uint32_t second = b.value(memory, f32, {4, 2}, 8);
  for (std::uint32_t index : {first, second}) {
    segment.mutable_values(static_cast<int>(index))->add_strides(6);
    segment.mutable_values(static_cast<int>(index))->add_strides(1);
  }
  b.op(OPCODE_COPY, {first}, {second});
  EXPECT_NO_THROW(validateSegment(segment, "segment"));
  segment.mutable_values(static_cast<int>(second))->set_byte_offset(4);
  expectError([&] { validateSegment(segment, "segment"); }, "overlaps input 0");
}

TEST(CheckOp, RefusesOutputsWrittenTwice) {
  Segment segment;
  SegmentBuilder b(segment, "views");
  std::uint32_t x = b.value(b.argument("x", 64, ACCESS_READ), f32, {4, 4});
  std::uint32_t y = b.value(b.argument("y", 64, ACCESS_WRITE), f32, {4, 4});
  segment.mutable_values(static_cast<int>(y))->add_strides(1);
  segment.mutable_values(static_cast<int>(y))->add_strides(1);
  b.op(OPCODE_COPY, {x}, {y});
  expectError([&] { validateSegment(segment, "segment"); }, "twice");
}

} // namespace
