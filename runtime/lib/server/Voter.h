//===- Voter.h - one server's vote on who may serve -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_VOTER_H
#define TOMBOLO_LIB_SERVER_VOTER_H

#include "tombolo/runtime/plan/Contract.h"
#include "tombolo/runtime/server/Storage.h"

#include "tombolo/schema/server.pb.h"

namespace tombolo::runtime {

/// What a server has promised and accepted (docs/Server.md, Primary and backup:
/// an acceptor of Paxos). Each change is on disk when the call returns; calls
/// that change something throw StorageError.
class Voter {
public:
  /// Counts a start. Throws Error when what is kept is damaged or of a plan
  /// with another contract.
  Voter(Storage &storage, const Contract &contract);

  /// Promises to accept nothing of an earlier epoch. `first`: asked for the
  /// first grant of a run. False: has promised a later one, or, having accepted
  /// nothing, may have forgotten what it has promised.
  bool prepare(std::uint64_t epoch, bool first);
  bool accept(const server::v1::Grant &grant);

  std::uint64_t promised() const { return vote.promised(); }
  /// The last one; epoch 0: none.
  const server::v1::Grant &accepted() const { return vote.accepted(); }
  std::uint64_t starts() const { return vote.starts(); }

  /// All have accepted this server's first grant.
  bool founded() const { return vote.founded(); }
  void setFounded();
  /// The state beside this vote is not whole.
  bool incomplete() const { return vote.incomplete(); }
  void setIncomplete(bool incomplete);

private:
  bool mayVote(std::uint64_t epoch, bool first) const;
  void save();

  Storage &storage;
  server::v1::Vote vote;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_VOTER_H
