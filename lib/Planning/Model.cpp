//===- Model.cpp - sums over a model's blocks -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Model.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

const char *name(Collective collective) {
  constexpr const char *kNames[kCollectives] = {"all-reduce", "reduce-scatter",
                                                "all-gather", "all-to-all"};
  return kNames[static_cast<size_t>(collective)];
}

double Work::sentBytes(uint64_t chips, double samples) const {
  double k = static_cast<double>(chips), ring = (k - 1) / k;
  return 2 * ring * of(Collective::AllReduce).bytes.at(samples) +
         ring * of(Collective::ReduceScatter).bytes.at(samples) +
         ring * of(Collective::AllGather).bytes.at(samples) +
         ring / k * of(Collective::AllToAll).bytes.at(samples);
}

Work Work::perSample() const {
  auto slope = [](const Affine &figure) { return Affine{0, figure.perSample}; };
  Work result;
  result.flops = slope(flops);
  result.bytes = slope(bytes);
  result.streamed = slope(streamed);
  result.scores = slope(scores);
  return result;
}

const BlockKind *BlockKind::on(uint64_t chips) const {
  if (chips == tensorParallel)
    return this;
  for (const BlockKind &kind : sharded)
    if (kind.tensorParallel == chips)
      return &kind;
  return nullptr;
}

const ChipTimes *BlockKind::measuredOn(const std::string &chip) const {
  for (const ChipTimes &times : measured)
    if (times.chip == chip)
      return &times;
  return nullptr;
}

uint64_t ModelProfile::blocks() const {
  uint64_t total = 0;
  for (const BlockRun &run : runs)
    total += run.count;
  return total;
}

double ModelProfile::parameterCount() const {
  double total = 0;
  for (const BlockRun &run : runs)
    total += static_cast<double>(run.count) *
             static_cast<double>(kinds[run.kind].parameterCount);
  for (const TiedParameter &tie : ties)
    total -= static_cast<double>(tie.count) *
             static_cast<double>(tie.blockNumbers.size() - 1);
  return total;
}

double ModelProfile::trainableCount() const {
  double total = 0;
  for (const BlockRun &run : runs)
    total += static_cast<double>(run.count) *
             static_cast<double>(kinds[run.kind].trainableCount);
  for (const TiedParameter &tie : ties)
    total -= static_cast<double>(tie.count) *
             static_cast<double>(tie.blockNumbers.size() - 1);
  return total;
}

Faults ModelProfile::check() const {
  Faults faults;
  // Figures beyond this are faults of whoever made the profile.
  constexpr double kAbsurd = 1e24;
  constexpr uint64_t kAbsurdBlocks = 1u << 20;
  auto fault = [&](std::string path, std::string message) {
    faults.push_back({std::move(path), std::move(message)});
  };
  if (runs.empty())
    fault("runs", "the model has no blocks");
  if (tokensPerSample == 0)
    fault("tokens_per_sample", "a sample has no tokens");
  auto figures = [&](const BlockKind &kind, const std::string &path) {
    std::vector<Affine> all = {kind.savedBytes,   kind.inputBytes,
                               kind.outputBytes,  kind.feedBytes,
                               kind.carriedBytes, kind.workspaceBytes,
                               kind.crossingBytes};
    for (const Work *work :
         {&kind.forward, &kind.backwardInput, &kind.backwardWeight}) {
      all.push_back(work->flops);
      all.push_back(work->bytes);
      all.push_back(work->streamed);
      all.push_back(work->scores);
      all.push_back({work->ops, 0});
      for (const Exchange &exchange : work->exchanges) {
        all.push_back(exchange.bytes);
        all.push_back({exchange.count, 0});
      }
    }
    for (const Affine &figure : all)
      if (!(figure.constant >= 0 && figure.constant < kAbsurd &&
            figure.perSample >= 0 && figure.perSample < kAbsurd)) {
        fault(path, "block '" + kind.name +
                        "' has a cost that is negative or absurdly large");
        break;
      }
    if (kind.trainableCount > kind.parameterCount)
      fault(path, "block '" + kind.name +
                      "' has more trainable parameters than parameters");
    if (static_cast<double>(kind.parameterBytes) > 1e18)
      fault(path, "block '" + kind.name + "' has absurdly many parameters");
  };
  for (size_t i = 0; i < kinds.size(); ++i) {
    std::string path = at("kinds", i);
    figures(kinds[i], path);
    uint64_t chips = 1;
    if (kinds[i].tensorParallel != 1)
      fault(path, "expected figures of one chip first");
    for (size_t d = 0; d < kinds[i].sharded.size(); ++d) {
      const BlockKind &sharded = kinds[i].sharded[d];
      std::string place = at(in(path, "sharded"), d);
      figures(sharded, place);
      if (sharded.tensorParallel <= chips || !sharded.sharded.empty())
        fault(place, "expected rising numbers of chips above 1");
      chips = sharded.tensorParallel;
    }
  }
  uint64_t total = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].kind >= kinds.size())
      fault(at("runs", i), "refers to block kind " +
                               std::to_string(runs[i].kind) + " of " +
                               std::to_string(kinds.size()));
    if (runs[i].count == 0 || runs[i].count > kAbsurdBlocks)
      fault(at("runs", i), "expected 1 to " + std::to_string(kAbsurdBlocks) +
                               " blocks, got " + std::to_string(runs[i].count));
    total += std::min(runs[i].count, kAbsurdBlocks);
  }
  if (total > kAbsurdBlocks)
    fault("runs", "expected at most " + std::to_string(kAbsurdBlocks) +
                      " blocks, got " + std::to_string(total));
  for (size_t i = 0; i < ties.size(); ++i)
    if (ties[i].blockNumbers.size() < 2 ||
        !std::is_sorted(ties[i].blockNumbers.begin(),
                        ties[i].blockNumbers.end()) ||
        ties[i].blockNumbers.back() >= total)
      fault(at("ties", i), "expected two or more blocks of the model, "
                           "ascending");
  return faults;
}

std::vector<BlockRun> slice(const std::vector<BlockRun> &runs, uint64_t first,
                            uint64_t count) {
  std::vector<BlockRun> result;
  for (const BlockRun &run : runs) {
    if (count == 0)
      break;
    if (first >= run.count) {
      first -= run.count;
      continue;
    }
    uint64_t taken = std::min(run.count - first, count);
    result.push_back({run.kind, taken});
    first = 0;
    count -= taken;
  }
  return result;
}

uint64_t usersIn(const TiedParameter &tie,
                 const std::vector<BlockRange> &blocks) {
  const auto &users = tie.blockNumbers;
  uint64_t count = 0;
  for (BlockRange range : blocks)
    count += static_cast<uint64_t>(
        std::lower_bound(users.begin(), users.end(),
                         range.first + range.count) -
        std::lower_bound(users.begin(), users.end(), range.first));
  return count;
}

uint64_t repeatedElements(const ModelProfile &model,
                          const std::vector<BlockRange> &blocks) {
  uint64_t elements = 0;
  for (const TiedParameter &tie : model.ties)
    if (uint64_t users = usersIn(tie, blocks); users > 1)
      elements += (users - 1) * tie.count;
  return elements;
}

} // namespace tombolo::planning
