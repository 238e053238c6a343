//===- Options.cpp - what the subcommands have in common ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Commands.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/server/CertificateCheck.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <thread>

#include <sys/random.h>
#include <unistd.h>

using namespace tombolo::runtime;

void tombolo::runtime::addRankOptions(CLI::App &app, RankOptions &options) {
  app.add_option("plan", options.plan, "the plan, from tombolo-plan")
      ->required();
  app.add_option("--model", options.model, "the ONNX model that was planned")
      ->required();
  app.add_option("--data", options.data,
                 "what to train on: a token file, or tensors of inputs and "
                 "labels in NAME.safetensors")
      ->required();
  app.add_option("--steps", options.steps,
                 "inner steps of the whole run, those before --resume included")
      ->required()
      ->check(positiveNumber());
  app.add_option(
      "--init", options.init,
      "give weights that the model lacks random values, from a seed");
  CLI::Option *saved = app.add_option("--checkpoint-dir", options.checkpointDir,
                                      "write checkpoints into this folder");
  app.add_option("--checkpoint-copy", options.checkpointCopy,
                 "and a copy of each into this one, on another machine's disk; "
                 "what is damaged or gone there is put back from here")
      ->needs(saved);
  app.add_option("--checkpoint-every", options.checkpointEvery,
                 "inner steps between checkpoints (0: only at the end)")
      ->check(positiveNumber(/*zero=*/true));
  app.add_flag("--resume", options.resume,
               "go on from the newest checkpoint of --checkpoint-dir");
  app.add_option("--threads", options.threads,
                 "threads per rank (default: cores divided by ranks)")
      ->check(positiveNumber());
  app.add_flag("--pin", options.pin,
               "keep each rank on cores of its own, in the order of all ranks "
               "of the plan; where they outnumber the cores, round and round");
  app.add_option("--token-bytes", options.tokenBytes, "bytes of a token")
      ->check(CLI::IsMember({2, 4}));
  app.add_option("--shuffle", options.shuffle,
                 "permute the samples, from a seed");
  app.add_flag("--check-numerics", options.checkNumerics,
               "when a loss is NaN or infinite, name the op that made it so "
               "(slow)");
  app.add_option("--seed", options.seed,
                 "seeds the masks of dropout; --init and --shuffle have their "
                 "own seeds")
      ->capture_default_str();
  CLI::Option *held = app.add_option(
      "--eval-data", options.evaluationData,
      "held-out samples, in a file like --data: their loss under "
      "the current parameters, without dropout, is reported "
      "every --eval-every steps, and at the end under those that are saved");
  app.add_option("--eval-every", options.evaluateEvery,
                 "steps between evaluations, e.g. 100 (0: only at the end)")
      ->check(positiveNumber(/*zero=*/true))
      ->needs(held);
  app.add_option("--timeout-seconds", options.timeoutSeconds,
                 "how long a peer may stay silent")
      ->check(positiveNumber());
  app.add_option("--stall-seconds", options.stallSeconds,
                 "a rank that has not even told its agent for so long that it "
                 "lives is killed, where its island can be started again; it "
                 "tells so whatever it computes or waits for")
      ->capture_default_str()
      ->check(CLI::Range(2.0, 3600.0));
}

void tombolo::runtime::checkCheckpoints(const RankOptions &options) {
  auto placeOf = [](const std::string &folder) {
    std::error_code error;
    return std::filesystem::weakly_canonical(std::filesystem::absolute(folder),
                                             error);
  };
  if (!options.checkpointCopy.empty() &&
      placeOf(options.checkpointCopy) == placeOf(options.checkpointDir))
    throw Error(Status::Usage,
                "--checkpoint-copy: expected another folder "
                "than --checkpoint-dir, on another disk, got '",
                options.checkpointCopy, "'");
}

std::vector<std::string>
tombolo::runtime::checkpointFolders(const RankOptions &options) {
  std::vector<std::string> folders = {options.checkpointDir,
                                      options.checkpointCopy};
  std::erase(folders, "");
  return folders;
}

void tombolo::runtime::addResumeStep(CLI::App &app, RankOptions &options) {
  app.add_option("--resume-step", options.resumeStep,
                 "go on from the checkpoint of this step, not from the newest")
      ->needs("--resume");
}

void tombolo::runtime::addSigtermOption(CLI::App &app, std::string &sigterm) {
  app.add_option("--sigterm", sigterm,
                 "what SIGTERM does: end-run saves and, under a server, ends "
                 "all islands; leave-run ends what runs here at once, and the "
                 "other sites go on")
      ->check(CLI::IsMember({kEndRun, kLeaveRun}))
      ->capture_default_str();
}

std::vector<std::string>
tombolo::runtime::rankArguments(const RankOptions &options) {
  std::vector<std::string> words = {options.plan};
  auto add = [&](const char *name, const std::string &value) {
    words.push_back(name);
    words.push_back(value);
  };
  add("--model", options.model);
  add("--data", options.data);
  add("--steps", std::to_string(options.steps));
  if (options.init)
    add("--init", std::to_string(*options.init));
  if (!options.checkpointDir.empty())
    add("--checkpoint-dir", options.checkpointDir);
  if (!options.checkpointCopy.empty())
    add("--checkpoint-copy", options.checkpointCopy);
  if (options.checkpointEvery)
    add("--checkpoint-every", std::to_string(options.checkpointEvery));
  if (options.resume)
    words.push_back("--resume");
  if (options.resumeStep)
    add("--resume-step", std::to_string(*options.resumeStep));
  if (options.threads)
    add("--threads", std::to_string(options.threads));
  if (options.pin)
    words.push_back("--pin");
  add("--token-bytes", std::to_string(options.tokenBytes));
  if (options.shuffle)
    add("--shuffle", std::to_string(*options.shuffle));
  if (options.checkNumerics)
    words.push_back("--check-numerics");
  add("--seed", std::to_string(options.seed));
  if (!options.evaluationData.empty()) {
    add("--eval-data", options.evaluationData);
    add("--eval-every", std::to_string(options.evaluateEvery));
  }
  add("--timeout-seconds", std::to_string(options.timeoutSeconds));
  add("--stall-seconds", std::to_string(options.stallSeconds));
  return words;
}

void tombolo::runtime::addTlsOptions(CLI::App &app, TlsOptions &options) {
  app.add_option("--cert", options.files.certificate,
                 "this side's certificate, in PEM (utils/make-certs)");
  app.add_option("--key", options.files.key, "its private key");
  app.add_option("--ca", options.files.authority,
                 "certificate of the authority that has signed both sides'");
  app.add_flag("--plaintext", options.plaintext,
               "neither encrypt nor ask who it is: loopback only");
}

std::vector<std::string>
tombolo::runtime::tlsArguments(const TlsOptions &options) {
  if (options.plaintext)
    return {"--plaintext"};
  return {"--cert", options.files.certificate, "--key", options.files.key,
          "--ca",   options.files.authority};
}

void tombolo::runtime::checkTls(const TlsOptions &options) {
  const TlsFiles &files = options.files;
  bool all = !files.certificate.empty() && !files.key.empty() &&
             !files.authority.empty();
  if (options.plaintext ? files.any() : !all)
    throw Error(Status::Usage, "--cert, --key and --ca: expected all three, or "
                               "--plaintext where everything is on this "
                               "machine");
}

void tombolo::runtime::checkTlsFiles(const TlsOptions &options) {
  if (options.files.any())
    checkCertificates(options.files);
}

void tombolo::runtime::addDetectionOption(CLI::App &app, double &seconds) {
  app.add_option("--detection-seconds", seconds,
                 "an island that its server has not heard of for so long is "
                 "not waited for, and a lost server is replaced in three "
                 "quarters of it; the same at all servers of a run")
      ->capture_default_str()
      ->check(CLI::Range(0.4, 600.0));
}

std::vector<std::string> tombolo::runtime::detectionArguments(double seconds) {
  if (seconds == kDetectionSeconds)
    return {};
  return {"--detection-seconds", nlohmann::json(seconds).dump()};
}

void tombolo::runtime::addLineOptions(CLI::App &app, LineOptions &options) {
  app.add_option("--line-connections", options.connections,
                 "connections of each rank to a server at another site "
                 "(default: as many as the line's rate, round trip and loss "
                 "and this system's buffers ask for, shared by the site's "
                 "ranks)")
      ->check(CLI::Range(1, 64));
  addLineLimit(app, options.limitGbits);
}

void tombolo::runtime::addGatewayOption(CLI::App &app, bool &gateway) {
  app.add_flag("--gateway", gateway,
               "a site's ranks have no key and no way outside: its agent "
               "connects to the servers for them");
}

void tombolo::runtime::addLineLimit(CLI::App &app, double &gbits) {
  app.add_option("--line-limit-gbits", gbits,
                 "what a site may send to others of parameters and their "
                 "changes, shared equally by its ranks, and likewise by its "
                 "server (default: no limit)")
      ->check(CLI::Range(0.001, 1e6));
}

std::vector<std::string>
tombolo::runtime::lineArguments(const LineOptions &options) {
  std::vector<std::string> words;
  if (options.connections)
    words.insert(words.end(),
                 {"--line-connections", std::to_string(*options.connections)});
  if (options.limitGbits > 0)
    words.insert(words.end(), {"--line-limit-gbits",
                               nlohmann::json(options.limitGbits).dump()});
  return words;
}

std::uint32_t tombolo::runtime::threadsPerRank(std::uint64_t ranks) {
  std::uint64_t cores = std::max(1u, std::thread::hardware_concurrency());
  return static_cast<std::uint32_t>(
      std::max<std::uint64_t>(1, cores / std::max<std::uint64_t>(1, ranks)));
}

std::string tombolo::runtime::randomHex() {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    throw Error(Status::Failed, "no random numbers from the system");
  return toHex({reinterpret_cast<const char *>(bytes), sizeof bytes});
}

std::string tombolo::runtime::thisProgram() {
  std::vector<char> path(4096);
  ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0 || length == static_cast<ssize_t>(path.size()))
    throw Error(Status::Failed, "cannot find the path of this program");
  return std::string(path.data(), static_cast<std::size_t>(length));
}
