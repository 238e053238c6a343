//===- Fit.cpp - constants of a chip from measured iterations -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// First the constants, then, with these fixed, a correction for each kind of
// block, number of chips and microbatch that several runs share. All unknowns
// are logarithms, within bounds.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Calibration/Fit.h"

#include <ceres/ceres.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

namespace tombolo::calibration {

using planning::BlockRun;
using planning::Problem;
using planning::Topology;

Constants Constants::of(const Topology &topology, const std::string &chip) {
  Constants constants;
  if (const planning::Chip *found = topology.findChip(chip)) {
    constants.matmul = found->matmulEfficiency;
    constants.memory = found->memoryEfficiency;
    constants.overheads = found->overheads;
  }
  for (const planning::Site &site : topology.sites)
    for (const planning::Pool &pool : site.pools)
      if (pool.chip == chip) {
        if (pool.intraNode)
          constants.intraNode = pool.intraNode;
        if (pool.interNode)
          constants.interNode = pool.interNode;
      }
  return constants;
}

void Constants::applyTo(Topology &topology, const std::string &chip) const {
  for (planning::Chip &each : topology.chips)
    if (each.name == chip) {
      each.matmulEfficiency = matmul;
      each.memoryEfficiency = memory;
      each.overheads = overheads;
    }
  for (planning::Site &site : topology.sites)
    for (planning::Pool &pool : site.pools)
      if (pool.chip == chip) {
        if (pool.intraNode && intraNode)
          pool.intraNode = intraNode;
        if (pool.interNode && interNode)
          pool.interNode = interNode;
      }
}

double predict(Problem &problem, const std::string &chip,
               const Constants &constants, const Run &run) {
  constants.applyTo(problem.topology, chip);
  return planning::evaluateIsland(problem, run.strategy, 0).stepSeconds;
}

double meanError(std::vector<Problem> &problems, const std::vector<Run> &runs,
                 const std::vector<size_t> &chosen, const Constants &constants,
                 const std::string &chip) {
  double sum = 0;
  for (size_t r : chosen)
    sum +=
        std::abs(predict(problems[runs[r].problem], chip, constants, runs[r]) /
                     runs[r].seconds -
                 1);
  return chosen.empty() ? 0 : 100 * sum / static_cast<double>(chosen.size());
}

namespace {

/// One unknown: where it is in the constants and what it may be.
struct Unknown {
  double *value;
  double low, high;
};

std::vector<Unknown> unknownsOf(Constants &constants) {
  std::vector<Unknown> all = {{&constants.matmul, 0.02, 1},
                              {&constants.memory, 0.02, 1},
                              {&constants.overheads.launchUs, 1e-2, 1e3},
                              {&constants.overheads.kernelUs, 1e-2, 1e3},
                              {&constants.overheads.scoreBytes, 1e-2, 64},
                              {&constants.overheads.transferUs, 1e-1, 1e4},
                              {&constants.overheads.stepMs, 1e-2, 1e4},
                              {&constants.overheads.exposedReduction, 1e-2, 1}};
  for (std::optional<planning::Wire> *wire :
       {&constants.intraNode, &constants.interNode})
    if (*wire) {
      double stated = (*wire)->gbitsPerSecond;
      all.push_back({&(*wire)->gbitsPerSecond, stated / 50, stated * 4});
      all.push_back({&(*wire)->latencyUs, 1e-1, 1e3});
    }
  return all;
}

/// How far the logarithm of one run's time is off, with the unknowns as given.
struct Residual {
  Problem &problem;
  const Run &run;
  const std::string &chip;
  const Constants &start;

  bool operator()(double const *const *parameters, double *residual) const {
    Constants constants = start;
    std::vector<Unknown> unknowns = unknownsOf(constants);
    for (size_t i = 0; i < unknowns.size(); ++i)
      *unknowns[i].value = std::exp(parameters[0][i]);
    double predicted = predict(problem, chip, constants, run);
    if (!(predicted > 0) || !std::isfinite(predicted))
      return false;
    residual[0] = std::log(predicted / run.seconds);
    return true;
  }
};

/// Holds each unknown near where it began, the more firmly the better it is
/// known before: all of its range counts as much as one run that is so far off.
/// What no run depends on stays.
struct Prior {
  static constexpr double kWholeRange = 0.2;
  std::vector<double> start;
  std::vector<double> ranges; // of logarithms
  bool operator()(double const *const *parameters, double *residuals) const {
    for (size_t i = 0; i < start.size(); ++i)
      residuals[i] = kWholeRange * (parameters[0][i] - start[i]) / ranges[i];
    return true;
  }
};

/// Errors beyond this count linearly.
constexpr double kLinearFrom = 0.02;
/// The pull of a run on the constants is strongest when it is so far off, and
/// fades beyond.
constexpr double kDisturbedFrom = 0.05;

/// The cost that is left.
double solve(ceres::Problem &problem) {
  ceres::Solver::Options options;
  options.linear_solver_type = ceres::DENSE_QR;
  options.max_num_iterations = 60;
  options.function_tolerance = 1e-5;
  options.logging_type = ceres::SILENT;
  options.num_threads = 1; // the planning problems are shared
  ceres::Solver::Summary summary;
  ceres::Solve(options, &problem, &summary);
  return summary.final_cost;
}

Constants fitConstants(std::vector<Problem> &problems,
                       const std::vector<Run> &runs,
                       const std::vector<size_t> &used, Constants constants,
                       const std::string &chip) {
  constants.overheads.corrections.clear();
  std::vector<Unknown> unknowns = unknownsOf(constants);
  std::vector<double> x, ranges;
  for (const Unknown &unknown : unknowns) {
    x.push_back(
        std::log(std::clamp(*unknown.value, unknown.low, unknown.high)));
    ranges.push_back(std::log(unknown.high / unknown.low));
  }
  const Constants start = constants;
  ceres::LossFunctionWrapper loss(nullptr, ceres::TAKE_OWNERSHIP);
  ceres::Problem::Options options;
  options.loss_function_ownership = ceres::DO_NOT_TAKE_OWNERSHIP;
  ceres::Problem problem(options);
  for (size_t r : used) {
    auto *cost =
        new ceres::DynamicNumericDiffCostFunction<Residual, ceres::FORWARD>(
            new Residual{problems[runs[r].problem], runs[r], chip, start});
    cost->AddParameterBlock(static_cast<int>(x.size()));
    cost->SetNumResiduals(1);
    problem.AddResidualBlock(cost, &loss, x.data());
  }
  auto *prior =
      new ceres::DynamicNumericDiffCostFunction<Prior>(new Prior{x, ranges});
  prior->AddParameterBlock(static_cast<int>(x.size()));
  prior->SetNumResiduals(static_cast<int>(x.size()));
  problem.AddResidualBlock(prior, nullptr, x.data());
  for (size_t i = 0; i < unknowns.size(); ++i) {
    int at = static_cast<int>(i);
    problem.SetParameterLowerBound(x.data(), at, std::log(unknowns[i].low));
    problem.SetParameterUpperBound(x.data(), at, std::log(unknowns[i].high));
  }
  // A host that is never what a function waits for has no slope: where it
  // begins too fast it stays so, and other constants take what it should. Hosts
  // that begin slower are tried too.
  const std::vector<double> begin = x;
  const double *launch = &constants.overheads.launchUs;
  double least = std::numeric_limits<double>::infinity();
  for (double slower : {1, 4}) {
    std::ranges::copy(begin, x.begin()); // where the problem looks for them
    for (size_t i = 0; i < unknowns.size(); ++i)
      if (unknowns[i].value == launch)
        x[i] = std::min(x[i] + std::log(slower), std::log(unknowns[i].high));
    // What is far off pulls the constants near at first. Then the more a run is
    // off the more likely something disturbed it that is no constant, as a slow
    // node: it says little of the chip.
    loss.Reset(new ceres::SoftLOneLoss(kLinearFrom), ceres::TAKE_OWNERSHIP);
    solve(problem);
    loss.Reset(new ceres::CauchyLoss(kDisturbedFrom), ceres::TAKE_OWNERSHIP);
    double cost = solve(problem);
    if (cost >= least)
      continue;
    least = cost;
    for (size_t i = 0; i < unknowns.size(); ++i)
      *unknowns[i].value = std::exp(x[i]);
  }
  return constants;
}

/// The run of equal blocks that most of a model consists of.
const planning::BlockKind &mainKind(const Problem &problem, uint64_t chips) {
  const BlockRun *most = &problem.model.runs.front();
  for (const BlockRun &run : problem.model.runs)
    if (run.count > most->count)
      most = &run;
  return planning::figuresOf(problem, most->kind, chips);
}

/// As `Residual`, with the ratio of one correction as the only unknown.
struct CorrectionResidual {
  Problem &problem;
  const Run &run;
  const std::string &chip;
  const Constants &constants;
  planning::Overheads::Correction correction;

  bool operator()(const double *logarithm, double *residual) const {
    Constants corrected = constants;
    corrected.overheads.corrections = {correction};
    corrected.overheads.corrections[0].ratio = std::exp(*logarithm);
    double predicted = predict(problem, chip, corrected, run);
    residual[0] = std::log(predicted / run.seconds);
    return std::isfinite(residual[0]);
  }
};

void addCorrections(std::vector<Problem> &problems,
                    const std::vector<Run> &runs,
                    const std::vector<size_t> &used, Constants &constants,
                    const std::string &chip) {
  // By number of chips, FLOPs and bytes handed on, these as they are written.
  std::map<std::tuple<uint64_t, double, double>, std::vector<size_t>> cells;
  for (size_t r : used) {
    const planning::Island &island = runs[r].strategy.islands[0];
    uint64_t chips = island.stages[0].replicas[0].tensorParallel;
    double samples = static_cast<double>(island.microbatch);
    const planning::BlockKind &kind =
        mainKind(problems[runs[r].problem], chips);
    cells[{chips, std::round(kind.forward.flops.at(samples) / 1e7) / 100,
           std::round(kind.outputBytes.at(samples) / 1e4) / 100}]
        .push_back(r);
  }
  constexpr size_t kEnough = 3; // runs that tell the same
  std::vector<planning::Overheads::Correction> corrections;
  for (const auto &[key, members] : cells) {
    if (members.size() < kEnough)
      continue;
    auto [chips, gflops, mbytes] = key;
    if (!(gflops > 0 && mbytes > 0))
      continue;
    planning::Overheads::Correction correction{chips, gflops, mbytes, 1};
    double logarithm = 0;
    ceres::Problem problem;
    for (size_t r : members)
      problem.AddResidualBlock(
          new ceres::NumericDiffCostFunction<CorrectionResidual, ceres::CENTRAL,
                                             1, 1>(new CorrectionResidual{
              problems[runs[r].problem], runs[r], chip, constants, correction}),
          new ceres::SoftLOneLoss(kLinearFrom), &logarithm);
    problem.SetParameterLowerBound(&logarithm, 0, std::log(0.5));
    problem.SetParameterUpperBound(&logarithm, 0, std::log(2.0));
    solve(problem);
    correction.ratio = std::exp(logarithm);
    corrections.push_back(correction);
  }
  constants.overheads.corrections = std::move(corrections);
}

} // namespace

Constants fit(std::vector<Problem> &problems, const std::vector<Run> &runs,
              const std::vector<size_t> &used, const Constants &start,
              const FitOptions &options) {
  Constants constants = fitConstants(problems, runs, used, start, options.chip);
  if (options.corrections)
    addCorrections(problems, runs, used, constants, options.chip);
  for (Problem &problem : problems)
    constants.applyTo(problem.topology, options.chip);
  return constants;
}

} // namespace tombolo::calibration
