//===- Infinity.h - the time of what cannot be ----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_INFINITY_H
#define TOMBOLO_LIB_PLANNING_INFINITY_H

#include <limits>

namespace tombolo::planning {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_INFINITY_H
