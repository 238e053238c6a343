//===- Dashboard.h - the page of a run while it goes on ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Serves the page that tombolo-report writes, with a run that grows:
//   /         the page; what it shows of the plan is simulated once
//   /events   server-sent events. `run`: all so far, at first and whenever more
//             than its end has changed; `point`, `note`: what is new in it;
//             `status`: what RunState knows; `end`: nothing more comes
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_DASHBOARD_H
#define TOMBOLO_TOOLS_TOMBOLORUN_DASHBOARD_H

#include "HttpServer.h"

#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/report/RunHistory.h"

#include <nlohmann/json.hpp>

#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tombolo::runtime {

class Dashboard {
public:
  /// `name` is what the page calls the plan. Throws Error when this program has
  /// no page, and when it cannot listen.
  Dashboard(const Plan &plan, const std::string &name, const std::string &host,
            std::uint16_t port);
  /// Tells whoever looks that the run is over.
  ~Dashboard();

  /// With the token, where there is one.
  std::string url() const;

  /// None waits for a client: one that does not keep up is cut off, comes again
  /// by itself, and is told all anew.
  void note(const nlohmann::json &event);
  void showStatus(nlohmann::json status);

private:
  HttpAnswer answer(const HttpRequest &request);
  HttpAnswer refuse(unsigned status, const std::string &why) const;
  void tell(const char *kind, report::Json data); // with the mutex

  std::mutex mutex;
  report::RunHistory history;
  std::string lastStatus;
  std::vector<std::shared_ptr<HttpStream>> viewers;
  std::shared_future<std::string> page;
  std::string token; ///< empty: none is needed
  std::unique_ptr<HttpServer> server;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_DASHBOARD_H
