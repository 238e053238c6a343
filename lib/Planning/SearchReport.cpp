//===- SearchReport.cpp - lines about what a search found -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Search.h"

#include <cstdio>
#include <map>
#include <set>

namespace tombolo::planning {

std::vector<std::string> unusedChips(const Topology &topology,
                                     const Strategy &strategy) {
  std::map<std::string, uint64_t> used;
  std::set<std::string> sites;
  for (const Island &island : strategy.islands) {
    sites.insert(island.sites.begin(), island.sites.end());
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        used[group.pool] += group.count * group.tensorParallel;
  }
  std::vector<std::string> lines;
  for (const Site &site : topology.sites)
    for (const Pool &pool : site.pools) {
      std::string name = site.name + "/" + pool.name;
      uint64_t idle = pool.chips() - std::min(pool.chips(), used[name]);
      if (idle == 0)
        continue;
      const char *why =
          !sites.count(site.name) ? "no island with this site is faster"
          : used[name] == 0
              ? "no pipeline with this pool is faster"
              : "no more replicas or stages of whole blocks are faster";
      lines.push_back("unused: " + std::to_string(idle) + " of " +
                      std::to_string(pool.chips()) + " chips of '" + name +
                      "': " + why);
    }
  return lines;
}

std::string proofLine(const SearchResult &result) {
  if (result.strategies.empty())
    return "";
  // The proof is about the cost model, whose best need not be the clock's.
  double taken = result.strategies[0].prediction.stepSeconds, found = taken;
  for (const SimulatedStep &one : result.simulated)
    found = std::min(found, one.predictedSeconds);
  char text[128];
  std::snprintf(text, sizeof(text),
                "gap: found %.4g s, lower bound %.4g s, %.1f %% to be proved",
                found, result.lowerBound,
                100 * (found - result.lowerBound) / found);
  std::string line = result.optimal ? "optimal: lower bound = found" : text;
  if (found < taken) {
    std::snprintf(text, sizeof(text),
                  "; taken is one of %.4g s, which is faster simulated", taken);
    line += text;
  }
  return line + (result.timeEnded ? " (ended by time: not deterministic)" : "");
}

std::string simulationLine(const SearchResult &result) {
  if (result.simulated.empty())
    return "";
  std::string line = "simulated: ";
  for (size_t i = 0; i < result.simulated.size(); ++i) {
    const SimulatedStep &one = result.simulated[i];
    char text[96];
    std::snprintf(text, sizeof(text), "%s%.4g s (predicted %.4g s)",
                  i == 0   ? ""
                  : i == 1 ? "; the next best "
                           : ", ",
                  one.simulatedSeconds, one.predictedSeconds);
    line += text;
  }
  return line;
}

} // namespace tombolo::planning
