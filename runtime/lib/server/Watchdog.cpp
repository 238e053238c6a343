//===- Watchdog.cpp - ends calls in which nothing happens -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Watchdog.h"

#include <algorithm>

using namespace tombolo::runtime;
using Clock = std::chrono::steady_clock;

Watchdog::Watchdog(double seconds)
    : limit(std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(seconds))),
      thread([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex);
    stopping = true;
    changed.notify_all();
  }
  thread.join();
}

void Watchdog::run() {
  std::unique_lock lock(mutex);
  while (!stopping) {
    Clock::time_point now = Clock::now(), next = now + limit;
    for (auto i = watches.begin(); i != watches.end();) {
      Watch *watch = *i;
      if (watch->end <= now) {
        i = watches.erase(i);
        watch->cancel();
        continue;
      }
      next = std::min(next, watch->end);
      ++i;
    }
    // What is touched or new ends later than `next`.
    changed.wait_until(lock, next, [this] { return stopping; });
  }
}

Watchdog::Watch::Watch(Watchdog &dog, std::function<void()> cancel)
    : dog(dog), cancel(std::move(cancel)) {
  std::lock_guard lock(dog.mutex);
  end = Clock::now() + dog.limit;
  dog.watches.insert(this);
}

Watchdog::Watch::~Watch() {
  std::lock_guard lock(dog.mutex);
  dog.watches.erase(this);
}

void Watchdog::Watch::touch() {
  std::lock_guard lock(dog.mutex);
  end = Clock::now() + dog.limit;
}
