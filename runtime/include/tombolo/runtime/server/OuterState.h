//===- OuterState.h - the parameter server's algorithm ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The algorithm of docs/Server.md as a state machine: no socket, thread, file
// or clock in it. The gRPC service drives it with real requests, tests drive it
// with a virtual clock.
//
// Not safe for use from several threads at once; a `Version` that was handed
// out never changes and may be read from anywhere.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_OUTERSTATE_H
#define TOMBOLO_RUNTIME_SERVER_OUTERSTATE_H

#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/server/Codec.h"
#include "tombolo/runtime/server/Coverage.h"

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tombolo::runtime {

/// What a request came to. All but the first two have no effect at all. The
/// values are those of server.proto.
enum class Outcome : int {
  Accepted = 1,
  Repeated = 2,
  Malformed = 3,
  WrongRun = 4,
  UnknownSender = 5,
  OldIncarnation = 6,
  UnknownFragment = 7,
  UnknownTensor = 8,
  BadRange = 9,
  Overlap = 10,
  BadSize = 11,
  Inconsistent = 12,
  NotStarted = 13,
  AlreadyStarted = 14,
  WrongBase = 15,
  ClosedRound = 16,
  FutureRound = 17,
  BadWeight = 18,
  NotFinite = 19,
  UnknownVersion = 20,
  Busy = 21,
  Overdue = 22,
  NotPrimary = 23,
  Removed = 24,
  Impossible = 25,
};

/// "wrong base" and so on, for messages.
std::string_view name(Outcome outcome);

/// That an island takes no part, and how it does again.
std::string removedMessage(std::uint32_t island);

enum class OuterOptimizer { Sgd, Nesterov, AdamW };

/// The outer optimizer, with the delta as the gradient, as torch.optim has it.
struct OuterSettings {
  OuterOptimizer optimizer = OuterOptimizer::Nesterov;
  double learningRate = 0.7;
  double momentum = 0.9; ///< AdamW: beta 1
  // AdamW only.
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weightDecay = 0;
};

struct OuterTensor {
  std::string name;
  std::uint64_t elements = 0;
  std::uint32_t fragment = 0;
};

struct OuterConfig {
  std::uint32_t islands = 1;
  std::uint32_t fragments = 1;
  OuterSettings outer;
  /// Of pushes and of published updates.
  Compression compression = Compression::None;
  /// A round closes with at least so many members (at most all islands).
  std::uint32_t quorum = 1;
  /// Every trainable parameter of the model, once.
  std::vector<OuterTensor> tensors;
  /// A delta with a larger element is refused as `NotFinite`.
  double largestDelta = 1e6;
  /// After the first commit of a round, how long it waits for live islands.
  double deadlineSeconds = std::numeric_limits<double>::infinity();
  /// An island that has been heard of is live for so long.
  double livenessSeconds = std::numeric_limits<double>::infinity();
  /// How long an island that has never been heard of is live, and the first
  /// version may take: islands may be started by hand one after the other.
  double startSeconds = 600;
  /// Published updates that are kept for islands that are behind.
  std::size_t keptUpdates = 4;
};

/// Part of a tensor, as a message names it.
struct TensorSlice {
  std::string tensor;
  std::vector<ElementRange> ranges;

  bool operator==(const TensorSlice &) const = default;
};

enum class PushContent { Delta, StartParameters, StartMomentum };

/// One rank's part of its island's push, without the data.
struct PushPart {
  std::uint32_t island = 0;
  std::uint64_t incarnation = 0;
  std::uint32_t rank = 0;
  PushContent content = PushContent::Delta;
  std::uint32_t fragment = 0;
  std::uint64_t round = 0;
  std::uint64_t baseVersion = 0;
  std::uint64_t tokens = 0;     ///< in the island's delta, not in this part
  std::uint64_t innerSteps = 0; ///< likewise
  /// Inner steps that the island has done: names the push in its incarnation.
  std::uint64_t step = 0;
  bool withMomentum = false; ///< start only
  std::vector<TensorSlice> slices;

  bool operator==(const PushPart &) const = default;
};

/// The state of a fragment between two rounds: tensors one after the other in
/// the order of their names.
struct Version {
  std::uint64_t number = 0;
  std::vector<float> parameters;
  /// The outer optimizer's; empty: all zero, nothing moved yet.
  std::vector<float> momentum, secondMoment;
  std::uint64_t outerSteps = 0;
  /// What publishing has lost so far and still owes; empty without compression.
  std::vector<float> error;
  /// SHA-256 over, per tensor in the order of names: the name's length (u64),
  /// the name, the number of elements (u64), the elements; little endian.
  std::string hash;
};

/// The way from one version to the next, as it is published: per tensor in the
/// order of names the encoded elements of the whole tensor.
/// parameters := parameters - decode(data).
struct Update {
  std::uint64_t version = 0; ///< that it leads to
  std::vector<std::byte> data;
};

/// Something that has come to be.
struct OuterEvent {
  enum class Kind { Start, OuterStep, Discarded, Removed, Added };
  Kind kind = Kind::OuterStep;
  std::uint32_t fragment = 0;
  std::uint64_t round = 0;   ///< the one that closed (a start: the first one)
  std::uint64_t version = 0; ///< the one that it made
  /// Islands, ascending; of the last three kinds whose push it was, or who.
  std::vector<std::uint32_t> members;
  std::uint64_t tokens = 0;           ///< of all members
  double openSeconds = 0; ///< from the first part of the round to its close
  std::string hash;       ///< 32 bytes
  /// What the server that tells of it has received from and sent to each island
  /// since its start; it adds them.
  std::vector<std::uint64_t> pushedBytes, pulledBytes;
  std::string message; ///< why something was discarded, or who asked
};

/// How a push ended, the same for all ranks of its island.
struct Receipt {
  enum class Kind {
    Open,      ///< the round is not closed yet
    Member,    ///< it is in `version`
    Late,      ///< the round closed without it; go on from `version`
    Discarded, ///< refused for good; forget it and go on from `version`
    Removed,   ///< the island takes part no more, and this push counts not
  };
  Kind kind = Kind::Open;
  std::uint64_t version = 0;
  /// Decided by this call, and the same from now on.
  bool fresh = false;
  /// Of a join: one more than the last round in which a push of the island
  /// counts, 0 for none. What it did until then must not be pushed again.
  std::uint64_t counted = 0;
  /// The inner steps after which the last such push was made. Rounds do not
  /// tell: an island that is late or lost has fewer of them than the plan.
  std::uint64_t countedSteps = 0;
};

/// Who takes part in a run, as an operator has said.
struct Membership {
  std::vector<bool> removed; ///< by island
  std::uint32_t quorum = 1;

  bool operator==(const Membership &) const = default;
};

class RoundClosing;

struct PushResult {
  Outcome outcome = Outcome::Accepted;
  std::string message;    ///< for people; empty when accepted
  bool committed = false; ///< the island's push of this round is whole
  /// The island's push of this round is refused for good (`NotFinite`).
  bool discarded = false;
  /// The part made the last push of the round (or the start) whole: the caller
  /// computes the new version and publishes it.
  std::shared_ptr<RoundClosing> closing;
};

/// The places of a part's slices in its fragment: runs of elements in the order
/// in which the data comes.
struct FragmentRun {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

class FragmentState;

/// A round whose members are decided and whose version is still to be computed,
/// or the start. While it is there its fragment takes nothing in.
class RoundClosing {
public:
  explicit RoundClosing(const FragmentState &fragment) : fragment(fragment) {}

  /// Makes the version: an outer step and a hash over all elements, which takes
  /// long for large models. Reads nothing that OuterState changes until the
  /// version is published, so other threads may use that meanwhile. Once.
  void compute();

  /// What has come to be; whole after `compute`.
  const OuterEvent &event() const { return happened; }
  /// What will be published; empty before `compute`, and for a start.
  std::span<const std::byte> update() const;

private:
  friend class FragmentState;
  const FragmentState &fragment;
  OuterEvent happened;
  std::shared_ptr<Version> version;
  std::shared_ptr<Update> made; // null: a start
};

class OuterState {
public:
  /// Throws Error when the configuration contradicts itself.
  explicit OuterState(OuterConfig config);
  ~OuterState();

  const OuterConfig &config() const { return settings; }

  /// All checks that need no data, so that a push that will be refused need
  /// not be sent. No effect. `bytes`, when given, receives the number of bytes
  /// that the encoded slices have together.
  PushResult admit(const PushPart &part, std::uint64_t *bytes = nullptr) const;

  /// Takes one rank's part of a push. `data` has, slice by slice, the encoded
  /// elements of the slice in order (a start: f32). `now` is in seconds on the
  /// caller's clock.
  PushResult push(const PushPart &part, std::span<const std::byte> data,
                  double now);

  /// Makes a computed version the newest one and opens the next round.
  void publish(const RoundClosing &closing);

  /// An island is there. `left`: it has done all of its steps, nobody needs to
  /// wait for it any more (a later incarnation comes back).
  void heard(std::uint32_t island, std::uint64_t incarnation, bool left,
             double now);
  bool isLive(std::uint32_t island, double now) const;
  /// An island has all it needs of a finished job.
  void gone(std::uint32_t island, std::uint64_t incarnation);
  /// No island is there any more that might need something.
  bool isDeserted(double now) const;
  /// To start an island in: 0 when it has never been heard of.
  std::uint64_t nextIncarnation(std::uint32_t island) const;
  /// Another server has kept the time so far. Islands of which anything is
  /// known count as heard of when they were `overheard` here; those that were
  /// not, or so long ago that they may have no way to this server, as heard of
  /// now.
  void takeOver(double now, const std::map<std::uint32_t, double> &overheard);
  /// The rounds that time has decided: to compute and to publish. To be called
  /// every now and then.
  std::vector<std::shared_ptr<RoundClosing>> tick(double now);
  /// The run is to end, for all islands after the same step: before this round
  /// of fragment 0, which none has begun. Nothing before the first version is
  /// there; the same from then on.
  std::optional<std::uint64_t> stop();
  /// 0: it goes on.
  std::uint64_t stopRound() const { return endRound; }
  /// No live island trains any more, and nothing that was pushed is pending.
  bool isFinished(double now) const;

  /// Who takes part: at first all islands, with the configuration's quorum. No
  /// round waits for one that has been removed and nothing of it is taken in,
  /// but what it has committed counts; how its next push ends it is told
  /// `Removed`. One that has been let in again joins like one that was lost.
  const Membership &membership() const { return members; }
  bool isRemoved(std::uint32_t island) const {
    return members.removed.at(island);
  }
  /// Why that cannot be; empty: it can.
  std::string objection(const Membership &wanted) const;
  void setMembership(Membership wanted);
  /// All of its steps are done.
  bool hasLeft(std::uint32_t island) const { return islands.at(island).left; }

  /// How the push that an island made after `step` for a round has ended.
  Receipt receipt(std::uint32_t fragment, std::uint32_t island,
                  std::uint64_t round, std::uint64_t step);
  /// The version that an island which has just been started goes on from
  /// (`Late`): the same for all of its ranks. `Open` before the first version
  /// is there, or when the incarnation is an old one; `Removed` when the island
  /// takes no part.
  Receipt join(std::uint32_t fragment, std::uint32_t island,
               std::uint64_t incarnation);

  /// What to tell who waits in vain for the first version. Nothing while there
  /// is time.
  std::optional<std::string> overdue(std::uint32_t fragment, double now);

  /// The version that the start has made; 0 before.
  std::uint64_t firstVersion(std::uint32_t fragment) const;
  /// The newest version, null before the start is whole. `fragment` is below
  /// config().fragments.
  std::shared_ptr<const Version> current(std::uint32_t fragment) const;
  /// A version that is the newest or that an island has been told to go on
  /// from; null when it is not kept.
  std::shared_ptr<const Version> version(std::uint32_t fragment,
                                         std::uint64_t number) const;
  /// Null when it is not kept.
  std::shared_ptr<const Update> update(std::uint32_t fragment,
                                       std::uint64_t version) const;

  /// Resolves slices into places in `Version::parameters`. `message` says what
  /// is wrong when the outcome is not `Accepted`.
  Outcome locate(std::uint32_t fragment, std::span<const TensorSlice> slices,
                 std::vector<FragmentRun> &runs, std::string &message) const;
  /// The bytes of `Update::data` with all blocks that the slices touch: slice
  /// by slice, each block once, ascending.
  Outcome locateBlocks(std::uint32_t fragment,
                       std::span<const TensorSlice> slices,
                       std::vector<FragmentRun> &runs,
                       std::string &message) const;

  /// Elements of a fragment.
  std::uint64_t elements(std::uint32_t fragment) const;

private:
  friend class DurableState; // keeps the fragments
  friend class Replay;       // brings them back
  friend class Recovery;     // likewise

  struct Presence {
    std::uint64_t incarnation = 0;
    std::optional<double> heardSeconds;
    bool left = false;
    bool gone = false;
  };
  std::vector<bool> liveIslands(double now) const;
  std::size_t quorum() const;

  OuterConfig settings;
  Membership members;
  std::vector<std::unique_ptr<FragmentState>> fragments;
  std::vector<Presence> islands;
  std::optional<double> firstSeconds, lastTickSeconds;
  std::uint64_t endRound = 0;
};

/// One member's part in an outer step.
struct OuterMember {
  std::span<const float> delta;
  std::uint64_t tokens = 0;
  std::uint64_t innerSteps = 0;
};

/// The factor of each member: w_i * s_i with w_i = tokens of i / all tokens and
/// s_i = mean inner steps / inner steps of i, computed in double and rounded
/// once. Members without inner steps have factor 0 and count in no mean.
std::vector<float> outerFactors(std::span<const OuterMember> members);

/// What an outer step takes off the parameters g, in f32, each product and sum
/// rounded by itself, with d = sum of factor_i delta_i in order:
///   sgd:      v := m v + d, u = lr v
///   nesterov: v := m v + d, u = lr (d + m v)
///   adamw:    v := b1 v + (1 - b1) d, s := b2 s + (1 - b2) d d,
///             u = (lr / (1 - b1^t)) (v / (sqrt(s) / sqrt(1 - b2^t) + eps))
///                 + (lr wd) g
/// `step` is t, from 1 on. `secondMoment` is used by AdamW alone. At least one
/// member has inner steps.
void outerStep(const OuterSettings &settings, std::uint64_t step,
               std::span<const OuterMember> members, std::span<const float> g,
               std::span<float> momentum, std::span<float> secondMoment,
               std::span<float> update);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_OUTERSTATE_H
