//===- SiteLink.cpp - one rank's connection to another --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SiteLink.h"

#include "tombolo/runtime/Transport.h"

#include <algorithm>
#include <cstring>

using namespace tombolo::runtime;

namespace {

/// Between two pieces others may write.
constexpr std::size_t kPiece = 1 << 20;
/// So much goes together with its head.
constexpr std::size_t kSmall = 4096;
constexpr auto kFarewell = std::chrono::seconds(2);

} // namespace

template <typename Condition>
void SiteLink::await(std::unique_lock<std::mutex> &lock, Deadline deadline,
                     Condition condition) {
  bool isThere = changed.wait_until(
      lock, deadline, [&] { return !over.empty() || condition(); });
  if (condition())
    return;
  if (isThere)
    throw PeerError(over);
  throw PeerError("it is silent for too long");
}

void SiteLink::write(Head head, std::span<const std::byte> data,
                     Deadline deadline) {
  std::array<std::byte, kHead + kSmall> text;
  std::memcpy(text.data(), &head.kind, 1);
  std::memcpy(text.data() + 1, &head.tag, 4);
  std::memcpy(text.data() + 5, &head.bytes, 8);
  bool isSmall = data.size() <= kSmall;
  if (isSmall)
    std::copy(data.begin(), data.end(), text.begin() + kHead);
  std::lock_guard lock(writing);
  try {
    writeAll(*stream,
             std::span(text).first(kHead + (isSmall ? data.size() : 0)),
             deadline);
    if (!isSmall)
      writeAll(*stream, data, deadline);
  } catch (const PeerError &) {
    std::lock_guard state(mutex);
    if (!over.empty()) // the cause, not what it made of the socket
      throw PeerError(over);
    throw;
  }
}

void SiteLink::send(std::uint32_t tag, std::span<const std::byte> data,
                    Deadline deadline) {
  std::uint64_t expected = 0;
  {
    std::unique_lock lock(mutex);
    await(lock, deadline, [&] { return wanted.contains(tag); });
    expected = wanted.extract(tag).mapped();
  }
  if (expected != data.size())
    throw PeerError("it waits for ", expected, " bytes, and ", data.size(),
                    " are sent");
  do {
    auto piece = data.first(std::min(kPiece, data.size()));
    write({Kind::Data, tag, piece.size()}, piece, deadline);
    data = data.subspan(piece.size());
  } while (!data.empty());
}

SiteLink::Receipt::Receipt(SiteLink &link, std::uint32_t tag,
                           std::span<std::byte> data, Deadline deadline)
    : link(link), tag(tag), data(data) {
  {
    std::lock_guard lock(link.mutex);
    if (!link.over.empty())
      throw PeerError(link.over);
    link.receipts[tag] = this;
  }
  try {
    link.write({Kind::Ready, tag, data.size()}, {}, deadline);
  } catch (...) {
    std::lock_guard lock(link.mutex);
    link.receipts.erase(tag);
    throw;
  }
}

SiteLink::Receipt::~Receipt() {
  std::lock_guard lock(link.mutex);
  link.receipts.erase(tag);
}

void SiteLink::Receipt::wait(Deadline deadline) {
  std::unique_lock lock(link.mutex);
  link.await(lock, deadline, [&] { return isWhole; });
}

/// False, with what is wrong in `lost`, or because the other side has left.
bool SiteLink::begin(const Head &head, std::string &lost) {
  std::lock_guard lock(mutex);
  if (head.kind == Kind::Farewell) {
    hasLeft = true;
    over = over.empty() ? "it has left" : over;
    changed.notify_all();
    return false;
  }
  if (head.kind == Kind::Ready && head.tag <= Communicator::kMaxTag &&
      wanted.try_emplace(head.tag, head.bytes).second) {
    changed.notify_all();
    return true;
  }
  auto receipt = receipts.find(head.tag);
  if (head.kind != Kind::Data || receipt == receipts.end() ||
      receipt->second->isWhole ||
      head.bytes > receipt->second->data.size() - receipt->second->filled) {
    lost = "it sends what nobody waits for";
    return false;
  }
  dataTag = head.tag;
  dataBytes = head.bytes;
  if (receipt->second->data.empty()) {
    receipt->second->isWhole = true;
    changed.notify_all();
  }
  return true;
}

/// Of the piece that is under way.
TlsStream::Progress SiteLink::takeData() {
  std::lock_guard lock(mutex);
  auto found = receipts.find(dataTag);
  if (found == receipts.end()) // nobody waits any more: the link is given up
    return {TlsStream::State::Refused, 0, 0, over};
  Receipt &receipt = *found->second;
  auto progress = stream->read(receipt.data.subspan(receipt.filled, dataBytes));
  receipt.filled += progress.bytes;
  dataBytes -= progress.bytes;
  if (receipt.filled == receipt.data.size()) {
    receipt.isWhole = true;
    changed.notify_all();
  }
  return progress;
}

bool SiteLink::take(std::string &lost) {
  for (;;) {
    bool isData = dataBytes > 0;
    TlsStream::Progress progress =
        isData ? takeData() : stream->read(std::span(head).subspan(headBytes));
    if (progress.state == TlsStream::State::Waits)
      return true;
    if (progress.state != TlsStream::State::Moved) {
      lost = progress.why.empty() ? "it has gone without a farewell"
                                  : progress.why;
      return false;
    }
    if (isData || (headBytes += progress.bytes) < kHead)
      continue;
    headBytes = 0;
    Head read;
    std::memcpy(&read.kind, head.data(), 1);
    std::memcpy(&read.tag, head.data() + 1, 4);
    std::memcpy(&read.bytes, head.data() + 5, 8);
    if (!begin(read, lost))
      return false;
  }
}

void SiteLink::giveUp(const std::string &why) noexcept {
  std::lock_guard lock(mutex);
  if (over.empty())
    over = why;
  changed.notify_all();
  stream->cut();
}

void SiteLink::sayFarewell() noexcept {
  try {
    {
      std::lock_guard lock(mutex);
      if (!over.empty())
        return;
    }
    write({Kind::Farewell, 0, 0}, {},
          std::chrono::steady_clock::now() + kFarewell);
    stream->finish();
  } catch (const std::exception &) {
    // Whoever does not hear it has left before, or is lost.
  }
}
