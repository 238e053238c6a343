//===- LocalFiles.h - what a run on one machine needs -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_LOCALFILES_H
#define TOMBOLO_TOOLS_TOMBOLORUN_LOCALFILES_H

#include "Commands.h"
#include "Spanning.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// The sites at which a plan has ranks, in its order, and how many ranks.
std::vector<std::string> sitesOf(const Plan &plan, std::uint64_t &ranks);

/// Throws Error for everything that can be known to be wrong before a process
/// is started.
void checkInputs(const RankOptions &rank, const Plan &plan);

/// Where the run goes on from; nothing when it starts anew. All islands go on
/// from the same step, the newest that all have whole: a run that was killed
/// while it saved may have left newer ones of some. `news`: events of what a
/// person should know; they have been said.
std::optional<ResumePoint> checkResume(const RankOptions &rank,
                                       const Plan &plan,
                                       std::vector<nlohmann::json> &news);

/// What is exported in the end. All islands end with the same parameters; some
/// may have been lost before.
std::string trainedCheckpoint(const RankOptions &rank, const Plan &plan);

/// Where the parts of a run find one another, and how each knows the others:
/// by certificates of the run's own, or, asked for, not at all.
class LocalMeeting {
public:
  /// Call before threads start.
  LocalMeeting(const Plan &plan, bool plaintext);

  /// Of the ranks.
  const std::string &store() const { return meeting->address(); }
  /// For sockets; there where the plan has a server.
  const std::string &folder() const { return temporary->path(); }
  TlsOptions ofServer() const;
  TlsOptions ofSite(std::size_t site) const; ///< in the order of `sitesOf`
  /// Whether the ranks at a site, too, need to know who others are.
  bool spansSites() const { return spans; }
  /// Whom the store has turned away since the last call.
  std::vector<std::string> takeStrangers() { return strangers.take(); }

private:
  bool spans, plaintext;
  std::unique_ptr<TemporaryFolder> temporary;
  Strangers strangers;
  std::unique_ptr<StoreServer> meeting;
};

/// Throws Error unless `folder` is one in which a file can be made. `what`
/// names it.
void checkFolder(const std::filesystem::path &folder, const char *what);

/// The folder of `--checkpoint-dir`, made when it is not there. Before and
/// after the run everything unfinished in it goes, and the folder itself when
/// the run made it and did not put anything into it.
class CheckpointFolder {
public:
  CheckpointFolder(const std::string &path, const Plan &plan);
  ~CheckpointFolder();

private:
  void clean() const;

  std::string path;
  std::uint32_t islands;
  bool created = false;
};

/// Where servers keep their state: with the checkpoints, or for the run alone
/// when they may have to be started again, or to take over from one another. It
/// goes with the run: what is to be resumed later stands in the islands'
/// checkpoints.
class ServerFolder {
public:
  ServerFolder(const std::string &checkpointDir, bool isNeeded,
               const Plan &plan);
  ~ServerFolder();

  const std::string &path() const { return folder; }

private:
  void discard() const;

  std::string folder;
  std::unique_ptr<TemporaryFolder> temporary;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_LOCALFILES_H
