//===- Steps.h - the steps of an island, each kind simulated once-------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_STEPS_H
#define TOMBOLO_RUNTIME_LIB_SIM_STEPS_H

#include "StepRun.h"

#include <utility>

namespace tombolo::runtime::sim {

/// A step, or what is left of it once a version has come, in its own clock.
struct StepPart {
  struct Push {
    std::uint32_t fragment, ofClass;
    double time;
  };
  std::vector<Push> pushes;
  /// Waits for versions of these fragments from `end` on; empty: the step is
  /// done.
  std::vector<std::uint32_t> waitsFor;
  /// Until when it does not matter whether one has come.
  double firstApply = 0;
  double end = 0;           ///< of the last class, or when nothing moves
  std::vector<double> ends; ///< by class, when done
  StepFigures figures;
};

/// What decides how a step goes, beside the island's plan.
struct StepBegin {
  std::uint64_t step = 0;
  std::vector<double> starts;
  std::vector<bool> received; ///< by fragment
  LineConditions lines;       ///< empty when the island uses none
};

/// Runs steps, and knows them again: with `replay`, one that begins like an
/// earlier one (the same guards hold, classes begin at the same times, lines
/// carry the same, the same versions have come) is that one.
class Steps {
public:
  Steps(const Plan &plan, std::uint32_t island, const Places &places,
        const SimOptions &options);

  Fold &fold() { return folded; }
  /// From its begin to its end, or to where nothing moves until a version comes.
  std::shared_ptr<const StepPart> first(const StepBegin &begin, double base);
  /// What follows when versions of `came`, in this order, have come to parts
  /// that waited for them; the clock begins anew with the last, at `base`, `gap`
  /// after the last part's end.
  std::shared_ptr<const StepPart> then(const StepBegin &begin,
                                       const std::vector<std::uint32_t> &came,
                                       double base, double gap);
  std::uint64_t simulated() const { return simulatedCount; }
  std::uint64_t events() const { return run.events(); }
  /// For what is told twice of one step.
  Trace *setTrace(Trace *trace) { return std::exchange(run.trace, trace); }

private:
  std::string keyOf(const StepBegin &begin,
                    const std::vector<std::uint32_t> &came) const;
  std::shared_ptr<const StepPart> runOn(StepPart &part);

  const Plan &plan;
  std::uint32_t island;
  const SimOptions &options;
  bool replays;
  Fold folded;
  StepRun run;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> guards;
  std::unordered_map<std::string, std::shared_ptr<const StepPart>> known;
  std::string atKey; // what `run` has come to
  std::uint64_t simulatedCount = 0;
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_STEPS_H
