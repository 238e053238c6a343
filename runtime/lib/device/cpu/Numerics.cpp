//===- Numerics.cpp - which op makes what is not finite -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Numerics.h"

#include "NdLoop.h"

#include <cmath>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

/// Calls `visit(element, value)` for each element of an f32 tensor, in
/// row-major order, until it returns false.
template <typename Visit>
void forEachFloat(const Tensor &tensor, std::byte *const *bases, Visit visit) {
  std::int64_t count = tensor.elements();
  if (tensor.dtype != plan::v1::DTYPE_F32 || count == 0)
    return;
  const float *base = tensor.at<const float>(bases);
  std::vector<std::int64_t> index(tensor.rank());
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!visit(i, base[offset]))
      return;
    for (std::size_t d = tensor.rank(); d-- > 0;) {
      offset += tensor.strides[d];
      if (++index[d] < tensor.dims[d])
        break;
      offset -= tensor.strides[d] * tensor.dims[d];
      index[d] = 0;
    }
  }
}

NonFinite look(const std::vector<Tensor> &tensors, std::byte *const *bases) {
  NonFinite found;
  for (const Tensor &tensor : tensors)
    forEachFloat(tensor, bases, [&](std::int64_t, float value) {
      found.nan |= std::isnan(value);
      found.infinite |= std::isinf(value);
      return !found.nan || !found.infinite;
    });
  return found;
}

} // namespace

NumericsWatch::NumericsWatch(const OpContext &context,
                             const plan::v1::Segment &segment)
    : where(context.where), inputs(context.inputs), outputs(context.outputs),
      states(context.opcode == plan::v1::OPCODE_FILL) {
  // What is added to has been given too.
  if (context.accumulate)
    inputs.insert(inputs.end(), outputs.begin(), outputs.end());
  for (std::uint32_t output : context.op->outputs()) {
    const plan::v1::Value &value = segment.values(static_cast<int>(output));
    std::string name = "value " + std::to_string(output);
    if (value.storage_case() == plan::v1::Value::kArgument) {
      const std::string &argument =
          segment.arguments(static_cast<int>(value.argument())).name();
      name +=
          " in argument " + (argument.empty() ? std::to_string(value.argument())
                                              : "'" + argument + "'");
    }
    names.push_back(name);
  }
}

void NumericsWatch::before(std::byte *const *bases) {
  given = look(inputs, bases);
}

std::optional<std::string> NumericsWatch::after(std::byte *const *bases) const {
  if (states)
    return std::nullopt;
  std::optional<std::string> fault;
  for (std::size_t i = 0; i < outputs.size() && !fault; ++i)
    forEachFloat(outputs[i], bases, [&](std::int64_t element, float value) {
      bool made = (std::isnan(value) && !given.nan) ||
                  (std::isinf(value) && !given.nan && !given.infinite);
      if (made)
        fault = where + ": output " + std::to_string(i) + " (" + names[i] +
                ", " + describe(outputs[i]) + ") is " +
                (std::isnan(value) ? "nan"
                 : value > 0       ? "inf"
                                   : "-inf") +
                " at element " + std::to_string(element);
      return !made;
    });
  return fault;
}
