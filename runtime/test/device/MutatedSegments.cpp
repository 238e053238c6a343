//===- MutatedSegments.cpp - what prepare lets through is safe to run -----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Segments come from files. Each op's valid segment is changed at random
// places; the device must refuse the result or run it without touching memory
// outside its arguments (the guards of OpCase, and the address sanitizer's in
// that build).
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include "tombolo/runtime/Error.h"

#include <cmath>
#include <cstring>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

OpCase optimizer(Opcode opcode) {
  OpCase op(opcode);
  op.input(random({6}, 1))
      .input(random({6}, 2))
      .input(of(DTYPE_F32, {1}, {2}))
      .input(of(DTYPE_I64, {1}, {1}));
  for (int i = 0; i < (opcode == OPCODE_SGD ? 1 : 2); ++i)
    op.input(filled(DTYPE_F32, {6}, 0.5));
  op.inPlace(0).inPlace(4);
  if (opcode == OPCODE_ADAMW)
    op.inPlace(5).real("beta1", 0.9).real("beta2", 0.99).real("epsilon", 1e-8);
  return op.real("learning_rate", 0.1)
      .real("momentum", 0.9)
      .real("weight_decay", 0.1);
}

/// A valid segment of the op on the second of two parts of a split axis.
OpCase shardedExample(Opcode opcode) {
  OpCase op(opcode);
  Host x = random({2, 3, 4}, 1), rows = random({2, 3}, 3);
  Host indices = of(DTYPE_I64, {2}, {0, 5}), index = of(DTYPE_I64, {}, {1});
  Host labels = of(DTYPE_I64, {2, 3}, {0, 4, 2, 7, 5, -100});
  switch (opcode) {
  case OPCODE_GATHER:
    return op.input(x)
        .input(indices)
        .input(index)
        .output(DTYPE_F32, {2, 2, 4})
        .integer("axis", 1)
        .integer("count", 2);
  case OPCODE_GATHER_BACKWARD:
    return op.input(random({2, 2, 4}, 1))
        .input(indices)
        .input(index)
        .output(DTYPE_F32, x.dims)
        .integer("axis", 1)
        .integer("count", 2);
  case OPCODE_CROSS_ENTROPY_SHARD:
    return op.input(x)
        .input(labels)
        .input(index)
        .output(DTYPE_F32, {2, 3})
        .output(DTYPE_F32, {2, 3})
        .integer("ignore_index", -100)
        .integer("count", 2);
  case OPCODE_CROSS_ENTROPY_MERGE:
    return op.input(random({2, 2, 3}, 1))
        .input(rows)
        .input(labels)
        .output(DTYPE_F32, {})
        .output(DTYPE_F32, {})
        .output(DTYPE_F32, {2, 3})
        .integer("ignore_index", -100);
  case OPCODE_CROSS_ENTROPY_BACKWARD:
    return op.input(x)
        .input(labels)
        .input(rows)
        .input(index)
        .output(DTYPE_F32, x.dims)
        .integer("ignore_index", -100)
        .integer("count", 2);
  default: // shard
    return op.input(x).input(index).output(DTYPE_F32, {3, 4});
  }
}

const Opcode kShardedOpcodes[] = {
    OPCODE_SHARD,
    OPCODE_GATHER,
    OPCODE_GATHER_BACKWARD,
    OPCODE_CROSS_ENTROPY_SHARD,
    OPCODE_CROSS_ENTROPY_MERGE,
    OPCODE_CROSS_ENTROPY_BACKWARD,
};

OpCase window(OpCase op) {
  return op.integers("kernel", {3, 2})
      .integers("strides", {2, 1})
      .integers("dilations", {1, 1})
      .integers("low", {1, 0})
      .integers("high", {1, 0});
}

/// A valid segment of the op.
OpCase example(Opcode opcode) {
  OpCase op(opcode);
  Host x = random({2, 3, 4}, 1), row = random({4}, 2);
  Host indices = of(DTYPE_I64, {2}, {0, 2});
  Host labels = of(DTYPE_I64, {2, 3}, {0, 1, 2, 3, 0, -100});
  Host rows = random({2, 3}, 3);
  switch (opcode) {
  case OPCODE_CONCAT:
    return op.input(x).input(x).output(DTYPE_F32, {2, 6, 4}).integer("axis", 1);
  case OPCODE_GATHER:
    return op.input(x)
        .input(indices)
        .output(DTYPE_F32, {2, 2, 4})
        .integer("axis", 1);
  case OPCODE_GATHER_BACKWARD:
    return op.input(random({2, 2, 4}, 1))
        .input(indices)
        .output(DTYPE_F32, x.dims)
        .integer("axis", 1);
  case OPCODE_FILL:
    return op.output(DTYPE_F32, {3, 4}).real("value", 3);
  case OPCODE_PAD:
    return op.input(x).output(DTYPE_F32, {3, 4, 5}).integers("low", {1, 0, 1});
  case OPCODE_ADD:
  case OPCODE_POW:
    return op.input(x).input(row).output(DTYPE_F32, x.dims);
  case OPCODE_RELU_BACKWARD:
  case OPCODE_GELU_BACKWARD:
  case OPCODE_SOFTMAX_BACKWARD:
    return op.input(x).input(x).output(DTYPE_F32, x.dims);
  case OPCODE_WHERE:
    return op.input(filled(DTYPE_BOOL, {3, 1}, 1))
        .input(x)
        .input(row)
        .output(DTYPE_F32, x.dims);
  case OPCODE_LESS:
    return op.input(x).input(row).output(DTYPE_BOOL, x.dims);
  case OPCODE_REDUCE_SUM:
  case OPCODE_REDUCE_MAX:
    return op.input(x).output(DTYPE_F32, {2, 4}).integers("axes", {1});
  case OPCODE_LAYER_NORM:
    return op.input(x)
        .input(row)
        .input(row)
        .output(DTYPE_F32, x.dims)
        .output(DTYPE_F32, {2, 3})
        .output(DTYPE_F32, {2, 3})
        .real("epsilon", 1e-5);
  case OPCODE_LAYER_NORM_BACKWARD_INPUT:
    return op.input(x).input(x).input(row).input(rows).input(rows).output(
        DTYPE_F32, x.dims);
  case OPCODE_LAYER_NORM_BACKWARD_WEIGHT:
    return op.input(x)
        .input(x)
        .input(rows)
        .input(rows)
        .output(DTYPE_F32, {4})
        .output(DTYPE_F32, {4});
  case OPCODE_CROSS_ENTROPY:
    return op.input(x)
        .input(labels)
        .output(DTYPE_F32, {})
        .output(DTYPE_F32, {})
        .output(DTYPE_F32, {2, 3})
        .integer("ignore_index", -100);
  case OPCODE_CROSS_ENTROPY_BACKWARD:
    return op.input(x)
        .input(labels)
        .input(rows)
        .output(DTYPE_F32, x.dims)
        .integer("ignore_index", -100);
  case OPCODE_MATMUL:
    return op.input(x)
        .input(random({4, 5}, 2))
        .input(random({5}, 3))
        .output(DTYPE_F32, {2, 3, 5});
  case OPCODE_ATTENTION:
    return op.input(x)
        .input(x)
        .input(x)
        .output(DTYPE_F32, x.dims)
        .output(DTYPE_F32, {2, 3})
        .flag("causal", true)
        .real("scale", 0.5);
  case OPCODE_ATTENTION_BACKWARD:
    return op.input(x)
        .input(x)
        .input(x)
        .input(x)
        .input(x)
        .input(rows)
        .output(DTYPE_F32, x.dims)
        .output(DTYPE_F32, x.dims)
        .output(DTYPE_F32, x.dims)
        .flag("causal", true)
        .real("scale", 0.5);
  case OPCODE_OPTIMIZER_ADVANCE:
    return op.input(of(DTYPE_F32, {1}, {1}))
        .input(of(DTYPE_I64, {1}, {1}))
        .inPlace(1);
  case OPCODE_SGD:
  case OPCODE_ADAMW:
    return optimizer(opcode);
  case OPCODE_DROPOUT:
    return op.input(x)
        .input(of(DTYPE_I64, {4}, {1, 2, 3, 4}))
        .output(DTYPE_F32, x.dims)
        .real("ratio", 0.5)
        .integer("site", 1)
        .flag("shared", true);
  case OPCODE_SQUARE_SUM:
    return op.input(random({6}, 1)).output(DTYPE_F32, {1}).real("scale", 0.5);
  case OPCODE_CLIP_WEIGHT:
    return op.input(of(DTYPE_F32, {1}, {9}))
        .input(of(DTYPE_F32, {1}, {2}))
        .output(DTYPE_F32, {1})
        .real("max_norm", 0.5);
  case OPCODE_CONV:
  case OPCODE_CONV_BACKWARD_INPUT:
  case OPCODE_CONV_BACKWARD_WEIGHT: {
    Host image = random({2, 3, 5, 4}, 1), weight = random({4, 3, 3, 2}, 2),
         result = random({2, 4, 3, 3}, 3);
    bool forward = opcode == OPCODE_CONV,
         ofWeight = opcode == OPCODE_CONV_BACKWARD_WEIGHT;
    return op.input(forward ? image : result)
        .input(ofWeight ? image : weight)
        .output(DTYPE_F32, forward    ? result.dims
                           : ofWeight ? weight.dims
                                      : image.dims)
        .integers("strides", {2, 1})
        .integers("dilations", {1, 1})
        .integers("low", {1, 0})
        .integers("high", {1, 0})
        .integer("groups", 1);
  }
  case OPCODE_POOL:
    return window(op.input(random({2, 3, 5, 4}, 1)))
        .output(DTYPE_F32, {2, 3, 3, 3});
  case OPCODE_POOL_BACKWARD:
    return window(
               op.input(random({2, 3, 3, 3}, 2)).input(random({2, 3, 5, 4}, 1)))
        .output(DTYPE_F32, {2, 3, 5, 4});
  case OPCODE_BATCH_NORM:
    return op.input(x)
        .input(filled(DTYPE_F32, {3}, 1))
        .input(filled(DTYPE_F32, {3}, 0))
        .output(DTYPE_F32, x.dims)
        .output(DTYPE_F32, {3})
        .output(DTYPE_F32, {3})
        .real("epsilon", 1e-5);
  case OPCODE_BATCH_NORM_BACKWARD:
    return op.input(x)
        .input(x)
        .input(filled(DTYPE_F32, {3}, 1))
        .input(filled(DTYPE_F32, {3}, 0))
        .input(filled(DTYPE_F32, {3}, 1))
        .output(DTYPE_F32, x.dims)
        .output(DTYPE_F32, {3})
        .output(DTYPE_F32, {3})
        .real("epsilon", 1e-5);
  default: // copy, cast, unary, softmax
    return op.input(x).output(DTYPE_F32, x.dims);
  }
}

const Opcode kOpcodes[] = {OPCODE_COPY,
                           OPCODE_CONCAT,
                           OPCODE_GATHER,
                           OPCODE_GATHER_BACKWARD,
                           OPCODE_CAST,
                           OPCODE_FILL,
                           OPCODE_PAD,
                           OPCODE_ADD,
                           OPCODE_POW,
                           OPCODE_EXP,
                           OPCODE_RELU_BACKWARD,
                           OPCODE_GELU,
                           OPCODE_GELU_BACKWARD,
                           OPCODE_WHERE,
                           OPCODE_LESS,
                           OPCODE_REDUCE_SUM,
                           OPCODE_REDUCE_MAX,
                           OPCODE_SOFTMAX,
                           OPCODE_SOFTMAX_BACKWARD,
                           OPCODE_LAYER_NORM,
                           OPCODE_LAYER_NORM_BACKWARD_INPUT,
                           OPCODE_LAYER_NORM_BACKWARD_WEIGHT,
                           OPCODE_CROSS_ENTROPY,
                           OPCODE_CROSS_ENTROPY_BACKWARD,
                           OPCODE_MATMUL,
                           OPCODE_ATTENTION,
                           OPCODE_ATTENTION_BACKWARD,
                           OPCODE_OPTIMIZER_ADVANCE,
                           OPCODE_SGD,
                           OPCODE_ADAMW,
                           OPCODE_DROPOUT,
                           OPCODE_SQUARE_SUM,
                           OPCODE_CLIP_WEIGHT,
                           OPCODE_CONV,
                           OPCODE_CONV_BACKWARD_INPUT,
                           OPCODE_CONV_BACKWARD_WEIGHT,
                           OPCODE_POOL,
                           OPCODE_POOL_BACKWARD,
                           OPCODE_BATCH_NORM,
                           OPCODE_BATCH_NORM_BACKWARD,
                           OPCODE_LOG_SOFTMAX};

class Mutator {
public:
  explicit Mutator(unsigned seed) : generator(seed) {}

  void change(Segment &segment) {
    Op &op = *segment.mutable_ops(0);
    Value &value = *segment.mutable_values(below(segment.values_size()));
    switch (below(10)) {
    case 0:
      value.set_dtype(static_cast<DType>(below(6)));
      break;
    case 1:
    case 2:
      if (value.dims_size())
        value.set_dims(below(value.dims_size()), extent());
      break;
    case 3:
      value.add_dims(extent());
      break;
    case 4:
      value.clear_strides();
      for (int i = 0; i < value.dims_size(); ++i)
        value.add_strides(extent());
      break;
    case 5:
      value.set_byte_offset(4 * extent());
      break;
    case 6:
      value.set_argument(below(segment.arguments_size()));
      break;
    case 7:
      if (op.inputs_size())
        op.set_inputs(below(op.inputs_size()), below(segment.values_size()));
      break;
    case 8:
      op.set_accumulate(below(2));
      break;
    default:
      changeAttribute(op);
    }
  }

  std::uint64_t below(std::uint64_t bound) {
    return std::uniform_int_distribution<std::uint64_t>(0,
                                                        bound - 1)(generator);
  }

private:
  /// Mostly small, sometimes absurd.
  std::uint64_t extent() {
    return below(20) ? below(7) : std::uint64_t(1) << (10 + below(53));
  }

  void changeAttribute(Op &op) {
    if (!op.attributes_size() || !below(4)) {
      op.add_attributes()->set_name(below(2) ? "transpose_a" : "transpose_b");
      op.mutable_attributes(op.attributes_size() - 1)->set_flag(true);
      return;
    }
    Attribute &attribute = *op.mutable_attributes(below(op.attributes_size()));
    switch (below(4)) {
    case 0:
      attribute.set_integer(static_cast<std::int64_t>(extent()) - 2);
      break;
    case 1:
      attribute.mutable_integers()->add_values(
          static_cast<std::int64_t>(extent()) - 2);
      break;
    case 2:
      attribute.set_flag(true);
      break;
    default:
      attribute.set_real(0.5);
    }
  }

  std::mt19937 generator;
};

/// Every argument in its own allocation, so that the address sanitizer sees the
/// smallest step outside; values 0.25, indices 0.
void runSafely(Executable &executable, const Segment &segment) {
  std::vector<std::vector<float>> memory;
  std::vector<std::byte *> addresses;
  for (const Argument &argument : segment.arguments())
    memory.emplace_back((argument.bytes() + 3) / 4 + 16,
                        argument.bytes() % 8 ? 0.25f : 0.0f);
  const float guard = -123.5f;
  for (int i = 0; i < segment.arguments_size(); ++i) {
    std::fill(memory[i].end() - 16, memory[i].end(), guard);
    addresses.push_back(reinterpret_cast<std::byte *>(memory[i].data()));
  }
  try {
    executable.run(addresses, nullptr);
  } catch (const Error &) { // an index out of range
  }
  for (const std::vector<float> &values : memory)
    for (std::size_t i = values.size() - 16; i < values.size(); ++i)
      ASSERT_EQ(values[i], guard) << segment.DebugString();
}

TEST(MutatedSegments, AreRefusedOrSafe) {
  std::unique_ptr<Device> device = createDevice("cpu");
  int refused = 0, ran = 0;
  std::vector<std::pair<Opcode, Segment>> examples;
  for (Opcode opcode : kOpcodes)
    examples.emplace_back(opcode, example(opcode).message());
  for (Opcode opcode : kShardedOpcodes)
    examples.emplace_back(opcode, shardedExample(opcode).message());
  for (const auto &[opcode, valid] : examples) {
    ASSERT_NO_THROW(device->prepare(valid)) << valid.DebugString();
    Mutator mutator(static_cast<unsigned>(opcode));
    for (int round = 0; round < 400; ++round) {
      Segment segment = valid;
      for (std::uint64_t n = 1 + mutator.below(3); n > 0; --n)
        mutator.change(segment);
      std::unique_ptr<Executable> executable;
      try {
        executable = device->prepare(segment);
      } catch (const Error &error) {
        EXPECT_NE(std::strlen(error.what()), 0u);
        ++refused;
        continue;
      }
      ++ran;
      runSafely(*executable, segment);
      if (HasFatalFailure())
        return;
    }
  }
  // Both ways are really taken.
  EXPECT_GT(refused, 1000);
  EXPECT_GT(ran, 1000);
}

} // namespace
