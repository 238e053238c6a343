//===- Parameters.h - a program's parameters, one by one --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_PARAMETERS_H
#define TOMBOLO_RUNTIME_PLAN_PARAMETERS_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// What of one parameter lies in a rank's arena.
struct LocalParameter {
  std::string name;        ///< in checkpoints
  std::string initializer; ///< in the ONNX file
  std::vector<std::uint64_t> dims;
  std::uint64_t elements = 0; ///< of the whole parameter
  plan::v1::DType dtype = plan::v1::DTYPE_UNSPECIFIED;
  /// What of the row-major whole lies here, in memory order; never empty.
  std::vector<plan::v1::Slice> ranges;
  std::uint64_t localElements = 0;
  std::uint64_t address = 0; ///< arena byte of the first
  bool trainable = false;
  std::uint32_t fragment = 0;
  bool owner = false; ///< replica 0 of the class pushes and saves it
  /// Each tensor-parallel index holds another part, not the same.
  bool split = false;
};

/// Calls `visit(begin, length, localOffset)` for each contiguous run of
/// elements, in memory order.
template <typename Visit>
void forEachRun(const LocalParameter &parameter, Visit visit) {
  std::uint64_t local = 0;
  for (const plan::v1::Slice &slice : parameter.ranges)
    for (std::uint64_t i = 0; i < slice.count(); ++i) {
      visit(slice.begin() + i * slice.stride(), slice.length(), local);
      local += slice.length();
    }
}

/// All parameters of a validated program as the rank with `tensorIndex` in its
/// replica holds them, in the plan's order.
std::vector<LocalParameter> expandParameters(const plan::v1::Program &program,
                                             std::uint64_t tensorIndex = 0);

/// Whether a rank of the class pushes and saves the parameter: replica 0 of the
/// stage, and of what all tensor-parallel indices hold, index 0.
bool ownsParameter(const LocalParameter &parameter, std::uint64_t replica,
                   std::uint64_t tensorIndex);

/// Elements of a parameter that lie one after the other.
struct ParameterPart {
  LocalParameter parameter;  ///< `ranges` and `localElements` are the part's
  std::uint64_t address = 0; ///< arena byte of its first element
};

/// The part of `parameter` of which a rank of replica `replica` holds the state
/// `state`, and where that state lies: like the parameter, relative to the
/// region "parameters", less what other replicas hold. `localElements` is 0 for
/// none.
ParameterPart statePart(const plan::v1::Program &program,
                        const plan::v1::StateRegion &state,
                        const LocalParameter &parameter, std::uint64_t replica);

/// Local elements [begin, begin + count) of `parameter`, as ranges of the
/// whole.
std::vector<plan::v1::Slice> cutRanges(const LocalParameter &parameter,
                                       std::uint64_t begin,
                                       std::uint64_t count);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_PARAMETERS_H
