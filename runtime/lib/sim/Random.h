//===- Random.h - numbers that depend on what they are for alone--------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_RANDOM_H
#define TOMBOLO_RUNTIME_LIB_SIM_RANDOM_H

#include <cstdint>
#include <initializer_list>

namespace tombolo::runtime::sim {

/// In (0, 1): the same for the same seed and place, whatever was drawn before.
double drawUniform(std::uint64_t seed,
                   std::initializer_list<std::uint64_t> place);

/// The largest of `count` independent standard normal numbers, from one uniform:
/// the count-th root of u is distributed like the largest of `count` uniforms.
double slowestNormal(double uniform, double count);

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_RANDOM_H
