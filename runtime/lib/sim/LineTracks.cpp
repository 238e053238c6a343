//===- LineTracks.cpp - what the exchange moves, in a trace ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LineTracks.h"

#include "tombolo/runtime/plan/Instructions.h"

#include <algorithm>

namespace tombolo::runtime::sim {

using namespace plan::v1;

LineTracks::LineTracks(Trace &trace, const Plan &plan, const Places &places,
                       const std::vector<Fold *> &folds)
    : trace(trace), places(places), folds(folds) {
  for (const Program &program : plan.programs()) {
    std::set<std::uint32_t> &fragments = applied.emplace_back();
    forEachInstruction(program.step(), [&](const Instruction &instruction) {
      if (instruction.has_apply())
        fragments.insert(instruction.apply().fragment());
    });
  }
}

std::uint32_t LineTracks::threadOf(const std::string &name, double start,
                                   double end) {
  std::vector<Track> &alike = tracks[name];
  auto free = std::find_if(alike.begin(), alike.end(), [&](const Track &track) {
    return track.end <= start;
  });
  if (free == alike.end()) {
    trace.thread(0, ++threads,
                 alike.empty()
                     ? name
                     : name + " (" + std::to_string(alike.size() + 1) + ")");
    free = alike.insert(alike.end(), {threads, 0});
  }
  free->end = end;
  return free->thread;
}

bool LineTracks::applies(std::uint32_t island, std::uint32_t ofClass,
                         std::uint32_t fragment, std::uint32_t site) const {
  const RankClass &one = folds[island]->classes()[ofClass];
  return applied[one.at.program].contains(fragment) &&
         places.of(island, one.rank).site == site;
}

void LineTracks::add(const Exchange::Move &move, bool isWhole, double now) {
  static constexpr const char *kinds[] = {"push", "copy", "version", "state",
                                          "recovery"};
  const std::string what = std::string(kinds[static_cast<int>(move.kind)]) +
                           " of fragment " + std::to_string(move.fragment);
  std::string name = what;
  if (move.kind == Exchange::Kind::Push)
    name += " from island " + std::to_string(move.island);
  else if (move.kind == Exchange::Kind::Version ||
           move.kind == Exchange::Kind::State)
    name += " to island " + std::to_string(move.island);
  if (!isWhole)
    name += ", cut off";

  std::vector<std::uint32_t> on;
  for (std::uint32_t direction : move.directions)
    on.push_back(threadOf(places.directionName(direction), move.begun, now));
  if (on.empty())
    on.push_back(threadOf(
        "inside " + places.topology().sites(static_cast<int>(move.from)).name(),
        move.begun, now));
  for (std::uint32_t thread : on)
    trace.slice(0, thread, name, move.begun, now);
  if (!isWhole)
    return;
  auto lane = [&](std::uint32_t ofClass) {
    return laneThread(ofClass, LANE_EXCHANGE);
  };
  const std::uint32_t process = move.island + 1;
  if (move.kind == Exchange::Kind::Push) {
    trace.slice(process, lane(move.ofClass), what, move.begun, move.begun);
    trace.arrow(process, lane(move.ofClass), move.begun, 0, on.front(),
                move.begun);
  }
  for (std::size_t i = 1; i < on.size(); ++i)
    trace.arrow(0, on[i - 1], move.begun, 0, on[i], now);
  if (move.kind != Exchange::Kind::Version)
    return;
  for (std::uint32_t c = 0; c < folds[move.island]->classes().size(); ++c)
    if (applies(move.island, c, move.fragment, move.to)) {
      trace.slice(process, lane(c), what, now, now);
      trace.arrow(0, on.back(), now, process, lane(c), now);
    }
}

} // namespace tombolo::runtime::sim
