//===- Coverage.h - which elements have come --------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_COVERAGE_H
#define TOMBOLO_RUNTIME_SERVER_COVERAGE_H

#include "tombolo/runtime/Exchange.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// The number of elements of a range, or nothing when the range is empty, runs
/// into itself, or does not lie inside a tensor of `elements` elements. No
/// value of a hostile range overflows here.
std::optional<std::uint64_t> checkedElements(const ElementRange &range,
                                             std::uint64_t elements);

/// A set of the elements [0, size), one bit each.
class Coverage {
public:
  explicit Coverage(std::uint64_t size = 0);

  std::uint64_t size() const { return elements; }
  std::uint64_t covered() const { return count; }
  bool complete() const { return count == elements; }

  /// One of [begin, begin + length), which lies inside the set, is there.
  bool touches(std::uint64_t begin, std::uint64_t length) const;
  /// Adds [begin, begin + length), which lies inside the set. Nothing is added
  /// and false returned when one of them is there already.
  bool add(std::uint64_t begin, std::uint64_t length);
  void remove(std::uint64_t begin, std::uint64_t length);

  /// The same for all runs of a range that `checkedElements` has accepted,
  /// shifted by `offset`; all or nothing.
  bool add(const ElementRange &range, std::uint64_t offset);
  void remove(const ElementRange &range, std::uint64_t offset);

private:
  std::uint64_t elements;
  std::uint64_t count = 0;
  std::vector<std::uint64_t> words;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_COVERAGE_H
