//===- LocalFiles.cpp - what a run on one machine needs -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LocalFiles.h"

#include "tombolo/runtime/Dataset.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <algorithm>
#include <iostream>
#include <set>

#include <unistd.h>

using namespace tombolo::runtime;

std::vector<std::string> tombolo::runtime::sitesOf(const Plan &plan,
                                                   std::uint64_t &ranks) {
  std::vector<std::string> sites; // in the plan's order
  ranks = 0;
  for (const auto &island : plan.islands()) {
    IslandLayout layout(island);
    ranks += layout.rankCount();
    for (const auto &stage : island.stages())
      for (const auto &group : stage.groups())
        if (std::find(sites.begin(), sites.end(), group.site()) == sites.end())
          sites.push_back(group.site());
  }
  return sites;
}

LocalMeeting::LocalMeeting(const Plan &plan, bool plaintext)
    : spans(!meetingSite(plan).empty()), plaintext(plaintext) {
  std::uint64_t ranks = 0;
  std::vector<std::string> sites = sitesOf(plan, ranks);
  if (plan.has_server() || (spans && !plaintext)) {
    temporary = std::make_unique<TemporaryFolder>(
        std::filesystem::temp_directory_path() / "tombolo-certs.tmp-");
    if (!plaintext)
      makeCertificates(temporary->path(), sites);
  }
  if (!spans) {
    meeting = std::make_unique<StoreServer>();
    return;
  }
  auto keeper = std::find(sites.begin(), sites.end(), meetingSite(plan));
  meeting = keepMeeting(
      "127.0.0.1:0", plan,
      ofSite(static_cast<std::size_t>(keeper - sites.begin())), strangers);
}

TlsOptions LocalMeeting::ofServer() const {
  return {plaintext ? TlsFiles() : serverFiles(folder()), plaintext};
}

TlsOptions LocalMeeting::ofSite(std::size_t site) const {
  return {plaintext ? TlsFiles() : siteFiles(folder(), site), plaintext};
}

void tombolo::runtime::checkInputs(const RankOptions &rank, const Plan &plan) {
  if (plan.has_server())
    serverOptions(plan, ""); // throws for what the server does not have
  else if (plan.islands_size() > 1)
    throw Error("plan '", rank.plan, "': it has ", plan.islands_size(),
                " islands but no server to join them");
  checkSteps(plan, rank.steps);
  checkProgress(plan);
  std::string hash = modelHash(rank.model);
  if (hash != plan.model_hash())
    throw Error("model '", rank.model,
                "': expected the model of the plan, "
                "with hash ",
                toHex(plan.model_hash()), ", got ", toHex(hash),
                "; plan this model with tombolo-plan");
  // Throws for a file that is too short or does not fit the model.
  openDataset({rank.data, rank.tokenBytes, rank.shuffle}, plan.model());
  if (!rank.evaluationData.empty())
    openDataset({rank.evaluationData, rank.tokenBytes, std::nullopt},
                plan.model());
}

std::optional<ResumePoint>
tombolo::runtime::checkResume(const RankOptions &rank, const Plan &plan,
                              std::vector<nlohmann::json> &news) {
  if (!rank.resume)
    return std::nullopt;
  auto tell = [&](nlohmann::json event, const char *sequel) {
    std::cerr << "tombolo-run local: " << event.at("message").get<std::string>()
              << sequel << "\n";
    news.push_back(std::move(event));
  };
  std::set<std::uint32_t> islands;
  for (int island = 0; island < plan.islands_size(); ++island)
    islands.insert(static_cast<std::uint32_t>(island));
  auto listener = [&](const char *event, const char *sequel) {
    return [=](std::uint32_t island, const std::string &message) {
      tell({{"event", event}, {"island", island}, {"message", message}},
           sequel);
    };
  };
  std::optional<ResumePoint> point = resumePoint(
      rank.checkpointDir, islands,
      listener("checkpoint_damaged", "; another checkpoint is taken"),
      {rank.checkpointCopy, listener("checkpoint_restored", "")});
  if (!point)
    throw Error("checkpoint folder '", rank.checkpointDir,
                "': holds no whole checkpoint to resume from",
                rank.checkpointCopy.empty()
                    ? ""
                    : ", nor does '" + rank.checkpointCopy + "'");
  std::uint64_t step = point->step;
  if (step > rank.steps)
    throw Error("checkpoint folder '", rank.checkpointDir,
                "': the newest checkpoint is of step ", step,
                ", beyond --steps ", rank.steps,
                ", which counts those before --resume too; expected at least ",
                step);
  for (std::uint32_t island : point->without)
    tell({{"event", "checkpoint_missing"},
          {"island", island},
          {"step", step},
          {"message", "island " + std::to_string(island) +
                          " has no whole checkpoint of step " +
                          std::to_string(step) +
                          ", from which the others go on: it begins with their "
                          "parameters and fresh optimizer state"}},
         "");
  if (step == rank.steps)
    std::cerr << "tombolo-run local: the checkpoint in '" << rank.checkpointDir
              << "' is of step " << rank.steps
              << " already: nothing is left to train\n";
  return point;
}

std::string tombolo::runtime::trainedCheckpoint(const RankOptions &rank,
                                                const Plan &plan) {
  for (int i = 0; i < plan.islands_size(); ++i) {
    auto island = static_cast<std::uint32_t>(i);
    std::string folder =
        checkpointFolder(rank.checkpointDir, island, rank.steps);
    if (latestCheckpoint(rank.checkpointDir, island) == folder)
      return folder;
  }
  throw Error(Status::Failed, "checkpoint folder '", rank.checkpointDir,
              "': no island has saved step ", rank.steps);
}

void tombolo::runtime::checkFolder(const std::filesystem::path &folder,
                                   const char *what) {
  std::string path = folder.empty() ? "." : folder.string();
  if (!std::filesystem::is_directory(path) ||
      access(path.c_str(), W_OK | X_OK) != 0)
    throw Error(what, " '", path, "': cannot write there: ",
                std::filesystem::exists(path) ? "not a writable folder"
                                              : "no such folder");
}

CheckpointFolder::CheckpointFolder(const std::string &path, const Plan &plan)
    : path(path), islands(static_cast<std::uint32_t>(plan.islands_size())) {
  if (path.empty())
    return;
  std::error_code error;
  created = std::filesystem::create_directory(path, error);
  checkFolder(path, "checkpoint folder");
  clean();
}

CheckpointFolder::~CheckpointFolder() {
  if (path.empty())
    return;
  clean();
  if (created)
    rmdir(path.c_str()); // only when empty
}

void CheckpointFolder::clean() const {
  for (std::uint32_t island = 0; island < islands; ++island)
    discardUnfinished(path, island);
}

ServerFolder::ServerFolder(const std::string &checkpointDir, bool isNeeded,
                           const Plan &plan) {
  if (!plan.has_server())
    return;
  if (!checkpointDir.empty()) {
    folder = checkpointDir + "/server";
    discard();
  } else if (isNeeded) {
    temporary = std::make_unique<TemporaryFolder>(
        std::filesystem::temp_directory_path() / "tombolo-server.tmp-");
    folder = temporary->path();
  }
}

ServerFolder::~ServerFolder() { discard(); }

void ServerFolder::discard() const {
  std::error_code ignored;
  if (!folder.empty() && !temporary)
    std::filesystem::remove_all(folder, ignored);
}
