//===- Json.h - what came out of a simulation, for programs
//------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SIM_JSON_H
#define TOMBOLO_RUNTIME_SIM_JSON_H

#include "tombolo/runtime/sim/Simulate.h"

#include <nlohmann/json.hpp>

namespace tombolo::runtime::sim {

/// The names of `tombolo-plan --json` under `predicted`, and what only a
/// simulation has under `simulated`.
nlohmann::ordered_json toJson(const Plan &plan, const SimResult &result);

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_SIM_JSON_H
