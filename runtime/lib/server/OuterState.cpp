//===- OuterState.cpp - the parameter server's algorithm ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/OuterState.h"

#include "FragmentState.h"

#include "tombolo/runtime/Error.h"

#include <cmath>
#include <set>

using namespace tombolo::runtime;

std::string_view tombolo::runtime::name(Outcome outcome) {
  switch (outcome) {
  case Outcome::Accepted:
    return "accepted";
  case Outcome::Repeated:
    return "repeated";
  case Outcome::Malformed:
    return "malformed";
  case Outcome::WrongRun:
    return "wrong run";
  case Outcome::UnknownSender:
    return "unknown sender";
  case Outcome::OldIncarnation:
    return "old incarnation";
  case Outcome::UnknownFragment:
    return "unknown fragment";
  case Outcome::UnknownTensor:
    return "unknown tensor";
  case Outcome::BadRange:
    return "bad range";
  case Outcome::Overlap:
    return "overlap";
  case Outcome::BadSize:
    return "bad size";
  case Outcome::Inconsistent:
    return "inconsistent";
  case Outcome::NotStarted:
    return "not started";
  case Outcome::AlreadyStarted:
    return "already started";
  case Outcome::WrongBase:
    return "wrong base";
  case Outcome::ClosedRound:
    return "closed round";
  case Outcome::FutureRound:
    return "future round";
  case Outcome::BadWeight:
    return "bad weight";
  case Outcome::NotFinite:
    return "not finite";
  case Outcome::UnknownVersion:
    return "unknown version";
  case Outcome::Busy:
    return "busy";
  case Outcome::Overdue:
    return "overdue";
  }
  return "unknown";
}

OuterState::OuterState(OuterConfig config) : settings(std::move(config)) {
  if (settings.islands == 0 || settings.fragments == 0)
    throw Error("server: expected at least one island and one fragment");
  if (!std::isfinite(settings.learningRate) || settings.learningRate < 0 ||
      !std::isfinite(settings.momentum) || settings.momentum < 0 ||
      settings.momentum >= 1)
    throw Error("server: expected an outer learning rate of at least 0 and a "
                "momentum in [0, 1), got ",
                settings.learningRate, " and ", settings.momentum);
  std::set<std::string_view> names;
  std::uint64_t total = 0;
  for (const OuterTensor &tensor : settings.tensors) {
    if (tensor.elements == 0 || tensor.fragment >= settings.fragments)
      throw Error("server: tensor '", tensor.name,
                  "' has no elements or is in a fragment that is not there");
    if (!names.insert(tensor.name).second)
      throw Error("server: tensor '", tensor.name, "' stands twice");
    if (tensor.elements > (std::uint64_t(1) << 60) - total)
      throw Error("server: the tensors have too many elements");
    total += tensor.elements;
  }
  for (std::uint32_t f = 0; f < settings.fragments; ++f) {
    fragments.push_back(std::make_unique<FragmentState>(settings, f));
    if (fragments.back()->elements() == 0)
      throw Error("server: fragment ", f, " has no tensor");
  }
}

OuterState::~OuterState() = default;

PushResult OuterState::admit(const PushPart &part,
                             std::uint64_t *elements) const {
  PushResult result;
  if (part.island >= settings.islands) {
    result.outcome = Outcome::UnknownSender;
    result.message = "the plan has " + std::to_string(settings.islands) +
                     " islands, got island " + std::to_string(part.island);
    return result;
  }
  if (part.fragment >= settings.fragments) {
    result.outcome = Outcome::UnknownFragment;
    result.message = "the plan has " + std::to_string(settings.fragments) +
                     " fragments, got fragment " +
                     std::to_string(part.fragment);
    return result;
  }
  return fragments[part.fragment]->admit(part, elements);
}

PushResult OuterState::push(const PushPart &part, std::span<const float> data,
                            double now) {
  if (part.island >= settings.islands || part.fragment >= settings.fragments)
    return admit(part);
  return fragments[part.fragment]->push(part, data, now);
}

void OuterState::publish(const RoundClosing &closing) {
  fragments.at(closing.event().fragment)->publish(closing);
}

std::optional<std::string> OuterState::overdue(std::uint32_t fragment,
                                               double now) {
  return fragments.at(fragment)->overdue(now);
}

std::shared_ptr<const Version>
OuterState::current(std::uint32_t fragment) const {
  return fragments.at(fragment)->current();
}

Outcome OuterState::locate(std::uint32_t fragment,
                           std::span<const TensorSlice> slices,
                           std::vector<FragmentRun> &runs,
                           std::string &message) const {
  return fragments.at(fragment)->locate(slices, runs, message);
}

std::uint64_t OuterState::elements(std::uint32_t fragment) const {
  return fragments.at(fragment)->elements();
}
