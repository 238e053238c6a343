//===- IslandTalk.h - what the agents of one island say ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An island with ranks at several sites has an agent at each, and they say what
// happens to their ranks in the store where the ranks meet. The agent of rank 0
// leads: it decides how a life of the island begins. A life ends when at each
// site all ranks have ended; where one of them has failed the leader begins the
// next life, or gives the island up.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_ISLANDTALK_H
#define TOMBOLO_TOOLS_TOMBOLORUN_ISLANDTALK_H

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// How an island is started.
struct IslandStart {
  std::uint64_t incarnation = 0;
  std::optional<std::uint64_t> resumeStep; ///< nothing: from no checkpoint
  /// Why it is not started, but given up; empty: it is started.
  std::string givenUp;
};

std::string toText(const IslandStart &start);
/// Nothing for what is no such text.
std::optional<IslandStart> startFrom(const std::string &text);

/// All calls throw PeerError when the store is lost.
class IslandTalk {
public:
  IslandTalk(std::shared_ptr<StoreClient> store, const Plan &plan,
             std::uint32_t island, const std::string &site);

  bool leads() const { return sites.front() == site; }

  /// The leader's word on life `life`, when it has been given.
  std::optional<IslandStart> start(std::uint64_t life);
  void tellStart(std::uint64_t life, const IslandStart &start);

  /// False when this site has joined it before: by an agent that has fallen.
  bool join(std::uint64_t life);

  /// Some rank has failed, at whichever site: the others end, too.
  bool hasFailed(std::uint64_t life);
  void tellFailed(std::uint64_t life);

  /// The ranks here have all ended, some with these failures.
  void tellEnded(std::uint64_t life,
                 const std::vector<nlohmann::json> &failures);
  /// The failures at all sites; nothing while some rank runs.
  std::optional<std::vector<nlohmann::json>> ended(std::uint64_t life);

  /// This agent asks no more.
  void tellLeft();
  bool haveAllLeft();

private:
  std::string key(std::uint64_t life, const std::string &what) const;
  std::optional<std::string> look(const std::string &key);
  void set(const std::string &key, const std::string &value);

  std::shared_ptr<StoreClient> store;
  std::string scope, site;
  std::vector<std::string> sites; // that of rank 0 first
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_ISLANDTALK_H
