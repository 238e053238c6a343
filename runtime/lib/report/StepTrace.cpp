//===- StepTrace.cpp - the bars of one step -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "StepTrace.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <map>

namespace tombolo::report {

using namespace runtime;
using namespace tombolo::plan::v1;

namespace {

constexpr std::uint32_t kNone = ~0u;

/// The name that the compiler gives a segment: FUNCTION.PASS.... ; anything
/// else is an update, or fills memory.
std::pair<Kind, std::string> roleOf(const std::string &segment) {
  for (auto [text, kind] : {std::pair{".forward", Kind::Forward},
                            {".backward_input", Kind::BackwardInput},
                            {".backward_weight", Kind::BackwardWeight}})
    if (std::size_t at = segment.find(text); at != std::string::npos)
      return {kind, segment.substr(0, at)};
  return {Kind::Update, ""};
}

/// Neighbours of one kind with no more than `gap` seconds between them.
template <typename Bar, typename Same>
void mergeNeighbours(std::vector<Bar> &bars, double gap, Same same,
                     std::uint32_t Bar::*name) {
  std::vector<Bar> merged;
  for (const Bar &bar : bars)
    if (!merged.empty() && same(merged.back(), bar) &&
        bar.start - merged.back().end <= gap) {
      merged.back().end = bar.end;
      if (merged.back().*name != bar.*name)
        merged.back().*name = kSeveral;
    } else {
      merged.push_back(bar);
    }
  bars = std::move(merged);
}

} // namespace

StepTrace::StepTrace(const runtime::Plan &plan) : plan(plan) {
  std::unordered_map<std::string, std::uint32_t> functions;
  for (const Segment &segment : plan.segments()) {
    auto [kind, function] = roleOf(segment.name());
    auto number = static_cast<std::uint32_t>(functions.size());
    segmentIndex.try_emplace(segment.name(),
                             static_cast<std::uint32_t>(roles.size()));
    roles.push_back(
        {kind, functions.try_emplace(function, number).first->second});
  }
  for (const Program &program : plan.programs()) {
    std::pair<std::int64_t, std::int64_t> range{0, 0};
    for (const Region &region : program.regions())
      if (region.name() == "parameters")
        range = {region.offset(), region.offset() + region.bytes()};
    regions.push_back(range);
  }
  for (const Island &island : plan.islands())
    layouts.emplace_back(island);
  bars.resize(layouts.size());
  blocks.resize(layouts.size());
}

ClassBars &StepTrace::at(std::uint32_t process, std::uint32_t thread) {
  std::vector<ClassBars> &island = bars[process - 1];
  if (island.size() <= thread / 8) {
    island.resize(thread / 8 + 1);
    blocks[process - 1].resize(thread / 8 + 1);
  }
  return island[thread / 8];
}

void StepTrace::slice(std::uint32_t process, std::uint32_t thread,
                      const std::string &name, double start, double end) {
  // Of lines, or marks where a push begins and a version has come.
  if (process == 0 || (thread % 8 == LANE_EXCHANGE && end <= start))
    return;
  auto [entry, fresh] =
      flowIndex.try_emplace(name, static_cast<std::uint32_t>(flowNames.size()));
  if (fresh)
    flowNames.push_back(name);
  at(process, thread).lanes[thread % 8].push_back({start, end, entry->second});
}

std::uint32_t StepTrace::Blocks::find(std::uint32_t member) {
  while (parents[member] != member)
    member = parents[member] = parents[parents[member]];
  return member;
}

void StepTrace::call(std::uint32_t process, std::uint32_t thread,
                     const std::string &, double start, double end,
                     std::uint64_t rank, const tombolo::plan::v1::Call &call,
                     std::span<const std::int64_t> variables) {
  std::vector<CallBar> &calls = at(process, thread).calls;
  Blocks &of = blocks[process - 1][thread / 8];
  SegmentRole role = roles[call.segment()];
  std::uint32_t run = kNone;
  if (role.kind != Kind::Update) {
    // A function's parts follow each other; a part that comes again is of the
    // next run.
    bool goesOn = !calls.empty() && calls.back().block != kNone &&
                  calls.back().kind == role.kind &&
                  roles[calls.back().segment].function == role.function &&
                  std::find(of.segments.begin(), of.segments.end(),
                            call.segment()) == of.segments.end();
    if (!goesOn) {
      of.segments.clear();
      of.runs.push_back(kNone);
    }
    of.segments.push_back(call.segment());
    run = static_cast<std::uint32_t>(of.runs.size() - 1);
    auto [begin, end] = regions[layouts[process - 1].coordinates(rank).program];
    for (const Expr &argument : call.arguments()) {
      std::int64_t address = evaluate(argument, variables);
      if (address < begin || address >= end)
        continue;
      auto number = static_cast<std::uint32_t>(of.parents.size());
      auto [entry, fresh] = of.ofAddress.try_emplace(address, number);
      if (fresh)
        of.parents.push_back(number);
      if (of.runs[run] == kNone)
        of.runs[run] = entry->second;
      else
        of.parents[of.find(entry->second)] = of.find(of.runs[run]);
    }
  } else {
    of.segments.clear();
  }
  calls.push_back({start, end, call.segment(), role.kind, run});
}

/// In every block forwards, forwards that run again and either half of
/// backwards each run in the order of microbatches
/// (include/tombolo/Planning/StageSchedule.h). Where a block's forwards are two
/// for each microbatch, one runs again: the one that a backward of the block
/// follows before its next forward.
void StepTrace::numberMicrobatches(std::vector<CallBar> &calls,
                                   const Deal &deal, std::uint64_t replica,
                                   std::uint64_t total) {
  std::uint64_t own = deal.count(replica, total);
  if (own == 0)
    return;
  using Key = std::pair<std::uint32_t, std::uint32_t>;
  // By segment and block; backwards also by function and block, by input where
  // there are any, since those by weight may be put off.
  std::map<Key, std::vector<std::size_t>> forwards, others;
  std::map<Key, std::array<std::vector<std::size_t>, 2>> backwards;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const CallBar &call = calls[i];
    if (call.kind == Kind::Update)
      continue;
    bool isForward = call.kind == Kind::Forward;
    (isForward ? forwards : others)[{call.segment, call.block}].push_back(i);
    if (!isForward)
      backwards[{roles[call.segment].function, call.block}]
               [call.kind == Kind::BackwardWeight]
                   .push_back(i);
  }
  auto number = [&](const std::vector<std::size_t> &ones) {
    if (ones.empty() || ones.size() % own != 0)
      return;
    std::size_t each = ones.size() / own;
    for (std::size_t i = 0; i < ones.size(); ++i)
      calls[ones[i]].microbatch =
          static_cast<std::int64_t>(deal.microbatch(replica, i / each));
  };
  for (const auto &[key, ones] : forwards) {
    const auto &halves = backwards[{roles[key.first].function, key.second}];
    const std::vector<std::size_t> &behind = halves[halves[0].empty()];
    std::vector<std::size_t> first, again;
    for (std::size_t k = 0; k < ones.size(); ++k) {
      auto next = std::upper_bound(behind.begin(), behind.end(), ones[k]);
      bool isAgain =
          next != behind.end() && (k + 1 == ones.size() || *next < ones[k + 1]);
      (isAgain ? again : first).push_back(ones[k]);
    }
    if (ones.size() % (2 * own) != 0 || again.size() != first.size()) {
      number(ones);
      continue;
    }
    for (std::size_t i : again)
      calls[i].kind = Kind::Recompute;
    number(first);
    number(again);
  }
  for (const auto &[key, ones] : others)
    number(ones);
}

void StepTrace::tellBlocksApart(std::vector<CallBar> &calls, Blocks &of) {
  // What touches no parameter (the backward of an embedding) is of its
  // function's one block, if there is one.
  std::unordered_map<std::uint32_t, std::uint32_t> only; // by function
  for (CallBar &call : calls) {
    if (call.kind == Kind::Update)
      continue;
    std::uint32_t member = of.runs[call.block];
    call.block = member == kNone ? kNone : of.find(member);
    if (call.block == kNone)
      continue;
    auto [known, fresh] =
        only.try_emplace(roles[call.segment].function, call.block);
    if (!fresh && known->second != call.block)
      known->second = kNone;
  }
  for (CallBar &call : calls)
    if (call.kind != Kind::Update && call.block == kNone)
      if (auto known = only.find(roles[call.segment].function);
          known != only.end())
        call.block = known->second;
}

void StepTrace::finish(const sim::SimResult &result) {
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const IslandLayout &layout = layouts[i];
    bars[i].resize(result.islands[i].classes.size());
    blocks[i].resize(bars[i].size());
    for (std::size_t c = 0; c < bars[i].size(); ++c) {
      ClassBars &one = bars[i][c];
      const sim::ClassResult &of = result.islands[i].classes[c];
      one.stage = of.stage;
      one.rank = of.rank;
      one.ranks = of.ranks;
      tellBlocksApart(one.calls, blocks[i][c]);
      RankCoordinates at = layout.coordinates(of.rank);
      numberMicrobatches(one.calls, layout.deal(at.stage), at.replica,
                         layout.microbatches());
    }
  }
  blocks.clear();
  finish();
}

void StepTrace::nameClass(std::uint32_t process, std::uint32_t thread,
                          std::uint32_t stage, std::uint64_t rank,
                          std::uint64_t ranks) {
  const IslandLayout &layout = layouts[process - 1];
  if (rank >= layout.rankCount() || layout.coordinates(rank).stage != stage)
    throw Error("island ", process - 1, " of the plan has no rank ", rank,
                " in stage ", stage);
  ClassBars &one = at(process, thread);
  one.stage = stage;
  one.rank = rank;
  one.ranks = ranks;
}

void StepTrace::namedCall(std::uint32_t process, std::uint32_t thread,
                          const std::string &name, double start, double end) {
  auto known = segmentIndex.find(name);
  if (known == segmentIndex.end())
    throw Error("the plan has no segment '", name, "'");
  at(process, thread)
      .calls.push_back(
          {start, end, known->second, roles[known->second].kind, kNone});
}

void StepTrace::finish() {
  auto sort = [&](auto &lane) {
    std::stable_sort(
        lane.begin(), lane.end(),
        [](const auto &a, const auto &b) { return a.start < b.start; });
    for (const auto &bar : lane)
      end = std::max(end, bar.end);
  };
  for (auto &island : bars)
    for (ClassBars &one : island) {
      sort(one.calls);
      for (auto &lane : one.lanes)
        sort(lane);
    }
}

std::size_t StepTrace::size() const {
  std::size_t count = 0;
  for (const auto &island : bars)
    for (const ClassBars &one : island) {
      count += one.calls.size();
      for (const auto &lane : one.lanes)
        count += lane.size();
    }
  return count;
}

void StepTrace::coarsen(std::size_t most) {
  for (double gap = end * 0x1p-16; size() > most && gap < end; gap *= 2)
    for (auto &island : bars)
      for (ClassBars &one : island) {
        mergeNeighbours(
            one.calls, gap,
            [](const CallBar &a, const CallBar &b) {
              return a.kind == b.kind && a.microbatch == b.microbatch;
            },
            &CallBar::segment);
        // What moves for another reason stays apart.
        for (auto &lane : one.lanes)
          mergeNeighbours(
              lane, gap,
              [](const FlowBar &a, const FlowBar &b) {
                return a.name == b.name;
              },
              &FlowBar::name);
      }
}

static const std::string several = "several";

const std::string &StepTrace::segmentName(const CallBar &bar) const {
  return bar.segment == kSeveral
             ? several
             : plan.segments(static_cast<int>(bar.segment)).name();
}

const std::string &StepTrace::flowName(const FlowBar &bar) const {
  return bar.name == kSeveral ? several : flowNames[bar.name];
}

} // namespace tombolo::report
