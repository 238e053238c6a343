//===- Sites.h - ranks at two sites -----------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_TRANSPORT_SITES_H
#define TOMBOLO_TEST_TRANSPORT_SITES_H

#include "Temporary.h"

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/server/Certificates.h"

#include <mutex>
#include <string>
#include <vector>

namespace tombolo::runtime::test {

/// The ranks of an island in turn in the north and in the south, with
/// certificates and a store in the north. West is a site of the run, too, but
/// not one of the island.
class Sites {
public:
  explicit Sites(std::uint64_t count, int validDays = 365) {
    makeCertificates(folder.path, {"north", "south", "west"}, validDays);
    for (std::uint64_t rank = 0; rank < count; ++rank)
      names.push_back(rank % 2 ? "south" : "north");
  }

  /// The store, with its thread: a test that forks does that first.
  void start() {
    store = std::make_unique<StoreServer>(
        "127.0.0.1", 0,
        StoreDoor{files(0), {"north", "south"}, [this](const std::string &why) {
                    note(why);
                  }});
  }

  TlsFiles files(std::size_t site) const {
    return siteFiles(folder.path, site);
  }

  /// `address`: of the store, where it is in another process.
  std::unique_ptr<Transport> transport(std::uint64_t rank,
                                       TransportOptions options,
                                       std::string address = "") {
    TlsFiles own = files(rank % 2);
    options.keeper = StoreKeeper{own, "north"};
    return createSiteTransport(
        rank, address.empty() ? store->address() : address, "127.0.0.1",
        {own, names, [this](const std::string &why) { note(why); }}, options);
  }

  void note(const std::string &why) {
    std::lock_guard lock(mutex);
    turnedAway.push_back(why);
  }
  bool hasTurnedAway(const std::string &why) {
    std::lock_guard lock(mutex);
    for (const std::string &each : turnedAway)
      if (each.find(why) != each.npos)
        return true;
    return false;
  }
  std::string all() {
    std::lock_guard lock(mutex);
    std::string text;
    for (const std::string &each : turnedAway)
      text += each + "\n";
    return text;
  }

private:
  std::mutex mutex;
  std::vector<std::string> turnedAway;

public:
  test::TemporaryFolder folder;
  std::vector<std::string> names; ///< of each rank's site
  /// The last, so the first to go: its thread notes who is turned away.
  std::unique_ptr<StoreServer> store;
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_TRANSPORT_SITES_H
