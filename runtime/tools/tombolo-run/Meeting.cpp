//===- Meeting.cpp - where the processes of a launch meet -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Meeting.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/Layout.h"

#include <CLI/CLI.hpp>

#include <charconv>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

/// A machine may be slow to start its process.
constexpr auto kPatience = std::chrono::minutes(2);
/// How long process 0 stays for others that come later than it.
constexpr auto kFarewell = std::chrono::seconds(5);

/// What processes of one launch say to one another at the start; another one
/// may be misunderstood.
constexpr int kVersion = 1;

bool isLoopback(const std::string &address) {
  return address.starts_with("127.");
}

} // namespace

void tombolo::runtime::addLauncherOption(CLI::App &app, std::string &launcher) {
  app.add_option("--launcher", launcher,
                 "whose environment says which of several processes this one "
                 "is")
      ->check(CLI::IsMember(launcherNames()))
      ->capture_default_str();
}

std::vector<Seat> tombolo::runtime::seatsOf(const Plan &plan,
                                            std::optional<std::uint32_t> island,
                                            const std::string &site) {
  std::vector<Seat> seats;
  for (int i = 0; i < plan.islands_size(); ++i) {
    auto number = static_cast<std::uint32_t>(i);
    if (island && number != *island)
      continue;
    IslandLayout layout(plan.islands(i));
    for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank)
      if (site.empty() || layout.site(rank) == site)
        seats.push_back({number, rank});
  }
  if (seats.empty() && island &&
      *island >= static_cast<unsigned>(plan.islands_size()))
    throw Error("island ", *island, " does not exist: the plan has ",
                plan.islands_size());
  if (seats.empty())
    throw Error("plan: it has no rank at site '", site, "'");
  return seats;
}

std::string tombolo::runtime::sameness(const Plan &plan, std::uint64_t ranks,
                                       const std::string &transport) {
  return "plan " + toHex(plan.checksum()).substr(0, 16) + " on " +
         std::to_string(ranks) + " ranks with version " + version() + "-" +
         std::to_string(kVersion) + " of tombolo-run, transport " + transport;
}

Meeting::Meeting(const Launch &launch, const std::string &rendezvous,
                 const std::string &host)
    : launch(launch) {
  const std::string &where = rendezvous.empty() ? launch.meeting : rendezvous;
  if (where.empty())
    throw Error(Status::Usage, "--rendezvous: the environment of ",
                launch.launcher,
                " names no place where processes on several machines can meet; "
                "expected HOST:PORT on the machine of process 0");
  address = resolveAddress(where, kPatience);
  own = host.empty() ? addressTowards(address) : host;
  // On Debian a machine's own name may be 127.0.1.1 to itself.
  if (!launch.isOneMachine && isLoopback(own) && !isLoopback(where))
    throw Error(Status::Failed,
                "--host: expected an address at which other "
                "machines reach this one, but '",
                where, "' is ", own,
                " here; give it, or mend this machine's /etc/hosts");
  if (launch.number == 0)
    keepStore(where);
  rollCall = std::make_unique<RollCall>(address, "launch/", kPatience);
}

void Meeting::keepStore(const std::string &where) {
  std::size_t colon = address.rfind(':');
  unsigned port = 0;
  const char *end = address.data() + address.size();
  if (std::from_chars(address.data() + colon + 1, end, port).ptr != end ||
      port == 0 || port > 65535)
    throw Error("--rendezvous: expected a port from 1 to 65535, got '", where,
                "'");
  std::string host = address.substr(0, colon);
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0)
    throw Error(Status::Failed, "cannot open a pipe");
  pid_t parent = ::getpid();
  keeper = ::fork();
  if (keeper < 0)
    throw Error(Status::Failed, "cannot start another process");
  if (keeper == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent)
      ::_exit(0);
    // What this launch is told, its parent is told too.
    for (int signal : {SIGINT, SIGTERM, SIGHUP})
      std::signal(signal, SIG_IGN);
    std::string said = "ok";
    try {
      StoreServer store(host, static_cast<std::uint16_t>(port));
      (void)!::write(pipe[1], said.data(), said.size());
      ::close(pipe[1]);
      for (;;)
        ::pause();
    } catch (const std::exception &error) {
      said = error.what();
      (void)!::write(pipe[1], said.data(), said.size());
    }
    ::_exit(1);
  }
  ::close(pipe[1]);
  std::string said;
  char data[512];
  for (ssize_t got; (got = ::read(pipe[0], data, sizeof data)) > 0;)
    said.append(data, static_cast<std::size_t>(got));
  ::close(pipe[0]);
  if (said != "ok")
    throw Error(Status::Failed, said,
                "; another place can be given: --rendezvous HOST:PORT");
}

Meeting::~Meeting() {
  if (keeper > 0) {
    ::kill(keeper, SIGKILL);
    ::waitpid(keeper, nullptr, 0);
  }
}

void Meeting::refuse(const std::string &why) noexcept {
  rollCall->refuse(why);
  try {
    rollCall->set("left/" + std::to_string(launch.number), "yes");
    auto end = std::chrono::steady_clock::now() + kFarewell;
    for (std::uint64_t other = 1; launch.number == 0 && other < launch.count;)
      if (rollCall->look("left/" + std::to_string(other)))
        ++other;
      else if (std::chrono::steady_clock::now() >= end)
        break;
      else
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
  } catch (const std::exception &) {
    // The store has gone: so has process 0, and nobody waits.
  }
}
