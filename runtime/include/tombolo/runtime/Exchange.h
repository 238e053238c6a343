//===- Exchange.h - a rank's side of the outer synchronisation --*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the executor calls for the plan's Push and Apply instructions. The
// algorithm is docs/Server.md; the client of the parameter server implements
// it (ExchangeClient.h).
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_EXCHANGE_H
#define TOMBOLO_RUNTIME_EXCHANGE_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// `count` runs of `length` elements of a row-major tensor, `stride` elements
/// from the begin of one run to the begin of the next (plan.proto, Slice).
struct ElementRange {
  std::uint64_t begin = 0;
  std::uint64_t length = 0;
  std::uint64_t count = 1;
  std::uint64_t stride = 0;

  bool operator==(const ElementRange &) const = default;
};

/// A fragment is pushed when the inner steps done are this modulo `innerSteps`,
/// but not before the first step.
constexpr std::uint64_t pushOffset(std::uint64_t fragment,
                                   std::uint64_t fragments,
                                   std::uint64_t innerSteps) {
  return fragment * innerSteps / fragments;
}

/// What one rank holds of one trainable f32 parameter.
struct ExchangeTensor {
  std::string name;           ///< as in the checkpoint
  std::uint64_t elements = 0; ///< of the whole parameter
  std::uint32_t fragment = 0; ///< whose synchronisation carries it
  /// What lies here, in the order in which it lies in memory without gaps. The
  /// whole parameter is {0, elements, 1, elements}.
  std::vector<ElementRange> ranges;
  std::uint64_t address = 0; ///< arena byte of the first element
  /// This rank pushes these elements. Over the ranks of an island each element
  /// of each parameter has exactly one owner.
  bool owner = false;
};

/// How the exchange reaches the rank's arena, wherever it lies.
struct ArenaAccess {
  std::function<void(std::uint64_t address, std::span<std::byte> to)> read;
  std::function<void(std::uint64_t address, std::span<const std::byte> from)>
      write;
};

/// Makes each number the largest that a rank of the island has; all of them
/// call it together, as the calls of Exchange that need it are. Empty: it is
/// alone.
using IslandLargest = std::function<void(std::span<std::uint64_t> numbers)>;

/// Where a fragment stands between two steps, the same on all ranks of an
/// island.
struct FragmentPoint {
  std::uint64_t version = 0;   ///< of the base
  std::uint64_t stepsDone = 0; ///< inner steps that no later delta contains
  /// A push is under way: how many inner steps were done when it was made.
  std::optional<std::uint64_t> pushedStep;
};

/// What a rank keeps of a tensor beside the arena; docs/Server.md, A rank.
enum class Kept {
  /// The version that the next delta is measured from. Of a snapshot none where
  /// nothing was done since: the parameters are it.
  Base,
  Error, ///< of owned tensors when they are compressed: before a push under way
  Pushed, ///< local at the push, where one is under way
};

/// All calls but `abort` come from one thread at a time. Every call may block
/// for as long as another island needs; each throws Error (status 3) when the
/// server is lost or refuses.
class Exchange {
public:
  virtual ~Exchange() = default;

  /// Agrees with the other islands on the first version: the owners of island
  /// 0 upload their elements, then every rank of every island installs what the
  /// server has. Called after the parameters stand in the arena and before the
  /// first step, and again until all ranks of the island get the same answer.
  /// `stepsDone`: inner steps done before (resume). Returns how many are done
  /// now: as many, or, when an island that was restarted finds its pushes of
  /// later rounds committed, those of the version that it has installed.
  virtual std::uint64_t begin(std::uint64_t stepsDone) = 0;

  /// Sends base - local of the owned elements of `fragment`, while the caller
  /// goes on: the arena may change as soon as this returns. `stepsDone` counts
  /// the inner steps of the run that are complete: n + 1 in step n, all in
  /// Program.finish. How many steps and tokens the delta holds follows from the
  /// pushes before; without any step since then, this and the `apply` after it
  /// do nothing.
  virtual void beginPush(std::uint32_t fragment, std::uint64_t stepsDone) = 0;

  /// What `apply` has done to the arena.
  enum class Applied {
    Nothing, ///< there was no push, or its receipt is taken later
    Version, ///< the elements go on from a newer version
    /// They are those of a newer version, because the island's delta was not
    /// finite: inner optimizer state of the fragment must be reset.
    Reset,
  };

  /// Waits until it is known how the last push of `fragment` has ended and goes
  /// on from there in the arena, owned elements or not: with the version that
  /// it went into, or, when it came too late, with a newer one and another push
  /// at once. Same for all ranks of the island.
  virtual Applied apply(std::uint32_t fragment, std::uint64_t stepsDone) = 0;

  /// Fragments whose receipt the island was to take, and has gone on without,
  /// since one of its ranks can reach no server (docs/Server.md, Cut off). Same
  /// for all ranks of the island.
  virtual std::vector<std::uint32_t> putOff() const = 0;
  /// Between two steps, for each of these: as `apply` when the receipt has come
  /// to all ranks of the island by now, else nothing.
  virtual Applied applyLate(std::uint32_t fragment,
                            std::uint64_t stepsDone) = 0;

  /// This island was told to end: asks that all do, after the same step. Of
  /// rank 0; any number of times.
  virtual void requestStop() = 0;
  /// The steps after which the run ends, if it was asked to: the same for all
  /// ranks of all islands, and known before any has done as many, but for an
  /// island that has gone on alone. All ranks of that know it at once.
  virtual std::optional<std::uint64_t> stopStep() const = 0;

  /// The island takes part in the run no more: an `apply` has learned so, on
  /// all ranks of the island after the same step, which `stopStep` is then. The
  /// calls of rounds do nothing from then on, `end` neither; what a snapshot
  /// holds is as if the push that did not count had not been made.
  virtual bool isRemoved() const { return false; }

  /// After Program.finish: waits until no island trains any more and installs
  /// the final versions, the same everywhere.
  virtual void end(std::uint64_t stepsDone) = 0;

  /// The outer optimizer's momentum for elements of tensor number `tensor` (as
  /// handed to the constructor), from its local element `first` on, of the
  /// version last applied. For checkpoints: NAME/outer_momentum, saved by the
  /// owners of island 0. Zeros where an island that would go on alone cannot
  /// ask for it.
  virtual void outerMomentum(std::size_t tensor, std::uint64_t first,
                             std::span<float> to) = 0;

  /// What `outerMomentum` gave, before `begin` of a resumed run; owners of
  /// island 0 hand it in for every owned tensor, piece by piece and each
  /// element once, or for none.
  virtual void setOuterMomentum(std::size_t tensor, std::uint64_t first,
                                std::span<const float> from) = 0;

  /// For a snapshot between two steps: where each fragment stands, and the
  /// local elements of tensor number `tensor` (as above) from `first` on of
  /// what is kept beside the arena.
  virtual std::vector<FragmentPoint> points() const = 0;
  virtual void kept(Kept what, std::size_t tensor, std::uint64_t first,
                    std::span<float> to) const = 0;

  /// What these gave, before `begin`: every rank hands in all of it, each
  /// element once, of the step whose parameters stand in the arena. Then
  /// `begin` goes on from there: what of it the server has not counted is
  /// pushed in time.
  virtual void setPoints(const std::vector<FragmentPoint> &points) = 0;
  virtual void setKept(Kept what, std::size_t tensor, std::uint64_t first,
                       std::span<const float> from) = 0;

  /// Makes the calls that block in other threads, and all later ones, throw.
  virtual void abort() noexcept = 0;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_EXCHANGE_H
