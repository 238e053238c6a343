//===- Dashboard.cpp - the page of a run while it goes on -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Dashboard.h"

#include "Commands.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/report/Report.h"

#include <chrono>

#include <arpa/inet.h>
#include <openssl/crypto.h>

using namespace tombolo::runtime;
using namespace tombolo;
using report::Json;

namespace {

constexpr std::size_t kMostViewers = 16;
/// A chart is not much wider, and all of it is sent to whoever comes.
constexpr std::size_t kMostPoints = 2'000;
constexpr std::size_t kMostEvents = 2'000;
/// How long the end of a run waits for viewers to hear of it.
constexpr std::chrono::milliseconds kFarewell(2'000);

std::string makeLivePage(const Plan &plan, const std::string &name) {
  Json entry = report::makeEntry(name, plan, {});
  entry["missing"]["search"] =
      "a run does not know it; the file of tombolo-plan --json does: "
      "tombolo-report p.plan --json plan.json";
  Json data = {{"format", 1}, {"title", name}, {"live", true}};
  data["plans"].push_back(std::move(entry));
  return report::makePage(std::move(data));
}

std::string message(const char *kind, Json data) {
  report::cleanTexts(data);
  return std::string("event: ") + kind + "\ndata: " +
         data.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n\n";
}

/// A page from elsewhere that has had its name resolved to this machine sends
/// that name along.
bool namesThisMachine(std::string host) {
  if (std::size_t end = host.rfind(':');
      end != std::string::npos && host.find(']', end) == std::string::npos)
    host.resize(end);
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  unsigned char bytes[16];
  return host == "localhost" || inet_pton(AF_INET, host.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

bool areEqual(const std::string &a, const std::string &b) {
  return a.size() == b.size() &&
         CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

} // namespace

Dashboard::Dashboard(const Plan &plan, const std::string &name,
                     const std::string &host, std::uint16_t port)
    : history(static_cast<std::size_t>(plan.islands_size()), kMostPoints,
              kMostEvents) {
  if (!report::hasPage())
    throw Error(
        Status::Usage,
        "--dashboard: this tombolo-run was built without the page, for "
        "want of node and npm; install them and build again, or give "
        "cmake the page of a build elsewhere with -DTOMBOLO_REPORT_PAGE");
  std::lock_guard lock(mutex); // who asks already waits for what is below
  server = std::make_unique<HttpServer>(
      "--dashboard", host, port,
      [this](const HttpRequest &request) { return answer(request); });
  if (!server->isLoopback())
    token = randomHex();
  // Beside the start of the run: a large plan takes some seconds.
  page = std::async(std::launch::async,
                    [plan, name] { return makeLivePage(plan, name); });
}

Dashboard::~Dashboard() {
  std::vector<std::shared_ptr<HttpStream>> last;
  {
    std::lock_guard lock(mutex);
    tell("end", Json::object());
    last.swap(viewers);
  }
  for (const auto &viewer : last)
    viewer->end();
  auto time = std::chrono::steady_clock::now() + kFarewell;
  for (const auto &viewer : last)
    viewer->isOverBy(time);
}

std::string Dashboard::url() const {
  return server->url() + "/" + (token.empty() ? "" : "?token=" + token);
}

HttpAnswer Dashboard::refuse(unsigned status, const std::string &why) const {
  return {.status = status, .body = why + "\n"};
}

HttpAnswer Dashboard::answer(const HttpRequest &request) {
  std::unique_lock lock(mutex);
  if (!token.empty() && !areEqual(request.token, token))
    return refuse(403, "expected ?token= as tombolo-run has printed it");
  if (token.empty() && !namesThisMachine(request.host))
    return refuse(403, "expected an address or localhost in the header Host");
  if (request.path == "/") {
    auto made = page;
    lock.unlock(); // what is noted does not wait for a simulation
    return {.type = "text/html; charset=utf-8", .body = made.get()};
  }
  if (request.path != "/events")
    return refuse(404, "there are / and /events");
  std::erase_if(viewers, [](const auto &each) { return each->isOver(); });
  if (viewers.size() >= kMostViewers)
    return refuse(503, std::to_string(kMostViewers) +
                           " look at this run already, which is all");
  auto viewer = std::make_shared<HttpStream>();
  viewer->send("retry: 1000\n" + message("run", history.toJson()) + lastStatus);
  viewers.push_back(viewer);
  return {.type = "text/event-stream", .stream = viewer};
}

void Dashboard::tell(const char *kind, Json data) {
  if (viewers.empty())
    return;
  std::string text = message(kind, std::move(data));
  std::erase_if(viewers, [&](const auto &each) { return !each->send(text); });
}

void Dashboard::note(const nlohmann::json &event) {
  std::lock_guard lock(mutex);
  report::Change change;
  try {
    change = history.note(event, "an event");
  } catch (const Error &) {
    return; // nothing that charts can show
  }
  if (change.kind)
    tell(change.kind, std::move(change.data));
  else
    tell("run", history.toJson());
}

void Dashboard::showStatus(nlohmann::json status) {
  status.erase("events"); // which `run` has
  std::lock_guard lock(mutex);
  lastStatus = message("status", status);
  tell("status", std::move(status));
}
