//===- Dataset.cpp - samples from token files -----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Dataset.h"

#include "Random.h"
#include "TensorFile.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <cstring>

namespace tombolo::runtime {

using detail::mix;

namespace {

/// A permutation of 0 ... n-1: a Feistel network over the next power of four,
/// walked until it lands inside, so that no table is needed.
std::uint64_t permute(std::uint64_t value, std::uint64_t n, std::uint64_t key) {
  unsigned half = 1;
  while ((std::uint64_t{1} << (2 * half)) < n)
    ++half;
  std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  do {
    std::uint64_t left = value >> half, right = value & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      std::uint64_t next = left ^ (mix(key ^ mix(right * 4 + round)) & mask);
      left = right;
      right = next;
    }
    value = left << half | right;
  } while (value >= n);
  return value;
}

/// Token models: one input of tokens, and labels that are the tokens shifted by
/// one.
class TokenSource : public SampleSource {
public:
  TokenSource(const DatasetOptions &options, const plan::v1::Model &model)
      : tokens(options, model.tokens_per_sample(), model.vocabulary()),
        sizes{elementBytes(model.inputs(0).dtype()),
              elementBytes(model.label().dtype())},
        row(model.tokens_per_sample() + 1) {}

  static bool canFeed(const plan::v1::Model &model) {
    auto isTokens = [&](const plan::v1::Input &input) {
      return (input.dtype() == plan::v1::DTYPE_I64 ||
              input.dtype() == plan::v1::DTYPE_I32) &&
             input.dims_size() == 1 &&
             input.dims(0) == model.tokens_per_sample();
    };
    return model.vocabulary() != 0 && model.inputs_size() == 1 &&
           model.has_label() && isTokens(model.inputs(0)) &&
           isTokens(model.label());
  }

  void read(std::size_t input, std::uint64_t number,
            std::span<std::byte> out) override {
    if (current != number) {
      tokens.sample(number, row);
      current = number;
    }
    std::byte *to = out.data();
    for (std::size_t t = 0; t + 1 < row.size(); ++t, to += sizes[input]) {
      std::int64_t token = row[t + input];
      if (sizes[input] == 8) {
        std::memcpy(to, &token, 8);
      } else {
        auto narrow = static_cast<std::int32_t>(token);
        std::memcpy(to, &narrow, 4);
      }
    }
  }

  /// Whole ones: the last label is in the file, too.
  std::uint64_t size() const override {
    return (tokens.tokens() - 1) / (row.size() - 1);
  }

private:
  TokenFile tokens;
  std::uint64_t sizes[2];
  std::vector<std::int64_t> row;
  std::optional<std::uint64_t> current; // what `row` holds
};

} // namespace

std::uint64_t permutedSample(std::uint64_t number, std::uint64_t samples,
                             const std::optional<std::uint64_t> &seed) {
  if (!seed)
    return number;
  std::uint64_t pass = number / samples;
  return pass * samples +
         permute(number % samples, samples, mix(*seed + mix(pass)));
}

std::uint64_t sampleBytes(const plan::v1::Input &input) {
  std::uint64_t bytes = elementBytes(input.dtype());
  for (std::uint64_t dim : input.dims())
    bytes *= dim;
  return bytes;
}

std::unique_ptr<SampleSource> openDataset(const DatasetOptions &options,
                                          const plan::v1::Model &model) {
  if (options.path.ends_with(".safetensors"))
    return detail::openTensorFile(options, model);
  if (!TokenSource::canFeed(model))
    throw Error("'", options.path,
                "': a token file feeds only models of one token input and "
                "token labels, the plan's has ",
                model.inputs_size(), " inputs",
                model.inputs_size() ? ", the first '" : "",
                model.inputs_size() ? model.inputs(0).name() : "",
                model.inputs_size() ? "'" : "",
                "; give a file NAME.safetensors with a tensor for each input "
                "and the label");
  return std::make_unique<TokenSource>(options, model);
}

TokenFile::TokenFile(const DatasetOptions &options,
                     std::uint64_t tokensPerSample, std::uint64_t vocabulary)
    : file(options.path), options(options), perSample(tokensPerSample) {
  unsigned size = options.tokenBytes;
  if (size != 2 && size != 4)
    throw Error(Status::Usage, "--token-bytes: expected 2 or 4, got ", size);
  if (file.size() % size != 0)
    throw Error("'", options.path, "': expected tokens of ", size,
                " bytes, got a file of ", file.size(),
                " bytes; is --token-bytes right?");
  count = file.size() / size;
  if (count < perSample + 1)
    throw Error("'", options.path, "': expected at least ", perSample + 1,
                " tokens (one sample and its last label), got ", count);
  std::uint64_t limit = std::uint64_t{1} << (8 * size);
  if (vocabulary == 0 || vocabulary >= limit)
    return; // no token can be too large
  std::vector<std::int64_t> piece;
  constexpr std::uint64_t kPiece = 1 << 14;
  for (std::uint64_t at = 0; at < count; at += kPiece) {
    piece.resize(static_cast<std::size_t>(std::min(kPiece, count - at)));
    read(at, piece);
    for (std::size_t i = 0; i < piece.size(); ++i)
      if (static_cast<std::uint64_t>(piece[i]) >= vocabulary)
        throw Error("'", options.path, "': token ", piece[i], " at position ",
                    at + i, " is not below the vocabulary of ", vocabulary);
  }
}

void TokenFile::read(std::uint64_t first, std::span<std::int64_t> out) const {
  std::size_t size = options.tokenBytes;
  buffer.resize(out.size() * size);
  file.read(first * size, buffer);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (size == 2) {
      std::uint16_t token;
      std::memcpy(&token, buffer.data() + i * size, sizeof token);
      out[i] = token;
    } else {
      std::uint32_t token;
      std::memcpy(&token, buffer.data() + i * size, sizeof token);
      out[i] = token;
    }
  }
}

std::uint64_t TokenFile::permuted(std::uint64_t number) const {
  return permutedSample(number, std::max<std::uint64_t>(count / perSample, 1),
                        options.shuffle);
}

void TokenFile::sample(std::uint64_t number,
                       std::span<std::int64_t> out) const {
  // (k T) mod L without overflow for any k.
  unsigned __int128 start =
      static_cast<unsigned __int128>(permuted(number)) * perSample;
  auto at = static_cast<std::uint64_t>(start % count);
  while (!out.empty()) {
    std::size_t part = static_cast<std::size_t>(
        std::min<std::uint64_t>(out.size(), count - at));
    read(at, out.first(part));
    out = out.subspan(part);
    at = 0;
  }
}

} // namespace tombolo::runtime
