//===- Commands.h - the subcommands of tombolo-run --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_COMMANDS_H
#define TOMBOLO_TOOLS_TOMBOLORUN_COMMANDS_H

#include "tombolo/runtime/server/Certificates.h"
#include "tombolo/runtime/server/Line.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
} // namespace CLI

namespace tombolo::runtime {

/// Each takes the arguments from the subcommand's name on and returns the exit
/// status; Error goes to main, which prints it and returns its status.
int runLocal(int argc, char **argv);
int runSite(int argc, char **argv);
int runServer(int argc, char **argv);
int runRank(int argc, char **argv);
int runStatus(int argc, char **argv);
int runAdmin(int argc, char **argv);

/// What a rank is told, whoever starts it: the same options on `local`, `site`
/// and `rank`.
struct RankOptions {
  std::string plan;
  std::string model;
  std::string data;
  std::uint64_t steps = 0;
  std::optional<std::uint64_t> init;
  std::string checkpointDir;
  std::string checkpointCopy;
  std::uint64_t checkpointEvery = 0;
  bool resume = false;
  std::optional<std::uint64_t> resumeStep; ///< of `site` and `rank` only
  std::uint32_t threads = 0;               ///< 0: cores divided by ranks
  bool pin = false;                        ///< each rank on cores of its own
  std::uint32_t tokenBytes = 2;
  std::optional<std::uint64_t> shuffle;
  bool checkNumerics = false;
  std::uint64_t seed = 0;
  std::string evaluationData;
  std::uint64_t evaluateEvery = 0;
  double timeoutSeconds = 600; ///< how long a peer may stay silent
  double stallSeconds = 30;    ///< how long a rank, towards its agent
};

void addRankOptions(CLI::App &app, RankOptions &options);
/// Error, status 2, for a copy of checkpoints in their own folder.
void checkCheckpoints(const RankOptions &options);
/// Where checkpoints lie: their folder, that of their copies, or none.
std::vector<std::string> checkpointFolders(const RankOptions &options);
/// On `site` and `rank`, where somebody may have chosen the generation already.
void addResumeStep(CLI::App &app, RankOptions &options);
/// On `site` and `rank`: what SIGTERM does. A scheduler sends it to take a
/// site's machines away, a person to end the run.
inline constexpr const char *kEndRun = "end-run", *kLeaveRun = "leave-run";
void addSigtermOption(CLI::App &app, std::string &sigterm);
/// The options as arguments, the plan first. `threads` is written when set.
std::vector<std::string> rankArguments(const RankOptions &options);

/// How the parts of a run know one another: certificates, or plain text on this
/// machine.
struct TlsOptions {
  TlsFiles files;
  bool plaintext = false;
};
void addTlsOptions(CLI::App &app, TlsOptions &options);
std::vector<std::string> tlsArguments(const TlsOptions &options);
/// Error, status 2, when neither is given, or both.
void checkTls(const TlsOptions &options);
/// Error, status 1, for files that won't do.
void checkTlsFiles(const TlsOptions &options);

/// How long who says nothing is not yet lost: the servers' `detectionSeconds`.
void addDetectionOption(CLI::App &app, double &seconds);
/// The option as arguments; none for the default.
std::vector<std::string> detectionArguments(double seconds);

/// How the line to the servers is used: on `local`, `site` and `rank`.
void addLineOptions(CLI::App &app, LineOptions &options);
/// On `local` and `site`: ranks go through their agent to the servers.
void addGatewayOption(CLI::App &app, bool &gateway);
inline constexpr const char *kNoKeyToKeep =
    "--gateway: it keeps the site's key, and with --plaintext there is none";
/// On `server`, which makes no connections for data.
void addLineLimit(CLI::App &app, double &gbits);
/// The options as arguments; none for the defaults.
std::vector<std::string> lineArguments(const LineOptions &options);

/// max(1, cores / ranks).
std::uint32_t threadsPerRank(std::uint64_t ranks);

/// 16 bytes that nobody can guess.
std::string randomHex();

/// The path of this program, to start it again.
std::string thisProgram();

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_COMMANDS_H
