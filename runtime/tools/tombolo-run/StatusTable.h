//===- StatusTable.h - the table of a run for people ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_STATUSTABLE_H
#define TOMBOLO_TOOLS_TOMBOLORUN_STATUSTABLE_H

#include "tombolo/runtime/Terminal.h"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// One line for each island and one for the servers, of a status as RunState
/// gives it, or of several that different sites gave. No line is wider than
/// `width`; where that is little, columns go from the right. `colour`: with
/// escape sequences.
std::vector<std::string> statusTable(const std::vector<nlohmann::json> &status,
                                     std::size_t width, bool colour);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_STATUSTABLE_H
