//===- Engine.h - which instruction may start on which lane ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A pure state machine over one program: no clock, threads, sockets or files.
// The runtime drives it with real devices, a simulator with a virtual clock.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_ENGINE_ENGINE_H
#define TOMBOLO_RUNTIME_ENGINE_ENGINE_H

#include "tombolo/schema/plan.pb.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace tombolo::runtime {

/// LANE_COMPUTE ... LANE_EXCHANGE, in order.
inline constexpr std::array kLanes = {
    plan::v1::LANE_COMPUTE,          plan::v1::LANE_SEND_FORWARD,
    plan::v1::LANE_RECEIVE_FORWARD,  plan::v1::LANE_SEND_BACKWARD,
    plan::v1::LANE_RECEIVE_BACKWARD, plan::v1::LANE_COLLECTIVE,
    plan::v1::LANE_EXCHANGE};

inline std::size_t indexOf(plan::v1::Lane lane) {
  return static_cast<std::size_t>(lane) - plan::v1::LANE_COMPUTE;
}

/// A bit for each lane, at its number.
using LaneSet = std::uint8_t;
inline constexpr LaneSet bitOf(plan::v1::Lane lane) {
  return static_cast<LaneSet>(1u << lane);
}
inline constexpr LaneSet kAllLanes = 0xfe;

/// The lane on which the other side of a transfer is.
plan::v1::Lane counterpart(plan::v1::Lane lane);

enum class Phase { Step, Finish, Evaluate };

/// A program sorted by lanes, shared by all engines that run it. Keeps
/// references into `program`, which must have passed `validatePlan`.
class CompiledProgram {
public:
  explicit CompiledProgram(const plan::v1::Program &program);

  const plan::v1::Program &program() const { return source; }

  /// One lane's instructions in order; a loop stands as a begin and an end.
  struct Code {
    enum Kind { Run, LoopBegin, LoopEnd } kind;
    const plan::v1::Instruction *instruction = nullptr; // Run
    std::uint32_t variable = 0;                         // loops
    std::uint64_t count = 0;
    const plan::v1::Expr *first = nullptr; // of the variable; null: 0
    std::uint32_t other = 0; // index of the end, or of the begin
    bool guarded = false;    // a loop in which every instruction has a guard
  };
  const std::vector<Code> &code(Phase phase, plan::v1::Lane lane) const;
  std::uint32_t variables() const { return variableCount; }
  /// The lanes that have instructions which wait for a semaphore.
  LaneSet waitingOn(std::uint32_t semaphore) const {
    return waiting[semaphore];
  }

private:
  bool add(const google::protobuf::RepeatedPtrField<plan::v1::Instruction> &,
           plan::v1::Lane lane, std::vector<Code> &to);
  const plan::v1::Program &source;
  std::uint32_t variableCount = 0;
  std::vector<LaneSet> waiting;                          // by semaphore
  std::array<std::array<std::vector<Code>, 7>, 3> lanes; // by phase
};

/// The guard's condition in inner step `step`; true without a guard.
bool isActive(const plan::v1::Instruction &instruction, std::uint64_t step);

class Engine {
public:
  /// Shares `program`, which must outlive the engine.
  explicit Engine(const CompiledProgram &program);

  /// Starts a phase: all semaphores 0, every lane at the beginning. `step` is
  /// the number of the inner step, for guards.
  void begin(Phase phase, std::uint64_t step);

  struct Next {
    enum State {
      Ready,   ///< may start now
      Blocked, ///< `semaphore` must reach `needed` first
      Done,    ///< the lane has no more to do in this phase
    } state = Done;
    const plan::v1::Instruction *instruction = nullptr; // unless Done
    /// Of the instruction in the lane's code of the phase.
    std::uint32_t position = 0;
    /// The loop variables around the instruction, by number; valid until
    /// `complete(lane)`.
    std::span<const std::int64_t> variables;
    std::uint32_t semaphore = 0; // Blocked: one of the waits that do not hold
    std::int64_t needed = 0;
  };
  /// Whether the lane's next instruction may start now.
  bool ready(plan::v1::Lane lane) const {
    const Cursor &cursor = cursors[indexOf(lane)];
    for (; cursor.met < cursor.waits.size(); ++cursor.met)
      if (semaphores[cursor.waits[cursor.met].semaphore] <
          cursor.waits[cursor.met].needed)
        return false;
    return cursor.at < cursor.code->size();
  }
  /// What the lane does next. Asking changes nothing; after Ready the caller
  /// runs the instruction and calls `complete`.
  Next next(plan::v1::Lane lane) const;

  /// The instruction that was Ready on `lane` is complete: counts its signals
  /// and moves the lane on. Returns the lanes that may have become ready by it.
  LaneSet complete(plan::v1::Lane lane);

  /// Every lane has reached the end.
  bool done() const;

  std::uint64_t semaphore(std::uint32_t index) const {
    return semaphores[index];
  }

private:
  struct Cursor {
    const std::vector<CompiledProgram::Code> *code = nullptr; // of the phase
    std::uint32_t at = 0;
    std::vector<std::int64_t> variables;
    /// What the semaphores that the instruction waits for must reach.
    struct Wait {
      std::uint32_t semaphore;
      std::uint64_t needed;
    };
    std::vector<Wait> waits; // none at the end
    /// So many of the waits have been seen to hold; semaphores only grow, so
    /// they are not looked at again.
    mutable std::uint32_t met = 0;
  };
  static void settle(Cursor &cursor, std::uint64_t step);
  static std::int64_t firstOf(const CompiledProgram::Code &loop,
                              const Cursor &cursor);
  static bool anyActive(const std::vector<CompiledProgram::Code> &code,
                        std::uint32_t begin, std::uint32_t end,
                        std::uint64_t step);

  const CompiledProgram &compiled;
  Phase phase = Phase::Step;
  std::uint64_t step = 0;
  std::vector<std::uint64_t> semaphores;
  std::array<Cursor, 7> cursors;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_ENGINE_ENGINE_H
