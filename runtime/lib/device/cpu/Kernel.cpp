//===- Kernel.cpp - making kernels from ops -------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Kernel.h"

#include <algorithm>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

static std::string countText(std::size_t least, std::size_t most) {
  if (least == most)
    return std::to_string(least);
  return std::to_string(least) + " to " + std::to_string(most);
}

void OpContext::requireInputs(std::size_t least, std::size_t most) const {
  require(inputs.size() >= least && inputs.size() <= most, "expected ",
          countText(least, most), " inputs, got ", inputs.size());
}

void OpContext::requireOutputs(std::size_t least, std::size_t most) const {
  require(outputs.size() >= least && outputs.size() <= most, "expected ",
          countText(least, most), " outputs, got ", outputs.size());
}

void OpContext::requireType(const Tensor &tensor, DType dtype,
                            const char *name) const {
  require(tensor.dtype == dtype, "expected ", name, " of type ",
          device::nameOf(dtype), ", got ", describe(tensor));
}

void OpContext::requireDims(const Tensor &tensor,
                            const std::vector<std::int64_t> &dims,
                            const char *name) const {
  if (tensor.dims == dims)
    return;
  Tensor expected;
  expected.dtype = tensor.dtype;
  expected.dims = dims;
  fail("expected ", name, " to be ", describe(expected), ", got ",
       describe(tensor));
}

void OpContext::requirePlain(const Tensor &tensor,
                             const std::vector<std::int64_t> &dims,
                             const char *name) const {
  requireType(tensor, plan::v1::DTYPE_F32, name);
  requireDims(tensor, dims, name);
  require(tensor.isRowMajor(), "expected ", name, " without strides");
}

const plan::v1::Attribute *OpContext::find(const char *name) const {
  for (const plan::v1::Attribute &attribute : op->attributes())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

std::optional<std::int64_t> OpContext::optionalInteger(const char *name) const {
  const plan::v1::Attribute *attribute = find(name);
  if (!attribute)
    return std::nullopt;
  require(attribute->value_case() == plan::v1::Attribute::kInteger,
          "expected attribute '", name, "' to be an integer");
  return attribute->integer();
}

std::int64_t OpContext::integer(const char *name) const {
  std::optional<std::int64_t> value = optionalInteger(name);
  require(value.has_value(), "attribute '", name, "' is missing");
  return *value;
}

double OpContext::real(const char *name) const {
  const plan::v1::Attribute *attribute = find(name);
  require(attribute, "attribute '", name, "' is missing");
  require(attribute->value_case() == plan::v1::Attribute::kReal,
          "expected attribute '", name, "' to be a real");
  return attribute->real();
}

double OpContext::real(const char *name, double absent) const {
  return find(name) ? real(name) : absent;
}

bool OpContext::flag(const char *name) const {
  const plan::v1::Attribute *attribute = find(name);
  if (!attribute)
    return false;
  require(attribute->value_case() == plan::v1::Attribute::kFlag,
          "expected attribute '", name, "' to be a flag");
  return attribute->flag();
}

std::string OpContext::text(const char *name, const char *absent) const {
  const plan::v1::Attribute *attribute = find(name);
  if (!attribute)
    return absent;
  require(attribute->value_case() == plan::v1::Attribute::kText,
          "expected attribute '", name, "' to be a text");
  return attribute->text();
}

std::vector<std::int64_t> OpContext::integers(const char *name) const {
  const plan::v1::Attribute *attribute = find(name);
  require(attribute, "attribute '", name, "' is missing");
  require(attribute->value_case() == plan::v1::Attribute::kIntegers,
          "expected attribute '", name, "' to be integers");
  const auto &values = attribute->integers().values();
  return {values.begin(), values.end()};
}

std::uint64_t OpContext::reserveBytes(std::uint64_t bytes) {
  std::uint64_t offset = scratchBytes;
  scratchBytes += (bytes + 63) / 64 * 64;
  return offset;
}

Tensor OpContext::reserve(DType dtype, const std::vector<std::int64_t> &dims) {
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.dims = dims;
  tensor.strides = device::rowMajorStrides(dims);
  tensor.base = scratchBase;
  tensor.offset = reserveBytes(tensor.elements() * device::bytesOf(dtype));
  return tensor;
}

void KernelTable::add(Opcode opcode, KernelEntry entry) {
  if (entries.size() <= static_cast<std::size_t>(opcode))
    entries.resize(opcode + 1);
  entries[opcode] = entry;
}

const KernelEntry *KernelTable::find(Opcode opcode) const {
  auto index = static_cast<std::size_t>(opcode);
  if (index >= entries.size() || !entries[index].make)
    return nullptr;
  return &entries[index];
}

const KernelTable &cpu::kernelTable() {
  static const KernelTable table = [] {
    KernelTable result;
    addElementwiseKernels(result);
    addMovementKernels(result);
    addReductionKernels(result);
    addNormKernels(result);
    addConvolutionKernels(result);
    addSoftmaxKernels(result);
    addMatmulKernels(result);
    addAttentionKernels(result);
    addOptimizerKernels(result);
    addDropoutKernel(result);
    return result;
  }();
  return table;
}

namespace {

/// Copies into scratch, the kernel, copies (or additions) out of scratch.
class StagedKernel : public Kernel {
public:
  void run(std::byte *const *bases) const override {
    for (const auto &step : steps)
      step->run(bases);
  }
  std::vector<std::unique_ptr<Kernel>> steps;
};

bool fits(const Tensor &tensor, Layout layout) {
  switch (layout) {
  case Layout::Any:
    return true;
  case Layout::InnerContiguous:
    return tensor.isInnerContiguous();
  case Layout::RowMajor:
    return tensor.isRowMajor();
  }
  return false;
}

/// True if no two elements share memory (sufficient, not necessary).
bool isInjective(const Tensor &tensor) {
  std::vector<std::pair<std::int64_t, std::int64_t>> nest; // stride, extent
  for (std::size_t i = 0; i < tensor.rank(); ++i)
    if (tensor.dims[i] > 1)
      nest.emplace_back(tensor.strides[i], tensor.dims[i]);
  std::sort(nest.begin(), nest.end());
  std::int64_t last = 0; // the farthest element of the inner dimensions
  for (auto [stride, extent] : nest) {
    if (stride <= last)
      return false;
    last += stride * (extent - 1);
  }
  return true;
}

} // namespace

std::unique_ptr<Kernel> cpu::makeKernel(OpContext &context) {
  const KernelEntry *entry = kernelTable().find(context.opcode);
  context.require(entry, "the cpu device has no kernel for it");
  for (const std::vector<Tensor> *operands :
       {&context.inputs, &context.outputs})
    for (const Tensor &tensor : *operands)
      context.require(tensor.dtype != plan::v1::DTYPE_BF16,
                      "the cpu device does not compute bf16 yet, got ",
                      describe(tensor), "; plan with --precision f32");
  for (const Tensor &output : context.outputs)
    context.require(output.base != context.scratchBase - 1,
                    "a constant cannot be an output");
  for (const Tensor &output : context.outputs)
    context.require(isInjective(output), "elements of an output share memory");

  auto staged = std::make_unique<StagedKernel>();
  for (Tensor &input : context.inputs) {
    if (fits(input, entry->inputs))
      continue;
    Tensor dense = context.reserve(input.dtype, input.dims);
    staged->steps.push_back(makeCopy(context, input, dense, false));
    input = dense;
  }
  for (const Tensor &output : context.outputs)
    context.require(fits(output, entry->outputs),
                    "this op's output cannot have these strides");

  bool accumulate = context.accumulate;
  std::vector<Tensor> targets = context.outputs;
  if (accumulate) {
    context.require(entry->accumulates != KernelEntry::Never,
                    "this op cannot accumulate");
    for (const Tensor &output : context.outputs)
      context.require(output.dtype == plan::v1::DTYPE_F32,
                      "only f32 outputs can accumulate, got ",
                      describe(output));
  }
  bool through =
      accumulate && entry->accumulates == KernelEntry::ThroughScratch;
  if (through) {
    context.accumulate = false;
    for (Tensor &output : context.outputs)
      output = context.reserve(output.dtype, output.dims);
  }
  std::unique_ptr<Kernel> kernel = entry->make(context);
  if (!through && staged->steps.empty())
    return kernel;
  staged->steps.push_back(std::move(kernel));
  if (through)
    for (std::size_t i = 0; i < targets.size(); ++i)
      staged->steps.push_back(
          makeCopy(context, context.outputs[i], targets[i], true));
  return staged;
}
