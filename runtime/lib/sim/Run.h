//===- Run.h - islands, lines and the server over a whole run-----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_RUN_H
#define TOMBOLO_RUNTIME_LIB_SIM_RUN_H

#include "Exchange.h"
#include "LineTracks.h"
#include "Steps.h"

namespace tombolo::runtime::sim {

/// What an island did in a run.
struct IslandFigures {
  std::uint64_t steps = 0;
  std::uint64_t stepsLost = 0;
  std::uint64_t rounds = 0;
  std::uint64_t commits = 0; // of all fragments
  double downSeconds = 0;
  double end = 0;
  StepFigures figures;
};

/// One run of a plan. What happens inside a step is `Steps`; this is what
/// happens between: pushes, versions, failures, returns.
class Run {
public:
  Run(const Plan &plan, const Places &places, const SimOptions &options,
      std::vector<std::unique_ptr<Steps>> &steps, Trace *trace);

  void go();

  const std::vector<IslandFigures> &islands() const { return figures; }
  double seconds() const { return ended; }
  const std::vector<double> &lineBytes() const { return bytesOnLines; }
  double wanBytes() const { return crossedBytes; }
  /// When the last island was through its first round, and what had crossed
  /// lines until then.
  struct Begin {
    double seconds = 0, wanBytes = 0;
  };
  const Begin &firstRound() const { return begun; }
  /// What a line could have carried each way until the end.
  double lineCapacityBytes(std::uint32_t line) const;
  std::uint64_t events() const { return eventCount; }
  const std::vector<std::string> &log() const { return told; }

private:
  struct IslandState {
    bool down = false;     // or not back in training yet
    bool finished = false;
    bool waits = false;
    std::uint32_t faults = 0; // that hold it down
    std::uint64_t incarnation = 0;
    std::uint64_t step = 0, target = 0, inRound = 1;
    std::uint64_t sinceCommit = 0; // steps whose work no version has yet
    double base = 0;
    double downSince = 0;
    double partEnd = 0;
    StepBegin begin;
    std::vector<std::uint32_t> came;
    std::vector<bool> received;
    std::shared_ptr<const StepPart> part;
    std::vector<std::uint32_t> sites;
  };
  struct Event {
    double time;
    std::uint64_t order;
    std::function<void()> what;
    bool operator>(const Event &other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };
  /// The same, for something of an island that ends with its incarnation.
  void at(double time, std::function<void()> what);
  void at(std::uint32_t island, double time, std::function<void()> what);

  // Steps.
  void beginStep(std::uint32_t i);
  void goOn(std::uint32_t i, std::shared_ptr<const StepPart> part);
  void decide(std::uint32_t i);
  void resume(std::uint32_t i);
  void endStep(std::uint32_t i);
  void receive(std::uint32_t i, std::uint32_t fragment);
  LineConditions conditions(std::uint32_t i) const;
  // Failures.
  void planFaults();
  void fail(const Fault &fault);
  void repair(const Fault &fault);
  void stop(std::uint32_t i);
  void restart(std::uint32_t i);
  bool hits(const Fault &fault, std::uint32_t i) const;
  void say(const std::string &text);

  const Plan &plan;
  const Places &places;
  const SimOptions &options;
  std::vector<std::unique_ptr<Steps>> &steps;
  Trace *trace;
  std::unique_ptr<LineTracks> lineTracks; // null without a trace
  double now = 0;
  double ended = 0;
  std::uint64_t order = 0, eventCount = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue;
  std::vector<IslandState> states;
  std::vector<IslandFigures> figures;
  std::unique_ptr<Exchange> exchange;
  /// What lines carry from when on, by time.
  struct LineEvent {
    double time;
    std::uint32_t line;
    double bytesPerSecond;
  };
  std::vector<LineEvent> lineEvents;
  std::vector<double> bytesOnLines;
  std::vector<double> pipelineRate; // mean of the last steps, by direction
  double crossedBytes = 0;
  Begin begun;
  std::vector<std::string> told;
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_RUN_H
