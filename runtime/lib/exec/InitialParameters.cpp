//===- InitialParameters.cpp - where a run starts from --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/InitialParameters.h"

#include "Random.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numbers>

namespace tombolo::runtime {

using detail::mix;

namespace {

/// FNV-1a: names are few and no adversary chooses them.
std::uint64_t hashName(const std::string &name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (unsigned char c : name)
    hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool contains(const std::string &text, const char *part) {
  return text.find(part) != std::string::npos;
}

/// "ln_1.weight", "h.0.ln1", "final_norm.scale": the words of the usual models.
bool namesNorm(const std::string &name) {
  if (contains(name, "norm"))
    return true;
  std::size_t begin = 0;
  while (begin <= name.size()) {
    std::size_t end = std::min(name.find_first_of("./", begin), name.size());
    std::string word = name.substr(begin, end - begin);
    if (word.rfind("ln", 0) == 0 &&
        (word.size() == 2 || word[2] == '_' || std::isdigit(word[2])))
      return true;
    begin = end + 1;
  }
  return false;
}

} // namespace

Filling fillingOf(const OnnxModel &model, const LocalParameter &parameter) {
  std::string name = lower(parameter.name);
  std::size_t dot = name.find_last_of("./");
  std::string last = dot == std::string::npos ? name : name.substr(dot + 1);
  if (contains(last, "bias") || last == "beta" || last == "b")
    return Filling::Zeros;
  if (namesNorm(name))
    return Filling::Ones;
  for (const auto &node : model.stripped().graph().node())
    for (int i = 0; i < node.input_size(); ++i) {
      if (node.input(i) != parameter.initializer &&
          node.input(i) != parameter.name)
        continue;
      const std::string &op = node.op_type();
      bool norm = op == "LayerNormalization" || op == "BatchNormalization" ||
                  op == "InstanceNormalization" || op == "GroupNormalization";
      if (norm && i == 1)
        return Filling::Ones;
      if ((norm || op == "Gemm" || op == "Conv") && i == 2)
        return Filling::Zeros;
      if (op == "Add" && parameter.dims.size() == 1)
        return Filling::Zeros;
      if (op == "Mul" && parameter.dims.size() == 1)
        return Filling::Ones;
    }
  return Filling::Normal;
}

void drawElements(Filling filling, std::uint64_t seed, const std::string &name,
                  std::uint64_t begin, std::span<float> out) {
  if (filling != Filling::Normal) {
    std::fill(out.begin(), out.end(), filling == Filling::Ones ? 1.0f : 0.0f);
    return;
  }
  std::uint64_t key = mix(mix(seed) ^ hashName(name));
  for (std::size_t i = 0; i < out.size(); ++i) {
    // Box-Muller from the two halves of one random number per element.
    std::uint64_t bits = mix(key + (begin + i) * 0x9e3779b97f4a7c15);
    double u = (static_cast<double>(bits >> 32) + 0.5) * 0x1p-32;
    double v = static_cast<double>(bits & 0xffffffff) * 0x1p-32;
    out[i] = static_cast<float>(0.02 * std::sqrt(-2 * std::log(u)) *
                                std::cos(2 * std::numbers::pi * v));
  }
}

void fillParameter(
    const OnnxModel &model, const LocalParameter &parameter,
    std::optional<std::uint64_t> seed,
    const std::function<void(std::uint64_t, std::span<const float>)> &put) {
  const OnnxInitializer *source = model.find(parameter.initializer);
  std::string place =
      "'" + model.path() + "': parameter '" + parameter.name + "'";
  if (!source)
    throw Error(place, ": the model holds no initializer '",
                parameter.initializer, "'");
  if (source->dims != parameter.dims)
    throw Error(place, ": the plan and the model differ in its shape");
  if (source->absent && !seed)
    throw Error(place, ": its weights '", source->location,
                "' do not exist; give --init SEED to draw them");
  bool draw = source->absent;
  Filling filling = draw ? fillingOf(model, parameter) : Filling::Normal;
  constexpr std::uint64_t kPiece = 1 << 16;
  std::vector<float> piece;
  std::uint64_t filled = 0; // of `piece`, which begins at `first`
  std::uint64_t first = 0;
  piece.resize(
      static_cast<std::size_t>(std::min(kPiece, parameter.localElements)));
  auto flush = [&] {
    if (filled)
      put(first, std::span(piece).first(static_cast<std::size_t>(filled)));
    first += filled;
    filled = 0;
  };
  forEachRun(parameter, [&](std::uint64_t begin, std::uint64_t length,
                            std::uint64_t) {
    while (length > 0) {
      std::uint64_t n = std::min<std::uint64_t>(length, piece.size() - filled);
      std::span<float> out = std::span(piece).subspan(
          static_cast<std::size_t>(filled), static_cast<std::size_t>(n));
      if (draw)
        drawElements(filling, *seed, parameter.name, begin, out);
      else
        model.read(*source, begin, out);
      filled += n;
      begin += n;
      length -= n;
      if (filled == piece.size())
        flush();
    }
  });
  flush();
}

} // namespace tombolo::runtime
