//===- Repetition.cpp - which segments make a block -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Repetition.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace tombolo::graph {

namespace {

/// segments[begin, begin + count * period) is one period `count` times.
struct Repetition {
  unsigned begin = 0, period = 0, count = 0;
  uint64_t coveredOps = 0;

  unsigned getEnd() const { return begin + count * period; }
};

/// A run of n + r segments with period p (r < p) holds r + 1 repetitions of
/// the same length. The unit begins with its first segment that has a matrix:
/// a norm or an activation in front of it belongs to what comes before.
unsigned chooseStart(ArrayRef<Segment> segments, unsigned begin,
                     unsigned slack) {
  for (unsigned start = begin; start <= begin + slack; ++start)
    if (segments[start].hasMatrices)
      return start;
  return begin;
}

/// Whether each period reads what enters the whole sequence.
bool eachReadsGiven(ArrayRef<Segment> segments, unsigned period) {
  for (unsigned at = 0; at < segments.size(); at += period)
    if (none_of(segments.slice(at, period),
                [](const Segment &s) { return s.readsGiven; }))
      return false;
  return true;
}

/// The repetition that covers the most ops; of those with the same cover the
/// one with the smallest period, then the first.
Repetition findRepetition(ArrayRef<Segment> segments) {
  unsigned count = segments.size();
  Repetition best;
  for (unsigned period = 1; period <= count / 2; ++period) {
    for (unsigned begin = 0, end = 0; begin + 2 * period <= count;
         begin = end + 1) {
      // [begin, end) agrees with what stands `period` later.
      end = begin;
      while (end + period < count &&
             segments[end].kind == segments[end + period].kind)
        ++end;
      unsigned length = end - begin + period;
      if (length < 2 * period)
        continue;
      Repetition repetition;
      repetition.period = period;
      repetition.count = length / period;
      repetition.begin = chooseStart(segments, begin, length % period);
      ArrayRef<Segment> covered =
          segments.slice(repetition.begin, repetition.count * period);
      if (none_of(covered.take_front(period),
                  [](const Segment &s) { return s.hasMatrices; }) ||
          !eachReadsGiven(covered, period))
        continue;
      for (const Segment &segment : covered)
        repetition.coveredOps += segment.size;
      if (repetition.coveredOps > best.coveredOps)
        best = repetition;
    }
  }
  return best;
}

} // namespace

bool repeats(ArrayRef<Segment> segments) {
  return findRepetition(segments).count > 0;
}

SmallVector<unsigned> groupSegments(ArrayRef<Segment> segments) {
  SmallVector<unsigned> ends;
  bool repeats = false;
  // Parts still to be divided, the first on top.
  SmallVector<std::pair<unsigned, unsigned>> parts = {{0, segments.size()}};
  while (!parts.empty()) {
    auto [begin, end] = parts.pop_back_val();
    if (begin == end)
      continue;
    Repetition found = findRepetition(segments.slice(begin, end - begin));
    if (found.count == 0) {
      ends.push_back(end);
      continue;
    }
    repeats = true;
    found.begin += begin;
    parts.push_back({found.getEnd(), end});
    for (unsigned i = found.count; i > 0; --i)
      ends.push_back(found.begin + i * found.period);
    parts.push_back({begin, found.begin});
  }
  if (repeats) {
    sort(ends);
    return ends;
  }
  // Every segment with parameters begins a block; what has none goes with the
  // one before.
  ends.clear();
  bool any = false;
  for (unsigned i = 0; i < segments.size(); ++i) {
    if (segments[i].hasParameters && any)
      ends.push_back(i);
    any |= segments[i].hasParameters;
  }
  ends.push_back(segments.size());
  return ends;
}

} // namespace tombolo::graph
