//===- FitTest.cpp - constants from iterations ----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Calibration/Fit.h"

#include <gtest/gtest.h>

#include <numeric>

using namespace tombolo;
using namespace tombolo::calibration;

namespace {

/// Eight equal blocks on a node of eight chips, in two widths.
planning::Problem problemOf(double width) {
  planning::Problem problem;
  planning::Chip chip;
  chip.name = "c";
  chip.tflopsF32 = 100;
  chip.memoryGib = 64;
  chip.memoryGbytesPerSecond = 1000;
  problem.topology.chips = {chip};
  planning::Pool pool;
  pool.name = "p";
  pool.chip = "c";
  pool.chipsPerNode = 8;
  pool.intraNode = planning::Wire{400, 5};
  problem.topology.sites = {{"s", {}, {pool}, {}, {}}};
  planning::BlockKind kind;
  kind.name = "block";
  auto work = [&](double times) {
    planning::Work work;
    work.flops = {0, times * width * 4e11};
    work.streamed = {0, times * width * 1e9};
    work.ops = 20 * times;
    return work;
  };
  kind.forward = work(1);
  kind.backwardInput = work(1);
  kind.backwardWeight = work(1);
  kind.parameterCount = kind.trainableCount =
      static_cast<uint64_t>(width * 1e7);
  kind.parameterBytes = 4 * kind.parameterCount;
  kind.inputBytes = kind.outputBytes = {0, width * 4e6};
  problem.model.kinds = {kind};
  problem.model.runs = {{0, 8}};
  return problem;
}

Run runOf(size_t problem, uint64_t microbatch, uint64_t replicas,
          uint64_t stages) {
  calibration::Run run;
  run.problem = problem;
  run.shape = std::to_string(problem);
  planning::Island &island = run.strategy.islands.emplace_back();
  island.sites = {"s"};
  island.microbatch = microbatch;
  island.batch = 8 * microbatch * replicas;
  for (uint64_t s = 0; s < stages; ++s) {
    planning::Stage &stage = island.stages.emplace_back();
    stage.blocks = 8 / stages;
    stage.replicas = {{"s/p", replicas, 1, 1}};
  }
  return run;
}

/// All layouts of some widths, as the cost model times them.
std::vector<calibration::Run> runsOf(std::vector<planning::Problem> &problems,
                                     const Constants &truth) {
  std::vector<calibration::Run> runs;
  for (size_t problem = 0; problem < problems.size(); ++problem)
    for (uint64_t microbatch : {1, 2, 4})
      for (uint64_t replicas : {1, 2, 4})
        for (uint64_t stages : {1, 2}) {
          runs.push_back(runOf(problem, microbatch, replicas, stages));
          runs.back().seconds =
              predict(problems[problem], "c", truth, runs.back());
        }
  return runs;
}

std::vector<size_t> indices(const std::vector<calibration::Run> &runs) {
  std::vector<size_t> all(runs.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

} // namespace

// Times that the cost model made are foretold again, held-out ones too, from a
// start far away; a block that takes longer than its figures say is corrected.
TEST(Fit, FindsWhatMadeTheTimes) {
  std::vector<planning::Problem> problems = {problemOf(1), problemOf(2),
                                             problemOf(3)};
  Constants truth = Constants::of(problems[0].topology, "c");
  truth.matmul = 0.55;
  truth.memory = 0.8;
  truth.overheads.launchUs = 12;
  truth.overheads.kernelUs = 3;
  truth.overheads.stepMs = 4;
  truth.intraNode->gbitsPerSecond = 150;
  std::vector<calibration::Run> runs = runsOf(problems, truth);
  std::vector<size_t> used, rest;
  for (size_t r : indices(runs))
    (runs[r].problem == 1 ? rest : used).push_back(r);
  Constants start = Constants::of(problemOf(1).topology, "c");
  start.matmul = 0.3;
  start.memory = 0.5;
  start.overheads.launchUs = 1;
  start.overheads.kernelUs = 1;
  start.overheads.stepMs = 1;
  Constants plain = fit(problems, runs, used, start, {"c", false});
  EXPECT_TRUE(plain.overheads.corrections.empty());
  EXPECT_LT(meanError(problems, runs, used, plain, "c"), 1);
  EXPECT_LT(meanError(problems, runs, rest, plain, "c"), 2);

  // One kind of block at one microbatch is slower than all else says.
  for (calibration::Run &run : runs)
    if (run.problem == 2 && run.strategy.islands[0].microbatch == 4)
      run.seconds *= 1.3;
  Constants corrected = fit(problems, runs, used, start, {"c", true});
  Constants without = corrected;
  without.overheads.corrections.clear();
  EXPECT_LT(meanError(problems, runs, used, corrected, "c"),
            0.5 * meanError(problems, runs, used, without, "c"));
}

// A host that most functions do not wait for, and at the start none does.
TEST(Fit, FindsASlowHost) {
  std::vector<planning::Problem> problems = {problemOf(1), problemOf(2)};
  Constants truth = Constants::of(problems[0].topology, "c");
  truth.overheads.launchUs = 600; // 12 ms of 20 ops, beside 9 ms of the chip
  truth.overheads.kernelUs = 3;
  std::vector<calibration::Run> runs = runsOf(problems, truth);
  Constants start = truth;
  start.overheads.launchUs = 200;
  Constants found = fit(problems, runs, indices(runs), start, {"c", false});
  EXPECT_NEAR(found.overheads.launchUs, 600, 30);
  EXPECT_LT(meanError(problems, runs, indices(runs), found, "c"), 0.5);
}

// Runs that something disturbed, always to be longer, hardly move what is
// foretold of the others.
TEST(Fit, DisturbedRunsCountForLittle) {
  std::vector<planning::Problem> problems = {problemOf(1), problemOf(2)};
  Constants truth = Constants::of(problems[0].topology, "c");
  truth.overheads.kernelUs = 3;
  std::vector<calibration::Run> runs = runsOf(problems, truth);
  std::vector<size_t> others;
  for (size_t r : indices(runs))
    if (r % 4 == 2)
      runs[r].seconds *= 1.4;
    else
      others.push_back(r);
  Constants start = truth;
  start.matmul = 0.4;
  start.memory = 0.5;
  Constants found = fit(problems, runs, indices(runs), start, {"c", false});
  EXPECT_LT(meanError(problems, runs, others, found, "c"), 0.4);
}
