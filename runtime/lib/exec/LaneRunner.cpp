//===- LaneRunner.cpp - one thread per lane over one engine ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LaneRunner.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/Transport.h"

#include <utility>

namespace tombolo::runtime::detail {

using namespace plan::v1;

LaneRunner::LaneRunner(const CompiledProgram &program, Execute execute,
                       Fail fail)
    : engine(program), execute(std::move(execute)), fail(std::move(fail)) {
  for (Lane lane : kLanes)
    if (lane != LANE_COMPUTE && (!program.code(Phase::Step, lane).empty() ||
                                 !program.code(Phase::Finish, lane).empty()))
      threads.emplace_back([this, lane] { this->lane(lane); });
}

LaneRunner::~LaneRunner() {
  {
    std::lock_guard lock(mutex);
    stopping = true;
    begun.notify_all();
  }
  for (std::thread &thread : threads)
    thread.join();
}

void LaneRunner::record(std::exception_ptr error, const std::string &why,
                        bool echo) {
  bool first;
  {
    std::lock_guard lock(mutex);
    first = !failure;
    // What went wrong here explains more than a peer's silence.
    if (first || (failureIsEcho && !echo)) {
      failure = error;
      failureIsEcho = echo;
    }
    wake(std::exchange(asleep, LaneSet{0}));
  }
  if (first)
    fail(why);
}

void LaneRunner::wake(LaneSet lanes) {
  for (Lane lane : kLanes)
    if (lanes & bitOf(lane))
      mayGoOn[lane].notify_one();
}

/// One lane through one phase.
void LaneRunner::work(Lane lane) {
  try {
    std::unique_lock lock(mutex);
    while (!failure) {
      Engine::Next next = engine.next(lane);
      if (next.state == Engine::Next::Done)
        return;
      if (next.state == Engine::Next::Blocked) {
        asleep |= bitOf(lane);
        mayGoOn[lane].wait(lock,
                           [&] { return failure || !(asleep & bitOf(lane)); });
        continue;
      }
      // The variables stay valid: only this thread moves this lane.
      lock.unlock();
      execute(*next.instruction, next.variables);
      lock.lock();
      LaneSet woken = 0, others = engine.complete(lane) & asleep;
      for (Lane other : kLanes)
        if ((others & bitOf(other)) && engine.ready(other))
          woken |= bitOf(other);
      if (woken == 0)
        continue;
      asleep &= static_cast<LaneSet>(~woken);
      lock.unlock(); // or they would wake only to wait for it
      wake(woken);
      lock.lock();
    }
  } catch (const PeerError &error) {
    record(std::current_exception(), error.what(), true);
  } catch (const std::exception &error) {
    record(std::current_exception(), error.what(), false);
  }
}

void LaneRunner::lane(Lane lane) {
  std::uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex);
      begun.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping)
        return;
      seen = generation;
    }
    work(lane);
    std::lock_guard lock(mutex);
    if (--working == 0)
      finished.notify_one();
  }
}

void LaneRunner::run(Phase phase, std::uint64_t step) {
  {
    std::lock_guard lock(mutex);
    engine.begin(phase, step);
    working = threads.size();
    ++generation;
    asleep = 0;
    begun.notify_all();
  }
  work(LANE_COMPUTE);
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return working == 0; });
  if (failure)
    std::rethrow_exception(failure);
}

} // namespace tombolo::runtime::detail
