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
#include "tombolo/runtime/server/Coverage.h"

#include <cstdint>
#include <map>
#include <limits>
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
};

/// "wrong base" and so on, for messages.
std::string_view name(Outcome outcome);

enum class OuterOptimizer { Sgd, Nesterov };

struct OuterTensor {
  std::string name;
  std::uint64_t elements = 0;
  std::uint32_t fragment = 0;
};

struct OuterConfig {
  std::uint32_t islands = 1;
  std::uint32_t fragments = 1;
  OuterOptimizer optimizer = OuterOptimizer::Nesterov;
  double learningRate = 0.7;
  double momentum = 0.9;
  /// Every trainable parameter of the model, once.
  std::vector<OuterTensor> tensors;
  /// A delta with a larger element is refused as `NotFinite`.
  double largestDelta = 1e6;
  /// How long a round stays open after the first island has committed before
  /// `overdue` says so, and how long at least the start and the first round
  /// may take, since islands may be started by hand one after the other.
  double deadlineSeconds = std::numeric_limits<double>::infinity();
  double startSeconds = 600;
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
  bool withMomentum = false;    ///< start only
  std::vector<TensorSlice> slices;
};

/// The state of a fragment between two rounds: tensors one after the other in
/// the order of their names.
struct Version {
  std::uint64_t number = 0;
  std::vector<float> parameters;
  std::vector<float> momentum; ///< empty: all zero, nothing moved yet
  /// SHA-256 over, per tensor in the order of names: the name's length (u64),
  /// the name, the number of elements (u64), the elements; little endian.
  std::string hash;
};

/// A version that has come to be.
struct OuterEvent {
  std::uint32_t fragment = 0;
  std::uint64_t round = 0;   ///< the one that closed (a start: the first one)
  std::uint64_t version = 0; ///< the one that it made
  bool start = false;
  std::vector<std::uint32_t> members; ///< islands, ascending
  std::uint64_t tokens = 0;           ///< of all members
  double openSeconds = 0; ///< from the first part of the round to its close
  std::string hash; ///< 32 bytes
};

class RoundClosing;

struct PushResult {
  Outcome outcome = Outcome::Accepted;
  std::string message;    ///< for people; empty when accepted
  bool committed = false; ///< the island's push of this round is whole
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

/// A round that is whole and whose version is still to be computed, or the
/// start. While it is there its fragment takes nothing in.
class RoundClosing {
public:
  explicit RoundClosing(const FragmentState &fragment) : fragment(fragment) {}

  /// Makes the version: an outer step and a hash over all elements, which takes
  /// long for large models. Reads nothing that OuterState changes until the
  /// version is published, so other threads may use that meanwhile. Once.
  void compute();

  /// What has come to be; whole after `compute`.
  const OuterEvent &event() const { return happened; }

private:
  friend class FragmentState;
  const FragmentState &fragment;
  OuterEvent happened;
  std::shared_ptr<Version> version;
};

class OuterState {
public:
  /// Throws Error when the configuration contradicts itself.
  explicit OuterState(OuterConfig config);
  ~OuterState();

  const OuterConfig &config() const { return settings; }

  /// All checks that need no data, so that a push that will be refused need
  /// not be sent. No effect. `elements`, when given, receives the number of
  /// elements that the slices have together.
  PushResult admit(const PushPart &part,
                   std::uint64_t *elements = nullptr) const;

  /// Takes one rank's part of a push; `data` has the elements of the slices in
  /// order. `now` is in seconds on the caller's clock.
  PushResult push(const PushPart &part, std::span<const float> data,
                  double now);

  /// Makes a computed version the newest one and opens the next round.
  void publish(const RoundClosing &closing);

  /// What to tell who waits for the next version in vain: it is due since
  /// before `now`, and these islands have not pushed. Nothing while there is
  /// time, or while the version is being computed.
  std::optional<std::string> overdue(std::uint32_t fragment, double now);

  /// The newest version, null before the start is whole. `fragment` is below
  /// config().fragments.
  std::shared_ptr<const Version> current(std::uint32_t fragment) const;

  /// Resolves slices into places in `Version::parameters`. `message` says what
  /// is wrong when the outcome is not `Accepted`.
  Outcome locate(std::uint32_t fragment, std::span<const TensorSlice> slices,
                 std::vector<FragmentRun> &runs, std::string &message) const;

  /// Elements of a fragment.
  std::uint64_t elements(std::uint32_t fragment) const;

private:
  OuterConfig settings;
  std::vector<std::unique_ptr<FragmentState>> fragments;
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

/// One outer step in f32, each product and sum rounded by itself:
/// d = sum of factor_i delta_i in order; v := m v + d;
/// u = lr (d + m v) (Nesterov) or lr v (SGD); parameters := parameters - u.
/// No member with inner steps: nothing changes. `momentum` has as many elements
/// as `parameters`.
void outerStep(OuterOptimizer optimizer, double learningRate, double momentum,
               std::span<const OuterMember> members,
               std::span<float> parameters, std::span<float> velocity);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_OUTERSTATE_H
