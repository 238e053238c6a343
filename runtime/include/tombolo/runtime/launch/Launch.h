//===- Launch.h - which of a launch's processes this one is -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Schedulers and launchers start many like processes, and tell each in its
// environment which one it is. What each of them says, and how, stands in one
// table (Launch.cpp); nothing else reads these variables.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LAUNCH_LAUNCH_H
#define TOMBOLO_RUNTIME_LAUNCH_LAUNCH_H

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// One process of a launch.
struct Launch {
  std::string launcher;          ///< who says so: "slurm", ...
  std::uint64_t number = 0;      ///< of this process, below `count`
  std::uint64_t count = 1;       ///< of all processes of the launch
  std::uint64_t localNumber = 0; ///< among those of this machine
  bool isOneMachine = false;     ///< all of them are known to be here
  /// HOST:PORT at which process 0 can listen for the others; empty where the
  /// launcher names no such place.
  std::string meeting;
};

/// The value of an environment variable, nothing where it is not set.
using Variables =
    std::function<std::optional<std::string>(const std::string &name)>;
/// Those of this process.
Variables ownVariables();

/// The names of the table, and "auto" and "none".
std::vector<std::string> launcherNames();

/// What `launcher` says of this process; of "auto" the innermost that has
/// started it: torchrun and Open MPI before Slurm and Kubernetes, in whose jobs
/// they run. Nothing where none is there. Throws Error for one that is named
/// and not there, that says only a part or nonsense, and for two that
/// contradict one another.
std::optional<Launch> findLaunch(const std::string &launcher,
                                 const Variables &variables = ownVariables());

/// Of a list of Slurm, as in "gpu[07-09,12],login".
std::string firstHost(const std::string &hostlist);

/// HOST:PORT with the host as an IPv4 address. A name that is not known yet is
/// asked for until `timeout`: that of a pod comes with it. Throws Error.
std::string resolveAddress(const std::string &address,
                           std::chrono::milliseconds timeout);

/// The address of this machine on the way to `address` (a.b.c.d:PORT). Throws
/// Error.
std::string addressTowards(const std::string &address);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_LAUNCH_LAUNCH_H
