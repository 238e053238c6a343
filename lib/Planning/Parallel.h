//===- Parallel.h - independent work on all cores ---------------*- C++ -*-===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_PARALLEL_H
#define TOMBOLO_LIB_PLANNING_PARALLEL_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <thread>
#include <vector>

namespace tombolo::planning {

/// Calls `work(i)` for every i below `count`, on as many cores as the process
/// may use, and returns when all are done. Calls must not depend on each other:
/// then what comes out does not depend on the number of cores. Throws what one
/// of them has thrown.
inline void inParallel(size_t count, const std::function<void(size_t)> &work) {
  size_t cores = std::max(1u, std::thread::hardware_concurrency());
  std::atomic<size_t> next = 0;
  auto some = [&] {
    for (size_t i = next++; i < count; i = next++)
      work(i);
  };
  std::vector<std::future<void>> others;
  for (size_t i = 1; i < std::min(cores, count); ++i)
    others.push_back(std::async(std::launch::async, some));
  some();
  for (std::future<void> &other : others)
    other.get();
}

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_PARALLEL_H
