//===- Fold.h - ranks that behave alike are simulated once--------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Two ranks are of one class when they run the same program at the same speed
// and, for each of their microbatches, deal with ranks of equal classes over
// equal ways, share cards and cores with equal numbers of each class, and are
// in groups of equal classes: the coarsest equitable partition, found by
// refining colours (Weisfeiler and Leman 1968). All ranks of a class then do
// the same at the same time, so one of each is simulated, and what it uses of a
// shared resource counts for all that share it.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_FOLD_H
#define TOMBOLO_RUNTIME_LIB_SIM_FOLD_H

#include "Network.h"
#include "Places.h"

#include <memory>
#include <unordered_map>

namespace tombolo::runtime::sim {

/// One rank that stands for all of its class.
struct RankClass {
  std::uint64_t rank = 0;
  RankCoordinates at;
  std::uint64_t count = 0; ///< ranks of the class
  double slowdown = 1;     ///< its calls take so many times their seconds
  std::uint32_t intraSend = 0, intraReceive = 0; ///< resources
  /// The core that it computes on, as flows use it, and how many bytes that
  /// core could move inside its node in a second of computing: what computes is
  /// such a flow too, so that it shares the core with messages. Empty: nothing
  /// but the rank's own calls runs there.
  Path core;
  double coreRate = 0;
};

/// A transfer between two ranks as the network sees it.
struct TransferPath {
  Path path;
  double latency = 0;
  /// Bytes that take the cores as long as the latency, which is work of theirs;
  /// 0: it is none.
  double latencyBytes = 0;
  /// Over lines between sites, where a receiver asks for each message.
  bool onLines = false;
};

/// One group of ranks that meet in collectives, for all like it.
struct GroupClass {
  std::uint32_t number = 0;           ///< below groupCount()
  std::vector<std::uint32_t> members; ///< classes in it, each once
  std::uint64_t ranks = 0;            ///< in one group
  std::uint64_t perNode = 1;          ///< members on a node, the fewest
  std::uint64_t mostPerNode = 1;
  std::uint64_t nodes = 1;
  double intraLatency = 0, interLatency = 0;
  double latencyBytes = 0;    ///< of a step inside nodes, as in TransferPath
  double ringPart = 1;        ///< of the rate of `intra` that a ring gets
  Path intra, inter; ///< rings over all nodes side by side; between nodes
};

struct FoldOptions {
  bool fold = true;
  /// Replicas are told apart, because each draws its own jitter.
  bool keepReplicas = false;
  /// By island and rank; empty: none is slow.
  std::vector<std::vector<double>> slowdowns;
};

/// The classes of one island.
class Fold {
public:
  Fold(const Plan &plan, std::uint32_t island, const Places &places,
       const FoldOptions &options);

  const IslandLayout &layout() const { return ranks; }
  std::uint64_t microbatches() const { return ranks.microbatches(); }
  const std::vector<RankClass> &classes() const { return classList; }
  std::uint32_t classOf(std::uint64_t rank) const { return classIndex[rank]; }

  /// Resources of the island: capacity 1 each, used by the second; the last
  /// 2 x lines are the directions of lines, in bytes per second.
  std::uint32_t resourceCount() const { return resources; }
  std::uint32_t firstLine() const { return lineResource; }
  /// Whether a transfer or a collective of the island crosses a line.
  bool usesLines() const { return crossesLines; }

  /// What the host of a class's ranks needs once a step.
  double stepSeconds(std::uint32_t of) const;
  /// From the representative of a class to another rank.
  const TransferPath &path(std::uint32_t from, std::uint64_t to);
  /// The group of a class for a collective.
  const GroupClass &group(std::uint32_t of,
                          const plan::v1::Collective &collective);
  /// Groups that have been asked for.
  std::uint32_t groupCount() const { return madeGroups; }

private:
  using Colours = std::vector<std::uint64_t>;
  struct Signature; // a kind of group
  void refine(const FoldOptions &options);
  Colours refined(const Colours &colours);
  std::uint64_t turnAt(std::uint64_t rank, std::uint64_t local,
                       std::uint64_t partner, bool partnerSends) const;
  void makeClasses(const Colours &colours, const FoldOptions &options);
  void makeResources();
  std::vector<std::uint64_t> localsToTell(std::uint32_t stage,
                                          std::uint64_t replica) const;
  GroupClass makeGroup(const std::vector<std::vector<std::uint64_t>> &alike);
  void addEdge(std::uint64_t from, std::uint64_t to, Path &path);
  void addCore(std::uint64_t rank, Path &path) const;
  using RanksOn = std::unordered_map<std::uint64_t, std::vector<std::uint64_t>>;
  /// By number of the card or core: what stands for it, `width` resources.
  std::unordered_map<std::uint64_t, std::uint32_t>
  makeShared(const RanksOn &shared, std::uint32_t width);
  std::uint64_t countOf(std::uint32_t ofClass,
                        const std::vector<std::uint64_t> &on) const;

  const Plan &plan;
  std::uint32_t island;
  const Places &places;
  IslandLayout ranks;
  std::vector<RankCoordinates> coordinates;
  /// Distinct transfers (direction, other stage, expression of the index) by
  /// program, in its order.
  struct Moved {
    const plan::v1::Transfer *transfer;
    bool sends;
  };
  std::unordered_map<std::uint32_t, std::vector<Moved>> transfers;
  std::unordered_map<std::uint32_t, std::vector<const plan::v1::Collective *>>
      collectives;
  std::vector<RankClass> classList;
  std::vector<std::uint32_t> classIndex;
  RanksOn cards, cores; // cores of the host alone
  std::unordered_map<std::uint64_t, std::uint32_t> cardResource; // of the send
  std::unordered_map<std::uint64_t, std::uint32_t> coreResource;
  std::uint32_t resources = 0, lineResource = 0, madeGroups = 0;
  bool crossesLines = false;
  std::vector<std::unordered_map<std::uint64_t, TransferPath>> paths;
  std::vector<std::unordered_map<const plan::v1::Collective *,
                                 std::shared_ptr<const GroupClass>>>
      groups; // by class
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_FOLD_H
