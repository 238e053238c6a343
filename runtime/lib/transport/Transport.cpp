//===- Transport.cpp - collectives over any transport ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Transport.h"

#include <algorithm>

namespace tombolo::runtime {

namespace {
// Tags of the collectives; lanes use small numbers.
constexpr std::uint32_t kReduceTag = Communicator::kMaxTag;
constexpr std::uint32_t kBarrierTag = Communicator::kMaxTag - 1;
constexpr std::size_t kPiece = (1 << 20) / sizeof(float);
} // namespace

Communicator::~Communicator() = default;
Transport::~Transport() = default;

void Communicator::allReduceSum(std::span<float> data) {
  if (members == 1 || data.empty())
    return;
  auto n = static_cast<std::size_t>(members);
  auto me = static_cast<std::size_t>(self);
  std::size_t chunk = (data.size() + n - 1) / n;
  auto part = [&](std::size_t index) {
    std::size_t begin = std::min(index % n * chunk, data.size());
    return data.subspan(begin, std::min(chunk, data.size() - begin));
  };
  int next = (self + 1) % members, previous = (self + members - 1) % members;
  // Every rank cuts every chunk into as many pieces, the short last chunk too
  // (with empty pieces), so that what one sends the next expects.
  auto step = [&](std::span<float> out, std::span<float> in, bool add) {
    for (std::size_t at = 0; at < chunk; at += kPiece) {
      auto cut = [&](std::span<float> all) {
        return at >= all.size()
                   ? std::span<float>()
                   : all.subspan(at, std::min(kPiece, all.size() - at));
      };
      std::span<float> sent = cut(out), kept = cut(in), got = kept;
      if (add) {
        scratch.resize(std::min(kPiece, chunk));
        got = std::span(scratch).first(kept.size());
      }
      sendReceive(next, std::as_bytes(sent), previous,
                  std::as_writable_bytes(got), kReduceTag);
      if (add)
        for (std::size_t i = 0; i < kept.size(); ++i)
          kept[i] += got[i];
    }
  };
  for (std::size_t k = 0; k + 1 < n; ++k)
    step(part(me + n - k), part(me + 2 * n - k - 1), true);
  for (std::size_t k = 0; k + 1 < n; ++k)
    step(part(me + 1 + n - k), part(me + n - k), false);
}

void Communicator::barrier() {
  // Dissemination: after round k everyone knows of 2^k members.
  for (int distance = 1; distance < members; distance *= 2) {
    std::byte out{}, in{};
    sendReceive((self + distance) % members, std::span(&out, 1),
                (self + members - distance) % members, std::span(&in, 1),
                kBarrierTag);
  }
}

} // namespace tombolo::runtime
