//===- Model.h - what a model costs, by distinct block --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_MODEL_H
#define TOMBOLO_PLANNING_MODEL_H

#include "tombolo/Planning/Fault.h"
#include "tombolo/Planning/LayerTimes.h"
#include "tombolo/Planning/Strategy.h"
#include "tombolo/Planning/Topology.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tombolo::planning {

/// A quantity that grows with the samples of a microbatch:
/// constant + perSample * samples.
struct Affine {
  double constant = 0;
  double perSample = 0;

  double at(double samples) const { return constant + perSample * samples; }
  Affine &operator+=(const Affine &other) {
    constant += other.constant;
    perSample += other.perSample;
    return *this;
  }
  bool operator==(const Affine &) const = default;
};

/// What the chips of a tensor-parallel replica do together.
enum class Collective { AllReduce, ReduceScatter, AllGather, AllToAll };
inline constexpr size_t kCollectives = 4;
/// `all-reduce`, `reduce-scatter` ...
const char *name(Collective collective);

/// Collectives of one kind: how many, and the bytes of the whole tensors.
struct Exchange {
  double count = 0;
  Affine bytes;
  bool operator==(const Exchange &) const = default;
};

/// What one function of a block does when called once, on one chip.
struct Work {
  Affine flops; // multiplications and additions counted separately
  Affine bytes; // read and written by matrix products
  std::array<Exchange, kCollectives> exchanges; // by Collective
  Affine streamed; // bytes read and written by all other ops
  Affine scores;   // of attention, backward counting twice
  double ops = 0;  // that a chip is told to run

  Exchange &of(Collective collective) {
    return exchanges[static_cast<size_t>(collective)];
  }
  const Exchange &of(Collective collective) const {
    return exchanges[static_cast<size_t>(collective)];
  }
  /// What a chip of `chips` sends, by rings.
  double sentBytes(uint64_t chips, double samples) const;
  /// What one more sample costs: without what is there for none.
  Work perSample() const;
  bool operator==(const Work &) const = default;
};

/// A distinct block: everything below is per block and, where Affine, per call
/// on one microbatch. All figures are at the precision of the profile.
struct BlockKind {
  std::string name;
  uint64_t tensorParallel = 1; // chips the figures are for, each one's
  Work forward;
  Work backwardInput;          // gradient of the block's input
  Work backwardWeight;         // gradients of its parameters
  uint64_t parameterCount = 0; // elements, trainable and frozen
  uint64_t trainableCount = 0;
  uint64_t parameterBytes = 0; // as stored (f32 master copy)
  Affine savedBytes;           // kept from forward to backward beside its input
  Affine inputBytes;           // what earlier blocks hand to it
  Affine outputBytes;          // what it hands to later blocks
  Affine feedBytes;            // model inputs and labels it reads
  Affine carriedBytes;         // from backward-input to backward-weight
  Affine workspaceBytes;       // scratch of the largest of its functions
  Affine crossingBytes;        // what crosses the cuts at its collectives
  /// Bytes of gradients of parameters that every chip has whole, as partial
  /// sums: summed over the chips once a step.
  uint64_t partialGradientBytes = 0;
  /// What was measured, by type of chip, whatever the number of chips. Only in
  /// figures of one chip. Takes the place of what `Work` would take.
  std::vector<ChipTimes> measured;
  /// The block split over more chips, by rising number.
  std::vector<BlockKind> sharded;

  /// The figures over this many chips; null: there are none.
  const BlockKind *on(uint64_t chips) const;
  /// What was measured on a type of chip; null: nothing.
  const ChipTimes *measuredOn(const std::string &chip) const;
  bool operator==(const BlockKind &) const = default;
};

/// `count` consecutive blocks of one kind.
struct BlockRun {
  size_t kind = 0;
  uint64_t count = 0;
  bool operator==(const BlockRun &) const = default;
};

/// A parameter used by several kinds of block: one owner, gradients summed.
/// It is counted in the BlockKind of each block that uses it.
struct TiedParameter {
  std::string name;
  uint64_t count = 0;                 // elements
  std::vector<uint64_t> blockNumbers; // positions of its users, ascending
  bool operator==(const TiedParameter &) const = default;
};

/// A model as the planner sees it: costs by distinct kinds, the sequence as
/// runs. Its size grows with distinct kinds and runs, never with layers. The
/// loss is part of the last block.
struct ModelProfile {
  Precision precision = Precision::F32;
  uint64_t tokensPerSample = 1;
  std::vector<BlockKind> kinds;
  std::vector<BlockRun> runs;
  std::vector<TiedParameter> ties;
  /// How the blocks are split where they are (`BlockKind::sharded`).
  std::vector<Sharding> shardings;

  uint64_t blocks() const;
  /// Elements over all blocks, a tied parameter counted once.
  double parameterCount() const;
  double trainableCount() const;
  Faults check() const;
  bool operator==(const ModelProfile &) const = default;
};

/// The part of the runs between blocks `first` and `first + count`.
std::vector<BlockRun> slice(const std::vector<BlockRun> &runs, uint64_t first,
                            uint64_t count);

/// `count` consecutive blocks of a model.
struct BlockRange {
  uint64_t first = 0, count = 0;
  bool operator==(const BlockRange &) const = default;
};

/// How many of the blocks use a tied parameter.
uint64_t usersIn(const TiedParameter &tie,
                 const std::vector<BlockRange> &blocks);

/// Elements of tied parameters that figures of these blocks count more than
/// once.
uint64_t repeatedElements(const ModelProfile &model,
                          const std::vector<BlockRange> &blocks);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_MODEL_H
