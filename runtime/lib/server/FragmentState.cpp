//===- FragmentState.cpp - one fragment's rounds --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FragmentState.h"

#include "tombolo/runtime/File.h"

#include <algorithm>
#include <bit>
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

void Contribution::reset(std::uint64_t newIncarnation) {
  coverage = Coverage(coverage.size());
  incarnation = newIncarnation;
  tokens = innerSteps = 0;
  parts.clear();
}

FragmentState::FragmentState(const OuterConfig &config, std::uint32_t number)
    : config(config), number(number), startParameters(0), startMomentum(0) {
  for (const OuterTensor &tensor : config.tensors)
    if (tensor.fragment == number)
      tensors.push_back({tensor.name, tensor.elements, 0});
  std::sort(tensors.begin(), tensors.end(),
            [](const FragmentTensor &a, const FragmentTensor &b) {
              return a.name < b.name;
            });
  for (FragmentTensor &tensor : tensors) {
    tensor.offset = total;
    total += tensor.elements;
  }
  startParameters = startMomentum = Contribution(total);
  contributions.assign(config.islands, Contribution(total));
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
    auto tensor =
        std::lower_bound(tensors.begin(), tensors.end(), slice.tensor,
                         [](const FragmentTensor &t, const std::string &n) {
                           return t.name < n;
                         });
    if (tensor == tensors.end() || tensor->name != slice.tensor)
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
      part.innerSteps != contribution.innerSteps)
    return refuse(Outcome::Inconsistent, "the other ranks of island ",
                  part.island, " push ", contribution.tokens, " tokens and ",
                  contribution.innerSteps, " inner steps, rank ", part.rank,
                  " pushes ", part.tokens, " and ", part.innerSteps);
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
  bool member = false;
  if (part.round < openRound && part.round >= firstRound)
    member = closed[part.round - firstRound][part.island];
  else if (part.round == openRound)
    member = contribution.coverage.complete() && !contribution.parts.empty();
  if (member) {
    PushResult repeated;
    repeated.outcome = Outcome::Repeated;
    repeated.message = "this island's push of the round is committed";
    repeated.committed = true;
    return repeated;
  }
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

PushResult FragmentState::admit(const PushPart &part,
                                std::uint64_t *elements) const {
  PushResult result =
      part.content == PushContent::Delta ? admitDelta(part) : admitStart(part);
  if (result.outcome != Outcome::Accepted)
    return result;
  std::vector<FragmentRun> runs;
  result.outcome = locate(part.slices, runs, result.message);
  if (result.outcome != Outcome::Accepted)
    return result;
  std::uint64_t sum = 0;
  for (const FragmentRun &run : runs)
    sum += run.length;
  if (sum == 0)
    return refuse(Outcome::BadRange, "a push without elements");
  if (elements)
    *elements = sum;
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
  contribution.parts.emplace(part.rank, part.slices);
  PushResult result;
  result.committed = contribution.coverage.complete();
  return result;
}

PushResult FragmentState::push(const PushPart &part,
                               std::span<const float> data, double now) {
  std::uint64_t expected = 0;
  PushResult result = admit(part, &expected);
  if (result.outcome != Outcome::Accepted)
    return result;
  if (data.size() != expected)
    return refuse(Outcome::BadSize, "expected ", expected,
                  " elements of data, got ", data.size());
  bool delta = part.content == PushContent::Delta;
  float largest = delta ? static_cast<float>(config.largestDelta)
                        : std::numeric_limits<float>::max();
  std::size_t bad = firstBad(data, largest);
  if (bad != data.size())
    return refuse(Outcome::NotFinite, "element ", bad, " of the push of rank ",
                  part.rank, " of island ", part.island, " is ", data[bad],
                  ", expected a finite number of at most ", largest);

  std::vector<FragmentRun> runs;
  locate(part.slices, runs, result.message);
  if (delta) {
    result = take(contributions[part.island], part, runs, data);
    if (result.outcome != Outcome::Accepted)
      return result;
    if (!firstPartSeconds)
      firstPartSeconds = now;
    if (result.committed && !firstCommitSeconds)
      firstCommitSeconds = now;
    bool all = std::all_of(
        contributions.begin(), contributions.end(),
        [](const Contribution &c) { return c.coverage.complete(); });
    if (all)
      result.closing = closeRound(now);
    return result;
  }

  bool parameters = part.content == PushContent::StartParameters;
  result = take(parameters ? startParameters : startMomentum, part, runs, data);
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
  result.committed = startParameters.coverage.complete() &&
                     (!withMomentum || startMomentum.coverage.complete());
  if (result.committed)
    result.closing = closeStart(now);
  return result;
}

std::string FragmentState::hashOf(const Version &version) const {
  // Floats go over the wire and into hashes as they lie in memory.
  static_assert(std::endian::native == std::endian::little);
  Sha256 digest;
  auto addBytes = [&](const void *data, std::size_t size) {
    digest.update({static_cast<const std::byte *>(data), size});
  };
  auto addNumber = [&](std::uint64_t value) { addBytes(&value, sizeof value); };
  for (const FragmentTensor &tensor : tensors) {
    addNumber(tensor.name.size());
    digest.update(tensor.name);
    addNumber(tensor.elements);
    addBytes(version.parameters.data() + tensor.offset,
             tensor.elements * sizeof(float));
  }
  return digest.finish();
}

std::shared_ptr<Version> FragmentState::step() const {
  // A new object: readers of the old version keep it as it was.
  auto version = std::make_shared<Version>(*newest);
  version->number = newest->number + 1;
  std::vector<OuterMember> members;
  bool moves = false;
  for (const Contribution &c : contributions) {
    members.push_back({c.data, c.tokens, c.innerSteps});
    moves |= c.innerSteps != 0;
  }
  // A round without a single inner step (the end of a run that stopped right
  // after a synchronisation) changes nothing, momentum included.
  if (moves) {
    version->momentum.resize(total);
    outerStep(config.optimizer, config.learningRate, config.momentum, members,
              version->parameters, version->momentum);
  }
  return version;
}

void RoundClosing::compute() {
  if (!version)
    version = fragment.step();
  version->hash = fragment.hashOf(*version);
  happened.version = version->number;
  happened.hash = version->hash;
}

std::shared_ptr<RoundClosing> FragmentState::closeStart(double now) {
  auto result = std::make_shared<RoundClosing>(*this);
  result->version = std::make_shared<Version>();
  result->version->number = firstRound;
  result->version->parameters = std::move(startParameters.data);
  result->version->momentum = std::move(startMomentum.data);
  OuterEvent &event = result->happened;
  event.fragment = number;
  event.start = true;
  event.round = firstRound;
  event.members = {0};
  event.openSeconds = now - *firstPartSeconds;
  closing = true;
  return result;
}

std::shared_ptr<RoundClosing> FragmentState::closeRound(double now) {
  auto result = std::make_shared<RoundClosing>(*this);
  OuterEvent &event = result->happened;
  event.fragment = number;
  event.round = openRound;
  for (std::uint32_t island = 0; island < contributions.size(); ++island) {
    event.members.push_back(island);
    event.tokens += contributions[island].tokens;
  }
  event.openSeconds = now - *firstPartSeconds;
  closing = true;
  return result;
}

void FragmentState::publish(const RoundClosing &made) {
  newest = made.version;
  if (made.happened.start) {
    openRound = firstRound;
  } else {
    std::vector<bool> who(contributions.size());
    for (std::uint32_t island : made.happened.members)
      who[island] = true;
    closed.push_back(std::move(who));
    for (Contribution &c : contributions)
      c.reset(c.incarnation);
    ++openRound;
  }
  firstPartSeconds.reset();
  firstCommitSeconds.reset();
  closing = false;
}

std::optional<std::string> FragmentState::overdue(double now) {
  if (closing)
    return std::nullopt;
  std::ostringstream text;
  if (!newest) {
    if (!askedSeconds)
      askedSeconds = now;
    if (now - *askedSeconds < config.startSeconds)
      return std::nullopt;
    text << "fragment " << number << " has no first version after "
         << config.startSeconds
         << " s: island 0 has not sent all of its parameters";
    return text.str();
  }
  double limit = config.deadlineSeconds;
  if (openRound == firstRound)
    limit = std::max(limit, config.startSeconds);
  if (!firstCommitSeconds || now - *firstCommitSeconds < limit)
    return std::nullopt;
  text << "round " << openRound << " of fragment " << number << " has waited "
       << limit << " s since its first push for";
  int missing = 0;
  for (std::uint32_t island = 0; island < contributions.size(); ++island)
    if (!contributions[island].coverage.complete() && ++missing <= 20)
      text << (missing == 1 ? " island " : ", ") << island;
  text << (missing > 20 ? ", ..." : "")
       << ", and this version does not go on without; raise the server's "
          "deadline_seconds when that is only slow";
  return text.str();
}
