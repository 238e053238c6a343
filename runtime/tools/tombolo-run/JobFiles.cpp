//===- JobFiles.cpp - the job files of a plan's sites ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "JobFiles.h"

#include "Meeting.h"
#include "ServerLaunch.h"
#include "SiteJob.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <set>

#include <sys/stat.h>

using namespace tombolo::runtime;
namespace fs = std::filesystem;

namespace {

using Write = std::vector<JobFile> (*)(const SiteJob &job,
                                       const JobContext &context);

/// As a word of a shell.
std::string quoted(const std::string &word) {
  bool plain = !word.empty() &&
               word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
                                      "OPQRSTUVWXYZ0123456789_-./:=,+@%") ==
                   std::string::npos;
  if (plain)
    return word;
  std::string result = "'";
  for (char c : word)
    result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string command(const std::vector<std::string> &words) {
  std::string line = "\"${TOMBOLO_RUN:-" + quoted(thisProgram()) + "}\"";
  for (const std::string &word : words)
    line += " \\\n    " + quoted(word);
  return line;
}

std::string title(const SiteJob &job, const JobContext &context) {
  return "site " + job.site + " of plan " +
         toHex(context.run.plan.checksum()).substr(0, 16) +
         ", written by tombolo-run site --emit " + context.options.kind;
}

/// Runs `start`, a shell's command, until it has done its work, is told to end,
/// or has been started again as often as allowed. Several processes are started
/// again together; one restarts its islands itself, so that only its own death
/// is a reason. Without a server the newest checkpoint is gone on from.
/// `endsOthers`: when one of several processes has failed `start` tells the
/// others to end, and may have their status; who ends the job ends this, too.
std::string loop(const SiteJob &job, const JobContext &context,
                 const std::string &start, bool endsOthers) {
  std::string resume;
  if (!context.run.plan.has_server() &&
      !context.run.rank.checkpointDir.empty()) {
    for (const std::string &folder : checkpointFolders(context.run.rank))
      resume += (resume.empty() ? "compgen -G " : " || compgen -G ") +
                quoted(folder) + "'/island-*/step-*/manifest.json' >/dev/null";
    resume = "  resume=()\n  if " + resume + "; then resume=(--resume); fi\n";
  }
  return "attempts=" + std::to_string(context.run.restarts) +
         "\nwhile :; do\n" + resume + "  " + start +
         (resume.empty() ? "" : " \"${resume[@]}\"") +
         "\n  status=$?\n"
         "  case $status in\n"
         "  0|1|2" +
         (endsOthers ? "" : "|129|130|143") +
         ") exit $status;; # done, wrong input, told to end\n" +
         (job.restartsItself
              ? "  3) exit $status;; # it has restarted what it could\n"
              : "") +
         "  esac\n"
         "  [ $((attempts--)) -gt 0 ] || exit $status\n"
         "  echo \"status $status, starting again; $attempts left\" >&2\n" +
         // Else one may meet what is left of the launch before.
         (job.processes > 1 && !endsOthers
              ? "  sleep 5 # until those on other machines have ended, too\n"
              : "") +
         "done\n";
}

std::vector<JobFile> writeSlurm(const SiteJob &job, const JobContext &context) {
  std::string text = "#!/bin/bash\n# " + title(job, context) + "\n";
  auto directive = [&](const std::string &words) {
    text += "#SBATCH " + words + "\n";
  };
  directive("--job-name=" + job.name);
  directive("--ntasks=" + std::to_string(job.processes));
  if (!job.isOneEach)
    directive("--ntasks-per-node=1");
  directive("--output=" + job.name + "-%j.out");
  // When a node fails Slurm starts the job again, which is how a site rejoins.
  directive("--requeue");
  directive("--open-mode=append");
  for (const std::string &option : context.options.options)
    directive(option);
  std::string start = "srun --kill-on-bad-exit=1 " + command(job.words);
  if (context.run.executor.isMpi() && job.ranks > 0) {
    start =
        "mpirun -n " + std::to_string(job.processes) + " " + command(job.words);
    // This runs on the job's first machine, as process 0 will.
    if (context.run.rendezvous.empty())
      start +=
          " \\\n    --rendezvous \"$(hostname):$((20000 + SLURM_JOB_ID * 16 "
          "% 10000))\"";
  }
  text += "set -u\n" + loop(job, context, start, job.processes > 1);
  return {{job.name + ".sbatch", text, 0755}};
}

std::vector<JobFile> writeShell(const SiteJob &job, const JobContext &context) {
  if (!context.options.options.empty())
    throw Error(Status::Usage, "--job-option: a shell has none");
  std::string text = "#!/bin/bash\n# " + title(job, context) + "\n";
  std::string each;
  if (job.processes > 1) {
    std::string meeting = context.run.rendezvous;
    if (meeting.empty())
      throw Error(Status::Usage, "--rendezvous: site ", job.site, " has ",
                  job.processes,
                  " processes; expected HOST:PORT on the machine of the first");
    std::size_t colon = std::min(meeting.rfind(':'), meeting.size() - 1);
    std::string last = std::to_string(job.processes - 1);
    text += "# Once on each of its machines, with the machine's number: 0 to " +
            last + "\nif [ $# -ne 1 ]; then echo \"usage: $0 0..." + last +
            "\" >&2; exit 2; fi\n"
            "export RANK=$1 WORLD_SIZE=" +
            std::to_string(job.processes) +
            " LOCAL_RANK=0 MASTER_ADDR=" + quoted(meeting.substr(0, colon)) +
            " MASTER_PORT=" + quoted(meeting.substr(colon + 1)) + "\n";
  }
  // Signals are for the program, which this waits for.
  text += "set -u\ntrap 'kill -TERM $pid' TERM\n"
          "run() { \"$@\" & pid=$!; wait $pid; local status=$?\n"
          "  while kill -0 $pid 2>/dev/null; do wait $pid; status=$?; done\n"
          "  return $status; }\n" +
          loop(job, context, "run " + command(job.words), false);
  return {{job.name + ".sh", text, 0755}};
}

struct Scheduler {
  const char *name;
  Write write;
  const char *launcher; ///< --launcher of several processes
  bool hasOwnFiles;     ///< in containers: paths are not this machine's
};

constexpr Scheduler kSchedulers[] = {
    {"slurm", writeSlurm, "slurm", false},
    {"kubernetes", writeKubernetesJob, "kubernetes", true},
    {"shell", writeShell, "torchrun", false},
};

/// How many processes fill a site: one for each machine where its machines have
/// equally many ranks in the plan's order, else one for each rank.
std::uint64_t processesOf(const Plan &plan, const std::string &site,
                          std::uint64_t ranks) {
  std::map<std::string, std::uint64_t> byPool;
  for (const auto &island : plan.islands())
    for (const auto &stage : island.stages())
      for (const auto &group : stage.groups())
        if (group.site() == site)
          byPool[group.pool()] += group.count() * group.tensor_parallel();
  std::set<std::uint64_t> perMachine;
  for (const auto &[name, count] : byPool) {
    std::uint64_t chips = 0;
    for (const auto &each : plan.topology().sites())
      for (const auto &pool : each.pools())
        if (each.name() == site &&
            (pool.name() == name || site + "/" + pool.name() == name))
          chips = pool.chips_per_node();
    if (chips == 0)
      return ranks;
    perMachine.insert(std::min(chips, count));
  }
  if (perMachine.size() != 1 || ranks % *perMachine.begin() != 0)
    return ranks;
  return ranks / *perMachine.begin();
}

/// A name as labels, files and hosts may have: lower-case letters, digits and
/// hyphens.
std::string labelOf(const std::string &text) {
  std::string label;
  for (char c : text) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    bool isPlain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    label += isPlain ? c : '-';
  }
  return label;
}

/// Adds what of the servers `site` has to know.
void addServers(SiteJob &job, const JobRun &run, const ServerGroup &group,
                const std::map<std::string, std::string> &addresses,
                const Scheduler &scheduler) {
  auto add = [&](const std::string &name, const std::string &value) {
    job.words.insert(job.words.end(), {name, value});
  };
  bool isHere = addresses.count(job.site) > 0;
  if (!isHere) {
    std::string all;
    for (std::size_t i = 0; i < std::min<std::size_t>(2, group.sites.size());
         ++i)
      all += (i ? "," : "") + addresses.at(group.sites[i]);
    return add("--server", all);
  }
  job.server = addresses.at(job.site);
  std::string own = job.server;
  // To a pod its own name is its address; what others call it is outside.
  if (scheduler.hasOwnFiles)
    own = job.name + "-0." + job.name + own.substr(own.rfind(':'));
  add("--address", own);
  for (const auto &[site, address] : addresses)
    if (site != job.site)
      add("--peer", site + "=" + address);
  for (std::string &word : detectionArguments(run.detectionSeconds))
    job.words.push_back(std::move(word));
  if (!run.rank.checkpointDir.empty())
    add("--state-dir", run.rank.checkpointDir + "/server-" + job.site);
  else if (group.isReplicated())
    throw Error(Status::Usage, "--checkpoint-dir: servers with a backup need a "
                               "folder");
}

std::map<std::string, std::string> addressesOf(const JobRun &run,
                                               const ServerGroup &group) {
  std::map<std::string, std::string> addresses;
  std::string expected;
  std::size_t needed = group.isReplicated() ? group.sites.size() : 1;
  for (std::size_t i = 0; i < needed; ++i)
    expected += (i ? ", " : "") + group.sites[i] + "=HOST:PORT";
  auto fail = [&](const std::string &found) {
    throw Error(Status::Usage,
                "--peer: expected the address of each server of "
                "the plan, ",
                expected, "; ", found);
  };
  for (const std::string &word : run.servers) {
    std::size_t equals = std::min(word.find('='), word.size());
    std::string site = word.substr(0, equals);
    auto end = group.sites.begin() + static_cast<std::ptrdiff_t>(needed);
    std::size_t colon = word.rfind(':');
    if (std::find(group.sites.begin(), end, site) == end ||
        colon == std::string::npos || colon < equals + 2 ||
        colon + 1 == word.size())
      fail("got '" + word + "'");
    addresses[site] = word.substr(equals + 1);
  }
  for (std::size_t i = 0; i < needed; ++i)
    if (!addresses.count(group.sites[i]))
      fail("that of " + group.sites[i] + " is missing");
  return addresses;
}

/// Paths in jobs are of no folder of this machine's.
void makeAbsolute(JobRun &run, const Scheduler &scheduler) {
  for (std::string *path : {&run.rank.plan, &run.rank.model, &run.rank.data,
                            &run.rank.checkpointDir, &run.rank.checkpointCopy,
                            &run.rank.evaluationData}) {
    if (path->empty() || fs::path(*path).is_absolute())
      continue;
    if (scheduler.hasOwnFiles)
      throw Error(Status::Usage, "'", *path,
                  "': expected an absolute path in the container (--volume)");
    *path = fs::absolute(*path).string();
  }
  if (!run.certificates.empty())
    run.certificates = fs::absolute(run.certificates).string();
}

} // namespace

void tombolo::runtime::addJobFileOptions(CLI::App &app,
                                         JobFileOptions &options) {
  std::vector<std::string> names;
  for (const Scheduler &scheduler : kSchedulers)
    names.push_back(scheduler.name);
  CLI::Option *emit =
      app.add_option("--emit", options.kind,
                     "instead of running: write the job files of the plan's "
                     "sites, or of --site; --peer tells where all servers are")
          ->check(CLI::IsMember(names));
  app.add_option("-o,--output", options.folder,
                 "then: the folder they are written to")
      ->needs(emit);
  emit->needs("--output");
  app.add_option("--job-option", options.options,
                 "then: slurm: an option of sbatch, as --partition=gpu; "
                 "kubernetes: a resource of each pod, as nvidia.com/gpu=8")
      ->needs(emit);
  app.add_option("--processes", options.processes,
                 "then: of each site (default: one for each machine, or where "
                 "these have unequal numbers of ranks, for each rank)")
      ->needs(emit)
      ->check(positiveNumber());
  app.add_option("--image", options.image,
                 "then: kubernetes: the image of the containers")
      ->needs(emit);
  app.add_option("--volume", options.volume,
                 "then: kubernetes: CLAIM=/PATH of what has plan, model, data "
                 "and checkpoints")
      ->needs(emit);
}

void tombolo::runtime::writeJobFiles(JobRun run,
                                     const JobFileOptions &options) {
  const Scheduler &scheduler = *std::find_if(
      std::begin(kSchedulers), std::end(kSchedulers),
      [&](const Scheduler &each) { return options.kind == each.name; });
  const Plan &plan = run.plan;
  makeAbsolute(run, scheduler);
  std::vector<std::string> sites;
  for (const Seat &seat : seatsOf(plan, {}, "")) {
    const std::string &site =
        IslandLayout(plan.islands(static_cast<int>(seat.island)))
            .site(seat.rank);
    if (std::find(sites.begin(), sites.end(), site) == sites.end())
      sites.push_back(site);
  }
  ServerGroup group;
  std::map<std::string, std::string> addresses;
  if (plan.has_server()) {
    group = serverGroup(plan);
    addresses = addressesOf(run, group);
    for (const auto &[site, address] : addresses)
      if (std::find(sites.begin(), sites.end(), site) == sites.end())
        sites.push_back(site); // a witness
    if (run.plaintext == !run.certificates.empty())
      throw Error(Status::Usage, "--certs: expected the folder of "
                                 "utils/make-certs, or --plaintext where "
                                 "everything is on one machine");
    if (run.gateway && run.plaintext)
      throw Error(Status::Usage, kNoKeyToKeep);
  }
  if (!run.site.empty()) {
    if (std::find(sites.begin(), sites.end(), run.site) == sites.end())
      seatsOf(plan, {}, run.site); // says so
    sites = {run.site};
  }
  JobContext context{run, options};
  std::set<std::string> names;
  std::vector<JobFile> files;
  for (const std::string &site : sites) {
    SiteJob job;
    job.site = site;
    job.name = "tombolo-" +
               (run.runId.empty() ? "" : labelOf(run.runId) + "-") +
               labelOf(site);
    if (!names.insert(job.name).second)
      throw Error("site '", site, "': another site has the same name, '",
                  job.name, "', in job files");
    bool trains = false;
    for (const auto &island : plan.islands())
      for (const auto &stage : island.stages())
        for (const auto &each : stage.groups())
          trains |= each.site() == site;
    std::string certificates =
        scheduler.hasOwnFiles ? "/certs" : run.certificates;
    auto add = [&](const std::string &name, const std::string &value) {
      if (!value.empty())
        job.words.insert(job.words.end(), {name, value});
    };
    if (!trains) { // a witness: a server alone
      job.words = {"server", run.rank.plan, "--site", site, "--until-finished"};
      addServers(job, run, group, addresses, scheduler);
      if (run.plaintext)
        job.words.push_back("--plaintext");
      else
        for (const char *part : {"cert", "key"})
          add(std::string("--") + part,
              certificates + "/server." + (part[0] == 'c' ? "crt" : "key"));
      if (!run.plaintext)
        add("--ca", certificates + "/ca.crt");
      add("--run-id", run.runId);
      for (JobFile &file : scheduler.write(job, context))
        files.push_back(std::move(file));
      continue;
    }
    job.ranks = seatsOf(plan, {}, site).size();
    bool isMpi = run.executor.isMpi();
    if (isMpi && options.kind != "slurm")
      throw Error(Status::Usage, "--transport mpi: expected job files of "
                                 "slurm, in which mpirun finds its machines");
    job.processes = options.processes ? options.processes
                    : isMpi           ? job.ranks
                                      : processesOf(plan, site, job.ranks);
    if (isMpi && job.processes != job.ranks)
      throw Error(Status::Usage, "--processes: MPI needs one for each of the ",
                  job.ranks, " ranks at site ", site, ", got ", job.processes);
    job.restartsItself = job.processes == 1 && !isMpi;
    if (job.ranks % job.processes != 0)
      throw Error("--processes: expected a number by which the ", job.ranks,
                  " ranks at site ", site, " can be divided, got ",
                  job.processes);
    job.isOneEach = job.processes > 1 && job.processes == job.ranks;
    job.words = {"site"};
    for (std::string &word : rankArguments(run.rank))
      job.words.push_back(std::move(word));
    add("--site", site);
    for (std::string &word : executorArguments(run.executor))
      job.words.push_back(std::move(word));
    if (plan.has_server()) {
      addServers(job, run, group, addresses, scheduler);
      if (run.plaintext)
        job.words.push_back("--plaintext");
      else
        add("--certs", certificates);
      if (run.gateway)
        job.words.push_back("--gateway");
      for (std::string &word : lineArguments(run.line))
        job.words.push_back(std::move(word));
      if (run.stepsAlone)
        add("--steps-alone", std::to_string(*run.stepsAlone));
    }
    add("--run-id", run.runId);
    if (!scheduler.hasOwnFiles && std::string(scheduler.name) != "shell")
      add("--rendezvous", run.rendezvous);
    add("--launcher", isMpi ? "openmpi"
                      : job.processes > 1 || scheduler.hasOwnFiles
                          ? scheduler.launcher
                          : "none");
    add("--sigterm", kLeaveRun);
    if (job.restartsItself)
      add("--restarts", std::to_string(run.restarts));
    job.words.insert(job.words.end(), run.watch.begin(), run.watch.end());
    for (JobFile &file : scheduler.write(job, context))
      files.push_back(std::move(file));
  }
  std::error_code error;
  fs::create_directories(options.folder, error);
  for (const JobFile &file : files) {
    std::string path = (fs::path(options.folder) / file.name).string();
    ::mode_t before = ::umask(0777 & ~file.mode);
    fs::remove(path, error);
    writeFile(path, file.text);
    ::umask(before);
    ::chmod(path.c_str(), file.mode);
    std::cout << path << "\n";
  }
}
