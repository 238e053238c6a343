//===- ShardIndex.h - which part of a split axis is here ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SHARDINDEX_H
#define TOMBOLO_LIB_DEVICE_CPU_SHARDINDEX_H

#include "Kernel.h"

namespace tombolo::runtime::cpu {

/// The optional last operand `index` of ops on a split axis, with the attribute
/// `count`: part `index` of `count` equal parts is here. Without it the whole.
class ShardIndex {
public:
  /// `operand`: the position of `index`, when there are so many inputs.
  ShardIndex(const OpContext &context, std::size_t operand)
      : where(context.where) {
    std::optional<std::int64_t> parts = context.optionalInteger("count");
    bool present = context.inputs.size() > operand;
    context.require(parts.has_value() == present,
                    "expected an operand 'index' and an attribute 'count' "
                    "together");
    if (!present)
      return;
    index = context.inputs[operand];
    context.requireType(*index, plan::v1::DTYPE_I64, "index");
    context.require(index->elements() == 1, "expected index of 1 element, got ",
                    describe(*index));
    context.require(*parts >= 1 && *parts <= kMaxParts,
                    "expected a count of 1 to ", kMaxParts, ", got ", *parts);
    count = *parts;
  }

  std::int64_t parts() const { return count; }

  /// The number of the part, below `parts()`.
  std::int64_t read(std::byte *const *bases) const {
    if (!index)
      return 0;
    std::int64_t value = *index->at<const std::int64_t>(bases);
    if (value < 0 || value >= count)
      throw Error(where, ": expected an index in [0, ", count, "), got ",
                  value);
    return value;
  }

private:
  static constexpr std::int64_t kMaxParts = 1 << 20; // ranks of a plan
  std::string where;
  std::optional<Tensor> index;
  std::int64_t count = 1;
};

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_SHARDINDEX_H
