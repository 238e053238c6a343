//===- FragmentState.cpp - one fragment's rounds --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FragmentState.h"

#include "simd/Loops.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <algorithm>
#include <bit>
#include <sstream>

using namespace tombolo::runtime;

void Contribution::reset(std::uint64_t newIncarnation) {
  coverage = Coverage(coverage.size());
  incarnation = newIncarnation;
  tokens = innerSteps = step = 0;
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
    tensor.updateOffset = totalUpdateBytes;
    total += tensor.elements;
    totalUpdateBytes += encodedBytes(config.compression, tensor.elements);
  }
  startParameters = startMomentum = Contribution(total);
  contributions.assign(config.islands, Contribution(total));
  owners.assign(config.islands, Owners(total));
  refused.resize(config.islands);
  directives.resize(config.islands);
  memberSteps.resize(config.islands);
}

bool FragmentState::isMember(std::uint32_t island, std::uint64_t round) const {
  return newest && round >= firstRound && round < openRound &&
         closed[round - firstRound][island];
}

bool FragmentState::isOwed(std::uint64_t version) const {
  for (std::uint32_t island = 0; island < contributions.size(); ++island) {
    std::uint64_t round = openRound;
    while (round > version && !isMember(island, round - 1))
      --round;
    if (round == version && isMember(island, version - 1))
      return true;
  }
  return false;
}

bool FragmentState::isCommitted(std::uint32_t island) const {
  const Contribution &contribution = contributions[island];
  return contribution.coverage.complete() && !contribution.parts.empty();
}

bool FragmentState::isStartWhole() const {
  return startParameters.coverage.complete() &&
         !startParameters.parts.empty() &&
         (!withMomentum || startMomentum.coverage.complete());
}

bool FragmentState::knows(std::uint32_t island) const {
  return directives[island] || !contributions[island].parts.empty() ||
         std::any_of(closed.begin(), closed.end(),
                     [&](const std::vector<bool> &who) { return who[island]; });
}

std::optional<std::uint64_t>
FragmentState::incarnationOf(std::uint32_t island) const {
  std::uint64_t incarnation = contributions[island].incarnation;
  return incarnation > 0 || knows(island) ? std::optional(incarnation)
                                          : std::nullopt;
}

std::shared_ptr<RoundClosing>
FragmentState::closeIfDue(const std::vector<bool> &live, std::size_t quorum,
                          double now) {
  if (!newest || closing || !firstCommitSeconds)
    return nullptr;
  std::vector<std::uint32_t> members;
  bool everyLiveIsland = true;
  for (std::uint32_t island = 0; island < contributions.size(); ++island) {
    if (isCommitted(island))
      members.push_back(island);
    else if (live[island] && !isRefused(island))
      everyLiveIsland = false;
  }
  bool late = now - *firstCommitSeconds >= config.deadlineSeconds;
  if (members.size() < quorum || !(everyLiveIsland || late))
    return nullptr;
  return closeRound(std::move(members), now);
}

bool FragmentState::isPending(std::size_t quorum) const {
  if (closing)
    return true;
  std::size_t committed = 0;
  for (std::uint32_t island = 0; island < contributions.size(); ++island)
    committed += isCommitted(island);
  return committed >= quorum;
}

bool FragmentState::isRefused(std::uint32_t island) const {
  return refused[island] && refused[island]->round == openRound &&
         refused[island]->incarnation == contributions[island].incarnation &&
         contributions[island].parts.empty();
}

Receipt FragmentState::receipt(std::uint32_t island, std::uint64_t round,
                               std::uint64_t step, bool removed) {
  if (!newest)
    return {};
  if (isMember(island, round))
    return {Receipt::Kind::Member, round + 1};
  std::uint64_t incarnation = contributions[island].incarnation;
  bool forGood = refused[island] == Refused{incarnation, round, step};
  // What it has committed counts, and it is told so when the round has closed.
  bool ends = removed && round == openRound && !isCommitted(island);
  std::optional<Directive> &known = directives[island];
  bool isTold = known && known->incarnation == incarnation &&
                known->round == round && known->step == step;
  ends |= isTold && known->kind == Receipt::Kind::Removed;
  if (round >= openRound && !forGood && !ends)
    return {};
  if (isTold)
    return {known->kind, known->version->number};
  // A version is about to come, and is better to go on from. So what is decided
  // here stands in a log on the same side of it as in this state.
  if (closing)
    return {};
  known = Directive{incarnation,
                    round,
                    step,
                    forGood   ? Receipt::Kind::Discarded
                    : removed ? Receipt::Kind::Removed
                              : Receipt::Kind::Late,
                    newest,
                    /*counted=*/0,
                    /*countedSteps=*/0,
                    /*next=*/std::nullopt};
  return {known->kind, known->version->number, /*fresh=*/true};
}

Receipt FragmentState::join(std::uint32_t island, std::uint64_t incarnation) {
  Contribution &contribution = contributions[island];
  if (!newest || incarnation < contribution.incarnation)
    return {};
  std::optional<Directive> &known = directives[island];
  if (known && known->incarnation == incarnation &&
      known->round == Directive::kJoin)
    return {known->kind, known->version->number, /*fresh=*/false,
            known->counted, known->countedSteps};
  if (closing) // as above
    return {};
  // What the old ranks had pushed of the open round goes, unless it is whole.
  if (incarnation > contribution.incarnation) {
    if (!isCommitted(island))
      contribution.reset(incarnation);
    contribution.incarnation = incarnation;
  }
  known = Directive{incarnation,
                    Directive::kJoin,
                    /*step=*/0,
                    Receipt::Kind::Late,
                    newest,
                    countedRounds(island),
                    countedSteps(island),
                    /*next=*/std::nullopt};
  return {known->kind, known->version->number, /*fresh=*/true, known->counted,
          known->countedSteps};
}

std::uint64_t FragmentState::countedRounds(std::uint32_t island) const {
  if (isCommitted(island))
    return openRound + 1;
  std::uint64_t round = openRound;
  while (round > firstRound && !isMember(island, round - 1))
    --round;
  return round > firstRound ? round : 0;
}

std::uint64_t FragmentState::countedSteps(std::uint32_t island) const {
  return isCommitted(island)
             ? std::max(contributions[island].step, memberSteps[island])
             : memberSteps[island];
}

std::shared_ptr<RoundClosing>
FragmentState::closeAgain(const std::vector<std::uint32_t> &members,
                          double now) {
  bool good = newest && !closing && !members.empty();
  for (std::uint32_t island : members)
    good = good && island < contributions.size() && isCommitted(island);
  if (!good)
    throw Error("round ", openRound, " of fragment ", number,
                " cannot have closed: a member's push is missing");
  return closeRound(members, now);
}

std::shared_ptr<RoundClosing> FragmentState::startAgain(double now) {
  return newest || closing || !isStartWhole() ? nullptr : closeStart(now);
}

void FragmentState::refuseAgain(std::uint32_t island, const Refused &push) {
  Contribution &contribution = contributions[island];
  contribution.reset(std::max(contribution.incarnation, push.incarnation));
  refused[island] = push;
}

void FragmentState::forgetIncarnations() {
  for (std::uint32_t island = 0; island < contributions.size(); ++island) {
    if (!isCommitted(island))
      contributions[island].reset(0);
    contributions[island].incarnation = 0;
  }
  for (Contribution *start : {&startParameters, &startMomentum})
    start->reset(0);
  owners.assign(owners.size(), Owners(total));
  refused.assign(refused.size(), std::nullopt);
  directives.assign(directives.size(), std::nullopt);
}

std::shared_ptr<const Version>
FragmentState::version(std::uint64_t wanted) const {
  if (newest && newest->number == wanted)
    return newest;
  for (const std::optional<Directive> &directive : directives)
    if (directive && directive->version->number == wanted)
      return directive->version;
  return nullptr;
}

std::shared_ptr<const Update>
FragmentState::update(std::uint64_t version) const {
  for (const std::shared_ptr<const Update> &update : updates)
    if (update->version == version)
      return update;
  return nullptr;
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

void FragmentState::step(const std::vector<std::uint32_t> &islands,
                         std::shared_ptr<Version> &version,
                         std::shared_ptr<Update> &update) const {
  // A new object: readers of the old version keep it as it was.
  version = std::make_shared<Version>(*newest);
  version->number = newest->number + 1;
  update = std::make_shared<Update>();
  update->version = version->number;
  update->data.resize(totalUpdateBytes);
  std::vector<OuterMember> members;
  bool moves = false;
  for (std::uint32_t island : islands) {
    const Contribution &c = contributions[island];
    members.push_back({c.data, c.tokens, c.innerSteps});
    moves |= c.innerSteps != 0;
  }
  auto changes = std::make_unique_for_overwrite<float[]>(total);
  std::span change(changes.get(), total);
  // A round without a single inner step (the end of a run that stopped right
  // after a synchronisation) changes nothing, momentum included.
  if (moves) {
    version->momentum.resize(total);
    if (config.outer.optimizer == OuterOptimizer::AdamW)
      version->secondMoment.resize(total);
    outerStep(config.outer, ++version->outerSteps, members, version->parameters,
              version->momentum, version->secondMoment, change);
  } else {
    std::fill(change.begin(), change.end(), 0.0f);
  }
  bool compressed = config.compression != Compression::None;
  if (compressed)
    version->error.resize(total);
  const outer::Loops &loops = outer::selectLoops();
  for (const FragmentTensor &tensor : tensors) {
    std::span u = change.subspan(tensor.offset, tensor.elements);
    std::span q = std::span(update->data)
                      .subspan(tensor.updateOffset,
                               encodedBytes(config.compression, u.size()));
    if (compressed)
      encodeWithFeedback(
          config.compression, u,
          std::span(version->error).subspan(tensor.offset, tensor.elements), q);
    else
      encode(config.compression, u, q);
    float *g = version->parameters.data() + tensor.offset;
    loops.subtract(g, u.data(), u.size(), g);
  }
}

void RoundClosing::compute() {
  if (!version)
    fragment.step(happened.members, version, made);
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
  event.kind = OuterEvent::Kind::Start;
  event.round = firstRound;
  event.members = {0};
  event.openSeconds = now - *firstPartSeconds;
  closing = true;
  return result;
}

std::shared_ptr<RoundClosing>
FragmentState::closeRound(std::vector<std::uint32_t> members, double now) {
  auto result = std::make_shared<RoundClosing>(*this);
  OuterEvent &event = result->happened;
  event.fragment = number;
  event.round = openRound;
  event.members = std::move(members);
  for (std::uint32_t island : event.members)
    event.tokens += contributions[island].tokens;
  event.openSeconds = now - *firstPartSeconds;
  closing = true;
  return result;
}

std::span<const std::byte> RoundClosing::update() const {
  return made ? std::span<const std::byte>(made->data)
              : std::span<const std::byte>();
}

void FragmentState::publish(const RoundClosing &made) {
  newest = made.version;
  last = made.happened;
  if (made.happened.kind == OuterEvent::Kind::Start) {
    openRound = firstRound;
  } else {
    updates.push_back(made.made);
    std::vector<bool> who(contributions.size());
    for (std::uint32_t island : made.happened.members) {
      who[island] = true;
      memberSteps[island] =
          std::max(memberSteps[island], contributions[island].step);
    }
    closed.push_back(std::move(who));
    for (Contribution &c : contributions)
      c.reset(c.incarnation);
    ++openRound;
    std::erase_if(updates, [&](const std::shared_ptr<const Update> &update) {
      return update->version + config.keptUpdates <= openRound &&
             !isOwed(update->version);
    });
  }
  firstPartSeconds.reset();
  firstCommitSeconds.reset();
  closing = false;
}

std::optional<std::string> FragmentState::overdue(double now) {
  if (closing || newest)
    return std::nullopt;
  if (!askedSeconds)
    askedSeconds = now;
  if (now - *askedSeconds < config.startSeconds)
    return std::nullopt;
  std::ostringstream text;
  text << "fragment " << number << " has no first version after "
       << config.startSeconds
       << " s: island 0 has not sent all of its parameters";
  return text.str();
}
