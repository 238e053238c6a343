//===- Failures.h - which failure explains the others -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_FAILURES_H
#define TOMBOLO_TOOLS_TOMBOLORUN_FAILURES_H

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace tombolo::runtime {

/// What went wrong, in the order of how much it explains: when a server or an
/// agent goes its ranks go too, and a rank that dies takes its peers along.
enum class Cause { Part, Killed, BadInput, Own, Echo };

struct Failure {
  Cause cause;
  int status;          ///< that the whole run ends with: 1 or 3
  std::string message; ///< names the process
};

/// From an agent's `rank_failed` event.
Failure rankFailure(const nlohmann::json &event);

/// The one to tell, of at least one: of equal ones the first.
const Failure &culprit(const std::vector<Failure> &failures);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_FAILURES_H
