//===- RecordStream.h - records on their way to a backup --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_RECORDSTREAM_H
#define TOMBOLO_LIB_SERVER_RECORDSTREAM_H

#include "RecordFile.h"

#include <deque>
#include <memory>

namespace tombolo::runtime {

/// Records one behind the other as bytes, kept until the other end has stored
/// them. What a snapshot shares with the state is not copied, and framed when
/// it is read.
class RecordStream {
public:
  explicit RecordStream(std::uint64_t id) : id(id) {}

  /// `owner` keeps `body` alive; null: it is copied. `sequence` ascends.
  void append(RecordType type, std::string head,
              std::span<const std::byte> body,
              std::shared_ptr<const void> owner, std::uint64_t sequence);
  /// At most so many bytes from `offset` on, which is not stored yet.
  std::string read(std::uint64_t offset, std::size_t most);
  /// The other end has so many bytes on disk.
  void stored(std::uint64_t bytes);

  std::uint64_t begin() const { return storedBytes; }
  std::uint64_t end() const { return endBytes; }
  /// Of the last record that is stored with all before it.
  std::uint64_t storedSequence() const { return lastStored; }
  /// Memory that would not be needed without it.
  std::uint64_t heldBytes() const { return held; }

  const std::uint64_t id;

private:
  struct Item {
    RecordType type{};
    std::string head;
    std::span<const std::byte> body;
    std::shared_ptr<const void> owner;
    bool copied = false;
    std::uint64_t sequence = 0, begin = 0, end = 0;
    std::string front; ///< empty: not read yet
  };

  std::deque<Item> items;
  std::uint64_t storedBytes = 0, endBytes = 0, lastStored = 0, held = 0;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_RECORDSTREAM_H
