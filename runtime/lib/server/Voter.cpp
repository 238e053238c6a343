//===- Voter.cpp - one server's vote on who may serve ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Voter.h"

#include "RecordFile.h"
#include "Recovery.h"

#include <algorithm>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

constexpr const char *kVote = "vote";
/// Not among the unfinished files that are cleared away while servers vote.
constexpr const char *kNewVote = "vote.new";

} // namespace

Voter::Voter(Storage &storage, const Contract &contract) : storage(storage) {
  vote.set_format(kStateFormat);
  vote.set_contract(contract.text());
  std::vector<std::string> names = storage.names();
  if (std::find(names.begin(), names.end(), kVote) != names.end()) {
    RecordReader file(storage, kVote);
    std::optional<Record> record = file.next();
    if (!record || record->type != RecordType::Vote ||
        !vote.ParseFromString(record->head))
      throw Error("server state '", file.path(),
                  "': damaged; remove the folder: this server then copies the "
                  "state and votes no more in this run");
    checkState(contract, vote.format(), vote.contract(), file.path());
  }
  vote.set_starts(vote.starts() + 1);
  save();
}

void Voter::save() {
  RecordWriter file(storage.create(kNewVote));
  file.append(RecordType::Vote, &vote, {});
  file.sync(file.size());
  storage.rename(kNewVote, kVote);
  storage.syncNames();
}

/// All have accepted the first grant before anything else is granted, so one
/// that has accepted nothing is new, or has forgotten.
bool Voter::mayVote(std::uint64_t epoch, bool first) const {
  bool fresh = accepted().epoch() == 0;
  return epoch >= promised() && (first ? fresh || accepted().first() : !fresh);
}

bool Voter::prepare(std::uint64_t epoch, bool first) {
  if (!mayVote(epoch, first))
    return false;
  if (epoch > promised()) {
    vote.set_promised(epoch);
    save();
  }
  return true;
}

bool Voter::accept(const wire::Grant &grant) {
  if (!mayVote(grant.epoch(), grant.first()))
    return false;
  if (grant.epoch() != accepted().epoch()) {
    vote.set_promised(grant.epoch());
    *vote.mutable_accepted() = grant;
    save();
  }
  return true;
}

void Voter::setFounded() {
  vote.set_founded(true);
  save();
}

void Voter::setIncomplete(bool incomplete) {
  if (incomplete == vote.incomplete())
    return;
  vote.set_incomplete(incomplete);
  save();
}
