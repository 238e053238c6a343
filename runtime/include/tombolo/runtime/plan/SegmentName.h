//===- SegmentName.h - which function of a block a segment is ---*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_SEGMENTNAME_H
#define TOMBOLO_RUNTIME_PLAN_SEGMENTNAME_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tombolo::runtime {

/// BLOCK.FUNCTION.mMICROBATCH.PRECISION[.tCHIPS][.partNUMBER], FUNCTION one of
/// forward, backward_input and backward_weight (docs/PlanFormat.md).
struct SegmentName {
  std::string block, function, precision;
  std::uint64_t microbatch = 1;
  std::uint64_t tensorParallel = 1;
  std::uint64_t part = 0; ///< between collectives
};

/// Nothing for a segment that is no function of a block.
std::optional<SegmentName> parseSegmentName(std::string_view name);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_SEGMENTNAME_H
