//===- InitialParameters.h - where a run starts from ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_INITIALPARAMETERS_H
#define TOMBOLO_RUNTIME_INITIALPARAMETERS_H

#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/plan/Parameters.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace tombolo::runtime {

/// How `--init SEED` fills a parameter.
enum class Filling { Normal, Zeros, Ones };

/// By name, else by the op that uses it: biases are zero, the weights of norms
/// one, everything else normal(0, 0.02).
Filling fillingOf(const OnnxModel &model, const LocalParameter &parameter);

/// Elements [begin, begin + out.size()) of the parameter called `name`. Depends
/// on seed, name and element alone, so that every layout draws the same.
void drawElements(Filling filling, std::uint64_t seed, const std::string &name,
                  std::uint64_t begin, std::span<float> out);

/// Writes `parameter`'s local part piece by piece: `put(localElement, values)`.
/// From the ONNX file, or drawn from `seed` when its weights are absent. Throws
/// Error when the file does not hold it, holds another shape, or its weights
/// are absent and there is no seed.
void fillParameter(
    const OnnxModel &model, const LocalParameter &parameter,
    std::optional<std::uint64_t> seed,
    const std::function<void(std::uint64_t, std::span<const float>)> &put);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_INITIALPARAMETERS_H
