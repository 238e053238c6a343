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

#include <deque>

namespace tombolo::runtime {

/// Where a tensor lies in the fragment.
struct FragmentTensor {
  std::string name;
  std::uint64_t elements = 0;
  std::uint64_t offset = 0;       ///< element
  std::uint64_t updateOffset = 0; ///< byte of Update::data
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
  std::uint64_t step = 0;
  /// The parts that have come, by rank: how a repeat is recognised.
  std::map<std::uint32_t, std::vector<TensorSlice>> parts;
};

/// Which rank of an island pushes which elements: who was the first to push
/// them, for as long as this incarnation of the island lives.
struct Owners {
  explicit Owners(std::uint64_t elements) : owned(elements) {}

  std::uint64_t incarnation = 0;
  Coverage owned;
  std::map<std::uint32_t, std::vector<TensorSlice>> slices; ///< by rank
};

/// What an island that is not where the others are has been told to go on from,
/// for all of its ranks alike.
struct Directive {
  std::uint64_t incarnation = 0;
  std::uint64_t round = 0; ///< of the push that did not count; kJoin: a start
  std::uint64_t step = 0;  ///< likewise
  Receipt::Kind kind = Receipt::Kind::Late;
  std::shared_ptr<const Version> version;
  /// Of a start, as in Receipt.
  std::uint64_t counted = 0, countedSteps = 0;
  /// Round and step of the island's first push since. A rank may send it while
  /// another has not asked yet; the push after that only when all have.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> next;

  static constexpr std::uint64_t kJoin = ~std::uint64_t(0);
};

/// A push that was refused for good.
struct Refused {
  std::uint64_t incarnation = 0;
  std::uint64_t round = 0;
  std::uint64_t step = 0;

  bool operator==(const Refused &) const = default;
};

struct FragmentImage;

class FragmentState {
public:
  FragmentState(const OuterConfig &config, std::uint32_t number);

  /// As in OuterState, for this fragment; the island is known.
  PushResult admit(const PushPart &part, std::uint64_t *bytes) const;
  PushResult push(const PushPart &part, std::span<const std::byte> data,
                  double now);
  Outcome locate(std::span<const TensorSlice> slices,
                 std::vector<FragmentRun> &runs, std::string &message) const;
  Outcome locateBlocks(std::span<const TensorSlice> slices,
                       std::vector<FragmentRun> &runs,
                       std::string &message) const;

  /// Closes the open round when it is time to. `live` has one entry per island.
  std::shared_ptr<RoundClosing> closeIfDue(const std::vector<bool> &live,
                                           std::size_t quorum, double now);
  void publish(const RoundClosing &closing);
  /// `removed`: the island takes part no more.
  Receipt receipt(std::uint32_t island, std::uint64_t round, std::uint64_t step,
                  bool removed);
  Receipt join(std::uint32_t island, std::uint64_t incarnation);
  std::optional<std::string> overdue(double now);
  /// Something is whole and not yet published.
  bool isPending(std::size_t quorum) const;

  std::shared_ptr<const Version> current() const { return newest; }
  /// How it came to be. Null before.
  const OuterEvent *lastEvent() const { return newest ? &last : nullptr; }
  std::shared_ptr<const Version> version(std::uint64_t version) const;
  std::shared_ptr<const Update> update(std::uint64_t version) const;
  std::uint64_t firstVersion() const { return firstRound; }
  std::uint64_t elements() const { return total; }
  std::uint64_t updateBytes() const { return totalUpdateBytes; }

  // For a server that comes back.
  /// The parameters of a start that is being made are nowhere else.
  bool canCapture() const { return newest || !closing; }
  FragmentImage capture() const;
  /// Throws Error when the image does not fit.
  void restore(FragmentImage image, double now);
  /// The start, if it has come whole and no version has been made of it.
  std::shared_ptr<RoundClosing> startAgain(double now);
  /// Something of an island has been taken in, or it has been told something.
  bool knows(std::uint32_t island) const;
  /// The newest one of an island that it knows.
  std::optional<std::uint64_t> incarnationOf(std::uint32_t island) const;
  /// Decides the open round as it has been decided before; throws Error when
  /// the islands have not all committed.
  std::shared_ptr<RoundClosing>
  closeAgain(const std::vector<std::uint32_t> &members, double now);
  /// As `push` did when it refused a push for good.
  void refuseAgain(std::uint32_t island, const Refused &push);
  /// All islands begin with incarnation 0 again, in another run: pushes of
  /// which only a part has come go, whole ones stay.
  void forgetIncarnations();

private:
  PushResult admitStart(const PushPart &part) const;
  PushResult admitDelta(const PushPart &part) const;
  /// The checks that hold for a part of any kind: repeats, consistency with
  /// the parts of other ranks. Accepted: it is new.
  PushResult admitPart(const PushPart &part,
                       const Contribution &contribution) const;
  /// A rank pushes in every round what it has pushed in the first, and nothing
  /// that another one has. `runs` are the part's.
  PushResult admitOwner(const PushPart &part,
                        std::span<const FragmentRun> runs) const;
  /// What has been taken has its owner from now on.
  void noteOwner(const PushPart &part, std::span<const FragmentRun> runs);
  PushResult take(Contribution &contribution, const PushPart &part,
                  std::span<const FragmentRun> runs,
                  std::span<const float> data);
  /// A push has come from an island that was told where to go on from.
  void followed(const PushPart &part);
  PushResult refuseForGood(const PushPart &part, std::string message);
  const FragmentTensor *find(const std::string &name) const;
  const Contribution &contributionOf(const PushPart &part) const;
  Compression compressionOf(const PushPart &part) const {
    return part.content == PushContent::Delta ? config.compression
                                              : Compression::None;
  }
  bool isMember(std::uint32_t island, std::uint64_t round) const;
  /// An island's last push that counts is in this version: it may yet ask what
  /// became of it.
  bool isOwed(std::uint64_t version) const;
  /// As in Receipt.
  std::uint64_t countedRounds(std::uint32_t island) const;
  std::uint64_t countedSteps(std::uint32_t island) const;
  bool isCommitted(std::uint32_t island) const;
  bool isStartWhole() const;
  /// The island's push of the open round has been refused for good.
  bool isRefused(std::uint32_t island) const;
  std::shared_ptr<RoundClosing> closeStart(double now);
  std::shared_ptr<RoundClosing> closeRound(std::vector<std::uint32_t> members,
                                           double now);

  friend class RoundClosing;
  /// The version one round after `newest`, and the way there.
  void step(const std::vector<std::uint32_t> &members,
            std::shared_ptr<Version> &version,
            std::shared_ptr<Update> &update) const;
  std::string hashOf(const Version &version) const;

  const OuterConfig &config;
  const std::uint32_t number;
  std::vector<FragmentTensor> tensors; ///< by name
  std::uint64_t total = 0;
  std::uint64_t totalUpdateBytes = 0;

  std::shared_ptr<const Version> newest;             ///< null: not started
  OuterEvent last;                                   ///< that made it
  std::deque<std::shared_ptr<const Update>> updates; ///< ascending
  bool closing = false;               ///< a version is being computed
  std::optional<double> askedSeconds; ///< when somebody first waited in vain

  // The start.
  Contribution startParameters, startMomentum;
  std::uint64_t firstRound = 0;
  bool withMomentum = false;

  // The open round. Its number is that of the version it starts from.
  std::uint64_t openRound = 0;
  std::vector<Contribution> contributions;          ///< by island
  std::vector<Owners> owners;                       ///< by island
  std::vector<std::optional<Refused>> refused;      ///< by island, the last one
  std::vector<std::optional<Directive>> directives; ///< by island
  std::optional<double> firstPartSeconds;
  std::optional<double> firstCommitSeconds;
  /// Per closed round since firstRound, the members by island: which push of
  /// the past is a repeat.
  std::vector<std::vector<bool>> closed;
  std::vector<std::uint64_t> memberSteps; ///< by island, of all closed rounds
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_FRAGMENTSTATE_H
