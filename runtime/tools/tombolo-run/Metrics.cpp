//===- Metrics.cpp - metrics.jsonl and the progress on a terminal ---------===//
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
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

using namespace tombolo::runtime;
using nlohmann::json;

/// Takes the lines of steps from `firstStep` on, of one island or of all, out
/// of a file, if there is one.
static void cutSteps(const std::string &path, std::uint64_t firstStep,
                     std::optional<std::uint32_t> island = {}) {
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
    bool again =
        entry.is_object() && (!entry.contains("event") || evaluation) &&
        (!island || field<std::uint32_t>(entry, "island", 0) == *island) &&
        field<std::uint64_t>(entry, "step", 0) >= firstStep + evaluation;
    if (!again)
      out.write(line + "\n");
  }
  if (in.bad())
    throw Error("metrics file '", path, "': cannot read");
  out.commit();
}

MetricsFile::MetricsFile(const std::string &path, bool resumed,
                         std::uint64_t firstStep)
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
  cutSteps(path, firstStep, island);
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

Progress::Progress(std::size_t islands, std::uint64_t steps)
    : islands(islands), steps(steps), terminal(isatty(2) == 1) {}

Progress::~Progress() {
  if (!terminal || !drawn)
    return;
  draw();
  std::fputc('\n', stderr);
}

void Progress::clear() {
  if (terminal && drawn)
    std::fputs("\r\033[K", stderr);
}

void Progress::step(std::size_t island, std::uint64_t step, double loss,
                    double seconds, double tokens) {
  if (!terminal || island >= islands.size())
    return;
  Island &state = islands[island];
  double rate = seconds > 0 ? tokens / seconds : 0;
  state.tokensPerSecond =
      state.any ? 0.8 * state.tokensPerSecond + 0.2 * rate : rate;
  state.any = true;
  state.done = step + 1;
  state.loss = loss;
  double now = std::chrono::duration<double>(
                   std::chrono::steady_clock::now().time_since_epoch())
                   .count();
  if (now - lastDraw < 0.1)
    return;
  lastDraw = now;
  draw();
}

void Progress::draw() {
  std::string text;
  for (std::size_t i = 0; i < islands.size(); ++i) {
    const Island &state = islands[i];
    char part[128];
    if (state.any)
      std::snprintf(part, sizeof part,
                    "island %zu: step %llu/%llu loss %.4f "
                    "%.0f tokens/s",
                    i, static_cast<unsigned long long>(state.done),
                    static_cast<unsigned long long>(steps), state.loss,
                    state.tokensPerSecond);
    else
      std::snprintf(part, sizeof part, "island %zu: starting", i);
    text += (i ? " | " : "") + std::string(part);
  }
  winsize size{};
  std::size_t width =
      ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
  text.resize(std::min(text.size(), width - 1));
  std::fprintf(stderr, "\r%s\033[K", text.c_str());
  drawn = true;
}
