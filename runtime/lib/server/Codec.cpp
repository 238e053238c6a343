//===- Codec.cpp - how deltas and updates cross the line ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Codec.h"

#include "simd/Loops.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

using namespace tombolo::runtime;

static_assert(std::endian::native == std::endian::little);

const outer::Loops *outer::findLoops(const char *wanted) {
  std::string_view name = wanted;
#if defined(TOMBOLO_X86)
  if (name == "avx512" && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    return loopsAvx512();
  if (name == "avx2" && __builtin_cpu_supports("avx2"))
    return loopsAvx2();
#endif
  return name == "baseline" ? loopsBaseline() : nullptr;
}

const outer::Loops &outer::selectLoops() {
  static const Loops &fastest = []() -> const Loops & {
    for (const char *name : {"avx512", "avx2"})
      if (const Loops *loops = findLoops(name))
        return *loops;
    return *loopsBaseline();
  }();
  return fastest;
}

std::string_view tombolo::runtime::name(Compression compression) {
  switch (compression) {
  case Compression::None:
    return "none";
  case Compression::Bf16:
    return "bf16";
  case Compression::Int8:
    return "int8";
  case Compression::Int4:
    return "int4";
  }
  return "unknown";
}

std::size_t tombolo::runtime::encodedBlockBytes(Compression compression,
                                                std::size_t elements) {
  switch (compression) {
  case Compression::None:
    return 4 * elements;
  case Compression::Bf16:
    return 2 * elements;
  case Compression::Int8:
    return sizeof(float) + elements;
  case Compression::Int4:
    return sizeof(float) + (elements + 1) / 2;
  }
  return 0;
}

std::uint64_t tombolo::runtime::encodedBytes(Compression compression,
                                             std::uint64_t elements) {
  std::uint64_t whole = elements / kCodecBlock, rest = elements % kCodecBlock;
  return whole * encodedBlockBytes(compression, kCodecBlock) +
         (rest ? encodedBlockBytes(compression, rest) : 0);
}

namespace {

void encodeBlock(const outer::Loops &loops, Compression compression,
                 const float *x, std::size_t count, std::byte *to) {
  auto *q = reinterpret_cast<std::uint8_t *>(to);
  if (compression == Compression::None) {
    std::memcpy(to, x, count * sizeof(float));
    return;
  }
  if (compression == Compression::Bf16) {
    loops.toBf16(x, count, q);
    return;
  }
  bool wide = compression == Compression::Int8;
  std::uint32_t bits = loops.largestBits(x, count);
  bool finite = bits < 0x7f800000u;
  float scale = std::bit_cast<float>(bits);
  if (finite)
    scale /= wide ? 127.0f : 7.0f;
  std::memcpy(q, &scale, sizeof scale);
  q += sizeof scale;
  if (!finite) // each decodes to what is not finite
    std::memset(q, wide ? 0x01 : 0x11, wide ? count : (count + 1) / 2);
  else if (scale == 0) // all zero, or too small for a scale
    std::memset(q, 0, wide ? count : (count + 1) / 2);
  else
    (wide ? loops.toInt8 : loops.toInt4)(x, count, scale, q);
}

void decodeBlock(const outer::Loops &loops, Compression compression,
                 const std::byte *from, std::size_t count, float *x) {
  const auto *q = reinterpret_cast<const std::uint8_t *>(from);
  float scale;
  switch (compression) {
  case Compression::None:
    std::memcpy(x, q, count * sizeof(float));
    return;
  case Compression::Bf16:
    loops.fromBf16(q, count, x);
    return;
  case Compression::Int8:
    std::memcpy(&scale, q, sizeof scale);
    loops.fromInt8(q + sizeof scale, count, scale, x);
    return;
  case Compression::Int4:
    std::memcpy(&scale, q, sizeof scale);
    loops.fromInt4(q + sizeof scale, count, scale, x);
    return;
  }
}

/// Calls `visit(first element, elements, first byte)` for each block.
template <typename Visit>
void eachBlock(Compression compression, std::size_t elements, Visit visit) {
  std::size_t byte = 0;
  for (std::size_t first = 0; first < elements; first += kCodecBlock) {
    std::size_t count = std::min(kCodecBlock, elements - first);
    visit(first, count, byte);
    byte += encodedBlockBytes(compression, count);
  }
}

} // namespace

void tombolo::runtime::encode(Compression compression, std::span<const float> x,
                              std::span<std::byte> to) {
  const outer::Loops &loops = outer::selectLoops();
  eachBlock(compression, x.size(),
            [&](std::size_t first, std::size_t count, std::size_t byte) {
              encodeBlock(loops, compression, x.data() + first, count,
                          to.data() + byte);
            });
}

void tombolo::runtime::decode(Compression compression,
                              std::span<const std::byte> from,
                              std::span<float> x) {
  const outer::Loops &loops = outer::selectLoops();
  eachBlock(compression, x.size(),
            [&](std::size_t first, std::size_t count, std::size_t byte) {
              decodeBlock(loops, compression, from.data() + byte, count,
                          x.data() + first);
            });
}

void tombolo::runtime::encodeWithFeedback(Compression compression,
                                          std::span<float> x,
                                          std::span<float> error,
                                          std::span<std::byte> to) {
  const outer::Loops &loops = outer::selectLoops();
  eachBlock(compression, x.size(),
            [&](std::size_t first, std::size_t count, std::size_t byte) {
              float *value = x.data() + first, *lost = error.data() + first;
              float sum[kCodecBlock];
              loops.add(value, lost, count, sum);
              encodeBlock(loops, compression, sum, count, to.data() + byte);
              decodeBlock(loops, compression, to.data() + byte, count, value);
              loops.subtract(sum, value, count, lost);
            });
}
