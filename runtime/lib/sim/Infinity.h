//===- Infinity.h - the time of what never comes ----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_INFINITY_H
#define TOMBOLO_RUNTIME_LIB_SIM_INFINITY_H

#include <limits>

namespace tombolo::runtime::sim {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_INFINITY_H
