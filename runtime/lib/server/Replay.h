//===- Replay.h - records into the server's state ---------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a server does that comes back, and a backup all the time: it applies
// what has been decided before, decides nothing itself, and makes sure that it
// comes to the same.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_REPLAY_H
#define TOMBOLO_LIB_SERVER_REPLAY_H

#include "FragmentState.h"
#include "RecordFile.h"

#include "tombolo/runtime/Error.h"

#include <map>

namespace tombolo::runtime {

struct FragmentImage;

class Replay {
public:
  explicit Replay(const OuterConfig &config)
      : state(std::make_shared<OuterState>(config)) {}

  /// `place` is for messages. Throws Error when the record does not follow from
  /// those before.
  void apply(const Record &record, double now, const std::string &place);
  void restore(std::uint32_t fragment, FragmentImage image, double now);
  /// Islands of another run know nothing of what theirs were in this one.
  void enterRun(const std::string &id);

  std::vector<std::unique_ptr<FragmentState>> &fragments() {
    return state->fragments;
  }

  std::shared_ptr<OuterState> state;
  /// First versions that are whole and not made yet.
  std::map<std::uint32_t, std::shared_ptr<RoundClosing>> starts;

private:
  void applyPush(const Record &record, double now, const std::string &place);
  void applyRefused(const Record &record, const std::string &place);
  void applyTold(const Record &record, const std::string &place);
  void applyVersion(const Record &record, double now, const std::string &place);

  std::string runId; ///< of what has been applied so far
};

/// The head of a record. Throws Error when it is none of this format.
template <typename Message>
Message parse(const Record &record, const std::string &place) {
  Message message;
  if (!message.ParseFromString(record.head))
    throw Error(place, ": not a record of this format");
  return message;
}

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_REPLAY_H
