//===- ServerChoice.h - the settings of the parameter server --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SERVERCHOICE_H
#define TOMBOLO_LIB_PLANNING_SERVERCHOICE_H

#include "SearchLimits.h"

namespace tombolo::planning {

/// The mean rate of all that crosses between sites, in Gbit/s.
double wanGbits(const Strategy &strategy, const Prediction &prediction);

/// Settings inside the bounds and pins with which a strategy of such islands is
/// fastest; where none keeps `Bounds::wanGbits`, those that send least.
/// Nothing: it needs no server.
std::optional<Server>
fastestServer(const Problem &problem, const StrategyPins &pins,
              const Strategy &strategy,
              const std::vector<IslandPrediction> &islands);

/// Of all settings inside the bounds and pins whose tokens/s are within 1 % of
/// the fastest, the smallest H, then the mildest compression, then the shortest
/// overlap, then the fewest fragments.
std::optional<Server>
mildestServer(const Problem &problem, const StrategyPins &pins,
              const Strategy &strategy,
              const std::vector<IslandPrediction> &islands);

/// Bounds and pins that no settings satisfy together, as a pair; empty: some
/// do.
Faults checkServerPins(const Problem &problem, const StrategyPins &pins);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SERVERCHOICE_H
