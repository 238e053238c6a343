//===- Executor.h - what runs a rank's program ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A rank is run by this program, or by PyTorch (docs/Torch.md): then `rank`
// validates the plan and becomes the Python interpreter.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_EXECUTOR_H
#define TOMBOLO_TOOLS_TOMBOLORUN_EXECUTOR_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
} // namespace CLI

namespace tombolo::runtime {

inline constexpr const char *kGloo = "gloo", *kMpi = "mpi";

struct ExecutorOptions {
  std::string executor = "native"; ///< or "torch"
  std::string device = "cpu";
  std::string backend; ///< of torch.distributed; empty: the device's
  std::string transport = kGloo; ///< of native ranks

  bool isTorch() const { return executor == "torch"; }
  bool isMpi() const { return transport == kMpi; }
  /// Throws Error (status 2) for what does not go together.
  void check() const;
};

/// --executor, --device, --backend and --transport of `rank` and `site`.
void addExecutorOptions(CLI::App &app, ExecutorOptions &options);
/// These as words, those that are not as by default.
std::vector<std::string> executorArguments(const ExecutorOptions &options);

/// --executor and --device of `local`: of all sites, or of one as SITE=VALUE.
struct SiteExecutors {
  std::vector<std::string> executors, devices;
};
void addSiteExecutors(CLI::App &app, SiteExecutors &options);
/// By site of the plan. Throws Error for a site that it does not have, or an
/// island whose ranks would not understand each other.
std::map<std::string, ExecutorOptions> executorsOf(const SiteExecutors &options,
                                                   const Plan &plan);

/// Becomes the torch executor of `plan`, which has been validated; `arguments`
/// are those of its `rank`. Throws Error when it cannot be started.
[[noreturn]] void becomeTorchRank(const Plan &plan, std::uint32_t threads,
                                  const std::vector<std::string> &arguments);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_EXECUTOR_H
