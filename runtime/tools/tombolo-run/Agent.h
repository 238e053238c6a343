//===- Agent.h - watches and restarts the ranks of one site -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An island fails as a whole: when one of its ranks has ended badly the others
// are ended too, and all of them start again, from the island's newest whole
// snapshot and with the next incarnation, as long as restarts are left. Other
// islands do not notice. What is wrong with the input is never tried again.
//
// Where sites are started apart the agent also runs its site's server, and asks
// the servers how often its islands have been started before.
//
// An island with ranks at other sites has an agent at each of them, and these
// agree on how it goes on (IslandTalk.h).
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_AGENT_H
#define TOMBOLO_TOOLS_TOMBOLORUN_AGENT_H

#include "Commands.h"
#include "Failures.h"
#include "IslandTalk.h"
#include "RunWatch.h"
#include "ServerLaunch.h"
#include "SiteGateway.h"
#include "Spanning.h"

#include "tombolo/runtime/launch/Supervisor.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tombolo::runtime {

struct AgentOptions {
  RankOptions rank;                ///< of every rank
  std::vector<std::string> common; ///< further arguments of every rank
  /// Where the ranks of an island meet, and at which address.
  std::map<std::uint32_t, std::vector<std::string>> places;
  Strangers *strangers = nullptr; ///< whom the store here has turned away
  SiteGateway *gateway = nullptr; ///< of the ranks, where they have one
  std::string site;
  std::string rankProgram;       ///< empty: this program
  int eventsFd = -1;             ///< below 0: a person reads, on stdout
  RunWatch *watch = nullptr;     ///< is shown what is written
  std::vector<nlohmann::json> news; ///< events from before the ranks start
  bool hasServer = false;        ///< which has the state of islands, too
  /// That the islands begin with; above 0 from their newest snapshots, as the
  /// agent before has fallen.
  std::uint64_t incarnation = 0;
  std::uint64_t restarts = 0;         ///< of each island, and of the server
  std::optional<ServerLaunch> server; ///< to be run here
  bool hasBackup = false;             ///< the job can do without that one
  /// Instead of `incarnation`: asks the servers, `where` of which it is.
  /// Nothing while they do not answer, and `why`.
  std::function<std::optional<std::uint64_t>(std::uint32_t island,
                                             std::string &why)>
      ask;
  std::string where;
  /// Of several agents at a site the first decides how an island is started and
  /// tells the others, who follow. Nothing while it has not been told.
  std::function<void(std::uint32_t island, const IslandStart &)> tell;
  std::function<std::optional<IslandStart>(std::uint32_t island)> follow;
  /// Islands that have ranks at other sites, too, and where their agents talk;
  /// nothing while the store is not there.
  std::set<std::uint32_t> shared;
  std::function<std::shared_ptr<IslandTalk>(std::uint32_t island)> talk;
  bool keepsMeeting = false; ///< that store
  /// The number among the ranks of this machine of the first one here.
  std::optional<std::uint64_t> firstLocalRank;
  bool leavesOnSigterm = false; ///< else it ends the run
};

class Agent {
public:
  Agent(AgentOptions options, Supervisor &supervisor)
      : options(std::move(options)), supervisor(supervisor),
        events(this->options.eventsFd < 0 ? 1 : this->options.eventsFd) {}

  /// Starts the ranks {island: numbers} and runs until all have ended. Returns
  /// the exit status.
  int run(const std::map<std::uint32_t, std::vector<std::uint64_t>> &ranks);

private:
  using Clock = std::chrono::steady_clock;
  /// After the first failure, how long others may still report theirs: the
  /// first to be noticed need not be the first to have failed.
  static constexpr auto kGrace = std::chrono::milliseconds(700);
  /// Other sites may be started by hand, one after the other.
  static constexpr auto kPatience = std::chrono::seconds(600);
  static constexpr auto kWarning = std::chrono::seconds(5);

  struct Island {
    std::vector<std::uint64_t> ranks;
    std::uint64_t firstLocalRank = 0;
    std::uint64_t incarnation = 0;
    std::uint64_t restartsLeft = 0;
    /// Of the incarnation that ends; told only when it is the last one.
    std::vector<nlohmann::json> failures;
    std::optional<Clock::time_point> end; ///< of its grace
    bool killed = false;                  ///< the grace is over
    /// A rank waited for a server when the first of its peers failed.
    bool wasCutOff = false;

    // With ranks at other sites, too:
    bool isShared = false;
    std::shared_ptr<IslandTalk> talk;
    std::uint64_t life = 0;
    bool hasBegun = false;      ///< here, in this life
    bool hasToldFailed = false; ///< likewise
    bool hasSaid = false;       ///< that its ranks here have ended
    bool isSettled = false;     ///< it has come to its end
    /// For another site, or since it has come to its end.
    std::optional<Clock::time_point> waitsSince;
    bool hasWarned = false;
  };
  struct Process {
    bool isServer = false; ///< else a rank
    std::uint32_t island = 0;
    std::uint64_t rank = 0;
    /// Its end has been heard of; of several that end at once the supervisor
    /// tells one after the other.
    bool hasEnded = false;
    // What it said of its own failure.
    int status = 0;
    bool peer = false;
    std::string message;
    /// When it last said that it lives; nothing before the first time.
    std::optional<Clock::time_point> heard;
    bool hasStalled = false;
    bool trains = false;
    bool isCutOff = false; ///< it has found no server for long
    bool tells = false;    ///< of that, for its island
  };

  bool begin();
  bool beginAsTold();
  void startServer();
  void serverEnded(const SupervisorEvent &event);
  void fail(Cause cause, int status, std::string message);
  void start(std::uint32_t number, const RankOptions &rank);
  std::optional<RankOptions> fromSnapshot(std::uint32_t number);
  void restart(std::uint32_t number);
  void tendShared();
  void tend(std::uint32_t number);
  void waitFor(Island &island, const std::string &what);
  bool leadFirst(std::uint32_t number);
  std::string noPrimary() const;
  bool beginLife(std::uint32_t number);
  void endLife(std::uint32_t number);
  IslandStart goOn(std::uint32_t number,
                   const std::vector<nlohmann::json> &all);
  void giveUpShared(std::uint32_t number, const std::string &why);
  bool hasShared();
  void giveUp(Island &island);
  void killIsland(std::uint32_t number);
  bool isRunning(std::uint32_t number) const;
  bool isCutOff(std::uint32_t number) const;
  bool anyCutOff() const;
  bool anyRank() const;
  void handle(const SupervisorEvent &event);
  void line(const SupervisorEvent &event);
  void ended(const SupervisorEvent &event);
  void endGraces();
  bool watches(const Process &rank) const;
  void endStalled();
  void noteServer(Process &rank, nlohmann::json event);
  bool endGently();
  std::optional<double> untilNext() const;
  void emit(nlohmann::json event);
  void tellOfConnections();

  AgentOptions options;
  Supervisor &supervisor;
  EventWriter events;
  std::map<std::uint32_t, Island> islands;
  std::vector<Process> processes;       // numbered as the supervisor does
  std::vector<Failure> failures;        // that end the run
  std::optional<Clock::time_point> end; // of the run's grace
  std::string noAnswer; // why no server has answered as the primary
  Clock::time_point started = Clock::now();
  bool begun = false;     // all islands are started
  bool hasWarned = false; // that no server answers
  std::uint64_t serverRestartsLeft = 0;
  std::optional<Clock::time_point> farewell; // how long the server may stay
  bool told = false;                    // to end
  bool hasLeft = false;                 // an island, which was removed
  bool lost = false;                    // whoever started this agent
  bool sharedLives = false;             // an island with ranks elsewhere
  Clock::time_point lastLook = Clock::now(); // for ranks that have stalled
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_AGENT_H
