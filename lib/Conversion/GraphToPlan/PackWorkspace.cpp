//===- PackWorkspace.cpp - offsets of the workspace's buffers -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SegmentMemory.h"

#include "tombolo/Dialect/Plan/IR/Plan.h"

using namespace mlir;

namespace tombolo {

void packWorkspace(SegmentMemory &memory) {
  for (auto [index, step] : llvm::enumerate(memory.steps))
    for (const Place &place : llvm::concat<Place>(step.inputs, step.outputs)) {
      SegmentBuffer &buffer = memory.buffers[place.buffer];
      if (buffer.first < 0)
        buffer.first = index;
      buffer.last = index;
    }

  SmallVector<SegmentBuffer *> order;
  for (SegmentBuffer &buffer : memory.buffers)
    if (buffer.kind == SegmentBuffer::Kind::Workspace && buffer.first >= 0)
      order.push_back(&buffer);
  llvm::stable_sort(order, [](SegmentBuffer *a, SegmentBuffer *b) {
    return a->bytes > b->bytes;
  });
  SmallVector<SegmentBuffer *> placed; // by offset
  for (SegmentBuffer *buffer : order) {
    int64_t size = plan::alignUp(buffer->bytes), offset = 0;
    for (SegmentBuffer *other : placed) {
      if (other->last < buffer->first || buffer->last < other->first)
        continue;
      if (offset + size <= other->offset)
        break;
      offset = std::max(offset, other->offset + plan::alignUp(other->bytes));
    }
    buffer->offset = offset;
    memory.workspaceBytes = std::max(memory.workspaceBytes, offset + size);
    placed.insert(llvm::upper_bound(placed, buffer,
                                    [](SegmentBuffer *a, SegmentBuffer *b) {
                                      return a->offset < b->offset;
                                    }),
                  buffer);
  }
}

} // namespace tombolo
