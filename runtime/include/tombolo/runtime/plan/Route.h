//===- Route.h - the lines between two sites of a plan ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_ROUTE_H
#define TOMBOLO_RUNTIME_PLAN_ROUTE_H

#include <cstdint>
#include <optional>
#include <vector>

namespace tombolo::plan::v1 {
class Topology;
} // namespace tombolo::plan::v1

namespace tombolo::runtime {

/// The way from one site to another over the fewest lines, as 2 * line, and 1
/// more where it is taken from its second site to its first; without those in
/// `down` (by line; empty: none). Ties are broken by the order of lines.
/// Nothing where there is no way.
std::optional<std::vector<std::uint32_t>>
routeBetween(const plan::v1::Topology &topology, std::uint32_t from,
             std::uint32_t to, const std::vector<bool> &down = {});

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_ROUTE_H
