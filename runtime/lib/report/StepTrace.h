//===- StepTrace.h - the bars of one step ---------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_STEPTRACE_H
#define TOMBOLO_REPORT_STEPTRACE_H

#include "tombolo/runtime/engine/Engine.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/runtime/sim/Trace.h"

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

namespace tombolo::report {

/// What of a block a call is. The page knows them by these numbers.
enum class Kind { Forward, Recompute, BackwardInput, BackwardWeight, Update };

constexpr std::uint32_t kSeveral = ~0u; // name of bars told as one

struct CallBar {
  double start, end;
  std::uint32_t segment;
  Kind kind;
  /// Which run of a block's function it is part of, until blocks are told
  /// apart; then which block of the stage. Nothing for updates.
  std::uint32_t block;
  std::int64_t microbatch = -1; ///< the island's number; -1: of none
};

/// A transfer or a collective.
struct FlowBar {
  double start, end;
  std::uint32_t name; ///< into StepTrace::flowNames
};

/// What one class of ranks does.
struct ClassBars {
  std::uint32_t stage = 0;
  std::uint64_t rank = 0;  ///< one of them
  std::uint64_t ranks = 0; ///< how many; 0: there is no such class
  std::vector<CallBar> calls;
  std::array<std::vector<FlowBar>, 8> lanes; ///< by Lane
};

/// Takes down the bars of one step, then tells microbatches and recomputation
/// apart, which a plan does not name.
class StepTrace : public runtime::sim::Trace {
public:
  explicit StepTrace(const runtime::Plan &plan);

  /// After the simulation that this trace was given to: what the classes are,
  /// which microbatch a call is of, and what runs again.
  void finish(const runtime::sim::SimResult &result);

  /// A call that a trace file names; to be followed by `finish` without result.
  void namedCall(std::uint32_t process, std::uint32_t thread,
                 const std::string &name, double start, double end);
  /// Who a class is. Throws Error where the plan has no such rank.
  void nameClass(std::uint32_t process, std::uint32_t thread,
                 std::uint32_t stage, std::uint64_t rank, std::uint64_t ranks);
  /// Sorts what came in any order.
  void finish();

  /// Until at most `most` bars are left, or nothing more can be told as one,
  /// neighbours of one kind are.
  void coarsen(std::size_t most);

  std::size_t size() const;
  double seconds() const { return end; } ///< of the step
  const std::string &segmentName(const CallBar &bar) const;
  const std::string &flowName(const FlowBar &bar) const;

  std::vector<std::vector<ClassBars>> bars; ///< by island and class

  void process(std::uint32_t, const std::string &) override {}
  void thread(std::uint32_t, std::uint32_t, const std::string &) override {}
  void slice(std::uint32_t process, std::uint32_t thread,
             const std::string &name, double start, double end) override;
  void call(std::uint32_t process, std::uint32_t thread,
            const std::string &name, double start, double end,
            std::uint64_t rank, const plan::v1::Call &call,
            std::span<const std::int64_t> variables) override;
  void arrow(std::uint32_t, std::uint32_t, double, std::uint32_t, std::uint32_t,
             double) override {}
  void counter(std::uint32_t, const std::string &, double, double) override {}
  void instant(std::uint32_t, const std::string &, double) override {}

private:
  /// Blocks of a class are told apart by their parameters: all that one run of
  /// a block's function touches, forward or backward, is of one block.
  struct Blocks {
    std::unordered_map<std::int64_t, std::uint32_t> ofAddress;
    std::vector<std::uint32_t> parents;  // union-find
    std::vector<std::uint32_t> runs;     // a member for each run; kNone: none
    std::vector<std::uint32_t> segments; // of the run under way
    std::uint32_t find(std::uint32_t member);
  };
  struct SegmentRole {
    Kind kind;
    std::uint32_t function; ///< equal for the parts and passes of one block
  };
  ClassBars &at(std::uint32_t process, std::uint32_t thread);
  void tellBlocksApart(std::vector<CallBar> &calls, Blocks &of);
  void numberMicrobatches(std::vector<CallBar> &calls,
                          const runtime::Deal &deal, std::uint64_t replica,
                          std::uint64_t total);

  const runtime::Plan &plan;
  std::vector<SegmentRole> roles;                             // by segment
  std::vector<std::pair<std::int64_t, std::int64_t>> regions; // by program
  std::vector<runtime::IslandLayout> layouts;
  std::vector<std::vector<Blocks>> blocks; // by island and class
  std::unordered_map<std::string, std::uint32_t> segmentIndex; // by name
  std::unordered_map<std::string, std::uint32_t> flowIndex;
  std::vector<std::string> flowNames;
  double end = 0;
};

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_STEPTRACE_H
