//===- StepRun.h - one inner step of an island on a virtual clock-------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Engines say what may start on which lane; this gives everything its time. A
// call takes its seconds, on a core that ranks share as a flow of so many
// seconds through it. A transfer starts when both sides have come to it (a send
// may wait for its receive), a collective when all members have. Both are flows
// over the island's network. Over lines a receiver asks for each message (as
// transport/SiteLink.h), which is half a round trip on its way; the sender is
// done when the last byte has left.
//
// The clock is the step's own: 0 is when the first class begins it. So equal
// steps are equal to the last bit wherever they lie in a run, and can be played
// again instead of being simulated again.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_STEPRUN_H
#define TOMBOLO_RUNTIME_LIB_SIM_STEPRUN_H

#include "Fold.h"

#include "tombolo/runtime/engine/Engine.h"
#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/runtime/sim/Trace.h"

#include <queue>

namespace tombolo::runtime::sim {

/// What lines carry in a step, in the clock of the step.
struct LineConditions {
  struct Change {
    double time;
    std::uint32_t direction;
    double bytesPerSecond;
    bool operator==(const Change &) const = default;
  };
  std::vector<double> bytesPerSecond; ///< by direction, at the beginning
  std::vector<double> otherFlows; ///< of the exchange, which take their share
  std::vector<Change> changes;    ///< by time
};

struct StepOptions {
  double jitter = 0;
  std::uint64_t seed = 0;
};

class StepRun {
public:
  StepRun(const Plan &plan, std::uint32_t island, Fold &fold,
          const StepOptions &options);

  /// A class pushes a fragment to the server.
  std::function<void(std::uint32_t fragment, std::uint32_t ofClass,
                     double time)>
      onPush;
  /// What an exchange takes of the cores of a class, by class and fragment; it
  /// lengthens the step in which the push is made.
  std::vector<std::vector<double>> exchangeSeconds;
  Trace *trace = nullptr;
  double traceBase = 0; ///< seconds of the run at the step's 0
  double traceGap = 0;  ///< that nothing moved before it was set to 0
  std::vector<std::string> lineNames; ///< by direction

  /// `starts`: when each class begins, by class, the least 0. `received`: by
  /// fragment, whether the version that the next `apply` waits for has come.
  void begin(Phase phase, std::uint64_t step, const std::vector<double> &starts,
             std::vector<bool> received, const LineConditions &lines);

  /// When the next thing happens by itself; infinite when nothing does.
  double nextTime() const;
  /// Lets it happen.
  void advance();
  /// A version for all `apply`s of a fragment has come.
  void receive(std::uint32_t fragment, double time);
  /// Whether nothing moves until a version comes.
  bool waiting() const { return undone > 0 && waits > 0 && queue.empty(); }
  bool done() const { return undone == 0; }
  /// Fragments that classes wait for.
  std::vector<std::uint32_t> waitedFor() const;
  /// When the first class that waits for a version began to.
  double firstWait() const;
  double time() const { return now; }
  void clearFigures();
  /// Moves the clock's 0 to `time`; nothing may be under way.
  void rebase(double time);

  const std::vector<double> &ends() const { return endTimes; }
  const StepFigures &figures() const { return counted; }
  std::uint64_t events() const { return eventCount; }

private:
  enum class State : std::uint8_t { Idle, Posted, Busy, Waiting };
  struct Post {
    std::uint32_t peer = 0;         // class
    std::uint64_t peerRank = 0;     // of the representative's other side
    std::uint64_t local = 0;        // own microbatch
    std::uint64_t peerLocal = 0;    // the other side's
    double since = 0;
  };
  /// Why a lane went on.
  struct Cause {
    Exposure kind = Exposure::Waiting;
    double begun = 0; // what it waited for was under way from here on
  };
  struct Worker {
    const CompiledProgram *program = nullptr;
    std::unique_ptr<Engine> engine;
    std::array<State, 8> states{};
    std::array<Post, 8> posts{};
    std::vector<plan::v1::Lane> lanes;
    const std::vector<double> *seconds = nullptr; // by segment
    double stepSeconds = 0;                       // of the host, at the end
    double exchanged = 0;       // of its core, for exchanges of this step
    bool completesCall = false; // the compute lane's last call has to be counted
    double idleSince = 0;
    double waitingSince = 0; // for a version
    std::uint64_t calls = 0; // of the step, for jitter
    double alike = 1;        // ranks of its replica that it stands for
    bool done = false;
    bool begun = false;
    /// Of the collective at each position of its lane; null: not asked for yet.
    std::vector<const GroupClass *> groups;
    /// Collectives since the compute lane has had nothing to do.
    std::vector<std::pair<Cause, double>> meetings;
  };
  struct Event {
    double time;
    std::uint64_t order;
    std::uint32_t kind; // worker x 8 + lane; or what is below
    std::uint32_t flow, version;
    bool operator>(const Event &other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };
  static constexpr std::uint32_t kFlow = ~0u, kBegin = ~0u - 1,
                                 kMessage = ~0u - 2;
  struct Moving { // by number of the flow
    const Path *path = nullptr;
    const GroupClass *group = nullptr;
    std::uint32_t from = 0, to = 0; // transfers: classes and lanes
    plan::v1::Lane fromLane{}, toLane{};
    const plan::v1::Instruction *instruction = nullptr;
    bool computes = false; // `from`, on a core that it shares
    double begun = 0;
    double interBytes = -1, interLatency = 0; // still to come
    const TransferPath *lines = nullptr;      // of a message between sites
    double sent = -1;                         // when its last byte has left
  };

  void schedule(double time, std::uint32_t kind, std::uint32_t flow = 0,
                std::uint32_t version = 0);
  void poll(std::uint32_t w, LaneSet lanes, const Cause &cause);
  LaneSet pollLane(std::uint32_t w, plan::v1::Lane lane, const Cause &cause);
  void compute(std::uint32_t w, Engine::Next next, const Cause &cause);
  void computeOnSharedCore(std::uint32_t w, const Engine::Next &next);
  void computed(std::uint32_t w);
  double secondsOf(Worker &worker, std::uint32_t w, std::uint32_t segment);
  void post(std::uint32_t w, plan::v1::Lane lane, const Engine::Next &next);
  void enter(std::uint32_t w, const Engine::Next &next);
  void startCollective(const GroupClass &group,
                       const plan::v1::Instruction &instruction);
  void startFlow(const Path &path, double bytes, double latency,
                 const Moving &moving);
  void flowDone(std::uint32_t flow);
  /// Has a message between sites go on at `time`.
  void later(double time, const Moving &message);
  void messageGoesOn(std::uint32_t number);
  void complete(std::uint32_t w, plan::v1::Lane lane, const Cause &cause);
  void idle(Worker &worker, std::uint32_t w, const Cause &cause);
  void finishIfDone(std::uint32_t w, const Cause &cause);
  void traceFlow(const Moving &moving);
  /// Counts what the island's own flows take of the lines of a path.
  void traceLines(const Path &path);
  void traceCall(std::uint32_t w, const Engine::Next &next, double start,
                 double end);

  const Plan &plan;
  std::uint32_t island;
  Fold &fold;
  StepOptions options;
  Phase ofPhase = Phase::Step; // of the workers' groups
  std::unordered_map<std::uint32_t, std::unique_ptr<CompiledProgram>> compiled;
  std::unordered_map<std::uint32_t, std::vector<double>> segmentSeconds;
  std::vector<Worker> workers;
  Network network;
  std::vector<Moving> moving;
  std::vector<Moving> messages; // that are asked for, or on their way
  std::vector<std::uint32_t> freeMessages;
  std::vector<Path> background; // of other flows on lines
  std::vector<std::uint32_t> backgroundFlows; // by direction; or none
  std::vector<std::uint32_t> entered; // by number of the group
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue;
  std::vector<bool> received;
  std::vector<double> startTimes, endTimes;
  std::vector<LineConditions::Change> changes;
  std::size_t nextChange = 0;
  double now = 0;
  std::uint64_t order = 0, step = 0, eventCount = 0;
  std::uint32_t undone = 0, waits = 0;
  StepFigures counted;
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_STEPRUN_H
