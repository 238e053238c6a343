//===- Codec.h - how deltas and updates cross the line ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Blocks of up to 256 consecutive elements, one after the other: an f32 scale
// (int8, int4) and the elements. The scale is max |x| / 127 (int8) or / 7
// (int4), rounded to f32; an element is x / scale to the nearest integer, ties
// to even; int4 stand two to a byte, the first in the low half. A block that is
// not finite has a scale that is not finite either, so that nobody takes it for
// good. Numbers are little endian.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_CODEC_H
#define TOMBOLO_RUNTIME_SERVER_CODEC_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tombolo::runtime {

enum class Compression { None, Bf16, Int8, Int4 };

/// "int8" and so on, as in a strategy.
std::string_view name(Compression compression);

/// Elements of a block.
inline constexpr std::size_t kCodecBlock = 256;

/// Bytes of one block of `elements` <= kCodecBlock.
std::size_t encodedBlockBytes(Compression compression, std::size_t elements);

/// Bytes of `elements` consecutive elements from the begin of a block on.
std::uint64_t encodedBytes(Compression compression, std::uint64_t elements);

/// `to` has encodedBytes(x.size()) bytes.
void encode(Compression compression, std::span<const float> x,
            std::span<std::byte> to);

/// `from` has encodedBytes(x.size()) bytes. Any bytes decode to something.
void decode(Compression compression, std::span<const std::byte> from,
            std::span<float> x);

/// Encodes x + error and makes the error what that lost:
/// error := (x + error) - decode(to). `x` becomes what the other side decodes.
void encodeWithFeedback(Compression compression, std::span<float> x,
                        std::span<float> error, std::span<std::byte> to);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_CODEC_H
