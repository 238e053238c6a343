//===- RunWatch.h - shows a run while it goes on ----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Takes the events of a run and shows what they come to: a table on a terminal,
// /metrics (Prometheus) and /status (JSON) over HTTP, and a page. Whoever
// writes the events down as well writes what `note` has put the time on.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_RUNWATCH_H
#define TOMBOLO_TOOLS_TOMBOLORUN_RUNWATCH_H

#include "Dashboard.h"
#include "RunState.h"
#include "StatusTable.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace CLI {
class App;
} // namespace CLI

namespace tombolo::runtime {

struct WatchOptions {
  std::optional<std::uint16_t> port; ///< of HTTP; 0: any free one
  std::string host = "127.0.0.1";
  std::optional<std::uint16_t> dashboardPort;
  std::string dashboardHost = "127.0.0.1";
};

/// What is watched.
struct WatchedRun {
  const Plan &plan;
  std::string planFile;
  std::uint64_t steps = 0;
  std::string site; ///< whose agent looks; empty: all are here
};
void addWatchOptions(CLI::App &app, WatchOptions &options);
/// These as words, those that are not as by default.
std::vector<std::string> watchArguments(const WatchOptions &options);

class RunWatch {
public:
  /// `command` names the program in messages. The table is drawn on stderr when
  /// that is a terminal and `mayDraw`. Throws Error when it cannot listen.
  RunWatch(const WatchedRun &run, const WatchOptions &options,
           std::string command, bool mayDraw);
  ~RunWatch();
  RunWatch(const RunWatch &) = delete;
  RunWatch &operator=(const RunWatch &) = delete;

  /// Puts the time on an event; steps have none.
  void note(nlohmann::json &event);
  /// A line on stderr, beside the table.
  void say(const std::string &text);

private:
  HttpAnswer answer(const HttpRequest &request);
  nlohmann::json status();
  void showNowAndThen();
  void draw(); // with the mutex, like `erase`
  void erase();

  std::mutex mutex;
  RunState state;
  const std::string command;
  const Terminal terminal;
  bool draws = false;
  std::size_t drawn = 0; ///< lines that stand there
  bool stopping = false;
  std::condition_variable stops;
  std::thread shower;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<Dashboard> dashboard;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_RUNWATCH_H
