//===- SiteJob.h - one site's job, before it is written ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_SITEJOB_H
#define TOMBOLO_TOOLS_TOMBOLORUN_SITEJOB_H

#include "JobFiles.h"

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

namespace tombolo::runtime {

/// One site's.
struct SiteJob {
  std::string site;
  std::string name;               ///< tombolo-RUN-SITE, as labels may be
  std::uint64_t processes = 1;    ///< each on a machine, or for a rank
  std::uint64_t ranks = 0;        ///< 0: a server alone, a witness
  bool isOneEach = false;         ///< a process for each rank
  bool restartsItself = false;    ///< one process, with --restarts
  std::vector<std::string> words; ///< of tombolo-run
  std::string server;             ///< HOST:PORT of the one that runs here
};

struct JobContext {
  const JobRun &run;
  const JobFileOptions &options;
};

/// A file's name and what stands in it; secrets are for their owner alone.
struct JobFile {
  std::string name, text;
  ::mode_t mode;
};

/// Manifests: an Indexed Job with its services, and a Secret.
std::vector<JobFile> writeKubernetesJob(const SiteJob &job,
                                        const JobContext &context);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_SITEJOB_H
