//===- ValidateParts.h - the validator's parts ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_PLAN_VALIDATEPARTS_H
#define TOMBOLO_RUNTIME_LIB_PLAN_VALIDATEPARTS_H

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Validate.h"

#include <map>
#include <optional>

namespace tombolo::runtime::detail {

// No size in a plan is larger; products and sums of two such still fit 64 bits.
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 56;
constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 40;
constexpr int kMaxDims = 12;
constexpr int kMaxDepth = 32;
constexpr std::uint64_t kMaxRanks = std::uint64_t{1} << 20;
// Work before the first step and in each: microbatches of an island's step
// times stages, and instructions and iterations of a program's step.
constexpr std::uint64_t kMaxWork = std::uint64_t{1} << 24;

/// a * b; throws Error above kMaxBytes.
std::uint64_t times(std::uint64_t a, std::uint64_t b, const std::string &place);

/// The number of elements of `dims`; each must be positive.
template <typename Dims>
std::uint64_t elementCount(const Dims &dims, const std::string &place) {
  if (dims.size() > kMaxDims)
    throw Error(place, ": expected at most ", kMaxDims, " dimensions, got ",
                dims.size());
  std::uint64_t n = 1;
  for (std::uint64_t dim : dims) {
    if (dim == 0)
      throw Error(place, ": expected positive dimensions, got 0");
    n = times(n, dim, place);
  }
  return n;
}

void checkName(const std::string &name, const std::string &place);

/// The numbers first, first + 1, ..., last.
struct Span {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

/// What an expression may stand on: the loops around it, and where the ranks
/// that run it stand (absent: it must not name that).
struct Scope {
  std::map<std::uint32_t, Span> loops; // values, by variable
  std::optional<Span> tensorIndex;
  std::optional<Span> replica;
};

/// The smallest and largest value an expression takes over all iterations of
/// the loops around it and all ranks. Exact but for classes whose ranks do not
/// stand in all places between the outermost: the variables are independent of
/// each other, so the extremes of the sum are the sums of the extremes per
/// variable, and rounding down keeps their order.
struct Extremes {
  std::int64_t low;
  std::int64_t high;
};
Extremes extremes(const plan::v1::Expr &expr, const Scope &scope,
                  const std::string &place);

/// True if every value is a multiple of `alignment`.
bool isAligned(const plan::v1::Expr &expr, std::uint64_t alignment);

/// `replicas`: where the program is used; empty for a program nobody runs.
struct ProgramUse {
  const plan::v1::Island *island;
  std::uint32_t islandIndex;
  std::uint32_t stage;
  std::uint32_t group;
  std::uint64_t minMicrobatches; ///< fewest a replica of the group computes
  Span replicas;                 ///< the group's, of the stage's
  std::uint64_t tensorParallel;

  const plan::v1::Stage &inStage() const {
    return island->stages(static_cast<int>(stage));
  }
};

/// Where in their replicas and stages the ranks of all uses stand.
Span tensorIndices(const std::vector<ProgramUse> &uses);
Span replicas(const std::vector<ProgramUse> &uses);

void validateProgram(const Plan &plan, const plan::v1::Program &program,
                     const std::vector<ProgramUse> &uses,
                     const std::string &place);

/// `Plan.topology`, and that every rank has a chip in it.
void validateTopology(const Plan &plan);

/// `Program.segment_seconds`: with a topology, one for each segment called.
void validateSegmentSeconds(const Plan &plan, const plan::v1::Program &program,
                            const std::string &place);

/// Parameter families, slices, regions and states of one program.
void validateMemory(const Plan &plan, const plan::v1::Program &program,
                    const std::vector<ProgramUse> &uses,
                    const std::string &place);

/// Every trainable element of an island has exactly one owner.
void validateOwners(const Plan &plan, std::uint32_t island);

/// host_bytes of a program whose memory and owners are valid.
void validateHostBytes(const Plan &plan, const plan::v1::Program &program,
                       const std::string &place);

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_PLAN_VALIDATEPARTS_H
