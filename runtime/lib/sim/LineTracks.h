//===- LineTracks.h - what the exchange moves, in a trace -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A track for each direction of a line and for each site inside which something
// is moved. Slices of a track must not overlap, and exchanges do: those that do
// are on a second one of the same name, and so on. A push is an arrow from the
// rank's exchange lane to the first line, a version one from the last line to
// the lanes that apply it; what comes later than the run's end is left out.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_LINETRACKS_H
#define TOMBOLO_RUNTIME_LIB_SIM_LINETRACKS_H

#include "Exchange.h"

#include "tombolo/runtime/sim/Trace.h"

#include <map>
#include <set>

namespace tombolo::runtime::sim {

class LineTracks {
public:
  LineTracks(Trace &trace, const Plan &plan, const Places &places,
             const std::vector<Fold *> &folds);

  /// Something has come, or, not `isWhole`, was cut off at `now`; told in the
  /// order of `now`.
  void add(const Exchange::Move &move, bool isWhole, double now);

private:
  struct Track {
    std::uint32_t thread;
    double end; // of its last slice
  };

  std::uint32_t threadOf(const std::string &name, double start, double end);
  bool applies(std::uint32_t island, std::uint32_t ofClass,
               std::uint32_t fragment, std::uint32_t site) const;

  Trace &trace;
  const Places &places;
  const std::vector<Fold *> folds;
  std::map<std::string, std::vector<Track>> tracks;
  std::uint32_t threads = 0;
  std::vector<std::set<std::uint32_t>> applied; // fragments, by program
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_LINETRACKS_H
