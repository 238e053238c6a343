//===- Inproc.cpp - ranks as threads of one process -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Transport.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

namespace tombolo::runtime {

struct InprocHub::State {
  std::uint64_t ranks = 0;
  TransportOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  // communicator, sender, receiver, tag
  using Key = std::tuple<std::string, int, int, std::uint32_t>;
  std::map<Key, std::deque<std::vector<std::byte>>> messages;
  std::map<std::string, std::set<std::uint64_t>> joined;
  bool aborted = false;
  std::string why;

  template <typename Ready>
  void wait(std::unique_lock<std::mutex> &lock,
            std::chrono::milliseconds timeout, const std::string &what,
            Ready ready) {
    bool done =
        changed.wait_for(lock, timeout, [&] { return aborted || ready(); });
    if (aborted)
      throw PeerError(what, ": ", why);
    if (!done)
      throw PeerError(what, ": nothing came for ", timeout.count() / 1000.0,
                      " seconds");
  }
};

namespace {

using State = InprocHub::State;

class InprocCommunicator : public Communicator {
public:
  InprocCommunicator(std::shared_ptr<State> state, std::string name, int self,
                     int members)
      : Communicator(self, members), state(std::move(state)),
        name(std::move(name)) {}

  void send(int to, std::uint32_t tag,
            std::span<const std::byte> data) override {
    std::lock_guard lock(state->mutex);
    if (state->aborted)
      throw PeerError("cannot send to rank ", to, ": ", state->why);
    state->messages[{name, rank(), to, tag}].emplace_back(data.begin(),
                                                          data.end());
    state->changed.notify_all();
  }

  void receive(int from, std::uint32_t tag,
               std::span<std::byte> data) override {
    std::unique_lock lock(state->mutex);
    auto &queue = state->messages[{name, from, rank(), tag}];
    state->wait(lock, state->options.timeout,
                "receiving from rank " + std::to_string(from),
                [&] { return !queue.empty(); });
    std::vector<std::byte> message = std::move(queue.front());
    queue.pop_front();
    if (message.size() != data.size())
      throw Error(Status::Failed, "expected ", data.size(), " bytes from rank ",
                  from, ", got ", message.size());
    if (!data.empty())
      std::memcpy(data.data(), message.data(), data.size());
  }

  void sendReceive(int to, std::span<const std::byte> out, int from,
                   std::span<std::byte> in, std::uint32_t tag) override {
    send(to, tag, out);
    receive(from, tag, in);
  }

private:
  std::shared_ptr<State> state;
  std::string name;
};

class InprocTransport : public Transport {
public:
  InprocTransport(std::shared_ptr<State> state, std::uint64_t rank)
      : state(std::move(state)), self(rank) {}

  std::unique_ptr<Communicator>
  connect(const std::string &name,
          std::span<const std::uint64_t> ranks) override {
    auto at = std::find(ranks.begin(), ranks.end(), self);
    if (at == ranks.end())
      throw Error("rank ", self, " is no member of communicator '", name, "'");
    std::unique_lock lock(state->mutex);
    auto &joined = state->joined[name];
    joined.insert(self);
    state->changed.notify_all();
    state->wait(lock, state->options.connectTimeout,
                "connecting '" + name + "'",
                [&] { return joined.size() == ranks.size(); });
    return std::make_unique<InprocCommunicator>(
        state, name, static_cast<int>(at - ranks.begin()),
        static_cast<int>(ranks.size()));
  }

  void abort(const std::string &why) noexcept override {
    std::lock_guard lock(state->mutex);
    if (!state->aborted) {
      state->aborted = true;
      state->why = why;
    }
    state->changed.notify_all();
  }

private:
  std::shared_ptr<State> state;
  std::uint64_t self;
};

} // namespace

InprocHub::InprocHub(std::uint64_t ranks, TransportOptions options)
    : state(std::make_shared<State>()) {
  state->ranks = ranks;
  state->options = options;
}
InprocHub::~InprocHub() = default;

std::unique_ptr<Transport> InprocHub::transport(std::uint64_t rank) {
  if (rank >= state->ranks)
    throw Error("rank ", rank, " does not exist");
  return std::make_unique<InprocTransport>(state, rank);
}

} // namespace tombolo::runtime
