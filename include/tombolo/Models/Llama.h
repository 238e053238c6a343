//===- Llama.h - Llama models to plan and train -----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_MODELS_LLAMA_H
#define TOMBOLO_MODELS_LLAMA_H

#include "tombolo/Models/Weights.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tombolo::models {

/// The size of a Llama: token embedding, pre-norm blocks (RMS norm, causal
/// attention with rotary embedding and groups of queries that share a head of
/// keys and values, RMS norm, SwiGLU), a final norm and an untied head. No
/// biases. Matrices are stored as [inputs, outputs].
struct LlamaShape {
  uint64_t layers = 6;
  uint64_t hidden = 256;
  uint64_t heads = 8;
  uint64_t kvHeads = 2;      ///< divides `heads`
  uint64_t ffn = 0;          ///< width of the SwiGLU; 0: about 8/3 hidden
  uint64_t vocabulary = 256; ///< 256: a token is a byte
  uint64_t sequence = 128;   ///< tokens per sample, constant in the model

  /// Three matrices of this width have the parameters of two of 4 * hidden;
  /// rounded up to a multiple of 64.
  uint64_t ffnWidth() const {
    return ffn ? ffn : (8 * hidden / 3 + 63) / 64 * 64;
  }
  uint64_t headWidth() const { return hidden / heads; }
};

/// A shape with a name for the command line.
struct NamedLlama {
  std::string_view name;
  LlamaShape shape;
  std::string_view summary;
};

/// The named shapes; `llama` comes first and is the default of each size.
const std::vector<NamedLlama> &namedLlamas();

/// The shape of that name, if there is one.
std::optional<LlamaShape> findLlama(std::string_view name);

/// What is wrong with `shape`, or the empty string.
std::string checkShape(const LlamaShape &shape);

/// Writes the model as ONNX (opset 17) in the operators that PyTorch exports,
/// with one input `tokens` [batch, T] of int64 and one output `logits`
/// [batch, T, vocabulary]. Weights are normal(0, 0.02), norms one; the angles
/// of the rotary embedding (base 10,000) are computed in the graph. The rest
/// is as in writeGpt.
[[nodiscard]] std::string writeLlama(const LlamaShape &shape, uint64_t seed,
                                     Weights weights, const std::string &path);

} // namespace tombolo::models

#endif // TOMBOLO_MODELS_LLAMA_H
