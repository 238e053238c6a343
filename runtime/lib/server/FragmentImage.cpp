//===- FragmentImage.cpp - a fragment as a snapshot holds it --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FragmentImage.h"

#include "FragmentState.h"
#include "RecordFile.h"
#include "Wire.h"

#include "tombolo/runtime/Error.h"

#include <cstring>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

constexpr std::size_t kMostRecordBytes = std::size_t(64) << 20;

template <typename T>
void put(const RecordSink &to, const std::vector<T> &data) {
  std::span bytes = std::as_bytes(std::span(data));
  while (!bytes.empty()) {
    std::size_t count = std::min(bytes.size(), kMostRecordBytes);
    to(RecordType::Data, nullptr, bytes.first(count));
    bytes = bytes.subspan(count);
  }
}

template <typename T>
std::vector<T> get(RecordReader &from, std::uint64_t count) {
  std::vector<T> data(count);
  std::span bytes = std::as_writable_bytes(std::span(data));
  while (!bytes.empty()) {
    std::optional<Record> record = from.next();
    if (!record || record->type != RecordType::Data ||
        record->body.size() > bytes.size() || record->body.empty())
      throw Error("'", from.path(), "': damaged at byte ", from.position(),
                  ": expected data of a fragment");
    std::memcpy(bytes.data(), record->body.data(), record->body.size());
    bytes = bytes.subspan(record->body.size());
  }
  return data;
}

void describe(const Version &version, wire::SavedFragment::SavedVersion &to) {
  to.set_number(version.number);
  to.set_outer_steps(version.outerSteps);
  to.set_hash(version.hash);
  to.set_momentum(!version.momentum.empty());
  to.set_second_moment(!version.secondMoment.empty());
  to.set_error(!version.error.empty());
}

void put(const RecordSink &to, const Version &version) {
  put(to, version.parameters);
  put(to, version.momentum);
  put(to, version.secondMoment);
  put(to, version.error);
}

std::shared_ptr<const Version>
getVersion(RecordReader &from, const wire::SavedFragment::SavedVersion &fields,
     std::uint64_t elements) {
  auto version = std::make_shared<Version>();
  version->number = fields.number();
  version->outerSteps = fields.outer_steps();
  version->hash = fields.hash();
  version->parameters = get<float>(from, elements);
  if (fields.momentum())
    version->momentum = get<float>(from, elements);
  if (fields.second_moment())
    version->secondMoment = get<float>(from, elements);
  if (fields.error())
    version->error = get<float>(from, elements);
  return version;
}

template <typename Message>
void describe(const std::map<std::uint32_t, std::vector<TensorSlice>> &parts,
              Message &to) {
  for (const auto &[rank, slices] : parts) {
    auto *part = to.add_parts();
    part->set_rank(rank);
    for (const TensorSlice &slice : slices)
      toWire(slice, *part->add_slices());
  }
}

void describe(const Contribution &contribution,
              wire::SavedFragment::Contribution &to) {
  to.set_incarnation(contribution.incarnation);
  to.set_tokens(contribution.tokens);
  to.set_inner_steps(contribution.innerSteps);
  to.set_step(contribution.step);
  describe(contribution.parts, to);
}

} // namespace

void tombolo::runtime::write(const FragmentImage &image, const RecordSink &to) {
  to(RecordType::Fragment, &image.fields, {});
  if (image.newest)
    put(to, *image.newest);
  for (const auto &update : image.updates)
    put(to, update->data);
  for (const auto &version : image.told)
    put(to, *version);
  for (const std::vector<float> &data : image.contributions)
    put(to, data);
}

FragmentImage tombolo::runtime::readImage(wire::SavedFragment fields,
                                          RecordReader &from,
                                          std::uint64_t elements,
                                          std::uint64_t updateBytes) {
  FragmentImage image;
  if (fields.has_newest())
    image.newest = getVersion(from, fields.newest(), elements);
  for (const auto &saved : fields.updates()) {
    auto update = std::make_shared<Update>();
    update->version = saved.version();
    update->data = get<std::byte>(from, updateBytes);
    image.updates.push_back(std::move(update));
  }
  for (const auto &directive : fields.directives())
    if (directive.has_version())
      image.told.push_back(getVersion(from, directive.version(), elements));
  auto getData = [&](const wire::SavedFragment::Contribution &contribution) {
    if (contribution.parts_size() > 0)
      image.contributions.push_back(get<float>(from, elements));
  };
  if (!fields.has_newest()) {
    getData(fields.start_parameters());
    getData(fields.start_momentum());
  }
  for (const auto &contribution : fields.contributions())
    getData(contribution);
  image.fields = std::move(fields);
  return image;
}

FragmentImage FragmentState::capture() const {
  FragmentImage image;
  wire::SavedFragment &fields = image.fields;
  fields.set_fragment(number);
  fields.set_first_round(firstRound);
  fields.set_with_momentum(withMomentum);
  image.newest = newest;
  if (newest) {
    describe(*newest, *fields.mutable_newest());
    wire::LogVersion &event = *fields.mutable_last();
    event.set_start(last.kind == OuterEvent::Kind::Start);
    event.mutable_members()->Assign(last.members.begin(), last.members.end());
    event.set_tokens(last.tokens);
  }
  for (const auto &update : updates) {
    fields.add_updates()->set_version(update->version);
    image.updates.push_back(update);
  }
  describe(startParameters, *fields.mutable_start_parameters());
  describe(startMomentum, *fields.mutable_start_momentum());
  if (!newest)
    for (const Contribution *start : {&startParameters, &startMomentum})
      if (!start->parts.empty())
        image.contributions.push_back(start->data);
  for (std::uint32_t island = 0; island < contributions.size(); ++island) {
    const Contribution &contribution = contributions[island];
    describe(contribution, *fields.add_contributions());
    if (!contribution.parts.empty())
      image.contributions.push_back(contribution.data);
    wire::SavedFragment::Owners &own = *fields.add_owners();
    own.set_incarnation(owners[island].incarnation);
    describe(owners[island].slices, own);
    if (const std::optional<Refused> &one = refused[island]) {
      wire::LogRefused *to = fields.add_refused();
      to->set_island(island);
      to->set_incarnation(one->incarnation);
      to->set_round(one->round);
      to->set_step(one->step);
    }
    if (const std::optional<Directive> &one = directives[island]) {
      auto *directive = fields.add_directives();
      wire::LogTold *told = directive->mutable_told();
      told->set_island(island);
      told->set_incarnation(one->incarnation);
      told->set_join(one->round == Directive::kJoin);
      told->set_round(one->round);
      told->set_step(one->step);
      told->set_receipt(static_cast<wire::Receipt>(one->kind));
      told->set_version(one->version->number);
      told->set_counted(one->counted);
      told->set_counted_steps(one->countedSteps);
      if (one->next) {
        auto *next = directive->mutable_next();
        next->set_round(one->next->first);
        next->set_step(one->next->second);
      }
      if (one->version != newest) {
        describe(*one->version, *directive->mutable_version());
        image.told.push_back(one->version);
      }
    }
  }
  fields.mutable_counted_steps()->Assign(memberSteps.begin(),
                                         memberSteps.end());
  for (const std::vector<bool> &members : closed) {
    std::string bits((members.size() + 7) / 8, '\0');
    for (std::size_t island = 0; island < members.size(); ++island)
      if (members[island])
        bits[island / 8] |= static_cast<char>(1 << island % 8);
    fields.add_closed(std::move(bits));
  }
  return image;
}

void FragmentState::restore(FragmentImage image, double now) {
  const wire::SavedFragment &fields = image.fields;
  const std::size_t islands = contributions.size();
  auto check = [&](bool good) {
    if (!good)
      throw Error("the state of fragment ", number,
                  " contradicts itself or the plan");
  };
  auto restoreParts = [&](const auto &saved, Coverage &coverage, auto &to) {
    for (const auto &part : saved) {
      std::vector<TensorSlice> slices = fromWire(part.slices());
      std::vector<FragmentRun> runs;
      std::string message;
      check(locate(slices, runs, message) == Outcome::Accepted);
      for (const FragmentRun &run : runs)
        check(coverage.add(run.offset, run.length));
      check(to.emplace(part.rank(), std::move(slices)).second);
    }
  };
  auto restoreOne = [&](const wire::SavedFragment::Contribution &saved,
                        Contribution &to) {
    to = Contribution(total);
    to.incarnation = saved.incarnation();
    to.tokens = saved.tokens();
    to.innerSteps = saved.inner_steps();
    to.step = saved.step();
    restoreParts(saved.parts(), to.coverage, to.parts);
  };
  std::uint64_t newestNumber =
      image.newest ? image.newest->number : fields.first_round();
  check(fields.contributions_size() == static_cast<int>(islands) &&
        newestNumber >= fields.first_round() &&
        newestNumber - fields.first_round() ==
            static_cast<std::uint64_t>(fields.closed_size()));
  newest = image.newest;
  firstRound = fields.first_round();
  openRound = newest ? newest->number : 0;
  if (newest) {
    bool start = fields.last().start();
    last.kind = start ? OuterEvent::Kind::Start : OuterEvent::Kind::OuterStep;
    last.fragment = number;
    last.version = newest->number;
    last.round = start ? firstRound : openRound - 1;
    last.members.assign(fields.last().members().begin(),
                        fields.last().members().end());
    last.tokens = fields.last().tokens();
    last.hash = newest->hash;
  }
  withMomentum = fields.with_momentum();
  updates.assign(image.updates.begin(), image.updates.end());
  restoreOne(fields.start_parameters(), startParameters);
  restoreOne(fields.start_momentum(), startMomentum);
  std::size_t next = 0;
  for (Contribution *start : {&startParameters, &startMomentum}) {
    if (newest || start->parts.empty())
      continue;
    start->data = std::move(image.contributions.at(next++));
    firstPartSeconds = now;
  }
  for (std::size_t island = 0; island < islands; ++island) {
    restoreOne(fields.contributions(static_cast<int>(island)),
               contributions[island]);
    if (contributions[island].parts.empty())
      continue;
    contributions[island].data = std::move(image.contributions.at(next++));
    firstPartSeconds = now; // the time that nobody served counts for nobody
    if (isCommitted(static_cast<std::uint32_t>(island)))
      firstCommitSeconds = now;
  }
  // A snapshot of before there were owners has none.
  check(fields.owners_size() == 0 ||
        fields.owners_size() == static_cast<int>(islands));
  owners.assign(islands, Owners(total));
  for (int island = 0; island < fields.owners_size(); ++island) {
    Owners &to = owners[static_cast<std::size_t>(island)];
    to.incarnation = fields.owners(island).incarnation();
    restoreParts(fields.owners(island).parts(), to.owned, to.slices);
  }
  refused.assign(islands, std::nullopt);
  for (const wire::LogRefused &one : fields.refused()) {
    check(one.island() < islands);
    refused[one.island()] = Refused{one.incarnation(), one.round(), one.step()};
  }
  directives.assign(islands, std::nullopt);
  next = 0;
  for (const auto &directive : fields.directives()) {
    const wire::LogTold &told = directive.told();
    check(newest && told.island() < islands);
    directives[told.island()] =
        Directive{told.incarnation(),
                  told.round(),
                  told.step(),
                  static_cast<Receipt::Kind>(told.receipt()),
                  directive.has_version() ? image.told.at(next++) : newest,
                  told.counted(),
                  told.counted_steps(),
                  /*next=*/std::nullopt};
    if (directive.has_next())
      directives[told.island()]->next = {directive.next().round(),
                                         directive.next().step()};
  }
  check(fields.counted_steps_size() == static_cast<int>(islands));
  memberSteps.assign(fields.counted_steps().begin(),
                     fields.counted_steps().end());
  closed.clear();
  for (const std::string &bits : fields.closed()) {
    check(bits.size() == (islands + 7) / 8);
    std::vector<bool> &members = closed.emplace_back(islands);
    for (std::size_t island = 0; island < islands; ++island)
      members[island] = bits[island / 8] >> island % 8 & 1;
  }
}
