//===- RankExchange.h - a rank's part in the outer steps -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// ExchangeClient.cpp has rounds from the first to the last, PushOrder.cpp the
// order in which an island pushes fragments and waits for them, RankAlone.cpp
// how it goes on without its servers, RankSnapshot.cpp what a snapshot holds of
// fragments and how a rank goes on from one.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_RANKEXCHANGE_H
#define TOMBOLO_LIB_SERVER_RANKEXCHANGE_H

#include "HeldTensor.h"
#include "ServerClient.h"

#include "tombolo/runtime/server/ExchangeClient.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace tombolo::runtime {

/// What leads from one version of a fragment to another.
struct Fetched {
  std::vector<Buffer> updates; ///< one after the other
  Buffer state;                ///< or the version as a whole
};

/// How a push is made.
struct PushManner {
  /// Local goes on changing, so what it is now has to be kept.
  bool trainsOn = true;
  /// Its thread asks how it has ended as soon as it is there; else `apply`
  /// does. The server remembers one thing that it has told an island of a
  /// fragment until it tells the next. So who has just been told something may
  /// push, but not ask, before the other ranks of the island have been told the
  /// same.
  bool asksAtOnce = false;
  bool sends = true; ///< false: the server has it
  /// What local was when the push was made, by tensor; empty: as it is now.
  std::vector<std::vector<float>> saved = {};
};

/// A push that is on its way, and what comes back.
struct InFlight {
  // Set before the thread starts.
  std::uint64_t base = 0; ///< version and round
  std::uint64_t step = 0; ///< inner steps done
  std::uint64_t innerSteps = 0;
  bool asksAtOnce = false;
  /// The island has gone on without the receipt.
  bool isPutOff = false;
  Buffer encoded;
  /// By tensor of the fragment. `atPush`: local then, when training goes on
  /// meanwhile; `errorBefore`: the error feedback, should the push not count.
  std::vector<std::vector<float>> atPush, errorBefore;

  // Set by who asks.
  Receipt receipt;
  Fetched fetched; ///< from `base` to the receipt's version

  std::thread pushing, asking;
  int running = 0; ///< of these; guarded by RankExchange::landing
  std::exception_ptr pushFailure, askFailure;
  std::atomic<bool> isLost = false; ///< the push: nobody need ask any more

  void join() {
    if (pushing.joinable())
      pushing.join();
    if (asking.joinable())
      asking.join();
  }
};

/// The inverse of `firstVersion`: the inner steps after which the fragment is
/// pushed for the version.
std::uint64_t stepsBefore(const ExchangeOptions &options,
                          std::uint32_t fragment, std::uint64_t version);

class RankExchange final : public Exchange {
public:
  RankExchange(ExchangeOptions given, std::vector<ExchangeTensor> tensors,
               ArenaAccess access);
  ~RankExchange() override;

  std::uint64_t begin(std::uint64_t stepsDone) override;
  void beginPush(std::uint32_t fragment, std::uint64_t stepsDone) override;
  Applied apply(std::uint32_t fragment, std::uint64_t stepsDone) override;
  std::vector<std::uint32_t> putOff() const override;
  Applied applyLate(std::uint32_t fragment, std::uint64_t stepsDone) override;
  void requestStop() override;
  std::optional<std::uint64_t> stopStep() const override;
  bool isRemoved() const override { return removedStep.has_value(); }
  void end(std::uint64_t stepsDone) override;
  void outerMomentum(std::size_t tensor, std::uint64_t first,
                     std::span<float> to) override;
  void setOuterMomentum(std::size_t tensor, std::uint64_t first,
                        std::span<const float> from) override;
  std::vector<FragmentPoint> points() const override;
  void kept(Kept what, std::size_t tensor, std::uint64_t first,
            std::span<float> to) const override;
  void setPoints(const std::vector<FragmentPoint> &points) override;
  void setKept(Kept what, std::size_t tensor, std::uint64_t first,
               std::span<const float> from) override;
  void abort() noexcept override { client.abort(); }

private:
  struct Fragment {
    std::vector<HeldTensor *> tensors;
    std::uint64_t version = 0;   ///< what `base` is
    std::uint64_t stepsDone = 0; ///< that no later delta contains
    bool reset = false;          ///< to be told by the next `apply`
    std::unique_ptr<InFlight> flight;
  };

  Fragment &known(std::uint32_t fragment, const char *what);
  void beginStart(std::uint64_t version);
  void pushStart(std::uint32_t fragment, std::uint64_t version, bool momentum,
                 bool isMomentum);
  server::v1::WaitReply join(std::uint32_t number, std::uint64_t stepsDone);
  HeldTensor &piece(const char *what, std::size_t tensor, std::uint64_t first,
                    std::size_t count);
  /// Installs a version of a fragment as the base, and the arena's elements.
  void install(std::uint32_t number, std::uint64_t version,
               const Fetched &fetched);
  /// The same for an island that has a snapshot: what of its delta the server
  /// has counted is in `fetched`, the rest lives on in local.
  void goOn(std::uint32_t number, const FragmentPoint &from,
            const server::v1::WaitReply &reply, const Fetched &fetched,
            std::uint64_t stepsDone);
  /// local := base + (local - reference).
  void moveOn(HeldTensor &held, std::span<const float> reference);
  /// A push has ended so that the island takes part no more.
  void leave(Fragment &fragment, InFlight &flight, std::uint64_t stepsDone);
  void startPush(std::uint32_t number, std::uint64_t stepsDone,
                 PushManner manner);
  /// Runs a part of a flight in a thread, and notes its end or what it throws.
  std::thread inThread(InFlight &flight, std::exception_ptr &failure,
                       std::function<void()> body);
  void startAsking(std::uint32_t number, InFlight &flight);
  void sendPush(std::uint32_t number, InFlight &flight);
  /// How the push has ended, and what leads on from there.
  void askReceipt(std::uint32_t number, InFlight &flight);
  /// Waits until the push has ended, and goes on from there.
  Applied land(std::uint32_t number, std::uint64_t stepsDone);
  /// Keeps what local was at the push, for training goes on after all.
  void keepPushed(Fragment &fragment);

  /// Whether the island takes the receipt now; all of its ranks call it
  /// together. `waits`: for as long as each can reach a server.
  bool isTakenNow(std::uint32_t number, std::uint64_t stepsDone, bool waits);
  /// Whether this rank has all of it; waits a little (RankAlone.cpp).
  bool hasLanded(InFlight &flight, bool waits, bool mayGoOn);
  bool mayBeAlone() const {
    return options.onUnreachable && options.mostStepsAlone > 0;
  }

  /// Fetches what leads from `from` to `to`: updates, or the whole state.
  Fetched fetch(std::uint32_t number, std::uint64_t from, std::uint64_t to);
  /// The same from nothing.
  Fetched fetchState(std::uint32_t number, std::uint64_t version);
  /// base := the version that was fetched.
  void advance(HeldTensor &held, std::size_t index, const Fetched &fetched);
  Buffer pullBytes(std::uint32_t number, std::uint64_t version,
                   server::v1::PullRequest::What what, bool &kept);
  /// What is asked for of a fragment, and how many bytes of it will come.
  server::v1::PullRequest pullRequest(std::uint32_t number,
                                      server::v1::PullRequest::What what,
                                      std::uint64_t &bytes) const;
  std::uint64_t newestVersion(std::uint32_t number, bool givesUp = false);
  /// Every reply says whether the run is to end.
  void noteStop(const server::v1::WaitReply &reply);
  server::v1::WaitReply wait(const server::v1::WaitRequest &request,
                             bool givesUp = false);

  /// When a round of a fragment has its turn: after which step the plan pushes
  /// it, and the fragment.
  using Turn = std::pair<std::uint64_t, std::uint32_t>;
  Turn turnOf(std::uint32_t fragment, std::uint64_t round) const;
  /// Pushes what else has had its turn before the push of `number` that is
  /// under way. False: some of that cannot be pushed yet, and so nobody may
  /// wait for this one.
  bool pushEarlierOnes(std::uint32_t number, std::uint64_t stepsDone);
  /// Of an island that has passed over steps.
  void pushPassedOver(std::uint64_t stepsDone);
  void beat(std::size_t server);
  /// Pushes all there is and waits until it counts.
  void settle(std::uint64_t stepsDone);

  void readArena(const HeldTensor &held, std::uint64_t first,
                 std::span<float> to) {
    arena.read(held.tensor.address + first * sizeof(float),
               std::as_writable_bytes(to));
  }
  void writeArena(const HeldTensor &held, std::uint64_t first,
                  std::span<const float> from) {
    arena.write(held.tensor.address + first * sizeof(float),
                std::as_bytes(from));
  }
  void installBase(const HeldTensor &held) { writeArena(held, 0, held.base); }

  const ExchangeOptions options;
  Buffers buffers;
  ArenaAccess arena;
  std::vector<HeldTensor> tensors;
  std::vector<Fragment> fragments;
  std::vector<FragmentPoint> resumed; ///< of a snapshot, until begun
  bool begun = false;
  bool isOver = false;                      // it has come to its end
  std::optional<std::uint64_t> removedStep; // behind which it takes no part
  std::atomic<std::uint64_t> stopRound = 0; // 0: the run goes on
  // What all ranks of the island know: the same, and that one is cut off.
  std::uint64_t agreedStop = 0;
  bool isCutOff = false;
  std::atomic<bool> wantsStop = false;
  ServerClient client;

  std::mutex landing; // guards `running` of all flights
  std::condition_variable landed;

  // The island's heartbeats, one for each server, from its rank 0.
  std::mutex heartMutex;
  std::condition_variable heartStops;
  bool stopping = false;
  std::vector<std::thread> hearts;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_RANKEXCHANGE_H
