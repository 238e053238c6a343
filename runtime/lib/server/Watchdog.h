//===- Watchdog.h - ends calls in which nothing happens ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_WATCHDOG_H
#define TOMBOLO_LIB_SERVER_WATCHDOG_H

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

namespace tombolo::runtime {

/// gRPC's blocking calls have a deadline for the whole, which a stream of any
/// length cannot have, and none for a single read or write. Keepalive finds
/// machines that have gone; this finds peers that live and send nothing.
class Watchdog {
public:
  explicit Watchdog(double seconds);
  ~Watchdog();
  Watchdog(const Watchdog &) = delete;
  Watchdog &operator=(const Watchdog &) = delete;

  /// While it lives: `cancel` is called, once, when `touch` has not been for
  /// the watchdog's time. `cancel` does not block.
  class Watch {
  public:
    Watch(Watchdog &dog, std::function<void()> cancel);
    ~Watch();
    Watch(const Watch &) = delete;
    Watch &operator=(const Watch &) = delete;

    /// Something has happened.
    void touch();

  private:
    friend class Watchdog;
    Watchdog &dog;
    std::function<void()> cancel;
    std::chrono::steady_clock::time_point end;
  };

private:
  void run();

  const std::chrono::steady_clock::duration limit;
  std::mutex mutex;
  std::condition_variable changed;
  std::set<Watch *> watches; // with `cancel` still to be called
  bool stopping = false;
  std::thread thread;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_WATCHDOG_H
