//===- Buffers.h - memory for what is pushed and pulled ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a rank pushes and what comes back are as large as its parameters, and
// one is free when the other is needed. The heap does not keep the place of one
// for the other: what is small moves in, and the next large one goes behind it.
// So they are kept here.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_BUFFERS_H
#define TOMBOLO_LIB_SERVER_BUFFERS_H

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace tombolo::runtime {

class Buffers;

/// Some bytes, which go back to where they are from; empty: none.
class Buffer {
public:
  Buffer() = default;
  Buffer(Buffer &&other) noexcept { swap(other); }
  Buffer &operator=(Buffer &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { giveBack(); }

  std::span<std::byte> bytes() { return data; }
  std::span<const std::byte> bytes() const { return data; }
  bool empty() const { return data.empty(); }
  /// Empty from then on.
  void giveBack();

private:
  friend class Buffers;
  Buffer(Buffers &home, std::vector<std::byte> data)
      : home(&home), data(std::move(data)) {}
  void swap(Buffer &other) {
    std::swap(home, other.home);
    data.swap(other.data);
  }

  Buffers *home = nullptr;
  std::vector<std::byte> data;
};

/// Outlives what it gives. Safe from several threads.
class Buffers {
public:
  /// Of so many bytes, with any content.
  Buffer take(std::size_t size) {
    std::unique_lock lock(mutex);
    auto best = spare.end();
    for (auto one = spare.begin(); one != spare.end(); ++one)
      if (one->capacity() >= size &&
          (best == spare.end() || one->capacity() < best->capacity()))
        best = one;
    std::vector<std::byte> data;
    if (best != spare.end()) {
      data = std::move(*best);
      spare.erase(best);
    } else if (!spare.empty()) { // instead of the largest
      std::swap(*std::max_element(spare.begin(), spare.end(),
                                  [](const auto &a, const auto &b) {
                                    return a.capacity() < b.capacity();
                                  }),
                spare.back());
      spare.pop_back();
    }
    lock.unlock();
    data.resize(size);
    return Buffer(*this, std::move(data));
  }

private:
  friend class Buffer;
  void keep(std::vector<std::byte> data) {
    std::lock_guard lock(mutex);
    spare.push_back(std::move(data));
  }

  std::mutex mutex;
  std::vector<std::vector<std::byte>> spare;
};

inline void Buffer::giveBack() {
  if (home && data.capacity() > 0)
    home->keep(std::move(data));
  home = nullptr;
  data = {};
}

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_BUFFERS_H
