//===- Spanning.cpp - islands with ranks at several sites -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Spanning.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/plan/Layout.h"

#include <algorithm>
#include <charconv>
#include <thread>
#include <utility>

using namespace tombolo::runtime;

namespace {

/// Other sites may be started by hand, one after the other.
constexpr auto kPatience = std::chrono::minutes(10);
/// How long a store that is there may be silent.
constexpr auto kAnswer = std::chrono::seconds(30);

} // namespace

void tombolo::runtime::checkCanSpan(const ExecutorOptions &executor,
                                    bool plaintext) {
  if (!plaintext && (executor.isTorch() || executor.isMpi()))
    throw Error(Status::Usage,
                "an island has ranks at several sites, which "
                "talk over TLS, and ",
                executor.isTorch() ? "the torch executor" : "MPI",
                " has none here; expected native ranks over gloo, or "
                "--plaintext where everything is on this machine");
}

void tombolo::runtime::checkSpanning(const ExecutorOptions &executor,
                                     const TlsOptions &tls,
                                     const std::string &store,
                                     const std::string &host) {
  checkTls(tls);
  checkTlsFiles(tls);
  checkCanSpan(executor, tls.plaintext);
  if (!tls.plaintext)
    return;
  for (const std::string &address : {store, host})
    if (!address.empty() && !address.starts_with("127."))
      throw Error(Status::Usage,
                  "--plaintext: an island has ranks at several sites; expected "
                  "them on this machine, at a loopback address like "
                  "127.0.0.1, got '",
                  address, "'");
}

std::optional<StoreKeeper> tombolo::runtime::keeperOf(const Plan &plan,
                                                      const TlsOptions &tls) {
  if (tls.plaintext)
    return std::nullopt;
  return StoreKeeper{tls.files, meetingSite(plan)};
}

/// Waits until the store is there.
static std::shared_ptr<StoreClient>
awaitStore(const std::string &address,
           const std::optional<StoreKeeper> &keeper) {
  auto end = std::chrono::steady_clock::now() + kPatience;
  for (;;)
    try {
      return std::make_shared<StoreClient>(address, kAnswer, keeper);
    } catch (const PeerError &error) {
      bool isThere =
          std::string(error.what()).find("cannot connect") == std::string::npos;
      if (isThere || std::chrono::steady_clock::now() >= end)
        throw;
    }
}

std::shared_future<std::shared_ptr<StoreClient>>
tombolo::runtime::meetAgents(const std::string &address,
                             std::optional<StoreKeeper> keeper) {
  auto store = std::make_shared<std::promise<std::shared_ptr<StoreClient>>>();
  auto result = store->get_future().share();
  std::thread([store, address, keeper = std::move(keeper)] {
    try {
      store->set_value(awaitStore(address, keeper));
    } catch (...) {
      store->set_exception(std::current_exception());
    }
  }).detach();
  return result;
}

void Strangers::note(const std::string &message) {
  std::lock_guard lock(mutex);
  if (auto line = seldom.say(message))
    fresh.push_back(std::move(*line));
}

std::vector<std::string> Strangers::take() {
  std::lock_guard lock(mutex);
  return std::exchange(fresh, {});
}

std::unique_ptr<StoreServer>
tombolo::runtime::keepMeeting(const std::string &address, const Plan &plan,
                              const TlsOptions &tls, Strangers &strangers) {
  std::size_t colon = std::min(address.rfind(':'), address.size());
  std::string host = address.substr(0, colon);
  std::uint16_t port = 0;
  const char *end = address.data() + address.size();
  const char *digits = std::min(address.data() + colon + 1, end);
  if (auto [last, error] = std::from_chars(digits, end, port);
      last != end || error != std::errc())
    throw Error("--rendezvous: expected a port from 1 to 65535, got '", address,
                "'");
  if (tls.plaintext)
    return std::make_unique<StoreServer>(host, port);
  StoreDoor door;
  door.files = tls.files;
  for (const auto &island : plan.islands())
    if (spansSites(island))
      for (std::string &site : sitesOfRanks(island))
        door.sites.insert(std::move(site));
  door.refused = [&strangers](const std::string &message) {
    strangers.note(message);
  };
  return std::make_unique<StoreServer>(host, port, std::move(door));
}
