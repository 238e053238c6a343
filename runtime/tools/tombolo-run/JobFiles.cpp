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

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <set>

#include <sys/stat.h>

using namespace tombolo::runtime;
using json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

/// Where process 0 of a pod's site listens for the others.
constexpr int kMeetingPort = 7100;

/// One site's.
struct Job {
  std::string site;
  std::string name;               ///< tombolo-RUN-SITE, as labels may be
  std::uint64_t processes = 1;    ///< each on a machine, or for a rank
  std::uint64_t ranks = 0;        ///< 0: a server alone, a witness
  bool isOneEach = false;         ///< a process for each rank
  bool restartsItself = false;    ///< one process, with --restarts
  std::vector<std::string> words; ///< of tombolo-run
  std::string server;             ///< HOST:PORT of the one that runs here
};

struct Context {
  const JobRun &run;
  const JobFileOptions &options;
};

/// File names and what stands in them; secrets are for their owner alone.
struct File {
  std::string name, text;
  ::mode_t mode;
};
using Write = std::vector<File> (*)(const Job &job, const Context &context);

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

std::string title(const Job &job, const Context &context) {
  return "site " + job.site + " of plan " +
         toHex(context.run.plan.checksum()).substr(0, 16) +
         ", written by tombolo-run site --emit " + context.options.kind;
}

/// Runs `start`, a shell's command, until it has done its work, is told to end,
/// or has been started again as often as allowed. Several processes are started
/// again together; one restarts its islands itself, so that only its own death
/// is a reason. Without a server the newest checkpoint is gone on from.
std::string loop(const Job &job, const Context &context,
                 const std::string &start) {
  std::string resume;
  if (!context.run.plan.has_server() && !context.run.rank.checkpointDir.empty())
    resume = "  resume=()\n"
             "  if compgen -G " +
             quoted(context.run.rank.checkpointDir) +
             "'/island-*/step-*/manifest.json' >/dev/null; then resume=("
             "--resume); fi\n";
  return "attempts=" + std::to_string(context.run.restarts) +
         "\nwhile :; do\n" + resume + "  " + start +
         (resume.empty() ? "" : " \"${resume[@]}\"") +
         "\n  status=$?\n"
         "  case $status in\n"
         "  0|1|2|129|130|143) exit $status;; # done, wrong input, told to "
         "end\n" +
         (job.restartsItself
              ? "  3) exit $status;; # it has restarted what it could\n"
              : "") +
         "  esac\n"
         "  [ $((attempts--)) -gt 0 ] || exit $status\n"
         "  echo \"status $status, starting again; $attempts left\" >&2\n"
         "done\n";
}

std::vector<File> writeSlurm(const Job &job, const Context &context) {
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
  text += "set -u\n" + loop(job, context, start);
  return {{job.name + ".sbatch", text, 0755}};
}

std::vector<File> writeShell(const Job &job, const Context &context) {
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
          loop(job, context, "run " + command(job.words));
  return {{job.name + ".sh", text, 0755}};
}

std::string base64(const std::string &data) {
  const char *digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < data.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits =
          bits << 8 |
          (i + j < data.size() ? static_cast<unsigned char>(data[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      text += i + j > data.size() ? '=' : digits[bits >> (18 - 6 * j) & 63];
  }
  return text;
}

std::vector<File> writeKubernetes(const Job &job, const Context &context) {
  const JobFileOptions &options = context.options;
  if (options.image.empty())
    throw Error(Status::Usage, "--image: expected the container image that has "
                               "tombolo-run");
  if (job.name.size() > 52) // with "-" and an index at most 63
    throw Error("the name '", job.name,
                "' is too long for a job of Kubernetes: expected at most 52 "
                "characters; give a shorter --run-id");
  json labels = {{"app.kubernetes.io/name", "tombolo"},
                 {"tombolo/job", job.name}};
  auto metadata = [&](const std::string &name) {
    return json{{"name", name}, {"labels", labels}};
  };
  json items = json::array();
  json volumes = json::array(), mounts = json::array();
  std::vector<File> files;
  if (!context.run.certificates.empty()) {
    json data;
    std::vector<std::string> names = {"ca.crt"};
    std::vector<std::string> owners;
    if (job.ranks > 0)
      owners.push_back(job.site);
    if (!job.server.empty())
      owners.push_back("server");
    for (const std::string &owner : owners)
      for (const char *end : {".crt", ".key"})
        names.push_back(owner + end);
    for (const std::string &name : names)
      data[name] =
          base64(readFile((fs::path(context.run.certificates) / name).string(),
                          std::uint64_t{1} << 20));
    json secret = {{"apiVersion", "v1"},
                   {"kind", "Secret"},
                   {"metadata", metadata(job.name + "-certs")},
                   {"type", "Opaque"},
                   {"data", data}};
    files.push_back({job.name + "-certs.json", secret.dump(2) + "\n", 0600});
    volumes.push_back(
        {{"name", "certs"},
         {"secret",
          {{"secretName", job.name + "-certs"}, {"defaultMode", 0440}}}});
    mounts.push_back(
        {{"name", "certs"}, {"mountPath", "/certs"}, {"readOnly", true}});
  }
  if (!options.volume.empty()) {
    std::size_t equals = options.volume.find('=');
    if (equals == std::string::npos || equals == 0 ||
        options.volume.compare(equals, 2, "=/") != 0)
      throw Error(Status::Usage, "--volume: expected CLAIM=/PATH, got '",
                  options.volume, "'");
    volumes.push_back({{"name", "data"},
                       {"persistentVolumeClaim",
                        {{"claimName", options.volume.substr(0, equals)}}}});
    mounts.push_back(
        {{"name", "data"}, {"mountPath", options.volume.substr(equals + 1)}});
  }
  // Names of the pods, before they are ready: they have to meet to become so.
  items.push_back({{"apiVersion", "v1"},
                   {"kind", "Service"},
                   {"metadata", metadata(job.name)},
                   {"spec",
                    {{"clusterIP", "None"},
                     {"publishNotReadyAddresses", true},
                     {"selector", {{"tombolo/job", job.name}}}}}});
  if (!job.server.empty()) {
    int port = std::atoi(job.server.substr(job.server.rfind(':') + 1).c_str());
    items.push_back(
        {{"apiVersion", "v1"},
         {"kind", "Service"},
         {"metadata", metadata(job.name + "-server")},
         {"spec",
          {{"type", "LoadBalancer"},
           {"publishNotReadyAddresses", true},
           {"selector",
            {{"tombolo/job", job.name},
             {"batch.kubernetes.io/job-completion-index", "0"}}},
           {"ports",
            {{{"name", "grpc"}, {"port", port}, {"targetPort", port}}}}}}});
  }
  json arguments = json::array();
  for (const std::string &word : job.words)
    arguments.push_back(word);
  json container = {{"name", "tombolo"},
                    {"image", options.image},
                    {"command", {"tombolo-run"}},
                    {"args", arguments},
                    {"env",
                     {{{"name", "TOMBOLO_PROCESSES"},
                       {"value", std::to_string(job.processes)}},
                      {{"name", "TOMBOLO_MEETING"},
                       {"value", job.name + "-0." + job.name + ":" +
                                     std::to_string(kMeetingPort)}}}},
                    {"volumeMounts", mounts}};
  json resources;
  for (const std::string &option : options.options) {
    std::size_t equals = option.find('=');
    if (equals == std::string::npos || equals == 0 ||
        equals + 1 == option.size())
      throw Error(Status::Usage,
                  "--job-option: expected NAME=QUANTITY of a "
                  "resource of each pod, got '",
                  option, "'");
    resources[option.substr(0, equals)] = option.substr(equals + 1);
  }
  if (!resources.is_null())
    container["resources"] = {{"requests", resources}, {"limits", resources}};
  // Each pod that fails counts, and all fail together. Wrong usage is never
  // tried again; other wrong input may be that of a pod that came while those
  // before it were still going.
  // The empty list: up to release 1.27 the schema wants one.
  json spec = {{"completionMode", "Indexed"},
               {"completions", job.processes},
               {"parallelism", job.processes},
               {"backoffLimit", context.run.restarts * job.processes},
               {"podFailurePolicy",
                {{"rules",
                  {{{"action", "FailJob"},
                    {"onExitCodes",
                     {{"containerName", "tombolo"},
                      {"operator", "In"},
                      {"values", {2}}}},
                    {"onPodConditions", json::array()}},
                   {{"action", "Ignore"},
                    {"onPodConditions",
                     {{{"type", "DisruptionTarget"}, {"status", "True"}}}}}}}}},
               {"template",
                {{"metadata", {{"labels", labels}}},
                 {"spec",
                  {{"subdomain", job.name},
                   {"restartPolicy", "Never"},
                   {"containers", {container}},
                   {"volumes", volumes}}}}}};
  items.push_back({{"apiVersion", "batch/v1"},
                   {"kind", "Job"},
                   {"metadata", metadata(job.name)},
                   {"spec", spec}});
  json list = {{"apiVersion", "v1"}, {"kind", "List"}, {"items", items}};
  files.push_back({job.name + ".json", list.dump(2) + "\n", 0644});
  return files;
}

struct Scheduler {
  const char *name;
  Write write;
  const char *launcher; ///< --launcher of several processes
  bool hasOwnFiles;     ///< in containers: paths are not this machine's
};

constexpr Scheduler kSchedulers[] = {
    {"slurm", writeSlurm, "slurm", false},
    {"kubernetes", writeKubernetes, "kubernetes", true},
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
void addServers(Job &job, const JobRun &run, const ServerGroup &group,
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
  for (std::string *path :
       {&run.rank.plan, &run.rank.model, &run.rank.data,
        &run.rank.checkpointDir, &run.rank.evaluationData}) {
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
  }
  if (!run.site.empty()) {
    if (std::find(sites.begin(), sites.end(), run.site) == sites.end())
      seatsOf(plan, {}, run.site); // says so
    sites = {run.site};
  }
  Context context{run, options};
  std::set<std::string> names;
  std::vector<File> files;
  for (const std::string &site : sites) {
    Job job;
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
      for (File &file : scheduler.write(job, context))
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
    for (File &file : scheduler.write(job, context))
      files.push_back(std::move(file));
  }
  std::error_code error;
  fs::create_directories(options.folder, error);
  for (const File &file : files) {
    std::string path = (fs::path(options.folder) / file.name).string();
    ::mode_t before = ::umask(0777 & ~file.mode);
    fs::remove(path, error);
    writeFile(path, file.text);
    ::umask(before);
    ::chmod(path.c_str(), file.mode);
    std::cout << path << "\n";
  }
}
