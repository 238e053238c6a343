//===- Launch.cpp - which of a launch's processes this one is -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/launch/Launch.h"

#include "tombolo/runtime/Error.h"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tombolo::runtime {

namespace {

/// Reads the variables of one environment.
class Reader {
public:
  Reader(const char *environment, const Variables &variables)
      : environment(environment), variables(variables) {}

  std::optional<std::string> text(const char *name) const {
    std::optional<std::string> value = variables(name);
    return value && value->empty() ? std::nullopt : value;
  }
  bool has(const char *name) const { return text(name).has_value(); }
  std::string needed(const char *name) const {
    if (std::optional<std::string> value = text(name))
      return *value;
    throw Error("the environment of ", environment, " lacks ", name,
                ": expected all that it sets for a process; --launcher none "
                "takes no notice of it");
  }
  std::uint64_t number(const char *name) const {
    std::string value = needed(name);
    std::uint64_t result = 0;
    const char *end = value.data() + value.size();
    auto [at, error] = std::from_chars(value.data(), end, result);
    if (error != std::errc() || at != end || result > kMost)
      throw Error("the environment of ", environment, ": ", name,
                  ": expected a number of at most ", kMost, ", got '", value,
                  "'");
    return result;
  }

private:
  // More ranks than any plan has, and safe to add to.
  static constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  const char *environment;
  const Variables &variables;
};

// Below where systems take ports for outgoing connections from (32768), so that
// one is hardly ever in use.
constexpr std::uint64_t kFirstPort = 20000, kPorts = 10000;

std::string place(bool isOneMachine, const std::string &host,
                  std::uint64_t seed) {
  return (isOneMachine ? "127.0.0.1" : host) + ":" +
         std::to_string(kFirstPort + seed % kPorts);
}

/// docs: pytorch.org/docs/stable/elastic/run.html, Environment Variables.
Launch readTorchrun(const Reader &reader) {
  Launch launch;
  launch.number = reader.number("RANK");
  launch.count = reader.number("WORLD_SIZE");
  launch.localNumber = reader.number("LOCAL_RANK");
  launch.isOneMachine = reader.has("LOCAL_WORLD_SIZE") &&
                        reader.number("LOCAL_WORLD_SIZE") == launch.count;
  std::uint64_t port = reader.number("MASTER_PORT");
  // torchrun itself listens there, where it says so.
  if (reader.text("TORCHELASTIC_USE_AGENT_STORE") == "True")
    ++port;
  launch.meeting = reader.needed("MASTER_ADDR") + ":" + std::to_string(port);
  return launch;
}

/// docs: open-mpi.org/faq, "What environment variables ...". It names no place
/// to meet at; on one machine loopback is one.
Launch readOpenMpi(const Reader &reader) {
  Launch launch;
  launch.number = reader.number("OMPI_COMM_WORLD_RANK");
  launch.count = reader.number("OMPI_COMM_WORLD_SIZE");
  launch.localNumber = reader.number("OMPI_COMM_WORLD_LOCAL_RANK");
  launch.isOneMachine =
      reader.has("OMPI_COMM_WORLD_LOCAL_SIZE") &&
      reader.number("OMPI_COMM_WORLD_LOCAL_SIZE") == launch.count;
  if (launch.isOneMachine)
    launch.meeting = place(
        true, "",
        std::hash<std::string>()(reader.text("PMIX_NAMESPACE").value_or("")));
  return launch;
}

/// docs: srun(1), OUTPUT ENVIRONMENT VARIABLES.
Launch readSlurm(const Reader &reader) {
  Launch launch;
  launch.number = reader.number("SLURM_PROCID");
  launch.count = reader.number("SLURM_NTASKS");
  launch.localNumber = reader.number("SLURM_LOCALID");
  std::string nodes = reader.has("SLURM_STEP_NODELIST")
                          ? reader.needed("SLURM_STEP_NODELIST")
                          : reader.needed("SLURM_JOB_NODELIST");
  launch.isOneMachine = nodes.find_first_of(",[") == std::string::npos;
  // Steps of one job meet at ports of their own.
  std::uint64_t step =
      reader.has("SLURM_STEP_ID") ? reader.number("SLURM_STEP_ID") : 0;
  launch.meeting = place(launch.isOneMachine, firstHost(nodes),
                         reader.number("SLURM_JOB_ID") * 16 + step);
  return launch;
}

/// Kubernetes tells a pod of an Indexed Job its number alone; the rest stands
/// in the manifests of `site --emit kubernetes`.
Launch readKubernetes(const Reader &reader) {
  Launch launch;
  launch.number = reader.number("JOB_COMPLETION_INDEX");
  launch.count = reader.number("TOMBOLO_PROCESSES");
  launch.meeting = reader.needed("TOMBOLO_MEETING");
  return launch;
}

struct Environment {
  const char *name;
  /// What shows that it has started this process. Slurm sets SLURM_PROCID for
  /// the script of a job, too, which is none of many.
  std::vector<const char *> marks;
  bool isInner; ///< runs inside the jobs of the others
  Launch (*read)(const Reader &reader);
};

const std::vector<Environment> &environments() {
  static const std::vector<Environment> all = {
      {"torchrun", {"RANK", "WORLD_SIZE"}, true, readTorchrun},
      {"openmpi",
       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
       true,
       readOpenMpi},
      {"slurm", {"SLURM_STEP_ID"}, false, readSlurm},
      {"kubernetes", {"JOB_COMPLETION_INDEX"}, false, readKubernetes},
  };
  return all;
}

std::optional<Launch> look(const Environment &environment,
                           const Variables &variables) {
  Reader reader(environment.name, variables);
  bool isHere = false;
  for (const char *mark : environment.marks)
    isHere |= reader.has(mark);
  if (!isHere)
    return std::nullopt;
  Launch launch = environment.read(reader);
  launch.launcher = environment.name;
  if (launch.number >= launch.count)
    throw Error("the environment of ", environment.name,
                ": expected a process number below the number of processes, ",
                launch.count, ", got ", launch.number);
  return launch;
}

} // namespace

Variables ownVariables() {
  return [](const std::string &name) -> std::optional<std::string> {
    const char *value = std::getenv(name.c_str());
    return value ? std::optional<std::string>(value) : std::nullopt;
  };
}

std::vector<std::string> launcherNames() {
  std::vector<std::string> names = {"auto", "none"};
  for (const Environment &environment : environments())
    names.push_back(environment.name);
  return names;
}

std::optional<Launch> findLaunch(const std::string &launcher,
                                 const Variables &variables) {
  if (launcher == "none")
    return std::nullopt;
  if (launcher != "auto") {
    for (const Environment &environment : environments())
      if (launcher == environment.name)
        if (std::optional<Launch> launch = look(environment, variables))
          return launch;
    throw Error("--launcher ", launcher,
                ": expected to be started by it, but none of its variables is "
                "set");
  }
  for (bool inner : {true, false}) {
    std::optional<Launch> found;
    for (const Environment &environment : environments()) {
      if (environment.isInner != inner)
        continue;
      std::optional<Launch> launch = look(environment, variables);
      if (launch && found &&
          (launch->number != found->number || launch->count != found->count))
        throw Error("the environment contradicts itself: for ", found->launcher,
                    " this is process ", found->number, " of ", found->count,
                    ", for ", launch->launcher, " process ", launch->number,
                    " of ", launch->count,
                    "; say which one counts: --launcher ", found->launcher,
                    " or --launcher ", launch->launcher);
      if (launch && !found)
        found = launch;
    }
    if (found)
      return found;
  }
  return std::nullopt;
}

std::string firstHost(const std::string &hostlist) {
  std::size_t bracket = hostlist.find('[');
  if (bracket == std::string::npos || bracket > hostlist.find(','))
    return hostlist.substr(0, hostlist.find(','));
  std::size_t close = hostlist.find(']', bracket);
  std::string range = hostlist.substr(bracket + 1, close - bracket - 1);
  std::string number = range.substr(0, range.find_first_of(",-"));
  if (close == std::string::npos || number.empty())
    throw Error("expected a list of hosts of Slurm, got '", hostlist, "'");
  std::size_t comma = std::min(hostlist.find(',', close), hostlist.size());
  std::string tail = hostlist.substr(close + 1, comma - close - 1);
  if (tail.find('[') != std::string::npos) // rack[0-1]node[0-7]
    tail = firstHost(tail);
  return hostlist.substr(0, bracket) + number + tail;
}

std::string resolveAddress(const std::string &address,
                           std::chrono::milliseconds timeout) {
  std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0)
    throw Error("expected an address like 10.1.0.1:7000 or node1:7000, got '",
                address, "'");
  std::string host = address.substr(0, colon);
  auto deadline = std::chrono::steady_clock::now() + timeout;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  for (;;) {
    addrinfo *found = nullptr;
    int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (error == 0) {
      char text[INET_ADDRSTRLEN];
      ::inet_ntop(AF_INET,
                  &reinterpret_cast<sockaddr_in *>(found->ai_addr)->sin_addr,
                  text, sizeof text);
      ::freeaddrinfo(found);
      return text + address.substr(colon);
    }
    if (std::chrono::steady_clock::now() >= deadline)
      throw Error(Status::Failed, "cannot find the host of '", address,
                  "': ", ::gai_strerror(error));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

std::string addressTowards(const std::string &address) {
  std::size_t colon = std::min(address.rfind(':'), address.size());
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9); // nothing is sent
  sockaddr_in own{};
  socklen_t length = sizeof own;
  int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  bool found =
      fd >= 0 &&
      ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) ==
          1 &&
      ::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr *>(&own), &length) == 0;
  int error = errno;
  if (fd >= 0)
    ::close(fd);
  if (!found)
    throw Error(Status::Failed, "no way from this machine to ", address, ": ",
                std::strerror(error));
  char text[INET_ADDRSTRLEN];
  ::inet_ntop(AF_INET, &own.sin_addr, text, sizeof text);
  return text;
}

} // namespace tombolo::runtime
