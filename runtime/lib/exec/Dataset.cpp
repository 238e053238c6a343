//===- Dataset.cpp - token files ------------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Dataset.h"

#include "Random.h"
#include "tombolo/runtime/Error.h"

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

} // namespace

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
  constexpr std::uint64_t kPiece = 1 << 18;
  for (std::uint64_t at = 0; at < count; at += kPiece) {
    piece.resize(static_cast<std::size_t>(std::min(kPiece, count - at)));
    read(at, piece);
    for (std::size_t i = 0; i < piece.size(); ++i)
      if (static_cast<std::uint64_t>(piece[i]) >= vocabulary)
        throw Error("'", options.path, "': token ", piece[i], " at position ",
                    at + i, " is not below the vocabulary of ", vocabulary);
  }
  buffer = {};
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
  if (!options.shuffle)
    return number;
  std::uint64_t samples = std::max<std::uint64_t>(count / perSample, 1);
  std::uint64_t pass = number / samples;
  return pass * samples +
         permute(number % samples, samples, mix(*options.shuffle + mix(pass)));
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
