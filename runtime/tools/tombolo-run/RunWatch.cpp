//===- RunWatch.cpp - shows a run while it goes on ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunWatch.h"

#include "Events.h"

#include "tombolo/runtime/Error.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// Ages grow while nothing comes.
constexpr std::chrono::milliseconds kRedraw(500);

double nowSeconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

/// 2026-11-29T16:20:01.123Z
std::string timeOfDay() {
  auto now = std::chrono::system_clock::now();
  std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(
                  now.time_since_epoch()) %
              1000;
  std::tm fields{};
  gmtime_r(&seconds, &fields);
  char text[40];
  std::size_t length =
      std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &fields);
  std::snprintf(text + length, sizeof text - length, ".%03dZ",
                static_cast<int>(rest.count()));
  return text;
}

} // namespace

void tombolo::runtime::addWatchOptions(CLI::App &app, WatchOptions &options) {
  CLI::Option *port =
      app.add_option("--metrics-port", options.port,
                     "serve /metrics (Prometheus) and /status (JSON, for "
                     "tombolo-run status) over HTTP at this port; 0: any free "
                     "one")
          ->check(CLI::Range(0, 65535));
  app.add_option("--metrics-host", options.host,
                 "the address to serve them at; anybody who can reach it may "
                 "read them")
      ->capture_default_str()
      ->needs(port);
  CLI::Option *page =
      app.add_option("--dashboard", options.dashboardPort,
                     "serve the report page at this port, with the run as it "
                     "goes on; 0: any free one")
          ->check(CLI::Range(0, 65535));
  app.add_option("--dashboard-host", options.dashboardHost,
                 "the address to serve it at; where others can reach it, only "
                 "who knows the token that is printed may read it")
      ->capture_default_str()
      ->needs(page);
}

std::vector<std::string>
tombolo::runtime::watchArguments(const WatchOptions &options) {
  std::vector<std::string> words;
  auto add = [&](const char *which, const std::optional<std::uint16_t> &port,
                 const std::string &host, const char *hostName) {
    if (port)
      words.insert(words.end(), {which, std::to_string(*port), hostName, host});
  };
  add("--metrics-port", options.port, options.host, "--metrics-host");
  add("--dashboard", options.dashboardPort, options.dashboardHost,
      "--dashboard-host");
  return words;
}

RunWatch::RunWatch(const WatchedRun &run, const WatchOptions &options,
                   std::string name, bool mayDraw)
    : state(run.plan, run.steps, run.site), command(std::move(name)),
      terminal(stderr), draws(mayDraw && terminal.isTerminal) {
  if (options.port) {
    http = std::make_unique<HttpServer>(
        "--metrics-port", options.host, *options.port,
        [this](const HttpRequest &request) { return answer(request); });
    say("metrics at " + http->url() + "/metrics");
  }
  if (options.dashboardPort) {
    std::string plan = std::filesystem::path(run.planFile).filename().string();
    dashboard = std::make_unique<Dashboard>(
        run.plan, run.site.empty() ? plan : plan + " at " + run.site,
        options.dashboardHost, *options.dashboardPort);
    dashboard->showStatus(status());
    say("dashboard at " + dashboard->url());
  }
  if (draws || dashboard)
    shower = std::thread([this] { showNowAndThen(); });
}

RunWatch::~RunWatch() {
  http.reset();
  {
    std::lock_guard lock(mutex);
    stopping = true;
    stops.notify_all();
  }
  if (shower.joinable())
    shower.join();
  if (dashboard)
    dashboard->showStatus(status());
  dashboard.reset();
  if (draws)
    draw(); // the last figures stay
}

HttpAnswer RunWatch::answer(const HttpRequest &request) {
  if (request.path == "/metrics")
    return {.type = "text/plain; version=0.0.4",
            .body = prometheusText(status())};
  if (request.path == "/status")
    return {.type = "application/json", .body = toLine(status()) + "\n"};
  return {.status = 404, .body = "there are /metrics and /status\n"};
}

json RunWatch::status() {
  std::lock_guard lock(mutex);
  return state.toJson(nowSeconds());
}

void RunWatch::note(json &event) {
  if (event.contains("event"))
    event["time"] = timeOfDay();
  {
    std::lock_guard lock(mutex);
    state.note(event, nowSeconds());
  }
  if (dashboard)
    dashboard->note(event);
}

void RunWatch::say(const std::string &text) {
  std::lock_guard lock(mutex);
  erase();
  std::fprintf(stderr, "%s: %s\n", command.c_str(), text.c_str());
}

void RunWatch::showNowAndThen() {
  std::unique_lock lock(mutex);
  while (!stops.wait_for(lock, kRedraw, [&] { return stopping; })) {
    if (draws)
      draw();
    if (!dashboard)
      continue;
    json now = state.toJson(nowSeconds());
    lock.unlock();
    dashboard->showStatus(std::move(now));
    lock.lock();
  }
}

void RunWatch::erase() {
  if (drawn > 0)
    std::fprintf(stderr, "\033[%zuF\033[J", drawn);
  drawn = 0;
}

void RunWatch::draw() {
  Terminal now(stderr); // it may have been resized
  std::vector<std::string> lines =
      statusTable({state.toJson(nowSeconds())}, now.columns, now.colour);
  // What is higher than the terminal cannot be written over.
  lines.resize(std::min(lines.size(), now.rows - 1));
  erase();
  for (const std::string &line : lines)
    std::fprintf(stderr, "%s\n", line.c_str());
  drawn = lines.size();
}
