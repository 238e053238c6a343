//===- Blocks.h - the codec's blocks that ranges touch ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_BLOCKS_H
#define TOMBOLO_LIB_SERVER_BLOCKS_H

#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/server/Codec.h"
#include "tombolo/runtime/server/OuterState.h"

#include <algorithm>
#include <vector>

namespace tombolo::runtime {

/// The blocks of a tensor, counted from its begin, that valid ranges touch:
/// each once, in runs that are ascending and do not meet.
inline std::vector<FragmentRun>
coveringBlocks(const std::vector<ElementRange> &ranges) {
  std::vector<FragmentRun> runs;
  for (const ElementRange &range : ranges) {
    auto add = [&](std::uint64_t begin, std::uint64_t end) {
      std::uint64_t first = begin / kCodecBlock;
      std::uint64_t last = (end - 1) / kCodecBlock;
      if (!runs.empty() && first >= runs.back().offset &&
          first <= runs.back().offset + runs.back().length)
        runs.back().length =
            std::max(runs.back().length, last + 1 - runs.back().offset);
      else
        runs.push_back({first, last + 1 - first});
    };
    if (range.stride - range.length < kCodecBlock || range.count == 1)
      add(range.begin, // no block lies in a gap
          range.begin + (range.count - 1) * range.stride + range.length);
    else
      for (std::uint64_t run = 0; run < range.count; ++run)
        add(range.begin + run * range.stride,
            range.begin + run * range.stride + range.length);
  }
  std::sort(runs.begin(), runs.end(),
            [](const FragmentRun &a, const FragmentRun &b) {
              return a.offset < b.offset;
            });
  std::vector<FragmentRun> merged;
  for (const FragmentRun &run : runs) {
    if (!merged.empty() &&
        run.offset <= merged.back().offset + merged.back().length)
      merged.back().length = std::max(
          merged.back().length, run.offset + run.length - merged.back().offset);
    else
      merged.push_back(run);
  }
  return merged;
}

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_BLOCKS_H
