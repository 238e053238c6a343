//===- Beat.h - a rank tells its agent that it lives ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_BEAT_H
#define TOMBOLO_TOOLS_TOMBOLORUN_BEAT_H

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace tombolo::runtime {

/// Calls `tell` again and again from a thread of its own, however long a step
/// takes: only a process that is stopped, or gets no processor at all, is
/// silent.
class Beat {
public:
  Beat(std::function<void()> tell, std::chrono::duration<double> pause)
      : thread([this, tell = std::move(tell), pause] {
          std::unique_lock lock(mutex);
          while (!ended) {
            tell();
            changed.wait_for(lock, pause, [&] { return ended; });
          }
        }) {}
  ~Beat() {
    {
      std::lock_guard lock(mutex);
      ended = true;
    }
    changed.notify_all();
    thread.join();
  }
  Beat(const Beat &) = delete;
  Beat &operator=(const Beat &) = delete;

private:
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  std::thread thread;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_BEAT_H
