//===- Coverage.cpp - which elements have come ----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Coverage.h"

#include <algorithm>

using namespace tombolo::runtime;

std::optional<std::uint64_t>
tombolo::runtime::checkedElements(const ElementRange &range,
                                  std::uint64_t elements) {
  if (range.length == 0 || range.count == 0)
    return std::nullopt;
  if (range.length > elements || range.begin > elements - range.length)
    return std::nullopt;
  if (range.count == 1)
    return range.length;
  if (range.stride < range.length)
    return std::nullopt;
  // begin + (count - 1) * stride + length <= elements, without overflow.
  std::uint64_t room = elements - range.length - range.begin;
  if (range.count - 1 > room / range.stride)
    return std::nullopt;
  return range.length * range.count; // <= elements, since length <= stride
}

Coverage::Coverage(std::uint64_t size)
    : elements(size), words((size + 63) / 64) {}

namespace {
/// Calls `visit(word index, mask)` for the words that [begin, begin + length)
/// touches.
template <typename Visit>
void eachWord(std::uint64_t begin, std::uint64_t length, Visit visit) {
  std::uint64_t end = begin + length;
  while (begin < end) {
    std::uint64_t bit = begin % 64;
    std::uint64_t here = std::min<std::uint64_t>(64 - bit, end - begin);
    std::uint64_t mask = here == 64 ? ~std::uint64_t(0)
                                    : ((std::uint64_t(1) << here) - 1) << bit;
    visit(begin / 64, mask);
    begin += here;
  }
}
} // namespace

bool Coverage::touches(std::uint64_t begin, std::uint64_t length) const {
  bool found = false;
  eachWord(begin, length, [&](std::uint64_t word, std::uint64_t mask) {
    found |= (words[word] & mask) != 0;
  });
  return found;
}

bool Coverage::add(std::uint64_t begin, std::uint64_t length) {
  if (touches(begin, length))
    return false;
  eachWord(begin, length, [&](std::uint64_t word, std::uint64_t mask) {
    words[word] |= mask;
  });
  count += length;
  return true;
}

void Coverage::remove(std::uint64_t begin, std::uint64_t length) {
  eachWord(begin, length, [&](std::uint64_t word, std::uint64_t mask) {
    words[word] &= ~mask;
  });
  count -= length;
}

bool Coverage::add(const ElementRange &range, std::uint64_t offset) {
  for (std::uint64_t run = 0; run < range.count; ++run) {
    if (add(offset + range.begin + run * range.stride, range.length))
      continue;
    while (run-- > 0)
      remove(offset + range.begin + run * range.stride, range.length);
    return false;
  }
  return true;
}

void Coverage::remove(const ElementRange &range, std::uint64_t offset) {
  for (std::uint64_t run = 0; run < range.count; ++run)
    remove(offset + range.begin + run * range.stride, range.length);
}
