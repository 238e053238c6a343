//===- FragmentState.h - one fragment's rounds ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_FRAGMENTSTATE_H
#define TOMBOLO_LIB_SERVER_FRAGMENTSTATE_H

#include "tombolo/runtime/server/OuterState.h"

namespace tombolo::runtime {

/// Where a tensor lies in the fragment.
struct FragmentTensor {
  std::string name;
  std::uint64_t elements = 0;
  std::uint64_t offset = 0;
};

/// What one island has pushed for one round, or island 0 for the start.
struct Contribution {
  explicit Contribution(std::uint64_t elements) : coverage(elements) {}

  /// Forgets everything; what comes next is of this incarnation.
  void reset(std::uint64_t newIncarnation);

  Coverage coverage;
  std::vector<float> data; ///< empty until the first part
  std::uint64_t incarnation = 0;
  std::uint64_t tokens = 0;
  std::uint64_t innerSteps = 0;
  /// The parts that have come, by rank: how a repeat is recognised.
  std::map<std::uint32_t, std::vector<TensorSlice>> parts;
};

class FragmentState {
public:
  FragmentState(const OuterConfig &config, std::uint32_t number);

  /// OuterState::admit and push for this fragment; the island is known.
  PushResult admit(const PushPart &part, std::uint64_t *elements) const;
  PushResult push(const PushPart &part, std::span<const float> data,
                  double now);
  Outcome locate(std::span<const TensorSlice> slices,
                 std::vector<FragmentRun> &runs, std::string &message) const;

  void publish(const RoundClosing &closing);
  std::optional<std::string> overdue(double now);

  std::shared_ptr<const Version> current() const { return newest; }
  std::uint64_t elements() const { return total; }

private:
  PushResult admitStart(const PushPart &part) const;
  PushResult admitDelta(const PushPart &part) const;
  /// The checks that hold for a part of any kind: repeats, consistency with
  /// the parts of other ranks. Accepted: it is new.
  PushResult admitPart(const PushPart &part,
                       const Contribution &contribution) const;
  PushResult take(Contribution &contribution, const PushPart &part,
                  std::span<const FragmentRun> runs,
                  std::span<const float> data);
  const Contribution &contributionOf(const PushPart &part) const;
  std::shared_ptr<RoundClosing> closeStart(double now);
  std::shared_ptr<RoundClosing> closeRound(double now);

  friend class RoundClosing;
  /// G and v one round after `newest`.
  std::shared_ptr<Version> step() const;
  std::string hashOf(const Version &version) const;

  const OuterConfig &config;
  const std::uint32_t number;
  std::vector<FragmentTensor> tensors; ///< by name
  std::uint64_t total = 0;

  std::shared_ptr<const Version> newest; ///< null: not started
  bool closing = false; ///< a version is being computed
  std::optional<double> askedSeconds; ///< when somebody first waited in vain

  // The start.
  Contribution startParameters, startMomentum;
  std::uint64_t firstRound = 0;
  bool withMomentum = false;

  // The open round. Its number is that of the version it starts from.
  std::uint64_t openRound = 0;
  std::vector<Contribution> contributions; ///< by island
  std::optional<double> firstPartSeconds;
  std::optional<double> firstCommitSeconds;
  /// Per closed round since firstRound, the members by island: which push of
  /// the past is a repeat.
  std::vector<std::vector<bool>> closed;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_FRAGMENTSTATE_H
