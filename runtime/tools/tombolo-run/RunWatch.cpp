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
#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>

#include <unistd.h>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// Ages grow while nothing comes.
constexpr std::chrono::milliseconds kRedraw(500);
/// Who asks gets an answer of some kB, and has so long to ask.
constexpr int kReadSeconds = 5;
constexpr std::size_t kThreads = 4;

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
}

class RunWatch::Http {
public:
  Http(RunWatch &watch, const WatchOptions &options) {
    server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server.set_read_timeout(kReadSeconds);
    server.set_write_timeout(kReadSeconds);
    server.set_keep_alive_timeout(1); // or who asks twice holds a thread
    server.set_payload_max_length(0);
    server.Get("/metrics",
               [&watch](const httplib::Request &, httplib::Response &response) {
                 response.set_content(prometheusText(watch.status()),
                                      "text/plain; version=0.0.4");
               });
    server.Get("/status", [&watch](const httplib::Request &,
                                   httplib::Response &response) {
      response.set_content(toLine(watch.status()) + "\n", "application/json");
    });
    // Two runs on one port would each get some of the questions.
    server.set_socket_options([](int socket) {
      int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    port = *options.port;
    bool bound = port == 0 ? (port = server.bind_to_any_port(options.host)) > 0
                           : server.bind_to_port(options.host, port);
    if (!bound)
      throw Error("--metrics-port ", *options.port, ": cannot listen at ",
                  options.host,
                  "; expected an address of this machine and a free port (0 "
                  "takes any)");
    thread = std::thread([this] {
      server.listen_after_bind();
      hasEnded = true;
    });
    // What does not listen yet cannot be told to stop.
    while (!server.is_running() && !hasEnded)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~Http() {
    server.stop();
    thread.join();
  }

  int port = 0;

private:
  httplib::Server server;
  std::atomic<bool> hasEnded = false;
  std::thread thread;
};

RunWatch::RunWatch(RunState given, const WatchOptions &options,
                   std::string name, bool mayDraw)
    : state(std::move(given)), command(std::move(name)), terminal(stderr),
      draws(mayDraw && terminal.isTerminal) {
  if (options.port) {
    http = std::make_unique<Http>(*this, options);
    bool isV6 = options.host.find(':') != std::string::npos;
    std::string host = isV6 ? "[" + options.host + "]" : options.host;
    say("metrics at http://" + host + ":" + std::to_string(http->port) +
        "/metrics");
  }
  if (draws)
    drawer = std::thread([this] { drawNowAndThen(); });
}

RunWatch::~RunWatch() {
  http.reset();
  {
    std::lock_guard lock(mutex);
    stopping = true;
    stops.notify_all();
  }
  if (!drawer.joinable())
    return;
  drawer.join();
  draw(); // the last figures stay
}

json RunWatch::status() {
  std::lock_guard lock(mutex);
  return state.toJson(nowSeconds());
}

void RunWatch::note(json &event) {
  if (event.contains("event"))
    event["time"] = timeOfDay();
  std::lock_guard lock(mutex);
  state.note(event, nowSeconds());
}

void RunWatch::say(const std::string &text) {
  std::lock_guard lock(mutex);
  erase();
  std::fprintf(stderr, "%s: %s\n", command.c_str(), text.c_str());
}

void RunWatch::drawNowAndThen() {
  std::unique_lock lock(mutex);
  while (!stops.wait_for(lock, kRedraw, [&] { return stopping; }))
    draw();
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
