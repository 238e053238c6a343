//===- Executor.cpp - what runs a rank's program --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Executor.h"

#include "Commands.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/Contract.h"

#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <unistd.h>

using namespace tombolo::runtime;

namespace {

constexpr const char *kExecutors[] = {"native", "torch"};

void checkExecutor(const std::string &name) {
  for (const char *known : kExecutors)
    if (name == known)
      return;
  throw Error(Status::Usage, "--executor: expected native or torch, got '",
              name, "'");
}

/// Gives `set` the value for each site of `all` that `words` name.
template <typename Set>
void forSites(const char *option, const std::vector<std::string> &words,
              std::map<std::string, ExecutorOptions> &all, const Set &set) {
  for (const std::string &word : words) {
    std::size_t equals = word.find('=');
    if (equals == std::string::npos) {
      for (auto &[site, executor] : all)
        set(executor, word);
      continue;
    }
    auto found = all.find(word.substr(0, equals));
    if (found == all.end()) {
      std::string list;
      for (const auto &[site, executor] : all)
        list += (list.empty() ? "" : ", ") + site;
      throw Error(option, " ", word, ": the plan has no ranks at site '",
                  word.substr(0, equals), "'; its sites are ", list);
    }
    set(found->second, word.substr(equals + 1));
  }
}

} // namespace

void tombolo::runtime::addExecutorOptions(CLI::App &app,
                                          ExecutorOptions &options) {
  app.add_option("--executor", options.executor,
                 "what runs ranks: native (this program), or torch (PyTorch)")
      ->check(CLI::IsMember({kExecutors[0], kExecutors[1]}))
      ->capture_default_str();
  app.add_option("--device", options.device,
                 "native: cpu, or null (computes nothing); torch: a device of "
                 "PyTorch, like cpu, cuda, cuda:1, npu")
      ->capture_default_str();
  app.add_option("--backend", options.backend,
                 "torch: of torch.distributed (default: the device's)");
  app.add_option("--transport", options.transport,
                 "native: how the ranks of an island talk, gloo or mpi; with "
                 "mpi an MPI launcher starts a process for each rank")
      ->check(CLI::IsMember({kGloo, kMpi}))
      ->capture_default_str();
}

void ExecutorOptions::check() const {
  if (isTorch() && isMpi())
    throw Error(Status::Usage, "--transport mpi: it is of native ranks; those "
                               "of PyTorch talk by --backend");
}

std::vector<std::string>
tombolo::runtime::executorArguments(const ExecutorOptions &options) {
  ExecutorOptions usual;
  std::vector<std::string> words;
  auto add = [&](const char *name, const std::string &value,
                 const std::string &byDefault) {
    if (value != byDefault)
      words.insert(words.end(), {name, value});
  };
  add("--executor", options.executor, usual.executor);
  add("--device", options.device, usual.device);
  add("--backend", options.backend, usual.backend);
  add("--transport", options.transport, usual.transport);
  return words;
}

void tombolo::runtime::addSiteExecutors(CLI::App &app, SiteExecutors &options) {
  app.add_option("--executor", options.executors,
                 "what runs ranks: native (this program, the default), or "
                 "torch (PyTorch); SITE=NAME for those of one site");
  app.add_option("--device", options.devices,
                 "the device of ranks (rank --help); SITE=NAME for those of "
                 "one site");
}

std::map<std::string, ExecutorOptions>
tombolo::runtime::executorsOf(const SiteExecutors &options, const Plan &plan) {
  std::map<std::string, ExecutorOptions> all;
  for (const auto &island : plan.islands())
    for (const auto &stage : island.stages())
      for (const auto &group : stage.groups())
        all[group.site()];
  forSites("--executor", options.executors, all,
           [](ExecutorOptions &site, const std::string &name) {
             checkExecutor(name);
             site.executor = name;
           });
  forSites("--device", options.devices, all,
           [](ExecutorOptions &site, const std::string &name) {
             site.device = name;
           });
  for (int i = 0; i < plan.islands_size(); ++i) {
    const ExecutorOptions *first = nullptr;
    for (const auto &stage : plan.islands(i).stages())
      for (const auto &group : stage.groups()) {
        const ExecutorOptions &here = all.at(group.site());
        if (first && first->executor != here.executor)
          throw Error("--executor: island ", i,
                      " is at several sites, and its ranks meet directly: "
                      "expected one executor for all of it, got ",
                      first->executor, " and ", here.executor);
        first = &here;
      }
  }
  return all;
}

void tombolo::runtime::becomeTorchRank(
    const Plan &plan, std::uint32_t threads,
    const std::vector<std::string> &arguments) {
  namespace fs = std::filesystem;
  std::string folder = (fs::path(thisProgram()).parent_path().parent_path() /
                        "lib/tombolo/python")
                           .string();
  std::error_code error;
  if (!fs::exists(folder + "/tombolo_torch", error))
    throw Error("the torch executor is not installed: expected the package "
                "'tombolo_torch' in '",
                folder, "'");
  const char *chosen = std::getenv("TOMBOLO_PYTHON");
  std::string python = chosen && *chosen ? chosen : "python3";
  if (const char *path = std::getenv("PYTHONPATH"); path && *path)
    folder += std::string(":") + path;
  setenv("PYTHONPATH", folder.c_str(), 1);
  // Read by libraries when they are loaded, whatever PyTorch is told later.
  for (const char *name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"})
    setenv(name, std::to_string(threads).c_str(), 1);
  // Threads that spin while they wait take the cores from the other ranks here.
  setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
  std::vector<std::string> words = {python, "-m", "tombolo_torch", "rank"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  words.insert(words.end(), {"--validated", toHex(plan.checksum())});
  if (plan.has_server())
    words.insert(words.end(), {"--contract", toHex(contractOf(plan).digest())});
  std::vector<char *> pointers;
  for (std::string &word : words)
    pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execvp(python.c_str(), pointers.data());
  throw Error("the torch executor: cannot start '", python,
              "': ", std::strerror(errno),
              "; give the interpreter that has PyTorch as TOMBOLO_PYTHON");
}
