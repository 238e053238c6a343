//===- JobFiles.h - the job files of a plan's sites -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One job for each site of a plan, so that a site is the unit of failure: what
// `tombolo-run site` needs there, in the form of a scheduler, and when it is to
// be started again. Which schedulers there are stands in one table
// (JobFiles.cpp).
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_JOBFILES_H
#define TOMBOLO_TOOLS_TOMBOLORUN_JOBFILES_H

#include "Commands.h"
#include "Executor.h"
#include "RunWatch.h"

#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <map>
#include <string>
#include <vector>

namespace tombolo::runtime {

struct JobFileOptions {
  std::string kind;                 ///< slurm, kubernetes, shell; empty: none
  std::string folder;               ///< that the files are written to
  std::vector<std::string> options; ///< for the scheduler
  std::uint64_t processes = 0;      ///< of each site; 0: one for each machine
  std::string image;                ///< of containers
  std::string volume;               ///< CLAIM=/PATH in them

  bool isAsked() const { return !kind.empty(); }
};
void addJobFileOptions(CLI::App &app, JobFileOptions &options);

/// What the jobs run.
struct JobRun {
  const Plan &plan;
  RankOptions rank;
  ExecutorOptions executor;
  std::vector<std::string> watch;   ///< words of the command line
  std::vector<std::string> servers; ///< SITE=ADDRESS of each of the plan
  std::string site;                 ///< empty: all of the plan
  std::string rendezvous, runId, certificates;
  bool plaintext = false;
  bool gateway = false;
  LineOptions line;
  std::uint64_t restarts = 0;
  double detectionSeconds = kDetectionSeconds;
  std::optional<std::uint64_t> stepsAlone;
};

/// Writes the files and says which on stdout. Throws Error.
void writeJobFiles(JobRun run, const JobFileOptions &options);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_JOBFILES_H
