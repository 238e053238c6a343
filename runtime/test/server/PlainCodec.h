//===- PlainCodec.h - a plain reference of the codec ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_PLAINCODEC_H
#define TOMBOLO_TEST_SERVER_PLAINCODEC_H

#include "tombolo/runtime/server/Codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace tombolo::runtime::test {

/// The format once more, element by element, with the C library's rounding.
inline std::vector<std::byte> plainEncode(Compression compression,
                                          const std::vector<float> &x) {
  std::vector<std::byte> out;
  auto put = [&](const auto &value) {
    const auto *bytes = reinterpret_cast<const std::byte *>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  };
  for (std::size_t begin = 0; begin < x.size(); begin += 256) {
    std::size_t end = std::min(begin + 256, x.size());
    if (compression == Compression::None || compression == Compression::Bf16) {
      for (std::size_t k = begin; k < end; ++k) {
        if (compression == Compression::None) {
          put(x[k]);
          continue;
        }
        std::uint32_t bits;
        std::memcpy(&bits, &x[k], 4);
        std::uint32_t low = bits & 0xffff, high = bits >> 16;
        high += low > 0x8000 || (low == 0x8000 && high % 2 == 1);
        put(static_cast<std::uint16_t>(high));
      }
      continue;
    }
    int most = compression == Compression::Int8 ? 127 : 7;
    float largest = 0;
    for (std::size_t k = begin; k < end; ++k)
      largest = std::max(largest, std::fabs(x[k]));
    volatile float scale = largest / static_cast<float>(most);
    put(static_cast<float>(scale));
    std::vector<int> q;
    for (std::size_t k = begin; k < end; ++k) {
      volatile float ratio = scale == 0 ? 0 : x[k] / scale;
      int rounded = static_cast<int>(std::nearbyint(ratio));
      q.push_back(std::clamp(rounded, -most, most));
    }
    if (compression == Compression::Int8) {
      for (int value : q)
        put(static_cast<std::int8_t>(value));
    } else {
      for (std::size_t k = 0; k < q.size(); k += 2) {
        int high = k + 1 < q.size() ? q[k + 1] : 0;
        put(static_cast<std::uint8_t>((q[k] & 15) | (high & 15) << 4));
      }
    }
  }
  return out;
}

/// What comes of x on the other side.
inline std::vector<float> plainRoundTrip(Compression compression,
                                         const std::vector<float> &x) {
  if (compression == Compression::None)
    return x;
  std::vector<std::byte> bytes = plainEncode(compression, x);
  const std::byte *at = bytes.data();
  auto get = [&](auto &value) {
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
  };
  std::vector<float> y;
  for (std::size_t begin = 0; begin < x.size(); begin += 256) {
    std::size_t end = std::min(begin + 256, x.size());
    float scale = 0;
    if (compression != Compression::Bf16)
      get(scale);
    for (std::size_t k = begin; k < end; ++k) {
      if (compression == Compression::Bf16) {
        std::uint16_t high;
        get(high);
        std::uint32_t bits = static_cast<std::uint32_t>(high) << 16;
        std::memcpy(&y.emplace_back(), &bits, 4);
      } else if (compression == Compression::Int8) {
        std::int8_t q;
        get(q);
        y.push_back(static_cast<float>(q) * scale);
      } else {
        int byte = std::to_integer<int>(*at);
        int q = (k - begin) % 2 ? byte >> 4 : byte & 15;
        at += (k - begin) % 2 || k + 1 == end;
        y.push_back(static_cast<float>(q < 8 ? q : q - 16) * scale);
      }
    }
  }
  return y;
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_PLAINCODEC_H
