//===- Exchange.h - pushes, rounds and versions-------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The server's algorithm (design and docs/Server.md) as far as it takes time:
// who pushes how many bytes over which lines, when a round closes, what the
// outer step takes, and when an island has the new version.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_EXCHANGE_H
#define TOMBOLO_RUNTIME_LIB_SIM_EXCHANGE_H

#include "Fold.h"

#include <functional>

namespace tombolo::runtime::sim {

/// An island that is silent for so long is not waited for any more.
inline constexpr double kLeaseSeconds = 4;
/// Nor is a server (docs/Server.md, Primary and backup).
inline constexpr double kMissedSeconds = 3;

class Exchange {
public:
  enum class Kind {
    Push,
    Copy, ///< of what a primary has, to its backup
    Version,
    State,    ///< to an island that comes back
    Recovery, ///< all that a primary has, to a backup that was away
  };
  /// Something on its way from site to site.
  struct Move {
    Kind kind;
    std::uint32_t fragment;
    std::uint32_t from, to;    // sites
    std::uint32_t island = 0;  // that pushes, or that it is for
    std::uint32_t ofClass = 0; // of a push
    std::vector<std::uint32_t> directions = {}; // of lines; empty in a site
    double begun = 0;
  };

  struct Hooks {
    std::function<void(double time, std::function<void()>)> at;
    std::function<double()> now;
    /// A version of `fragment` has come to all of an island.
    std::function<void(std::uint32_t island, std::uint32_t fragment)> receive;
    /// A push is durable: its work cannot be lost any more.
    std::function<void(std::uint32_t island, std::uint32_t fragment)> commit;
    std::function<void(const std::vector<std::uint32_t> &directions,
                       double bytes)>
        crossed;
    std::function<void(const std::string &)> say;
    std::function<void(const std::string &)> traceRound;
    std::function<void(std::uint32_t direction)> traceLine;
    /// Has come, or is given up now.
    std::function<void(const Move &, bool isWhole)> traceMove;
  };

  Exchange(const Plan &plan, const Places &places,
           const std::vector<Fold *> &folds, Hooks hooks);

  /// All ranks of a class of an island push.
  void push(std::uint32_t island, std::uint32_t fragment,
            std::uint32_t ofClass);
  /// The island takes part no more, for now or for good. What it was pushing is
  /// lost.
  void leave(std::uint32_t island);
  /// Its lease has run out: rounds do not wait for it.
  void forget(std::uint32_t island);
  /// The island pulls everything, then `joined` is called and it takes part.
  void join(std::uint32_t island, std::function<void()> joined);
  void finish(std::uint32_t island);
  /// A backup there is missed, or a backup elsewhere takes over, when the
  /// server has been away for kMissedSeconds and what an epoch takes.
  void serverFails(std::uint32_t site);
  void serverIsBack(std::uint32_t site);
  void lineCapacity(std::uint32_t direction, double bytesPerSecond);
  void lineFails(std::uint32_t line) { setLine(line, 1); }
  void lineIsBack(std::uint32_t line) { setLine(line, -1); }

  std::uint64_t round(std::uint32_t fragment) const {
    return fragments[fragment].round;
  }
  /// Flows in this direction of a line now.
  double flowsOn(std::uint32_t direction) const {
    return static_cast<double>(network.flowsOn(direction));
  }
  double load(std::uint32_t direction) const { return network.load(direction); }

private:
  struct Member {
    bool live = true;  // rounds wait for it
    bool there = true; // and it is there
    std::uint64_t incarnation = 0;
    std::vector<std::uint32_t> sites;
    /// By fragment: the classes whose push is not committed.
    std::vector<std::vector<std::uint32_t>> classes;
    std::vector<std::uint32_t> flows; // by fragment, of pushes under way
    std::vector<bool> awaits;         // by fragment: a version under way
    std::function<void()> joined;     // while it pulls everything
  };
  struct Fragment {
    std::uint32_t primary = 0;
    std::optional<std::uint32_t> backup;
    std::uint64_t round = 0;
    double bytes = 0;              // of a version, on the line
    std::vector<bool> committed;   // by island
    double due = 1e300;            // its deadline, when one has committed
    bool closing = false;
    std::vector<std::uint32_t> in; // members of the version being made
    bool alone = false;            // without the backup, or one that is whole
    std::uint64_t term = 0;        // counts changes of primary
    bool copies() const { return backup && *backup != primary && !alone; }
  };
  /// Begins now, over the shortest way that there is; `in` and `out`: through
  /// the server that is there.
  void flow(Move move, double bytes, bool in, bool out,
            std::function<void()> done);
  void copy(std::uint32_t fragment, std::function<void()> done);
  void pushClass(std::uint32_t island, std::uint32_t fragment,
                 std::uint32_t ofClass);
  void setServer(std::uint32_t site);
  void setLine(std::uint32_t line, int more);
  void willMiss(std::uint32_t site, double after);
  void isMissed(std::uint32_t site);
  void takeOver(std::uint32_t fragment);
  void goOnAlone(std::uint32_t fragment);
  void recover(std::uint32_t fragment);
  /// Cancels what is under way of a fragment; gives what it was to do.
  std::vector<std::function<void()>> cancel(std::uint32_t fragment,
                                            std::optional<Kind> kind = {});
  void arrived(std::uint32_t island, std::uint32_t fragment);
  void committed(std::uint32_t island, std::uint32_t fragment);
  void tryClose(std::uint32_t fragment);
  void publish(std::uint32_t fragment);
  void send(std::uint32_t fragment, std::uint32_t island);

  const Plan &plan;
  const Places &places;
  Hooks hooks;
  Network network;
  std::uint32_t firstServer; // resources: in, out by site behind the lines
  std::vector<bool> downLines;
  std::vector<int> lineFaults;            // that hold a line down
  std::vector<std::uint32_t> downServers; // by site, how often
  std::vector<std::uint64_t> outages;     // by site, so far
  std::vector<Member> members;
  std::vector<Fragment> fragments;
  struct Moving {
    Move move;
    Path path;
    std::function<void()> done;
  };
  std::vector<std::unique_ptr<Moving>> moving;
  /// By island, class and fragment: bytes pushed; by island, site and fragment:
  /// bytes pulled.
  std::vector<std::vector<std::vector<double>>> pushed, pulled;
  std::vector<std::vector<std::uint32_t>> classSites; // by island and class
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_EXCHANGE_H
