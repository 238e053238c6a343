//===- Transport.cpp - collectives over any transport ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Transport.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tombolo::runtime {

namespace {
// Tags of the collectives; lanes use small numbers.
constexpr std::uint32_t kBarrierTag = Communicator::kMaxTag - 1;
constexpr std::uint32_t kExchangeTag = Communicator::kMaxTag - 2;

std::size_t bytesOf(SumType type) { return type == SumType::F32 ? 4 : 2; }

float fromBf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t toBf16(float value) {
  auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) // stays a NaN
    return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <typename T, typename Add>
void addAs(std::span<std::byte> to, std::span<const std::byte> from, Add add) {
  for (std::size_t at = 0; at < to.size(); at += sizeof(T)) {
    T a, b;
    std::memcpy(&a, to.data() + at, sizeof(T));
    std::memcpy(&b, from.data() + at, sizeof(T));
    a = add(a, b);
    std::memcpy(to.data() + at, &a, sizeof(T));
  }
}

void addTo(std::span<std::byte> to, std::span<const std::byte> from,
           SumType type) {
  if (type == SumType::F32)
    addAs<float>(to, from, [](float a, float b) { return a + b; });
  else
    addAs<std::uint16_t>(to, from, [](std::uint16_t a, std::uint16_t b) {
      return toBf16(fromBf16(a) + fromBf16(b));
    });
}

} // namespace

Communicator::~Communicator() = default;
Transport::~Transport() = default;

std::span<std::byte> Communicator::RingStep::piece(std::span<std::byte> part,
                                                   std::size_t index) {
  std::size_t at = std::min(index * kPiece, part.size());
  return part.subspan(at, std::min(kPiece, part.size() - at));
}

void Communicator::RingStep::take(std::size_t index,
                                  std::span<const std::byte> got) const {
  addTo(piece(in, index), got, *add);
}

std::span<std::byte> Communicator::scratch(std::size_t bytes) {
  if (scratchBytes.size() < bytes)
    scratchBytes.resize(bytes);
  return std::span(scratchBytes).first(bytes);
}

void Communicator::ringStep(const RingStep &step) {
  for (std::size_t i = 0; i < step.pieces(); ++i) {
    Part kept = step.piece(step.in, i);
    Part got = step.add ? scratch(kept.size()) : kept;
    sendReceive(next(), step.piece(step.out, i), previous(), got, kRingTag);
    if (step.add)
      step.take(i, got);
  }
}

Communicator::Part Communicator::equalPart(Part data, int member) const {
  std::size_t bytes = data.size() / static_cast<std::size_t>(members);
  // Negative numbers count from the last.
  auto index = static_cast<std::size_t>((member % members + members) % members);
  return data.subspan(index * bytes, bytes);
}

void Communicator::allReduceSum(Part data, SumType type) {
  if (members == 1 || data.empty())
    return;
  auto n = static_cast<std::size_t>(members);
  auto me = static_cast<std::size_t>(self);
  std::size_t size = bytesOf(type);
  std::size_t chunk = (data.size() / size + n - 1) / n * size;
  auto part = [&](std::size_t index) {
    std::size_t begin = std::min(index % n * chunk, data.size());
    return data.subspan(begin, std::min(chunk, data.size() - begin));
  };
  for (std::size_t k = 0; k + 1 < n; ++k)
    ringStep(
        {part(me + 2 * n - k - 1), part(me + 2 * n - k - 2), chunk, &type});
  for (std::size_t k = 0; k + 1 < n; ++k)
    ringStep({part(me + n - k), part(me + 2 * n - k - 1), chunk, nullptr});
}

void Communicator::reduceScatterSum(Part data, SumType type) {
  for (int k = 1; k < members; ++k) {
    Part in = equalPart(data, self - k - 1);
    ringStep({equalPart(data, self - k), in, in.size(), &type});
  }
}

void Communicator::allGather(Part data) {
  for (int k = 0; k + 1 < members; ++k) {
    Part in = equalPart(data, self - k - 1);
    ringStep({equalPart(data, self - k), in, in.size(), nullptr});
  }
}

void Communicator::allToAll(Part data) {
  // In round s members i and s - i meet, each with the part of the other: what
  // comes takes the place of what goes.
  for (int s = 0; s < members; ++s) {
    int peer = (s - self + members) % members;
    if (peer == self)
      continue;
    Part part = equalPart(data, peer);
    for (std::size_t at = 0; at < part.size(); at += RingStep::kPiece) {
      Part piece =
          part.subspan(at, std::min(RingStep::kPiece, part.size() - at));
      Part got = scratch(piece.size());
      sendReceive(peer, piece, peer, got, kExchangeTag);
      std::copy(got.begin(), got.end(), piece.begin());
    }
  }
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
