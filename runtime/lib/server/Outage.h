//===- Outage.h - no server answers for long --------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_OUTAGE_H
#define TOMBOLO_LIB_SERVER_OUTAGE_H

#include <chrono>
#include <functional>
#include <mutex>
#include <string>

namespace tombolo::runtime {

/// Calls that are tried on and on since no server answers. Of all that are in
/// it at once it tells as of one: when the first has been tried for `seconds`,
/// after twice that again and again, and when the last has come through.
class Outage {
  using Clock = std::chrono::steady_clock;

public:
  /// `why` is empty when it is over.
  using Tell = std::function<void(const std::string &why, double seconds)>;

  Outage(Tell tell, double seconds)
      : tell(std::move(tell)),
        patience(std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(seconds))) {}

  /// Whether calls are to be tried on.
  bool isAwaited() const { return static_cast<bool>(tell); }

  /// A call's part in it.
  class Call {
  public:
    explicit Call(Outage &outage) : outage(outage) {}
    ~Call() { leave(/*isOver=*/false); }
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;

    /// It has been tried for `seconds` and more.
    void stillFails(const std::string &why) {
      std::lock_guard lock(outage.mutex);
      auto now = Clock::now();
      if (!isIn && outage.calls++ == 0) {
        outage.since = now - outage.patience;
        outage.next = now;
      }
      isIn = true;
      if (now < outage.next)
        return;
      outage.next = now + 2 * outage.patience;
      outage.tell(why, outage.lasted());
    }
    /// It has come through, or some of it has.
    void comesThrough() { leave(/*isOver=*/true); }

  private:
    void leave(bool isOver) {
      std::lock_guard lock(outage.mutex);
      if (isIn && --outage.calls == 0 && isOver)
        outage.tell("", outage.lasted());
      isIn = false;
    }

    Outage &outage;
    bool isIn = false;
  };

private:
  double lasted() const {
    return std::chrono::duration<double>(Clock::now() - since).count();
  }

  const Tell tell;
  const Clock::duration patience;
  std::mutex mutex; // guards the rest
  int calls = 0;
  Clock::time_point since, next;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_OUTAGE_H
