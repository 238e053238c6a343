//===- Pieces.h - inputs of several parts -----------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An input of a fuzzer as a sequence of messages, files or events: of each a
// byte that says what it is, two of length (little endian), and so many bytes
// or what is left. Any bytes are such a sequence.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_FUZZ_PIECES_H
#define TOMBOLO_TEST_FUZZ_PIECES_H

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace tombolo::runtime::test {

struct Piece {
  std::uint8_t kind = 0;
  std::string_view bytes;
};

/// Cuts the first piece off. False: nothing is left.
inline bool cutPiece(std::string_view &input, Piece &piece) {
  if (input.size() < 3)
    return false;
  auto byte = [&](std::size_t at) {
    return static_cast<std::uint8_t>(input[at]);
  };
  piece.kind = byte(0);
  std::size_t length = byte(1) + 256 * byte(2);
  input.remove_prefix(3);
  piece.bytes = input.substr(0, length);
  input.remove_prefix(piece.bytes.size());
  return true;
}

/// For seeds; `bytes` are at most 65535.
inline std::string makePiece(std::uint8_t kind, std::string_view bytes) {
  std::string piece;
  for (std::size_t value :
       {std::size_t(kind), bytes.size() % 256, bytes.size() / 256})
    piece += static_cast<char>(value);
  piece += bytes;
  return piece;
}

/// A promise that the code under test does not keep.
inline void require(bool holds) {
  if (!holds)
    std::abort();
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_FUZZ_PIECES_H
