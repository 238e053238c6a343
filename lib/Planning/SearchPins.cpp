//===- SearchPins.cpp - what somebody fixed of a strategy -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "SearchPins.h"
#include "ServerChoice.h"
#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tombolo::planning {

Faults checkPins(const Problem &problem, const StrategyPins &pins) {
  Faults faults = checkServerPins(problem, pins);
  if (!pins.islands)
    return faults;
  if (pins.islands->empty())
    faults.push_back({"islands", "a strategy needs at least one island"});
  uint64_t sum = 0;
  bool allGiven = true, hasOwnSteps = false;
  for (size_t i = 0; i < pins.islands->size(); ++i) {
    const IslandPins &island = (*pins.islands)[i];
    std::string path = at("islands", i);
    if (island.sites.empty())
      faults.push_back(
          {in(path, "sites"), "an island needs at least one site"});
    for (size_t k = 0; k < island.sites.size(); ++k)
      if (!problem.topology.findSite(island.sites[k]))
        faults.push_back({at(in(path, "sites"), k),
                          "unknown site '" + island.sites[k] + "'"});
    if (island.innerSteps && !(pins.server && pins.server->innerSteps))
      faults.push_back(
          {in(path, "inner_steps"),
           "an island's own inner_steps need the server's, whose rounds they "
           "are steps of; set 'inner_steps' in 'server' too"});
    if (island.innerSteps && problem.bounds.innerSteps &&
        *island.innerSteps > *problem.bounds.innerSteps)
      faults.push_back({in(path, "inner_steps"),
                        "inner_steps " + std::to_string(*island.innerSteps) +
                            " contradicts --max-inner-steps " +
                            std::to_string(*problem.bounds.innerSteps) +
                            "; change one of the two"});
    hasOwnSteps |= island.innerSteps.has_value();
    allGiven &= island.batch.has_value();
    if (island.batch &&
        (*island.batch == 0 || *island.batch > problem.training.globalBatch))
      faults.push_back(
          {in(path, "batch"), "batch must be from 1 to the global batch " +
                                  std::to_string(problem.training.globalBatch) +
                                  ", got " + std::to_string(*island.batch)});
    else
      sum += island.batch.value_or(1);
    if (island.batch && island.microbatch &&
        (*island.microbatch == 0 || *island.batch % *island.microbatch != 0))
      faults.push_back(
          {in(path, "microbatch"), "batch " + std::to_string(*island.batch) +
                                       " is not a multiple of the microbatch " +
                                       std::to_string(*island.microbatch)});
    if (island.stages && island.stages->empty())
      faults.push_back(
          {in(path, "stages"), "an island needs at least one stage"});
    for (size_t s = 0; island.stages && s < island.stages->size(); ++s) {
      const StagePins &stage = (*island.stages)[s];
      std::string place = at(in(path, "stages"), s);
      if (stage.replicas.empty())
        faults.push_back({place, "a stage needs a pool"});
      for (size_t g = 0; g < stage.replicas.size(); ++g) {
        const ReplicaGroup &group = stage.replicas[g];
        std::string where = at(in(place, "replicas"), g);
        if (!problem.topology.findPool(group.pool))
          faults.push_back(
              {in(where, "pool"), "unknown pool '" + group.pool +
                                      "', expected SITE/POOL of the topology"});
        // Beyond this the sums below could overflow.
        for (uint64_t value : {group.count, group.tensorParallel, group.share})
          if (value > (uint64_t(1) << 20))
            faults.push_back(
                {where, "absurdly large number " + std::to_string(value)});
        if (group.tensorParallel == 0 || group.share == 0)
          faults.push_back(
              {where, "tensor_parallel and share must be positive"});
      }
    }
  }
  // What is made least is the time of a round, in which the samples would
  // differ with the batches.
  if (hasOwnSteps && !allGiven)
    faults.push_back({"islands", "with inner_steps of an island's own the "
                                 "search does not share the batch; set 'batch' "
                                 "of every island"});
  if (faults.empty() && (allGiven ? sum != problem.training.globalBatch
                                  : sum > problem.training.globalBatch))
    faults.push_back(
        {"islands", "the islands' batches add up to " + std::to_string(sum) +
                        ", expected the global batch " +
                        std::to_string(problem.training.globalBatch)});
  return faults;
}

/// `12.3 GiB`.
static std::string gibText(double bytes) {
  char text[64];
  std::snprintf(text, sizeof(text),
                bytes < 1e6 * 1073741824.0 ? "%.3f GiB" : "%.3g GiB",
                bytes / 1073741824.0);
  return text;
}

Fault tooMuchBetweenSites(const Problem &problem, double gbits) {
  char text[200];
  std::snprintf(
      text, sizeof text,
      "no strategy keeps the bound of %.4g Gbit/s between sites: %.4g "
      "are needed at least; allow more (--max-wan-gbits), more inner "
      "steps, or a coarser compression",
      *problem.bounds.wanGbits, gbits);
  return {"islands", text};
}

Faults whyNothingFits(const Problem &problem) {
  const ModelProfile &model = problem.model;
  double state =
      static_cast<double>(problem.training.optimizerStateBytesPerParameter);
  // The largest block alone, and everything together, on one chip each.
  double whole = 0, largest = 0;
  std::string block;
  for (const BlockRun &run : model.runs) {
    const BlockKind &kind = model.kinds[run.kind];
    whole += static_cast<double>(run.count) *
             (static_cast<double>(kind.parameterBytes) +
              static_cast<double>(kind.trainableCount) * (4 + state));
    // On as many chips as there are figures for.
    double least = 0;
    for (size_t d = 0; d <= kind.sharded.size(); ++d) {
      uint64_t chips = d == 0 ? 1 : kind.sharded[d - 1].tensorParallel;
      double bytes = memoryUse(problem, {{run.kind, 1}}, 1, 1,
                               {Recompute::Full, 0}, false, false, {chips, 1})
                         .total();
      least = d == 0 ? bytes : std::min(least, bytes);
    }
    if (least > largest) {
      largest = least;
      block = kind.name;
    }
  }
  double roomiest = 0, most = 0;
  std::string chip, site;
  for (const Site &one : problem.topology.sites) {
    double has = 0;
    for (const Pool &pool : one.pools) {
      const Chip &type = problem.topology.chipOf(pool);
      double available = availableBytes(problem, type);
      if (available > roomiest) {
        roomiest = available;
        chip = type.name;
      }
      has += static_cast<double>(std::min(pool.chips(), model.blocks() * 64)) *
             available;
    }
    if (has > most) {
      most = has;
      site = one.name;
    }
  }
  std::string text = "no strategy fits: ";
  if (largest > roomiest)
    text += "block '" + block + "' alone needs " + gibText(largest) +
            " of a chip with one sample in flight, and the largest, '" + chip +
            "', has " + gibText(roomiest) + ": " + gibText(largest - roomiest) +
            " short; use chips with more memory";
  else if (whole > most)
    text += "parameters, gradients and optimizer state need " + gibText(whole) +
            " in each island, and the largest site, '" + site + "', has " +
            gibText(most) + ": " + gibText(whole - most) +
            " short; use more or larger chips";
  else
    text += "parameters, gradients and optimizer state need " + gibText(whole) +
            " of the " + gibText(most) + " of site '" + site +
            "', but with what is in flight no split of " +
            std::to_string(model.blocks()) +
            " blocks fits; use more or larger chips, or a global batch with "
            "smaller divisors";
  return {{"islands", text}};
}

} // namespace tombolo::planning
