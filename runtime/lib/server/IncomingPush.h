//===- IncomingPush.h - the data of pushes while it comes in ----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A push is taken as a whole. What has come of it until then stays here when
// its connection breaks, so that it need not be sent again. All of this is safe
// from several threads.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_INCOMINGPUSH_H
#define TOMBOLO_LIB_SERVER_INCOMINGPUSH_H

#include "Wire.h"

#include "tombolo/runtime/File.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

namespace tombolo::runtime {

/// Bytes that all pushes together may hold before they are taken.
class StagingRoom {
public:
  explicit StagingRoom(std::uint64_t most) : most(most) {}
  bool take(std::uint64_t bytes);
  void giveBack(std::uint64_t bytes) { used -= bytes; }
  std::uint64_t inUse() const { return used; }

private:
  const std::uint64_t most;
  std::atomic<std::uint64_t> used = 0;
};

/// One rank's part of a push, in stripes.
class IncomingPush {
public:
  IncomingPush(PushPart part, std::uint32_t stripes, std::uint64_t bytes,
               StagingRoom &room, double now);
  ~IncomingPush();
  IncomingPush(const IncomingPush &) = delete;
  IncomingPush &operator=(const IncomingPush &) = delete;

  const PushPart part;
  bool isOf(const PushPart &other, std::uint32_t stripeCount) const {
    return stripeCount == stripes.size() && other == part;
  }

  /// Makes a stream the one that brings a stripe, behind the first `before`
  /// bytes of it. Who brought it until now is cancelled: its connection is lost
  /// to whom it came from. False when fewer bytes than `before` have come.
  /// `stream` names it; `cancel` does not block, and is called until `leave`.
  bool enter(const void *stream, std::uint32_t stripe, std::uint64_t before,
             std::function<void()> cancel);
  enum class Added { Yes, TooMuch, NoRoom, Replaced };
  Added add(const void *stream, std::uint32_t stripe, std::string_view data,
            double now);
  /// What it comes to that a stream has ended well. `Whole`, once: all stripes
  /// have, and nobody writes any more.
  enum class Ended { Short, Waits, Whole, Taken };
  Ended end(std::uint32_t stripe);
  void leave(const void *stream, std::uint32_t stripe);
  /// What came of a stripe is not what was sent; nothing where another stream
  /// brings it now.
  void forget(const void *stream, std::uint32_t stripe);
  /// Adds what has come of a stripe.
  void addTo(Sha256 &digest, std::uint32_t stripe) const;

  std::uint64_t received(std::uint32_t stripe) const;
  std::span<const std::byte> data() const { return {bytes.get(), size}; }
  /// For there is a newer one.
  void cancel();
  /// Nobody brings any of it, and has not since then.
  bool isIdleSince(double then) const;

private:
  struct Stripe {
    std::uint64_t begin = 0, end = 0;
    std::uint64_t received = 0;
    bool ended = false;
    const void *stream = nullptr; ///< that brings it
    std::function<void()> cancel;
  };

  StagingRoom &room;
  const std::uint64_t size;
  // Not filled: pages that nothing has come for are none yet.
  const std::unique_ptr<std::byte[]> bytes;
  mutable std::mutex mutex;
  std::vector<Stripe> stripes;
  double moved; ///< when something came last
  bool taken = false;
};

/// All of them: one per rank, fragment and content, the newest.
class IncomingPushes {
public:
  IncomingPushes(std::uint64_t mostBytes, double idleSeconds)
      : room(mostBytes), idleSeconds(idleSeconds) {}

  /// The push that has begun to come, or a new one in the place of another.
  std::shared_ptr<IncomingPush> find(const PushPart &part,
                                     std::uint32_t stripes, std::uint64_t bytes,
                                     double now);
  /// It has been taken, or nobody will want to go on with it.
  void drop(const IncomingPush &push);
  std::uint64_t bytes() const { return room.inUse(); }

private:
  using Key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, int>;
  static Key keyOf(const PushPart &part) {
    return {part.island, part.rank, part.fragment,
            static_cast<int>(part.content)};
  }

  StagingRoom room;
  const double idleSeconds;
  std::mutex mutex;
  std::map<Key, std::shared_ptr<IncomingPush>> pushes;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_INCOMINGPUSH_H
