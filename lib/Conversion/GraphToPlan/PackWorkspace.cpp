//===- PackWorkspace.cpp - offsets of the workspace's buffers -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SegmentMemory.h"

#include "tombolo/Conversion/PackMemory.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"

using namespace mlir;

namespace tombolo {

int64_t packMemory(std::vector<MemoryInterval> &intervals) {
  SmallVector<MemoryInterval *> order;
  for (MemoryInterval &interval : intervals)
    order.push_back(&interval);
  llvm::stable_sort(order, [](MemoryInterval *a, MemoryInterval *b) {
    return a->bytes > b->bytes;
  });
  int64_t end = 0;
  SmallVector<MemoryInterval *> placed; // by offset
  for (MemoryInterval *interval : order) {
    int64_t size = plan::alignUp(interval->bytes), offset = 0;
    for (MemoryInterval *other : placed) {
      if (other->last < interval->first || interval->last < other->first)
        continue;
      if (offset + size <= other->offset)
        break;
      offset = std::max(offset, other->offset + plan::alignUp(other->bytes));
    }
    interval->offset = offset;
    end = std::max(end, offset + size);
    placed.insert(llvm::upper_bound(placed, interval,
                                    [](MemoryInterval *a, MemoryInterval *b) {
                                      return a->offset < b->offset;
                                    }),
                  interval);
  }
  return end;
}

void packWorkspace(SegmentMemory &memory) {
  for (auto [index, step] : llvm::enumerate(memory.steps))
    for (const Place &place : llvm::concat<Place>(step.inputs, step.outputs)) {
      SegmentBuffer &buffer = memory.buffers[place.buffer];
      if (buffer.first < 0)
        buffer.first = index;
      buffer.last = index;
    }

  SmallVector<SegmentBuffer *> buffers;
  std::vector<MemoryInterval> intervals;
  for (SegmentBuffer &buffer : memory.buffers)
    if (buffer.kind == SegmentBuffer::Kind::Workspace && buffer.first >= 0) {
      buffers.push_back(&buffer);
      intervals.push_back({buffer.bytes, buffer.first, buffer.last});
    }
  memory.workspaceBytes = packMemory(intervals);
  for (auto [buffer, interval] : llvm::zip(buffers, intervals))
    buffer->offset = interval.offset;
}

} // namespace tombolo
