//===- Mpi.cpp - ranks as processes of MPI --------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One thread makes all calls of MPI, so that a library without support for
// threads is enough, and so that no wait is one of MPI's own, which nothing
// could end: others hand it operations, which it begins without blocking and
// asks for until they are done. When this rank gives up it makes no further
// call, so that nothing writes to memory that nobody waits for any more.
//
// A peer that dies is the launcher's business: mpirun ends the whole launch.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Transport.h"

#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include <sched.h>
#include <sys/prctl.h>

namespace tombolo::runtime {

namespace {

using Clock = std::chrono::steady_clock;

/// The largest message in one call; longer ones go in pieces.
constexpr std::size_t kLongest = std::size_t{1} << 30;
/// Behind the last operation that came to an end, how long the thread asks
/// again at once, and how long it sleeps then at most.
constexpr std::chrono::microseconds kEager{30}, kNap{200};

std::string textOf(int error) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(error, text, &length);
  return std::string(text, static_cast<std::size_t>(length));
}

/// What the thread does for another.
struct Operation {
  /// Begins it; adds its requests, or does all at once. Returns MPI's error.
  std::function<int(std::vector<MPI_Request> &)> begin;
  std::vector<MPI_Request> requests;
  bool isDone = false;
  int error = MPI_SUCCESS;
};

using Begin = std::function<int(std::vector<MPI_Request> &)>;

/// The thread, and what it shares with those who wait.
class Progress {
public:
  Progress() : state(std::make_shared<State>()) {
    thread = std::thread([state = state] { state->run(); });
  }

  /// Waits for the end of MPI, unless this rank has given up.
  ~Progress() {
    {
      std::unique_lock lock(state->mutex);
      state->isLeaving = true;
      state->changed.notify_all();
      if (state->isAborted)
        state->done.wait_for(lock, kFarewell,
                             [&] { return state->hasStopped; });
      if (state->isAborted && !state->hasStopped) {
        thread.detach(); // MPI waits for somebody who has gone
        return;
      }
    }
    thread.join();
  }

  /// Throws PeerError when it does not end in time, or this rank gives up.
  /// `blocks`: `begin` returns when all is done, and touches nothing of the
  /// caller's stack, as it may outlast the caller.
  void perform(const std::string &what, std::chrono::milliseconds timeout,
               bool blocks, Begin begin) {
    State &shared = *state;
    auto operation = std::make_shared<Operation>();
    operation->begin = std::move(begin);
    std::unique_lock lock(shared.mutex);
    shared.fresh.push_back(operation);
    shared.changed.notify_all();
    bool inTime = shared.done.wait_for(
        lock, timeout, [&] { return operation->isDone || shared.isAborted; });
    if (!inTime)
      shared.giveUp("nothing came for " +
                    std::to_string(timeout.count() / 1000.0) + " seconds");
    else if (!shared.isAborted && operation->error != MPI_SUCCESS)
      shared.giveUp(textOf(operation->error));
    if (!shared.isAborted)
      return;
    // Until the thread has let go of the caller's memory.
    if (!blocks)
      shared.done.wait(lock, [&] { return shared.hasStopped; });
    throw PeerError(what, ": ", shared.why);
  }

  void abort(const std::string &reason) noexcept {
    std::lock_guard lock(state->mutex);
    state->giveUp(reason);
  }

private:
  static constexpr std::chrono::seconds kFarewell{1};

  struct State {
    std::mutex mutex;
    std::condition_variable changed, done;
    std::deque<std::shared_ptr<Operation>> fresh;
    bool isAborted = false, isLeaving = false, hasStopped = false;
    std::string why;

    void giveUp(const std::string &reason) {
      if (!isAborted) {
        isAborted = true;
        why = reason;
      }
      changed.notify_all();
      done.notify_all();
    }

    void run();
  };

  std::shared_ptr<State> state;
  std::thread thread;
};

/// Asks MPI whether it has ended.
bool hasEnded(Operation &operation) {
  int isComplete = 0;
  if (operation.error == MPI_SUCCESS)
    operation.error = MPI_Testall(static_cast<int>(operation.requests.size()),
                                  operation.requests.data(), &isComplete,
                                  MPI_STATUSES_IGNORE);
  return isComplete || operation.error != MPI_SUCCESS;
}

void Progress::State::run() {
  ::prctl(PR_SET_TIMERSLACK, 1000UL); // nanoseconds: naps are short
  std::vector<std::shared_ptr<Operation>> active;
  auto last = Clock::now();
  std::chrono::microseconds nap{1};
  for (;;) {
    std::size_t before = active.size();
    {
      std::unique_lock lock(mutex);
      if (active.empty())
        changed.wait(lock,
                     [&] { return !fresh.empty() || isAborted || isLeaving; });
      if (isAborted || (active.empty() && fresh.empty()))
        break;
      active.insert(active.end(), fresh.begin(), fresh.end());
      fresh.clear();
    }
    bool moved = active.size() > before;
    for (std::size_t i = before; i < active.size(); ++i)
      active[i]->error = active[i]->begin(active[i]->requests);
    auto ended = std::stable_partition(
        active.begin(), active.end(),
        [](const auto &operation) { return !hasEnded(*operation); });
    if (ended != active.end()) {
      moved = true;
      std::lock_guard lock(mutex);
      for (auto at = ended; at != active.end(); ++at)
        (*at)->isDone = true;
      active.erase(ended, active.end());
      done.notify_all();
    }
    if (moved) {
      last = Clock::now();
      nap = std::chrono::microseconds(1);
    } else if (Clock::now() - last < kEager) {
      ::sched_yield();
    } else {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, nap, [&] { return !fresh.empty() || isAborted; });
      nap = std::min(nap * 2, kNap);
    }
  }
  std::unique_lock lock(mutex);
  bool gaveUp = isAborted;
  hasStopped = true;
  done.notify_all();
  lock.unlock();
  if (!gaveUp)
    MPI_Finalize();
}

int bytesOf(std::size_t size) { return static_cast<int>(size); }

class MpiCommunicator : public Communicator {
public:
  MpiCommunicator(std::shared_ptr<Progress> progress, MPI_Comm comm, int self,
                  std::vector<std::uint64_t> ranks,
                  std::chrono::milliseconds timeout)
      : Communicator(self, static_cast<int>(ranks.size())),
        progress(std::move(progress)), comm(comm), ranks(std::move(ranks)),
        timeout(timeout) {}

  void send(int to, std::uint32_t tag,
            std::span<const std::byte> data) override {
    transfer("sending to", to, data, to, {}, to, tag, true, false);
  }

  void receive(int from, std::uint32_t tag,
               std::span<std::byte> data) override {
    transfer("receiving from", from, {}, from, data, from, tag, false, true);
  }

  void sendReceive(int to, std::span<const std::byte> out, int from,
                   std::span<std::byte> in, std::uint32_t tag) override {
    transfer("exchanging with", from, out, to, in, from, tag, true, true);
  }

  void allGather(std::span<std::byte> data) override {
    std::size_t part = data.size() / static_cast<std::size_t>(size());
    if (size() == 1 || part > kLongest) // MPI counts in int
      return Communicator::allGather(data);
    perform("an all-gather", [&](std::vector<MPI_Request> &requests) {
      return MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data.data(),
                            bytesOf(part), MPI_BYTE, comm,
                            &requests.emplace_back());
    });
  }

  void allToAll(std::span<std::byte> data) override {
    std::size_t part = data.size() / static_cast<std::size_t>(size());
    if (size() == 1 || part > kLongest)
      return Communicator::allToAll(data);
    perform("an all-to-all", [&](std::vector<MPI_Request> &requests) {
      return MPI_Ialltoall(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data.data(),
                           bytesOf(part), MPI_BYTE, comm,
                           &requests.emplace_back());
    });
  }

  void barrier() override {
    perform("a barrier", [&](std::vector<MPI_Request> &requests) {
      return MPI_Ibarrier(comm, &requests.emplace_back());
    });
  }

private:
  template <typename Begin> void perform(const std::string &what, Begin begin) {
    progress->perform(what, timeout, /*blocks=*/false, begin);
  }

  void transfer(const char *what, int peer, std::span<const std::byte> out,
                int to, std::span<std::byte> in, int from, std::uint32_t tag,
                bool sends, bool receives) {
    auto piece = [](auto data, std::size_t at) {
      return at >= data.size()
                 ? data.first(0)
                 : data.subspan(at, std::min(kLongest, data.size() - at));
    };
    std::string name = what + std::string(" rank ") +
                       std::to_string(ranks[static_cast<std::size_t>(peer)]);
    std::size_t at = 0;
    do { // a message of nothing is one, too
      perform(name, [&](std::vector<MPI_Request> &requests) {
        int error = MPI_SUCCESS;
        if (receives && (at == 0 || at < in.size())) {
          auto part = piece(in, at);
          error =
              MPI_Irecv(part.data(), bytesOf(part.size()), MPI_BYTE, from,
                        static_cast<int>(tag), comm, &requests.emplace_back());
        }
        if (error == MPI_SUCCESS && sends && (at == 0 || at < out.size())) {
          auto part = piece(out, at);
          error =
              MPI_Isend(part.data(), bytesOf(part.size()), MPI_BYTE, to,
                        static_cast<int>(tag), comm, &requests.emplace_back());
        }
        return error;
      });
      at += kLongest;
    } while (at < std::max(in.size(), out.size()));
  }

  std::shared_ptr<Progress> progress;
  MPI_Comm comm;
  std::vector<std::uint64_t> ranks;
  std::chrono::milliseconds timeout;
};

class MpiTransport : public Transport {
public:
  MpiTransport(std::uint64_t rank, TransportOptions options)
      : self(rank), options(std::move(options)),
        progress(std::make_shared<Progress>()) {
    struct Found {
      int provided = 0, size = 0, number = 0, isSet = 0;
      void *mostTag = nullptr;
    };
    auto found = std::make_shared<Found>();
    progress->perform(
        "starting MPI", this->options.connectTimeout, /*blocks=*/true,
        [found](std::vector<MPI_Request> &) {
          int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED,
                                      &found->provided);
          if (error != MPI_SUCCESS)
            return error;
          MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
          MPI_Comm_size(MPI_COMM_WORLD, &found->size);
          MPI_Comm_rank(MPI_COMM_WORLD, &found->number);
          return MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &found->mostTag,
                                   &found->isSet);
        });
    if (found->provided < MPI_THREAD_FUNNELED)
      fail("this MPI does not work beside threads: expected at least "
           "MPI_THREAD_FUNNELED");
    if (!found->isSet || *static_cast<int *>(found->mostTag) <
                             static_cast<int>(Communicator::kMaxTag))
      fail("this MPI has too few tags: expected " +
           std::to_string(Communicator::kMaxTag));
    world = static_cast<std::uint64_t>(found->size);
    if (static_cast<std::uint64_t>(found->number) < rank)
      fail("rank " + std::to_string(rank) + " of the island is process " +
           std::to_string(found->number) +
           " of MPI: expected MPI to have started all ranks of the island, in "
           "their order (mpirun -n RANKS)");
    first = static_cast<std::uint64_t>(found->number) - rank;
  }

  std::unique_ptr<Communicator>
  connect(const std::string &name,
          std::span<const std::uint64_t> ranks) override {
    auto at = std::find(ranks.begin(), ranks.end(), self);
    if (at == ranks.end())
      throw Error("rank ", self, " is no member of communicator '", name, "'");
    if (first + ranks.back() >= world)
      throw Error(Status::Usage, "MPI has started ", world,
                  " processes; expected one for rank ", ranks.back(),
                  " of the island, too (mpirun -n RANKS)");
    std::vector<int> members;
    for (std::uint64_t rank : ranks)
      members.push_back(static_cast<int>(first + rank));
    auto comm = std::make_shared<MPI_Comm>(MPI_COMM_NULL);
    progress->perform(
        "connecting '" + name + "'", options.connectTimeout, /*blocks=*/true,
        [comm, members](std::vector<MPI_Request> &) {
          MPI_Group all, group;
          MPI_Comm_group(MPI_COMM_WORLD, &all);
          MPI_Group_incl(all, static_cast<int>(members.size()), members.data(),
                         &group);
          // All members make their communicators in one common order.
          int error =
              MPI_Comm_create_group(MPI_COMM_WORLD, group, 0, comm.get());
          MPI_Group_free(&group);
          MPI_Group_free(&all);
          if (error == MPI_SUCCESS)
            error = MPI_Comm_set_errhandler(*comm, MPI_ERRORS_RETURN);
          return error;
        });
    return std::make_unique<MpiCommunicator>(
        progress, *comm, static_cast<int>(at - ranks.begin()),
        std::vector<std::uint64_t>(ranks.begin(), ranks.end()),
        options.timeout);
  }

  void abort(const std::string &why) noexcept override { progress->abort(why); }

private:
  [[noreturn]] void fail(const std::string &message) {
    progress->abort(message); // MPI is not waited for
    throw Error(Status::Usage, message);
  }

  std::uint64_t self, first = 0, world = 0;
  TransportOptions options;
  std::shared_ptr<Progress> progress;
};

} // namespace

} // namespace tombolo::runtime

extern "C" tombolo::runtime::Transport *tombolo_create_mpi_transport(
    std::uint64_t rank, const tombolo::runtime::TransportOptions *options) {
  return new tombolo::runtime::MpiTransport(rank, *options);
}
