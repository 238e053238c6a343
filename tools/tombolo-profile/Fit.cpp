//===- Fit.cpp - constants of a chip from measured iterations -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fitting.h"

#include "tombolo/Import/Topology.h"

#include "llvm/Support/raw_ostream.h"

#include <fstream>
#include <iostream>
#include <set>

using namespace tombolo;
using calibration::Constants;

namespace {

/// Indices of the runs whose shape is, or is not, among some.
std::vector<size_t> choose(const Runs &runs,
                           const std::set<std::string> &shapes, bool inside) {
  std::vector<size_t> chosen;
  for (size_t r = 0; r < runs.runs.size(); ++r)
    if (shapes.count(runs.runs[r].shape) == inside)
      chosen.push_back(r);
  return chosen;
}

class Fitter {
public:
  Fitter(const FitOptions &options, Runs &runs, const Constants &start)
      : options(options), runs(runs), start(start) {}

  std::vector<double> predicted; // of each run, held out where there are folds

  Constants fit(const std::vector<size_t> &used) {
    return calibration::fit(runs.problems, runs.runs, used, start,
                            {options.chip, !options.noCorrections});
  }
  double error(const std::vector<size_t> &chosen, const Constants &constants) {
    predicted.resize(runs.runs.size());
    double sum = 0;
    for (size_t r : chosen) {
      predicted[r] =
          calibration::predict(runs.problems[runs.runs[r].problem],
                               options.chip, constants, runs.runs[r]);
      sum += std::abs(predicted[r] / runs.runs[r].seconds - 1);
    }
    return chosen.empty() ? 0 : 100 * sum / static_cast<double>(chosen.size());
  }

private:
  const FitOptions &options;
  Runs &runs;
  const Constants &start;
};

void print(const std::string &what, size_t runs, double error) {
  std::printf("%-44s %6zu runs  %6.2f %%\n", what.c_str(), runs, error);
}

} // namespace

int tombolo::fit(const FitOptions &options) {
  auto lines = readRuns(options.table, std::cerr);
  auto sites = readTopologyFile(options.topology, llvm::errs());
  if (!lines || !sites)
    return 1;
  FitOptions chosen = options;
  if (chosen.chip.empty() && sites->topology.chips.size() == 1)
    chosen.chip = sites->topology.chips[0].name;
  if (!sites->topology.findChip(chosen.chip)) {
    std::cerr << options.topology << ": error: no chip '" << chosen.chip
              << "'; say which one to fit with --chip\n";
    return 1;
  }
  planning::Precision precision = options.precision == "f32"
                                      ? planning::Precision::F32
                                      : planning::Precision::BF16;
  auto runs = loadRuns(options.table, *lines, sites->topology, precision);
  if (!runs)
    return 1;
  for (planning::Problem &problem : runs->problems)
    problem.bounds.wholeBackward = options.wholeBackward;
  Constants start = Constants::of(sites->topology, chosen.chip);
  Fitter fitter(chosen, *runs, start);

  std::set<std::string> all, given;
  bool split = false;
  for (const RunLine &line : *lines) {
    all.insert(line.shape);
    split |= line.use == "test";
    if (line.use == "fit")
      given.insert(line.shape);
  }
  FitReport report{options.precision, 0, 0, 0, {}};
  std::printf("mean absolute error of iteration times\n");
  Constants constants;
  std::vector<double> heldOut(runs->runs.size());
  if (split) {
    std::vector<size_t> used = choose(*runs, given, true);
    std::vector<size_t> rest = choose(*runs, given, false);
    if (used.empty()) {
      std::cerr << options.table << ": error: no line has 'fit' in 'use'\n";
      return 1;
    }
    constants = fitter.fit(used);
    report = {options.precision, used.size(), given.size(),
              fitter.error(used, constants), fitter.error(rest, constants)};
    heldOut = fitter.predicted;
    print("fitted", used.size(), report.error);
    print("held out", rest.size(), *report.heldOut);
  } else {
    size_t folds = std::min(options.folds, all.size());
    double sum = 0;
    for (size_t f = 0; folds > 1 && f < folds; ++f) {
      std::set<std::string> out;
      size_t i = 0;
      for (const std::string &shape : all)
        if (i++ % folds == f)
          out.insert(shape);
      std::vector<size_t> used = choose(*runs, out, false);
      std::vector<size_t> rest = choose(*runs, out, true);
      Constants here = fitter.fit(used);
      double inside = fitter.error(used, here);
      double outside = fitter.error(rest, here);
      for (size_t r : rest)
        heldOut[r] = fitter.predicted[r];
      std::string name = "fold " + std::to_string(f + 1);
      print(name + ", fitted", used.size(), inside);
      print(name + ", held out", rest.size(), outside);
      sum += outside * static_cast<double>(rest.size());
    }
    std::vector<size_t> every = choose(*runs, {}, false);
    if (folds > 1) {
      report.heldOut = sum / static_cast<double>(every.size());
      print("all folds, held out", every.size(), *report.heldOut);
    }
    constants = fitter.fit(every);
    report.runs = every.size();
    report.shapes = all.size();
    report.error = fitter.error(every, constants);
    if (folds <= 1)
      heldOut = fitter.predicted;
    print("fitted to all (what is written)", every.size(), report.error);
  }
  auto isWritten = [](std::ofstream &file, const std::string &path) {
    if (!file.flush())
      std::cerr << path << ": error: cannot be written\n";
    return file.good();
  };
  std::ofstream file(options.output);
  writeProfile(file, chosen.chip, constants, report);
  if (!options.predictions.empty()) {
    std::ofstream table(options.predictions);
    table << "shape,global_batch,microbatch,data_parallel,tensor_parallel,"
             "pipeline_parallel,measured_seconds,predicted_seconds\n";
    for (size_t r = 0; r < runs->runs.size(); ++r) {
      const planning::Island &island = runs->runs[r].strategy.islands[0];
      const planning::ReplicaGroup &group = island.stages[0].replicas[0];
      table << runs->runs[r].shape << "," << island.batch << ","
            << island.microbatch << "," << group.count << ","
            << group.tensorParallel << "," << island.stages.size() << ","
            << runs->runs[r].seconds << "," << heldOut[r] << "\n";
    }
    if (!isWritten(table, options.predictions))
      return 1;
  }
  return isWritten(file, options.output) ? 0 : 1;
}
