//===- HeldTensor.cpp - a rank's piece of a parameter ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "HeldTensor.h"

#include "Blocks.h"
#include "simd/Loops.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/server/Coverage.h"

#include <algorithm>

using namespace tombolo::runtime;

HeldTensor::HeldTensor(ExchangeTensor given, Compression compression)
    : tensor(std::move(given)), compression(compression) {
  for (const ElementRange &range : tensor.ranges) {
    auto count = checkedElements(range, tensor.elements);
    if (!count)
      throw Error("tensor '", tensor.name, "': a range with begin ",
                  range.begin, " and length ", range.length,
                  " does not lie in its ", tensor.elements, " elements");
    elements += *count;
  }
  if (elements == 0)
    throw Error("tensor '", tensor.name, "': expected some elements, got none");
  for (const FragmentRun &run : coveringBlocks(tensor.ranges)) {
    covering.push_back({run, updateBytes});
    std::uint64_t end =
        std::min((run.offset + run.length) * kCodecBlock, tensor.elements);
    updateBytes += encodedBytes(compression, end - run.offset * kCodecBlock);
  }
  if (tensor.owner && compression != Compression::None)
    error.resize(elements);
}

void HeldTensor::encodeDelta(std::uint64_t first, std::span<const float> local,
                             std::span<std::byte> to) {
  const outer::Loops &loops = outer::selectLoops();
  constexpr std::size_t kPiece = 16 * kCodecBlock;
  float delta[kPiece];
  std::size_t byte = 0;
  for (std::size_t at = 0; at < local.size(); at += kPiece) {
    std::size_t count = std::min(kPiece, local.size() - at);
    loops.subtract(base.data() + first + at, local.data() + at, count, delta);
    std::span piece(delta, count);
    std::span target = to.subspan(byte, encodedBytes(compression, count));
    if (error.empty())
      encode(compression, piece, target);
    else
      encodeWithFeedback(compression, piece,
                         std::span(error).subspan(first + at, count), target);
    byte += target.size();
  }
}

void HeldTensor::applyUpdate(std::span<const std::byte> data) {
  const std::size_t blockBytes = encodedBlockBytes(compression, kCodecBlock);
  float values[kCodecBlock];
  std::uint64_t decoded = ~std::uint64_t(0); // number of the block in `values`
  auto cover = covering.begin();
  std::uint64_t local = 0;
  const outer::Loops &loops = outer::selectLoops();
  auto element = [&](std::uint64_t begin, std::uint64_t length) {
    while (length > 0) {
      std::uint64_t block = begin / kCodecBlock, inside = begin % kCodecBlock;
      std::uint64_t count = std::min(length, kCodecBlock - inside);
      if (block != decoded) {
        if (block < cover->blocks.offset ||
            block >= cover->blocks.offset + cover->blocks.length)
          cover = std::upper_bound(covering.begin(), covering.end(), block,
                                   [](std::uint64_t b, const Blocks &c) {
                                     return b < c.blocks.offset;
                                   }) -
                  1;
        std::size_t size = std::min<std::uint64_t>(
            kCodecBlock, tensor.elements - block * kCodecBlock);
        decode(compression,
               data.subspan(cover->offset +
                                (block - cover->blocks.offset) * blockBytes,
                            encodedBlockBytes(compression, size)),
               {values, size});
        decoded = block;
      }
      float *to = base.data() + local;
      loops.subtract(to, values + inside, count, to);
      local += count;
      begin += count;
      length -= count;
    }
  };
  for (const ElementRange &range : tensor.ranges)
    for (std::uint64_t run = 0; run < range.count; ++run)
      element(range.begin + run * range.stride, range.length);
}
