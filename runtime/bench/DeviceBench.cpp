//===- DeviceBench.cpp - the cpu device's kernels at the shapes of a small GPT
//===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 6 layers, 256 wide, 8 heads, T = 128, batch 4, vocabulary 256. The names are
// those of compare_with_torch.py, which measures PyTorch's ops alternately.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Device.h"
#include "tombolo/schema/plan.pb.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

using namespace tombolo::runtime;
using namespace tombolo::plan::v1;

namespace {

using Dims = std::vector<std::uint64_t>;

/// A segment of one op whose operands are arguments of their own.
class Case {
public:
  explicit Case(Opcode opcode) { segment.add_ops()->set_opcode(opcode); }

  Case &in(Dims dims, Dims strides = {}, DType dtype = DTYPE_F32) {
    op().add_inputs(add(dims, strides, dtype));
    return *this;
  }
  Case &out(Dims dims, Dims strides = {}) {
    op().add_outputs(add(dims, strides, DTYPE_F32));
    return *this;
  }
  /// The last output is the memory of input `index`.
  Case &inPlace(int index) {
    op().add_outputs(op().inputs(index));
    return *this;
  }
  Case &accumulate() {
    op().set_accumulate(true);
    return *this;
  }
  Case &flag(const char *name) {
    attribute(name).set_flag(true);
    return *this;
  }
  Case &real(const char *name, double value) {
    attribute(name).set_real(value);
    return *this;
  }
  Case &integer(const char *name, std::int64_t value) {
    attribute(name).set_integer(value);
    return *this;
  }
  Case &text(const char *name, const char *value) {
    attribute(name).set_text(value);
    return *this;
  }
  Case &axes(std::int64_t axis) {
    attribute("axes").mutable_integers()->add_values(axis);
    return *this;
  }

  const Segment &message() const { return segment; }

private:
  Op &op() { return *segment.mutable_ops(0); }
  Attribute &attribute(const char *name) {
    Attribute &result = *op().add_attributes();
    result.set_name(name);
    return result;
  }
  std::uint32_t add(const Dims &dims, const Dims &strides, DType dtype) {
    std::uint64_t last = 0, count = 1;
    Value *value = segment.add_values();
    value->set_dtype(dtype);
    for (std::size_t i = 0; i < dims.size(); ++i) {
      value->add_dims(dims[i]);
      count *= dims[i];
      if (!strides.empty()) {
        value->add_strides(strides[i]);
        last += (dims[i] - 1) * strides[i];
      }
    }
    value->set_argument(segment.arguments_size());
    segment.add_arguments()->set_bytes((strides.empty() ? count : last + 1) *
                                       (dtype == DTYPE_I64 ? 8 : 4));
    return segment.values_size() - 1;
  }

  Segment segment;
};

void run(benchmark::State &state, const Segment &segment) {
  const char *threads = std::getenv("OMP_NUM_THREADS");
  std::unique_ptr<Device> device = createDevice(
      "cpu",
      {.threads = threads ? static_cast<unsigned>(std::atoi(threads)) : 1u});
  std::unique_ptr<Executable> executable = device->prepare(segment);
  std::vector<std::unique_ptr<Arena>> arenas;
  std::vector<std::byte *> addresses;
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (int i = 0; i < segment.arguments_size(); ++i) {
    std::uint64_t bytes = segment.arguments(i).bytes();
    arenas.push_back(device->allocateArena(bytes));
    addresses.push_back(arenas.back()->base());
    std::vector<float> values(bytes / 4);
    for (float &value : values)
      value = std::fabs(normal(generator)); // second moments and rstd
    bool isIndex = false;
    for (const Value &value : segment.values())
      isIndex |= value.argument() == static_cast<std::uint32_t>(i) &&
                 value.dtype() == DTYPE_I64;
    std::vector<std::int64_t> indices(bytes / 8);
    for (std::int64_t &index : indices)
      index = 1 + generator() % 255;
    std::memcpy(addresses[i],
                isIndex ? static_cast<void *>(indices.data()) : values.data(),
                bytes);
  }
  for (auto _ : state)
    executable->run(addresses, nullptr);
}

void add(const char *name, const Case &item) {
  benchmark::RegisterBenchmark(
      name, [segment = item.message()](
                benchmark::State &state) { run(state, segment); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void addAll() {
  const Dims x = {512, 256}, wide = {512, 1024}, qkv = {512, 768};
  auto matmul = [] { return Case(OPCODE_MATMUL); };
  add("linear_qkv", matmul().in(x).in({256, 768}).in({768}).out(qkv));
  add("linear_proj", matmul().in(x).in({256, 256}).in({256}).out(x));
  add("linear_fc1", matmul().in(x).in({256, 1024}).in({1024}).out(wide));
  add("linear_fc2", matmul().in(wide).in({1024, 256}).in({256}).out(x));
  add("linear_fc1_torch_layout",
      matmul().in(x).in({1024, 256}).in({1024}).out(wide).flag("transpose_b"));
  add("head", matmul().in(x).in({256, 256}).out(x).flag("transpose_b"));
  add("dx_qkv", matmul().in(qkv).in({256, 768}).out(x).flag("transpose_b"));
  add("dx_fc1", matmul().in(wide).in({256, 1024}).out(x).flag("transpose_b"));
  add("dx_fc2", matmul().in(x).in({1024, 256}).out(wide).flag("transpose_b"));
  add("dw_qkv",
      matmul().in(x).in(qkv).out({256, 768}).flag("transpose_a").accumulate());
  add("dw_fc1", matmul()
                    .in(x)
                    .in(wide)
                    .out({256, 1024})
                    .flag("transpose_a")
                    .accumulate());
  add("dw_fc2", matmul()
                    .in(wide)
                    .in(x)
                    .out({1024, 256})
                    .flag("transpose_a")
                    .accumulate());
  add("db_fc1",
      Case(OPCODE_REDUCE_SUM).in(wide).out({1024}).axes(0).accumulate());
  add("layer_norm", Case(OPCODE_LAYER_NORM)
                        .in(x)
                        .in({256})
                        .in({256})
                        .out(x)
                        .out({512})
                        .out({512})
                        .real("epsilon", 1e-5));
  add("layer_norm_backward_input", Case(OPCODE_LAYER_NORM_BACKWARD_INPUT)
                                       .in(x)
                                       .in(x)
                                       .in({256})
                                       .in({512})
                                       .in({512})
                                       .out(x));
  add("layer_norm_backward_weight", Case(OPCODE_LAYER_NORM_BACKWARD_WEIGHT)
                                        .in(x)
                                        .in(x)
                                        .in({512})
                                        .in({512})
                                        .out({256})
                                        .out({256})
                                        .accumulate());
  for (const char *form : {"none", "tanh"}) {
    std::string suffix = form == std::string("none") ? "" : "_tanh";
    add(("gelu" + suffix).c_str(),
        Case(OPCODE_GELU).in(wide).out(wide).text("approximate", form));
    add(("gelu_backward" + suffix).c_str(), Case(OPCODE_GELU_BACKWARD)
                                                .in(wide)
                                                .in(wide)
                                                .out(wide)
                                                .text("approximate", form));
  }
  add("add", Case(OPCODE_ADD).in(x).in(x).out(x));
  add("embedding", Case(OPCODE_GATHER)
                       .in({256, 256})
                       .in({4, 128}, {}, DTYPE_I64)
                       .out({4, 128, 256})
                       .integer("axis", 0));
  add("embedding_backward", Case(OPCODE_GATHER_BACKWARD)
                                .in({4, 128, 256})
                                .in({4, 128}, {}, DTYPE_I64)
                                .out({256, 256})
                                .integer("axis", 0)
                                .accumulate());
  // Heads of a fused QKV tensor; o and the gradients are views as well.
  const Dims heads = {4, 8, 128, 32}, fused = {128 * 768, 32, 768, 1};
  const Dims joined = {128 * 256, 32, 256, 1};
  auto attention = [&](Opcode opcode) {
    Case item(opcode);
    item.flag("causal").real("scale", 0.17677669);
    if (opcode == OPCODE_ATTENTION_BACKWARD)
      item.in(heads, joined);
    return item.in(heads, fused).in(heads, fused).in(heads, fused);
  };
  add("attention",
      attention(OPCODE_ATTENTION).out(heads, joined).out({4, 8, 128}));
  add("attention_backward", attention(OPCODE_ATTENTION_BACKWARD)
                                .in(heads, joined)
                                .in({4, 8, 128})
                                .out(heads, fused)
                                .out(heads, fused)
                                .out(heads, fused));
  add("cross_entropy", Case(OPCODE_CROSS_ENTROPY)
                           .in(x)
                           .in({512}, {}, DTYPE_I64)
                           .out({1})
                           .out({1})
                           .out({512})
                           .integer("ignore_index", -100));
  add("cross_entropy_backward", Case(OPCODE_CROSS_ENTROPY_BACKWARD)
                                    .in(x)
                                    .in({512}, {}, DTYPE_I64)
                                    .in({512})
                                    .out(x)
                                    .integer("ignore_index", -100));
  add("softmax", Case(OPCODE_SOFTMAX).in({4096, 128}).out({4096, 128}));
  const Dims all = {4800000};
  add("adamw", Case(OPCODE_ADAMW)
                   .in(all)
                   .in(all)
                   .in({1})
                   .in({1}, {}, DTYPE_I64)
                   .in(all)
                   .in(all)
                   .inPlace(0)
                   .inPlace(4)
                   .inPlace(5)
                   .real("learning_rate", 1e-3)
                   .real("beta1", 0.9)
                   .real("beta2", 0.999)
                   .real("epsilon", 1e-8)
                   .real("weight_decay", 0.01));
}

} // namespace

int main(int argc, char **argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 2;
  addAll();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
