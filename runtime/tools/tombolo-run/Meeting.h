//===- Meeting.h - where the processes of a launch meet ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_MEETING_H
#define TOMBOLO_TOOLS_TOMBOLORUN_MEETING_H

#include "tombolo/runtime/RollCall.h"
#include "tombolo/runtime/launch/Launch.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace CLI {
class App;
} // namespace CLI

namespace tombolo::runtime {

/// --launcher of `rank` and `site`.
void addLauncherOption(CLI::App &app, std::string &launcher);

/// A rank of an island.
struct Seat {
  std::uint32_t island = 0;
  std::uint64_t rank = 0;
  bool operator==(const Seat &) const = default;
};

/// The ranks of a plan in the order in which a launch fills them: all, those of
/// one island, or those at one site. Throws Error when there are none.
std::vector<Seat> seatsOf(const Plan &plan, std::optional<std::uint32_t> island,
                          const std::string &site);

/// What processes that train together must have alike, in words: see
/// RollCall::call.
std::string sameness(const Plan &plan, std::uint64_t ranks,
                     const std::string &transport);

/// Of the processes of a launch; process 0 keeps the store where they meet. In
/// a process of its own, as this one may become another program.
class Meeting {
public:
  /// `rendezvous` and `host`, the address of this machine for the others: empty
  /// for what the launch says of them. Throws Error. Call it before threads
  /// start.
  Meeting(const Launch &launch, const std::string &rendezvous,
          const std::string &host);
  ~Meeting();
  Meeting(const Meeting &) = delete;
  Meeting &operator=(const Meeting &) = delete;

  const std::string &store() const { return address; }
  const std::string &host() const { return own; }
  RollCall &roll() { return *rollCall; }

  /// This process cannot start: tells the others why. Process 0 stays until
  /// they have heard it, for a few seconds at most.
  void refuse(const std::string &why) noexcept;

private:
  void keepStore(const std::string &where);

  Launch launch;
  std::string address, own;
  pid_t keeper = -1;
  std::unique_ptr<RollCall> rollCall;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_MEETING_H
