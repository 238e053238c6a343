//===- Gpt.h - GPT models to plan and train ---------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_MODELS_GPT_H
#define TOMBOLO_MODELS_GPT_H

#include "tombolo/Models/Weights.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tombolo::models {

/// The size of a GPT: token and position embedding, pre-norm blocks (layer
/// norm, causal attention over a fused QKV product, layer norm, MLP with the
/// exact GELU), a final norm and an untied head. Matrices are stored as
/// [inputs, outputs].
struct GptShape {
  uint64_t layers = 6;
  uint64_t hidden = 256;
  uint64_t heads = 8;
  uint64_t ffn = 0;          ///< width of the MLP; 0: 4 * hidden
  uint64_t vocabulary = 256; ///< 256: a token is a byte
  uint64_t sequence = 128;   ///< tokens per sample, constant in the model

  uint64_t ffnWidth() const { return ffn ? ffn : 4 * hidden; }
};

/// A shape with a name for the command line.
struct NamedGpt {
  std::string_view name;
  GptShape shape;
  std::string_view summary;
};

/// The named shapes; `gpt` comes first and is the default of each size.
const std::vector<NamedGpt> &namedGpts();

/// The shape of that name, if there is one.
std::optional<GptShape> findGpt(std::string_view name);

/// What is wrong with `shape`, or the empty string.
std::string checkShape(const GptShape &shape);

/// The number of trained elements. `shape` must be good.
uint64_t countParameters(const GptShape &shape);

/// Writes the model as ONNX (opset 17) with one input `tokens` [batch, T] of
/// int64 and one output `logits` [batch, T, vocabulary]. Weights are
/// normal(0, 0.02), biases zero, norms one; the same seed gives the same
/// bytes. Each file is written aside and then renamed, so that a failure
/// leaves none behind. Returns the error, or the empty string.
[[nodiscard]] std::string writeGpt(const GptShape &shape, uint64_t seed,
                                   Weights weights, const std::string &path);

} // namespace tombolo::models

#endif // TOMBOLO_MODELS_GPT_H
