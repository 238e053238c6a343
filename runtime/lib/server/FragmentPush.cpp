//===- FragmentPush.cpp - what comes into a fragment's round --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where slices lie, and which pushes are taken. What rounds come to is in
// FragmentState.cpp.
//
//===----------------------------------------------------------------------===//

#include "FragmentState.h"

#include "Blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

using namespace tombolo::runtime;

namespace {

/// A request may name at most this many runs of elements, so that a few bytes
/// on the wire cannot ask for gigabytes of bookkeeping.
constexpr std::uint64_t kMostRuns = std::uint64_t(1) << 22;
/// Sums of these stay exact in double.
constexpr std::uint64_t kMostTokens = std::uint64_t(1) << 53;
constexpr std::uint64_t kMostInnerSteps = std::uint64_t(1) << 32;

template <typename... Parts>
PushResult refuse(Outcome outcome, const Parts &...parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  PushResult result;
  result.outcome = outcome;
  result.message = stream.str();
  return result;
}

/// Of a slice that `locate` has accepted.
std::uint64_t elementsOf(const TensorSlice &slice) {
  std::uint64_t elements = 0;
  for (const ElementRange &range : slice.ranges)
    elements += range.length * range.count;
  return elements;
}

/// The first element that may not be added up, or the size when there is none.
std::size_t firstBad(std::span<const float> data, float largest) {
  // Written so that NaN fails too; the common case stays one vector loop.
  bool good = true;
  for (float x : data)
    good &= std::fabs(x) <= largest;
  if (good)
    return data.size();
  for (std::size_t k = 0; k < data.size(); ++k)
    if (!(std::fabs(data[k]) <= largest))
      return k;
  return data.size();
}

} // namespace

const FragmentTensor *FragmentState::find(const std::string &name) const {
  auto tensor = std::lower_bound(
      tensors.begin(), tensors.end(), name,
      [](const FragmentTensor &t, const std::string &n) { return t.name < n; });
  return tensor == tensors.end() || tensor->name != name ? nullptr : &*tensor;
}

Outcome FragmentState::locate(std::span<const TensorSlice> slices,
                              std::vector<FragmentRun> &runs,
                              std::string &message) const {
  runs.clear();
  auto fail = [&](Outcome outcome, const auto &...parts) {
    message = refuse(outcome, parts...).message;
    runs.clear();
    return outcome;
  };
  std::uint64_t sum = 0, runCount = 0;
  for (const TensorSlice &slice : slices) {
    const FragmentTensor *tensor = find(slice.tensor);
    if (!tensor)
      return fail(Outcome::UnknownTensor, "tensor '",
                  slice.tensor.substr(0, 200), "' is not in fragment ", number);
    for (const ElementRange &range : slice.ranges) {
      auto count = checkedElements(range, tensor->elements);
      if (!count)
        return fail(Outcome::BadRange, "tensor '", tensor->name, "' has ",
                    tensor->elements, " elements, got a range with begin ",
                    range.begin, ", length ", range.length, ", count ",
                    range.count, ", stride ", range.stride);
      sum += *count; // no overflow: checked against total each time
      if (sum > total)
        return fail(Outcome::BadSize, "fragment ", number, " has ", total,
                    " elements, got slices of more");
      bool dense = range.count == 1 || range.stride == range.length;
      std::uint64_t more = dense ? 1 : range.count;
      if (more > kMostRuns - runCount)
        return fail(Outcome::BadRange, "expected at most ", kMostRuns,
                    " runs of elements in a message, got more");
      runCount += more;
      if (dense) {
        runs.push_back({tensor->offset + range.begin, *count});
        continue;
      }
      for (std::uint64_t run = 0; run < range.count; ++run)
        runs.push_back(
            {tensor->offset + range.begin + run * range.stride, range.length});
    }
  }
  return Outcome::Accepted;
}

Outcome FragmentState::locateBlocks(std::span<const TensorSlice> slices,
                                    std::vector<FragmentRun> &runs,
                                    std::string &message) const {
  std::vector<FragmentRun> elements;
  Outcome outcome = locate(slices, elements, message);
  runs.clear();
  if (outcome != Outcome::Accepted)
    return outcome;
  const std::uint64_t block =
      encodedBlockBytes(config.compression, kCodecBlock);
  std::uint64_t sum = 0;
  for (const TensorSlice &slice : slices) {
    const FragmentTensor &tensor = *find(slice.tensor);
    for (const FragmentRun &run : coveringBlocks(slice.ranges)) {
      std::uint64_t begin = run.offset * block;
      std::uint64_t end = encodedBytes(
          config.compression,
          std::min((run.offset + run.length) * kCodecBlock, tensor.elements));
      sum += end - begin;
      // A small request cannot ask for the same data a thousand times.
      if (sum > totalUpdateBytes) {
        message = "got slices of more data than the fragment has";
        return Outcome::BadSize;
      }
      runs.push_back({tensor.updateOffset + begin, end - begin});
    }
  }
  return Outcome::Accepted;
}

const Contribution &FragmentState::contributionOf(const PushPart &part) const {
  switch (part.content) {
  case PushContent::StartParameters:
    return startParameters;
  case PushContent::StartMomentum:
    return startMomentum;
  case PushContent::Delta:
    break;
  }
  return contributions[part.island];
}

PushResult FragmentState::admitPart(const PushPart &part,
                                    const Contribution &contribution) const {
  if (contribution.parts.empty() || part.incarnation > contribution.incarnation)
    return {}; // the first, or the island has been restarted: what was, goes
  auto known = contribution.parts.find(part.rank);
  if (known != contribution.parts.end()) {
    if (known->second == part.slices) {
      PushResult repeated;
      repeated.outcome = Outcome::Repeated;
      repeated.message = "this part has come before";
      repeated.committed = contribution.coverage.complete();
      return repeated;
    }
    return refuse(Outcome::Inconsistent, "rank ", part.rank, " of island ",
                  part.island, " has pushed other slices for round ",
                  part.round);
  }
  if (part.tokens != contribution.tokens ||
      part.innerSteps != contribution.innerSteps ||
      part.step != contribution.step)
    return refuse(Outcome::Inconsistent, "the other ranks of island ",
                  part.island, " push ", contribution.tokens, " tokens and ",
                  contribution.innerSteps, " inner steps after step ",
                  contribution.step, ", rank ", part.rank, " pushes ",
                  part.tokens, " and ", part.innerSteps, " after step ",
                  part.step);
  return {};
}

PushResult FragmentState::admitStart(const PushPart &part) const {
  if (part.island != 0)
    return refuse(Outcome::UnknownSender,
                  "the start comes from island 0, got it from island ",
                  part.island);
  const Contribution &contribution = contributionOf(part);
  if (part.incarnation <
      std::max(startParameters.incarnation, startMomentum.incarnation))
    return refuse(Outcome::OldIncarnation, "island 0 is in incarnation ",
                  contribution.incarnation, " now, got a start of ",
                  part.incarnation);
  if (part.content == PushContent::StartMomentum && !part.withMomentum)
    return refuse(Outcome::Inconsistent,
                  "a start without momentum cannot bring momentum");
  if (part.withMomentum && config.outer.optimizer == OuterOptimizer::AdamW)
    return refuse(Outcome::Inconsistent,
                  "AdamW starts with moments of zero, got a start with the "
                  "first one alone");
  if (part.tokens != 0 || part.innerSteps != 0)
    return refuse(Outcome::BadWeight, "a start has no tokens or inner steps");
  if (newest || closing) {
    auto known = contribution.parts.find(part.rank);
    if (part.incarnation == contribution.incarnation &&
        known != contribution.parts.end() && known->second == part.slices) {
      PushResult repeated;
      repeated.outcome = Outcome::Repeated;
      repeated.committed = true;
      return repeated;
    }
    if (!newest)
      return refuse(Outcome::Busy, "the first version is being made");
    return refuse(Outcome::AlreadyStarted, "fragment ", number,
                  " has started already, at version ", firstRound);
  }
  bool first = startParameters.parts.empty() && startMomentum.parts.empty();
  bool anew = part.incarnation >
              std::max(startParameters.incarnation, startMomentum.incarnation);
  if (!first && !anew &&
      (part.round != firstRound || part.withMomentum != withMomentum))
    return refuse(Outcome::Inconsistent, "the other ranks start at version ",
                  firstRound, withMomentum ? " with" : " without",
                  " momentum, rank ", part.rank, " at version ", part.round,
                  part.withMomentum ? " with" : " without", " momentum");
  return admitPart(part, contribution);
}

PushResult FragmentState::admitDelta(const PushPart &part) const {
  if (!newest)
    return refuse(Outcome::NotStarted, "fragment ", number,
                  " has no first version yet");
  const Contribution &contribution = contributions[part.island];
  if (part.incarnation < contribution.incarnation)
    return refuse(Outcome::OldIncarnation, "island ", part.island,
                  " is in incarnation ", contribution.incarnation,
                  " now, got a push of ", part.incarnation);
  bool weightless = part.tokens == 0 && part.innerSteps == 0;
  bool weighted = part.tokens > 0 && part.tokens <= kMostTokens &&
                  part.innerSteps > 0 && part.innerSteps <= kMostInnerSteps;
  if (!weightless && !weighted)
    return refuse(Outcome::BadWeight,
                  "expected tokens and inner steps both zero or both positive, "
                  "got ",
                  part.tokens, " tokens in ", part.innerSteps, " inner steps");
  // (island, round, fragment) names a push across incarnations: once it is
  // committed nothing of it counts again.
  if (isMember(part.island, part.round) ||
      (part.round == openRound && isCommitted(part.island))) {
    PushResult repeated;
    repeated.outcome = Outcome::Repeated;
    repeated.message = "this island's push of the round is committed";
    repeated.committed = true;
    return repeated;
  }
  if (refused[part.island] == Refused{part.incarnation, part.round, part.step})
    return refuse(Outcome::NotFinite, "the push of island ", part.island,
                  " for round ", part.round, " has been refused for good");
  const std::optional<Directive> &told = directives[part.island];
  if (told && told->kind == Receipt::Kind::Removed &&
      told->incarnation == part.incarnation && told->round == part.round &&
      told->step == part.step)
    return refuse(Outcome::Removed, removedMessage(part.island));
  if (part.round < openRound)
    return refuse(Outcome::ClosedRound, "round ", part.round, " of fragment ",
                  number, " is closed, round ", openRound, " is open");
  if (part.round > openRound)
    return refuse(Outcome::FutureRound, "round ", part.round, " of fragment ",
                  number, " is not open yet, round ", openRound, " is");
  if (part.baseVersion != newest->number)
    return refuse(Outcome::WrongBase, "expected a delta from version ",
                  newest->number, ", got one from version ", part.baseVersion);
  return admitPart(part, contribution);
}

PushResult FragmentState::admitOwner(const PushPart &part,
                                     std::span<const FragmentRun> runs) const {
  // An island that has been restarted may be laid out in another way.
  const Owners &known = owners[part.island];
  if (part.content != PushContent::Delta ||
      part.incarnation != known.incarnation)
    return {};
  auto own = known.slices.find(part.rank);
  if (own != known.slices.end()) {
    if (own->second == part.slices)
      return {};
    return refuse(Outcome::Inconsistent, "rank ", part.rank, " of island ",
                  part.island, " has pushed other slices in the rounds before");
  }
  for (const FragmentRun &run : runs)
    if (known.owned.touches(run.offset, run.length))
      return refuse(Outcome::Overlap, "rank ", part.rank, " of island ",
                    part.island, " pushes elements that another rank owns");
  return {};
}

void FragmentState::noteOwner(const PushPart &part,
                              std::span<const FragmentRun> runs) {
  Owners &known = owners[part.island];
  if (part.incarnation != known.incarnation) {
    known = Owners(total);
    known.incarnation = part.incarnation;
  }
  if (!known.slices.emplace(part.rank, part.slices).second)
    return;
  for (const FragmentRun &run : runs)
    known.owned.add(run.offset, run.length);
}

PushResult FragmentState::admit(const PushPart &part,
                                std::uint64_t *bytes) const {
  PushResult result =
      part.content == PushContent::Delta ? admitDelta(part) : admitStart(part);
  if (result.outcome != Outcome::Accepted)
    return result;
  if (closing)
    return refuse(Outcome::Busy, "a version is being made");
  std::vector<FragmentRun> runs;
  result.outcome = locate(part.slices, runs, result.message);
  if (result.outcome != Outcome::Accepted)
    return result;
  if (runs.empty())
    return refuse(Outcome::BadRange, "a push without elements");
  result = admitOwner(part, runs);
  if (result.outcome != Outcome::Accepted)
    return result;
  if (bytes) {
    *bytes = 0;
    for (const TensorSlice &slice : part.slices)
      *bytes += encodedBytes(compressionOf(part), elementsOf(slice));
  }
  return result;
}

PushResult FragmentState::take(Contribution &contribution, const PushPart &part,
                               std::span<const FragmentRun> runs,
                               std::span<const float> data) {
  if (part.incarnation > contribution.incarnation) {
    // The island has been restarted: what its old ranks pushed goes, but only
    // once there is something in its place.
    Contribution fresh(total);
    fresh.incarnation = part.incarnation;
    PushResult result = take(fresh, part, runs, data);
    if (result.outcome == Outcome::Accepted)
      contribution = std::move(fresh);
    return result;
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (contribution.coverage.add(runs[i].offset, runs[i].length))
      continue;
    while (i-- > 0)
      contribution.coverage.remove(runs[i].offset, runs[i].length);
    return refuse(Outcome::Overlap, "rank ", part.rank, " of island ",
                  part.island,
                  " pushes elements that it or another rank has pushed");
  }
  contribution.data.resize(total);
  std::size_t from = 0;
  for (const FragmentRun &run : runs) {
    std::copy_n(data.begin() + from, run.length,
                contribution.data.begin() + run.offset);
    from += run.length;
  }
  contribution.tokens = part.tokens;
  contribution.innerSteps = part.innerSteps;
  contribution.step = part.step;
  contribution.parts.emplace(part.rank, part.slices);
  PushResult result;
  result.committed = contribution.coverage.complete();
  return result;
}

PushResult FragmentState::refuseForGood(const PushPart &part,
                                        std::string message) {
  refuseAgain(part.island, {part.incarnation, part.round, part.step});
  PushResult result = refuse(Outcome::NotFinite, message);
  result.discarded = true;
  return result;
}

void FragmentState::followed(const PushPart &part) {
  std::optional<Directive> &directive = directives[part.island];
  std::pair push(part.round, part.step);
  if (directive && !directive->next)
    directive->next = push;
  else if (directive && directive->next != push)
    directive.reset(); // nobody needs to ask any more
}

PushResult FragmentState::push(const PushPart &part,
                               std::span<const std::byte> data, double now) {
  std::uint64_t expected = 0;
  PushResult result = admit(part, &expected);
  if (result.outcome != Outcome::Accepted)
    return result;
  if (data.size() != expected)
    return refuse(Outcome::BadSize, "expected ", expected,
                  " bytes of data, got ", data.size());
  std::vector<FragmentRun> runs;
  locate(part.slices, runs, result.message);
  std::uint64_t elements = 0;
  for (const FragmentRun &run : runs)
    elements += run.length;
  auto decoded = std::make_unique_for_overwrite<float[]>(elements);
  std::span values(decoded.get(), elements);
  std::uint64_t element = 0, byte = 0;
  for (const TensorSlice &slice : part.slices) {
    std::uint64_t count = elementsOf(slice);
    std::uint64_t bytes = encodedBytes(compressionOf(part), count);
    decode(compressionOf(part), data.subspan(byte, bytes),
           values.subspan(element, count));
    element += count;
    byte += bytes;
  }

  bool delta = part.content == PushContent::Delta;
  float largest = delta ? static_cast<float>(config.largestDelta)
                        : std::numeric_limits<float>::max();
  std::size_t bad = firstBad(values, largest);
  if (bad != values.size()) {
    PushResult absurd =
        refuse(Outcome::NotFinite, "element ", bad, " of the push of rank ",
               part.rank, " of island ", part.island, " is ", values[bad],
               ", expected a finite number of at most ", largest);
    return delta ? refuseForGood(part, std::move(absurd.message)) : absurd;
  }

  if (delta) {
    result = take(contributions[part.island], part, runs, values);
    if (result.outcome != Outcome::Accepted)
      return result;
    noteOwner(part, runs);
    followed(part);
    if (!firstPartSeconds)
      firstPartSeconds = now;
    if (result.committed && !firstCommitSeconds)
      firstCommitSeconds = now;
    return result;
  }

  bool parameters = part.content == PushContent::StartParameters;
  result =
      take(parameters ? startParameters : startMomentum, part, runs, values);
  if (result.outcome != Outcome::Accepted)
    return result;
  // A restart of island 0 before the start is whole begins both kinds anew.
  Contribution &other = parameters ? startMomentum : startParameters;
  if (other.incarnation < part.incarnation)
    other.reset(part.incarnation);
  firstRound = part.round;
  withMomentum = part.withMomentum;
  if (!firstPartSeconds)
    firstPartSeconds = now;
  result.committed = isStartWhole();
  if (result.committed)
    result.closing = closeStart(now);
  return result;
}
