//===- Cores.cpp - which processors a rank runs on ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/launch/Cores.h"
#include "tombolo/runtime/Error.h"

#include <cerrno>
#include <cstring>
#include <sched.h>

namespace tombolo::runtime {

std::vector<int> allowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    throw Error(Status::Failed,
                "cannot learn which cores this process may run "
                "on: ",
                std::strerror(errno));
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set))
      cores.push_back(core);
  return cores;
}

void pinRank(std::uint64_t number, std::uint32_t threads) {
  std::vector<int> cores = allowedCores();
  cpu_set_t set;
  CPU_ZERO(&set);
  for (std::uint64_t t = 0; t < threads; ++t)
    CPU_SET(cores[(number * threads + t) % cores.size()], &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    throw Error(Status::Failed, "cannot keep rank ", number,
                " on its core: ", std::strerror(errno));
}

} // namespace tombolo::runtime
