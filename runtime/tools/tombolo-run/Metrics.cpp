//===- Metrics.cpp - metrics.jsonl ----------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Metrics.h"

#include "Events.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/launch/Supervisor.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

using namespace tombolo::runtime;
using nlohmann::json;

/// Takes the lines of steps from each island's `firstStep` on out of a file, if
/// there is one.
static void
cutSteps(const std::string &path,
         const std::function<std::optional<std::uint64_t>(std::uint32_t)>
             &firstStep) {
  std::error_code error;
  std::filesystem::path real = std::filesystem::canonical(path, error);
  if (error || !std::filesystem::is_regular_file(real, error))
    return;
  std::ifstream in(real, std::ios::binary);
  OutputFile out(real.string());
  // A line without its end was cut off when the run was killed.
  for (std::string line; std::getline(in, line) && !in.eof();) {
    json entry = parseEvent(line);
    // An evaluation names the steps done before it.
    bool evaluation = field<std::string>(entry, "event", "") == "eval";
    std::optional<std::uint64_t> first;
    if (entry.is_object() && (!entry.contains("event") || evaluation))
      first = firstStep(field<std::uint32_t>(entry, "island", 0));
    bool again =
        first && field<std::uint64_t>(entry, "step", 0) >= *first + evaluation;
    if (!again)
      out.write(line + "\n");
  }
  if (in.bad())
    throw Error("metrics file '", path, "': cannot read");
  out.commit();
}

MetricsFile::MetricsFile(const std::string &path, bool resumed,
                         const FirstStep &firstStep)
    : path(path) {
  if (path.empty())
    return;
  if (resumed)
    cutSteps(path, firstStep);
  created = access(path.c_str(), F_OK) != 0;
  open(/*truncate=*/!resumed);
}

void MetricsFile::open(bool truncate) {
  fd = ::open(path.c_str(),
              O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC |
                  (truncate ? O_TRUNC : 0),
              0666);
  if (fd < 0)
    throw Error("metrics file '", path,
                "': cannot write: ", std::strerror(errno));
}

void MetricsFile::forgetSteps(std::uint32_t island, std::uint64_t firstStep) {
  if (fd < 0)
    return;
  cutSteps(path, [&](std::uint32_t of) {
    return of == island ? std::optional(firstStep) : std::nullopt;
  });
  close(std::exchange(fd, -1)); // the file may be another one now
  open(/*truncate=*/false);
}

MetricsFile::~MetricsFile() {
  if (fd < 0)
    return;
  close(fd);
  if (created && !anyStep)
    unlink(path.c_str());
}

void MetricsFile::write(std::string_view line, bool isStep) {
  if (fd < 0)
    return;
  if (!EventWriter(fd).write(line))
    throw Error("metrics file '", path,
                "': cannot write: ", std::strerror(errno));
  anyStep |= isStep;
}
