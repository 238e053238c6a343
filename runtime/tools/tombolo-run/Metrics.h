//===- Metrics.h - metrics.jsonl --------------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_METRICS_H
#define TOMBOLO_TOOLS_TOMBOLORUN_METRICS_H

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tombolo::runtime {

/// The file of `--metrics`: a line is in the file when `write` returns.
class MetricsFile {
public:
  using FirstStep = std::function<std::uint64_t(std::uint32_t island)>;

  /// No file when `path` is empty. `resumed`: keep what is there but the lines
  /// of an island's steps from `firstStep` on, which come again, and a last
  /// line that was cut off. Throws Error when it cannot be written.
  MetricsFile(const std::string &path, bool resumed,
              const FirstStep &firstStep = {});
  /// Removes the file again when it is new and no step came.
  ~MetricsFile();
  MetricsFile(const MetricsFile &) = delete;
  MetricsFile &operator=(const MetricsFile &) = delete;

  void write(std::string_view line, bool isStep);

  /// Takes out the lines of an island's steps from `firstStep` on: they come
  /// again. Does nothing where the file is none (a pipe).
  void forgetSteps(std::uint32_t island, std::uint64_t firstStep);

private:
  void open(bool truncate);

  std::string path;
  int fd = -1;
  bool created = false;
  bool anyStep = false;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_METRICS_H
