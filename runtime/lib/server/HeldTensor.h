//===- HeldTensor.h - a rank's piece of a parameter -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_HELDTENSOR_H
#define TOMBOLO_LIB_SERVER_HELDTENSOR_H

#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/server/Codec.h"
#include "tombolo/runtime/server/OuterState.h"

#include <span>
#include <vector>

namespace tombolo::runtime {

/// Gives the memory back, which assigning {} would keep.
template <typename T> void discard(std::vector<T> &values) {
  std::vector<T>().swap(values);
}

/// What a rank keeps of one parameter besides its local elements in the arena.
struct HeldTensor {
  /// Throws Error when the ranges do not lie in the tensor.
  HeldTensor(ExchangeTensor tensor, Compression compression);

  /// Encodes base - local + error of the elements from `first` on, the start of
  /// a block of the codec, and keeps what that loses as the error.
  void encodeDelta(std::uint64_t first, std::span<const float> local,
                   std::span<std::byte> to);

  /// base := base - update, with the blocks of a published update that the
  /// ranges touch.
  void applyUpdate(std::span<const std::byte> blocks);

  ExchangeTensor tensor;
  Compression compression;
  std::uint64_t elements = 0;    ///< held here
  std::uint64_t updateBytes = 0; ///< of the blocks that the ranges touch
  /// The global version that the last delta was measured from.
  std::vector<float> base;
  std::vector<float> error; ///< of owned tensors when they are compressed
  // Of a resumed run, before the first version is there:
  std::vector<float> momentum;     ///< the outer one to start with
  std::uint64_t momentumGiven = 0; ///< elements of it
  std::vector<float> pushed;       ///< local at the push under way; empty: none

private:
  struct Blocks {
    FragmentRun blocks;   ///< of the whole tensor
    std::uint64_t offset; ///< byte of the first
  };
  std::vector<Blocks> covering;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_HELDTENSOR_H
