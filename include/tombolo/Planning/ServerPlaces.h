//===- ServerPlaces.h - a backup for the server ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_SERVERPLACES_H
#define TOMBOLO_PLANNING_SERVERPLACES_H

#include "tombolo/Planning/Strategy.h"
#include "tombolo/Planning/Topology.h"

#include <functional>
#include <set>
#include <string>

namespace tombolo::planning {

struct ServerPlaces {
  Placement place;
  std::string witness; // empty: the sites of islands and servers are odd
};

/// Gives a primary a backup when the loss of any one site is then survived:
/// both have hosts, `holds` says that the backup's suffice, and with the sites
/// of the islands, or a further one as the witness, at least three can vote.
/// Of several the one over the fastest line, then the shortest one, then with
/// the fastest disk, then the first of the topology. Else none.
ServerPlaces placesWithBackup(const Topology &topology,
                              const std::set<std::string> &islandSites,
                              const std::string &primary,
                              const std::function<bool(const Site &)> &holds);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_SERVERPLACES_H
