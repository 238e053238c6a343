//===- RecordStream.cpp - records on their way to a backup ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RecordStream.h"

#include <algorithm>

using namespace tombolo::runtime;

void RecordStream::append(RecordType type, std::string head,
                          std::span<const std::byte> body,
                          std::shared_ptr<const void> owner,
                          std::uint64_t sequence) {
  Item item;
  item.type = type;
  item.copied = !owner;
  if (item.copied) {
    auto kept =
        std::make_shared<std::vector<std::byte>>(body.begin(), body.end());
    item.body = *kept;
    item.owner = std::move(kept);
    held += body.size();
  } else {
    item.body = body;
    item.owner = std::move(owner);
  }
  item.sequence = sequence;
  item.begin = endBytes;
  item.end = endBytes + kFrameBytes + head.size() + paddingOf(head.size()) +
             body.size() + paddingOf(body.size());
  item.head = std::move(head);
  endBytes = item.end;
  items.push_back(std::move(item));
}

std::string RecordStream::read(std::uint64_t offset, std::size_t most) {
  std::string bytes;
  auto item = std::upper_bound(
      items.begin(), items.end(), offset,
      [](std::uint64_t at, const Item &one) { return at < one.end; });
  for (; item != items.end() && bytes.size() < most; ++item) {
    if (item->front.empty())
      item->front = recordFront(item->type, item->head, item->body, 0);
    std::uint64_t at = offset + bytes.size() - item->begin;
    auto add = [&](std::string_view piece) {
      if (at >= piece.size()) {
        at -= piece.size();
        return;
      }
      piece = piece.substr(at, most - bytes.size());
      bytes += piece;
      at = 0;
    };
    static constexpr char kZeros[8] = {};
    add(item->front);
    add({reinterpret_cast<const char *>(item->body.data()), item->body.size()});
    add({kZeros, paddingOf(item->body.size())});
  }
  return bytes;
}

void RecordStream::stored(std::uint64_t bytes) {
  storedBytes = std::max(storedBytes, std::min(bytes, endBytes));
  while (!items.empty() && items.front().end <= storedBytes) {
    lastStored = items.front().sequence;
    if (items.front().copied)
      held -= items.front().body.size();
    items.pop_front();
  }
}
