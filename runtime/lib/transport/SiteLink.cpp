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
    std::deque<std::uint64_t> &ofTag = wanted[tag];
    await(lock, deadline, [&] { return !ofTag.empty(); });
    expected = ofTag.front();
    ofTag.pop_front();
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
    link.receipts[tag].push_back(this);
  }
  try {
    link.write({Kind::Ready, tag, data.size()}, {}, deadline);
  } catch (...) {
    forget();
    throw;
  }
}

SiteLink::Receipt::~Receipt() { forget(); }

void SiteLink::Receipt::forget() {
  std::lock_guard lock(link.mutex);
  std::erase(link.receipts[tag], this);
  if (link.filling == this)
    link.filling = nullptr;
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
      wanted[head.tag].size() < kMostAhead) {
    wanted[head.tag].push_back(head.bytes);
    changed.notify_all();
    return true;
  }
  if (head.kind == Kind::Ready) {
    lost = "it waits for more than " + std::to_string(kMostAhead) +
           " messages of one tag";
    return false;
  }
  Receipt *receipt = head.kind == Kind::Data ? firstOpen(head.tag) : nullptr;
  if (!receipt || head.bytes > receipt->data.size() - receipt->filled) {
    lost = "it sends what nobody waits for";
    return false;
  }
  filling = receipt;
  dataBytes = head.bytes;
  if (receipt->data.empty()) {
    receipt->isWhole = true;
    changed.notify_all();
  }
  return true;
}

/// The first of which something is still to come, or null. Under the lock.
SiteLink::Receipt *SiteLink::firstOpen(std::uint32_t tag) {
  auto ofTag = receipts.find(tag);
  if (ofTag == receipts.end())
    return nullptr;
  auto found = std::find_if(ofTag->second.begin(), ofTag->second.end(),
                            [](Receipt *receipt) { return !receipt->isWhole; });
  return found == ofTag->second.end() ? nullptr : *found;
}

/// Of the piece that is under way.
TlsStream::Progress SiteLink::takeData() {
  std::lock_guard lock(mutex);
  if (!filling)
    return {TlsStream::State::Refused, 0, 0,
            over.empty() ? "nobody waits for it any more" : over};
  Receipt &receipt = *filling;
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
