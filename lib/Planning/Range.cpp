//===- Range.cpp - the numbers that a figure may be -----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Range.h"

#include <cstdio>

namespace tombolo::planning {

static std::string text(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof(buffer), "%.12g", value);
  return buffer;
}

std::optional<std::string> Range::fault(const std::string &key,
                                        double value) const {
  bool enough = aboveLeast ? value > least : value >= least;
  bool notTooMuch = belowMost ? value < most : value <= most;
  if (enough && notTooMuch) // neither holds of what is not a number
    return std::nullopt;
  std::string bound;
  if (most <= 1000) // both ends are worth telling
    bound = std::string("be ") + (aboveLeast ? "above " : "at least ") +
            text(least) + " and " + (belowMost ? "below " : "at most ") +
            text(most);
  else if (enough)
    bound = "be at most " + text(most);
  else if (least == 0 && !aboveLeast)
    bound = "not be negative";
  else if (least <= 1)
    bound = "be positive";
  else
    bound = "be at least " + text(least);
  return "'" + key + "' must " + bound + ", got " + text(value);
}

} // namespace tombolo::planning
