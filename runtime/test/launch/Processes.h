//===- Processes.h - what runs on this machine ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_LAUNCH_PROCESSES_H
#define TOMBOLO_TEST_LAUNCH_PROCESSES_H

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>
#include <unistd.h>

namespace tombolo::runtime::test {

/// Empty when it cannot be read: processes go while one looks at them.
inline std::string readAll(const std::string &path) {
  try {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  } catch (const std::ios_base::failure &) {
    return "";
  }
}

/// Processes with `word` in their command line or environment, without this
/// one and without the dead that nobody has reaped yet.
inline std::vector<pid_t> processesWith(const std::string &word) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto &entry :
       std::filesystem::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos)
      continue;
    pid_t pid = static_cast<pid_t>(std::stol(name));
    if (pid == getpid())
      continue;
    std::string text = readAll(entry.path() / "cmdline") + '\0' +
                       readAll(entry.path() / "environ");
    std::string stat = readAll(entry.path() / "stat");
    std::size_t end = stat.rfind(')');
    bool zombie = end != std::string::npos && stat.compare(end, 3, ") Z") == 0;
    if (!zombie && text.find(word) != std::string::npos)
      found.push_back(pid);
  }
  return found;
}

/// Waits until `condition` holds, for as long as a slow machine may need.
template <typename Condition> bool eventually(Condition condition) {
  for (int n = 0; n < 2000; ++n) {
    if (condition())
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_LAUNCH_PROCESSES_H
