//===- RunHistory.h - a run as charts show it -------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_REPORT_RUNHISTORY_H
#define TOMBOLO_RUNTIME_REPORT_RUNHISTORY_H

#include "tombolo/runtime/report/Report.h"

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace tombolo::report {

/// What a line has changed: the kind, and what the page needs to follow. No
/// kind: more than can be told shortly.
struct Change {
  const char *kind = nullptr; ///< "point" or "note"
  Json data;
};

/// Takes the lines of metrics.jsonl, of a file or as they come, and keeps what
/// charts need, in bounded space: of each island points that stand for one step
/// or, in long runs, for several, and the events.
///
/// There are no times in it: `seconds` of an island counts its steps' own, and
/// that of an event is of its island, or of the island that has come furthest.
class RunHistory {
public:
  RunHistory(std::size_t islands, std::size_t mostPoints,
             std::size_t mostEvents);

  /// `where` names the line in messages. Throws Error, and changes nothing,
  /// when it is none, or of another plan. Steps that an island does once more
  /// replace what it had from there on.
  Change note(const Json &line, const std::string &where);

  /// As web/src/data.ts has it.
  Json toJson() const;
  bool isEmpty() const;

private:
  struct Point {
    std::uint64_t step = 0; ///< the last
    double clock = 0;       ///< at its end
    double losses = 0;      ///< not a number where one is none
    double seconds = 0, tokens = 0;
    std::uint64_t count = 0;
  };
  struct Island {
    std::vector<Point> points;
    std::uint64_t each = 1; ///< steps of a point
    double now = 0;
  };

  void halve(Island &island);
  bool forget(std::size_t number, std::uint64_t step);
  static Json pointJson(const Point &point);

  const std::size_t mostPoints, mostEvents;
  std::vector<Island> islands;
  std::deque<Json> events;
  std::size_t eventsLeftOut = 0;
};

} // namespace tombolo::report

#endif // TOMBOLO_RUNTIME_REPORT_RUNHISTORY_H
