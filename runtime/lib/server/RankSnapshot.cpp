//===- RankSnapshot.cpp - what a rank's snapshot holds --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankExchange.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cstring>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

/// What a tensor's local elements first ... first + count are in the whole.
std::vector<ElementRange> cut(const std::vector<ElementRange> &ranges,
                              std::uint64_t first, std::uint64_t count) {
  std::vector<ElementRange> pieces;
  for (const ElementRange &range : ranges) {
    std::uint64_t size = range.length * range.count;
    if (first >= size) {
      first -= size;
      continue;
    }
    std::uint64_t left = std::min(count, size - first);
    count -= left;
    // The end of a run, whole runs, the start of a run.
    for (std::uint64_t take = 0; left > 0; first += take, left -= take) {
      std::uint64_t run = first / range.length, at = first % range.length;
      std::uint64_t begin = range.begin + run * range.stride + at;
      if (at == 0 && left >= range.length) {
        std::uint64_t runs = left / range.length;
        take = runs * range.length;
        pieces.push_back({begin, range.length, runs, range.stride});
      } else {
        take = std::min(left, range.length - at);
        pieces.push_back({begin, take, 1, take});
      }
    }
    first = 0;
  }
  return pieces;
}

} // namespace

/// Checks that elements lie in a tensor.
HeldTensor &RankExchange::piece(const char *what, std::size_t tensor,
                                std::uint64_t first, std::size_t count) {
  HeldTensor &held = tensors.at(tensor);
  if (first > held.elements || count > held.elements - first)
    throw Error(Status::Failed, what, " of '", held.tensor.name,
                "': expected some of ", held.elements, " elements, got ", count,
                " from ", first);
  return held;
}

void RankExchange::outerMomentum(std::size_t tensor, std::uint64_t first,
                                 std::span<float> to) {
  HeldTensor &held = tensors.at(tensor);
  if (!begun || first > held.elements || to.size() > held.elements - first)
    throw Error(Status::Failed, "outer momentum of '", held.tensor.name,
                "': expected some of ", held.elements, " elements, got ",
                to.size(), " from ", first);
  if (to.empty())
    return;
  wire::PullRequest request;
  request.set_fragment(held.tensor.fragment);
  request.set_what(wire::PullRequest::MOMENTUM);
  toWire(
      TensorSlice{held.tensor.name, cut(held.tensor.ranges, first, to.size())},
      *request.add_slices());
  auto bytes = std::as_writable_bytes(to);
  std::size_t at = 0;
  auto take = [&](std::string_view chunk) {
    if (chunk.size() > bytes.size() - at)
      throw Error(Status::Failed, "parameter server at ", options.server,
                  ": more momentum than asked for");
    std::memcpy(bytes.data() + at, chunk.data(), chunk.size());
    at += chunk.size();
  };
  const bool givesUp = mayBeAlone();
  try {
    if (givesUp && client.isSilent())
      throw ServerSilent(Status::Failed, "");
    do { // another island may go on meanwhile
      at = 0;
      request.set_version(newestVersion(held.tensor.fragment, givesUp));
    } while (!client.pull(request, take, /*ended=*/nullptr, /*connection=*/0,
                          givesUp));
  } catch (const ServerSilent &) {
    // A snapshot that waited for it would hold up the training.
    std::fill(to.begin(), to.end(), 0.0f);
    return;
  }
  if (at != bytes.size())
    throw Error(Status::Failed, "parameter server at ", options.server,
                ": less momentum than asked for");
}

void RankExchange::setOuterMomentum(std::size_t tensor, std::uint64_t first,
                                    std::span<const float> from) {
  HeldTensor &held = piece("outer momentum", tensor, first, from.size());
  held.momentum.resize(held.elements);
  std::copy(from.begin(), from.end(), held.momentum.begin() + first);
  held.momentumGiven += from.size();
}

std::vector<FragmentPoint> RankExchange::points() const {
  std::vector<FragmentPoint> points;
  for (const Fragment &fragment : fragments) {
    FragmentPoint &point = points.emplace_back();
    point.version = fragment.version;
    point.stepsDone = fragment.stepsDone;
    if (fragment.flight)
      point.pushedStep = fragment.flight->step;
  }
  return points;
}

void RankExchange::kept(Kept what, std::size_t tensor, std::uint64_t first,
                        std::span<float> to) const {
  const HeldTensor &held = tensors.at(tensor);
  const Fragment &fragment = fragments[held.tensor.fragment];
  const std::vector<float> *from = &held.base;
  if (what != Kept::Base) {
    std::size_t place =
        std::find(fragment.tensors.begin(), fragment.tensors.end(), &held) -
        fragment.tensors.begin();
    if (what == Kept::Pushed)
      from = fragment.flight ? &fragment.flight->atPush[place] : nullptr;
    else
      from =
          fragment.flight ? &fragment.flight->errorBefore[place] : &held.error;
  }
  if (!from || first > from->size() || to.size() > from->size() - first)
    throw Error(Status::Failed, "a snapshot of '", held.tensor.name,
                "' asks for what is not kept");
  std::copy_n(from->begin() + static_cast<std::ptrdiff_t>(first), to.size(),
              to.begin());
}

void RankExchange::setPoints(const std::vector<FragmentPoint> &points) {
  if (begun || points.size() != fragments.size())
    throw Error(Status::Failed, "a snapshot of ", points.size(),
                " fragments, of a run that has ", fragments.size());
  resumed = points;
}

void RankExchange::setKept(Kept what, std::size_t tensor, std::uint64_t first,
                           std::span<const float> from) {
  HeldTensor &held = piece("a snapshot", tensor, first, from.size());
  std::vector<float> &to = what == Kept::Base    ? held.base
                           : what == Kept::Error ? held.error
                                                 : held.pushed;
  to.resize(held.elements);
  std::copy(from.begin(), from.end(), to.begin() + first);
}

void RankExchange::leave(Fragment &fragment, InFlight &flight,
                         std::uint64_t stepsDone) {
  removedStep = stepsDone;
  for (std::size_t i = 0; i < fragment.tensors.size(); ++i)
    if (fragment.tensors[i]->tensor.owner)
      fragment.tensors[i]->error = std::move(flight.errorBefore[i]);
  // Of the pushes that are still under way a snapshot holds what local was.
  // Where that has not been kept no step has been taken since.
  for (Fragment &other : fragments)
    for (std::size_t i = 0; other.flight && i < other.tensors.size(); ++i) {
      const HeldTensor &held = *other.tensors[i];
      std::vector<float> &atPush = other.flight->atPush[i];
      if (!atPush.empty())
        continue;
      atPush.resize(held.elements);
      readArena(held, 0, atPush);
    }
}

void RankExchange::goOn(std::uint32_t number, const FragmentPoint &from,
                        const wire::WaitReply &reply, const Fetched &fetched,
                        std::uint64_t stepsDone) {
  Fragment &fragment = fragments[number];
  std::uint64_t counted = reply.counted_rounds(), newest = reply.go_on_from();
  bool underWay = from.pushedStep.has_value();
  fragment.version = from.version;
  fragment.stepsDone = from.stepsDone;
  if (underWay && counted <= from.version + 1 && newest <= from.version + 1) {
    // The same push again, should it not be there; then as if nothing had been.
    std::vector<std::vector<float>> saved;
    for (HeldTensor *held : fragment.tensors)
      saved.push_back(std::move(held->pushed));
    startPush(number, *from.pushedStep, {.saved = std::move(saved)});
    return;
  }
  // A later push than the snapshot's contained all there is of it; it may be in
  // the round that is still open.
  bool allCounts = counted > from.version + underWay;
  bool isOpen = allCounts && counted > newest;
  bool pushCounts = !allCounts && underWay && counted == from.version + 1;
  fragment.version = newest;
  if (allCounts)
    fragment.stepsDone = stepsDone;
  else if (pushCounts)
    fragment.stepsDone = *from.pushedStep;
  std::vector<std::vector<float>> locals;
  for (std::size_t i = 0; i < fragment.tensors.size(); ++i) {
    HeldTensor *held = fragment.tensors[i];
    if (pushCounts && !held->error.empty() &&
        *from.pushedStep != from.stepsDone) {
      std::vector<std::byte> sent(
          encodedBytes(options.compression, held->elements));
      held->encodeDelta(0, held->pushed, sent);
    }
    std::vector<float> reference =
        std::move(pushCounts ? held->pushed : held->base);
    discard(held->pushed);
    advance(*held, i, fetched);
    if (allCounts)
      std::fill(held->error.begin(), held->error.end(), 0.0f);
    if (reference.empty() || (allCounts && newest != from.version))
      installBase(*held);
    else if (!allCounts && std::memcmp(reference.data(), held->base.data(),
                                       held->elements * sizeof(float)) != 0)
      moveOn(*held, reference);
    if (isOpen)
      readArena(*held, 0, locals.emplace_back(held->elements));
  }
  if (isOpen)
    startPush(number, stepsDone, {.sends = false, .saved = std::move(locals)});
}
