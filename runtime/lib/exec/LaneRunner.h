//===- LaneRunner.h - one thread per lane over one engine -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_LANERUNNER_H
#define TOMBOLO_RUNTIME_LIB_EXEC_LANERUNNER_H

#include "tombolo/runtime/engine/Engine.h"

#include <array>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tombolo::runtime::detail {

/// Drives an engine: the caller's thread runs the compute lane, each other
/// lane that has instructions gets a thread that lives as long as the runner.
class LaneRunner {
public:
  /// Runs one instruction; called by its lane's thread, without locks.
  using Execute = std::function<void(const plan::v1::Instruction &,
                                     std::span<const std::int64_t> variables)>;
  /// Called once, by the thread that failed first, so that waits elsewhere end.
  using Fail = std::function<void(const std::string &why)>;

  LaneRunner(const CompiledProgram &program, Execute execute, Fail fail);
  ~LaneRunner();

  /// Runs a phase to its end. Throws the first error that was no echo of a lost
  /// peer, or else the first; the runner is then spent.
  void run(Phase phase, std::uint64_t step);

private:
  void lane(plan::v1::Lane lane);
  void work(plan::v1::Lane lane);
  void wake(LaneSet lanes);
  void record(std::exception_ptr error, const std::string &why, bool echo);

  Engine engine;
  Execute execute;
  Fail fail;
  std::mutex mutex;
  std::condition_variable begun;    // a phase, or the end of the runner
  std::condition_variable finished; // by the last thread of a phase
  /// A lane that sleeps is woken when it may go on, not whenever another one
  /// has: with several ranks on a core every thread that wakes takes from it.
  std::array<std::condition_variable, 8> mayGoOn;
  LaneSet asleep = 0;
  std::vector<std::thread> threads;
  std::uint64_t generation = 0; // counts phases started
  std::size_t working = 0;      // threads still in the current one
  bool stopping = false;
  std::exception_ptr failure;
  bool failureIsEcho = false;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_LANERUNNER_H
