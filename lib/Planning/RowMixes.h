//===- RowMixes.h - which pools hold the stages of an island, and how -----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_ROWMIXES_H
#define TOMBOLO_LIB_PLANNING_ROWMIXES_H

#include "IslandSearch.h"

#include "tombolo/Planning/PipelineTime.h"

namespace tombolo::planning {

/// Of a microbatch, by kind of block: all that it takes, and that without the
/// gradients of weights, for which no other stage waits.
struct KindSeconds {
  std::vector<double> all, onTheWay;
};

/// How some stages lie: each on one pool, or on two side by side whose replicas
/// share the microbatches out.
struct MixPart {
  struct Group {
    uint32_t pool = 0;     // among the island's
    uint64_t replicas = 1; // of each stage
    uint64_t share = 1;    // microbatches that each takes in a turn
    uint64_t own = 1;      // microbatches of each in a step
    Transfer wire;         // between the chips of a replica
    bool operator==(const Group &other) const {
      return pool == other.pool && replicas == other.replicas &&
             share == other.share;
    }
  };
  /// The one that takes longest for its microbatches of the main kind first.
  std::vector<Group> groups;
  uint64_t degree = 1; // chips of a replica
  uint64_t stages = 1; // at most
  const KindSeconds *seconds = nullptr; // on the first group
  /// Of a block of the main kind: what the first group still has to do when it
  /// has done its first microbatch, in seconds.
  double unit = 0;
  uint64_t most = 0;      // blocks of the main kind in a chip's memory
  double tailLatency = 0; // reduction: seconds
  double tailPerByte = 0; //   and seconds per byte of gradients

  uint64_t replicas() const;
  uint64_t turn() const;
  bool liesLike(const MixPart &other) const {
    return groups == other.groups && degree == other.degree;
  }
};

/// What the stages of an island lie on, in any order, and a microbatch.
struct Mix {
  std::vector<const MixPart *> parts; // kept by `RowMixes`
  uint64_t microbatch = 1;
  double bound = 0; // no stages of it are better
  bool isTight = false;
};

/// All mixes of an island's pools, and what no stages of a mix can beat: from
/// rates and memory alone. Not for several threads at once.
class RowMixes {
public:
  RowMixes(const Problem &problem, const IslandPins &pins);

  const std::vector<IslandPool> &pools() const { return islandPools; }

  /// Mixes whose bound is below `below`; returns how many were looked at.
  uint64_t add(uint64_t batch, uint64_t microbatch, double below,
               std::vector<Mix> &mixes);

  /// No stages of a mix are better. Tight: with whole blocks of the main kind.
  double boundOf(const Mix &mix, uint64_t batch, bool tight) const;

  /// Of one stage on a part, per hour. A chip without a price costs 1.
  double priceOf(const MixPart &part) const;
  /// Of a stage on each part.
  double priceOf(const Mix &mix) const;

  /// Orders of a mix's parts in which neighbours are joined. All of up to four;
  /// of more as declared, the other way round, and by memory for the work.
  std::vector<std::vector<size_t>> ordersOf(const Mix &mix) const;

private:
  /// Mixes of one set of parts beyond these have the same replicas everywhere,
  /// and where that leaves more the same degree.
  static constexpr double kMostMixes = 5000;
  /// Stages of a pool for each microbatch of a replica, or each that memory
  /// asks for.
  static constexpr uint64_t kMostPerStage = 4;
  /// Of replicas side by side: how far the work of a turn may be from equal,
  /// and the least part of each pool that is used.
  static constexpr double kNearlyEqual = 1.25;
  static constexpr double kLeastUsed = 0.75;
  /// Numbers of replicas that are tried on either side of the even one.
  static constexpr uint64_t kMostNearby = 8;
  /// Ways that make as many stages.
  static constexpr size_t kMostAlike = 4;

  /// The pools that a part lies on: one, or two side by side.
  using Lane = std::vector<uint32_t>;

  const Problem &problem;
  IslandPins pins;
  bool waitsForRounds; // GPipe may not be used
  std::vector<IslandPool> islandPools;
  std::vector<double> counts; // blocks of each kind
  size_t mainKind = 0;        // the one with most work
  /// By microbatch, pool and degree.
  std::map<std::tuple<uint64_t, size_t, uint64_t>, KindSeconds> kindSeconds;
  /// By microbatch, microbatches of the island and lane.
  std::map<std::tuple<uint64_t, uint64_t, Lane>, std::vector<MixPart>>
      partsByLane;

  std::vector<std::vector<uint32_t>> poolSets() const;
  std::vector<std::vector<Lane>> laneSets() const;
  const KindSeconds &secondsOf(uint64_t microbatch, size_t pool,
                               uint64_t degree);
  const std::vector<MixPart> &partsOn(const Lane &lane, uint64_t microbatch,
                                      const std::vector<uint64_t> &turns);
  void addSideBySide(const Lane &lane, uint64_t degree, uint64_t microbatch,
                     const std::vector<uint64_t> &turns,
                     std::vector<MixPart> &parts);
  /// The parts whose groups have so many replicas and shares, if there are any.
  void addParts(std::vector<MixPart::Group> groups, uint64_t degree,
                uint64_t microbatch, uint64_t microbatches,
                std::vector<MixPart> &parts);
  double leastOfMainKind(const Mix &mix,
                         std::vector<double> KindSeconds::*seconds) const;
  bool joined(const MixPart &from, const MixPart &to) const;
};

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_ROWMIXES_H
