//===- ProgramTimer.h - what a plan's segments take on a device -*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Times segments where they are used: in the order of a rank's own program, on
// its own arena, so that each finds in the caches what its predecessors left
// there. With all ranks of its island beside it, it also waits where it would
// wait in training: a core that has slept is slower for a while, and ranks that
// share a core have it while others wait. Collectives are timed there, too:
// what they sum was computed a moment ago, and a lane has slept. Otherwise
// peers are imagined: what they would send is made up, and as many bytes are
// moved here as a transfer would.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PROFILE_PROGRAMTIMER_H
#define TOMBOLO_RUNTIME_PROFILE_PROGRAMTIMER_H

#include "tombolo/runtime/Device.h"
#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace tombolo::runtime::profile {

/// Of something that was done again and again.
struct Spread {
  /// The mean of those steps whose whole lies in the middle half of all: means
  /// add up, and what disturbs the machine now and then does not count.
  double seconds = 0;
  double lower = 0, upper = 0; ///< quartiles over steps
  std::uint64_t steps = 0;
};

/// A call of a segment.
struct SegmentTime {
  std::uint32_t segment = 0;
  std::uint64_t calls = 0; ///< in a step
  Spread spread;
};

/// A collective over ranks that were there, from when the last of them had
/// come: a ring of so many messages, each when the one before has come, in
/// which a rank sends so many bytes altogether.
struct CollectiveTime {
  double messages = 0, bytes = 0;
  std::uint64_t calls = 0; ///< in a step
  Spread spread;           ///< of one
};

/// What a step's messages and collectives are, at both ends, and what the
/// processor worked for all of the step but its calls.
struct CarryTime {
  double messages = 0, bytes = 0;
  double ringMessages = 0, ringBytes = 0; ///< as of `CollectiveTime`
  Spread spread;
};

/// What a call's time is: by the clock, or of the processor for the thread that
/// calls, which leaves out when others had the core.
enum class CallClock { Wall, Processor };

class ProgramTimer {
public:
  /// Makes the program of a rank ready, with made-up parameters and data. The
  /// plan has passed `validatePlan`; plan and device outlive this. `peers`: over
  /// which all ranks of the island have a timer at the same time; null: they are
  /// imagined. Throws Error where the device cannot run a segment or lacks
  /// memory, PeerError where a peer is lost, here and in a step.
  ProgramTimer(const Plan &plan, std::uint32_t island, std::uint64_t rank,
               Device &device, Transport *peers = nullptr,
               CallClock clock = CallClock::Wall);
  ~ProgramTimer();

  /// Runs one inner step; with peers, all ranks of the island do.
  void step();
  /// What rank 0 of the island says, which all ask together; without peers what
  /// this one says.
  bool fromFirst(bool mine);
  /// Its times count; those of steps without do not.
  void count();

  /// Of the steps that counted, by ascending segment; empty before the first.
  std::vector<SegmentTime> times() const;
  /// Of the same steps; with peers on the wall's clock, else none. All ranks of
  /// the island ask together: they tell each other when they came.
  std::vector<CollectiveTime> collectives();
  /// With peers on the processor's clock: of the same steps.
  CarryTime carrying() const;

private:
  class Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace tombolo::runtime::profile

#endif // TOMBOLO_RUNTIME_PROFILE_PROGRAMTIMER_H
