//===- HostMemory.cpp - memory that is there before it is needed ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "HostMemory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

namespace tombolo::runtime::detail {

namespace fs = std::filesystem;

namespace {

/// Taken between two looks at how much is left.
constexpr std::uint64_t kTaken = std::uint64_t{64} << 20;
/// One part in so many stays for others.
constexpr std::uint64_t kReserve = 32;

/// The number in a file; nothing where there is no file, or "max" in it.
std::optional<std::uint64_t> numberIn(const fs::path &path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

/// The number behind a word.
std::optional<std::uint64_t> numberBehind(const fs::path &path,
                                          const std::string &wanted) {
  std::ifstream file(path);
  for (std::string word; file >> word;)
    if (std::uint64_t number = 0; word == wanted)
      return file >> number ? std::optional(number) : std::nullopt;
  return std::nullopt;
}

std::uint64_t beyondReserve(std::uint64_t left, std::uint64_t all) {
  return left - std::min(left, all / kReserve);
}

/// "0::/PATH", seen from the root of the groups.
fs::path ownGroup() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::/"))
      return line.substr(4);
  return "";
}

} // namespace

std::uint64_t roomInHostMemory() {
  std::uint64_t room = ~std::uint64_t(0);
  auto all = numberBehind("/proc/meminfo", "MemTotal:");
  auto left = numberBehind("/proc/meminfo", "MemAvailable:");
  if (all && left)
    room = beyondReserve(*left * 1024, *all * 1024);
  for (fs::path own = ownGroup();; own = own.parent_path()) {
    fs::path group = "/sys/fs/cgroup" / own;
    auto most = numberIn(group / "memory.max");
    auto used = numberIn(group / "memory.current");
    if (most && used) {
      // What is read again from files goes first.
      std::uint64_t cache =
          numberBehind(group / "memory.stat", "inactive_file").value_or(0);
      std::uint64_t taken = *used - std::min(*used, cache);
      room =
          std::min(room, beyondReserve(*most - std::min(*most, taken), *most));
    }
    if (own.empty())
      return room;
  }
}

bool HostBuffer::reserve(std::uint64_t size,
                         const std::function<std::uint64_t()> &room) {
  if (size <= bytes)
    return true;
  release();
  void *made = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (made == MAP_FAILED)
    return false;
  memory = static_cast<std::byte *>(made);
  bytes = size;
  ::madvise(made, size, MADV_HUGEPAGE); // fewer pages to touch, where it can
  auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  for (std::uint64_t at = 0; at < size; at += kTaken) {
    std::uint64_t end = std::min(size, at + kTaken);
    if (room() < end - at) {
      release();
      return false;
    }
    for (std::uint64_t touched = at; touched < end; touched += page)
      const_cast<volatile std::byte *>(memory)[touched] = std::byte{0};
  }
  return true;
}

void HostBuffer::release() {
  if (memory)
    ::munmap(memory, bytes);
  memory = nullptr;
  bytes = 0;
}

} // namespace tombolo::runtime::detail
