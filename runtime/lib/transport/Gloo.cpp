//===- Gloo.cpp - ranks as processes, over Gloo and TCP -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/Transport.h"

#include <gloo/common/error.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/prefix_store.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <mutex>
#include <sched.h>
#include <set>
#include <thread>

namespace tombolo::runtime {

namespace {

using gloo::transport::UnboundBuffer;

/// Threads that start while this lives do not preempt others when they wake.
/// Gloo's event loop only tries the lock of a connection and asks the system
/// again at once when a sender has it; where it had preempted that sender it
/// would burn its whole slice of time (up to ten times as long a step where
/// ranks outnumber cores).
class WithoutPreemption {
public:
  WithoutPreemption() {
    sched_param none = {};
    sched_setscheduler(0, SCHED_BATCH, &none);
  }
  ~WithoutPreemption() {
    sched_param none = {};
    sched_setscheduler(0, SCHED_OTHER, &none);
  }
};

/// Gloo's store over ours.
class Rendezvous : public gloo::rendezvous::Store {
public:
  Rendezvous(const std::string &address, const TransportOptions &options)
      : client(address, options.connectTimeout, options.keeper),
        timeout(options.connectTimeout) {}

  void set(const std::string &key, const std::vector<char> &data) override {
    client.set(key, data);
  }
  std::vector<char> get(const std::string &key) override {
    return client.get(key, timeout);
  }
  void wait(const std::vector<std::string> &keys) override {
    wait(keys, timeout);
  }
  void wait(const std::vector<std::string> &keys,
            const std::chrono::milliseconds &limit) override {
    for (const std::string &key : keys)
      client.get(key, limit);
  }

private:
  StoreClient client;
  std::chrono::milliseconds timeout;
};

/// The waits that go on in this rank, so that `abort` can end them.
class Waits {
public:
  /// Ends the wait on `buffer` when the rank gives up.
  class Scope {
  public:
    Scope(Waits &waits, UnboundBuffer &buffer) : waits(waits), buffer(buffer) {
      std::lock_guard lock(waits.mutex);
      if (waits.aborted)
        throw PeerError(waits.why);
      waits.buffers.insert(&buffer);
    }
    ~Scope() {
      std::lock_guard lock(waits.mutex);
      waits.buffers.erase(&buffer);
    }

  private:
    Waits &waits;
    UnboundBuffer &buffer;
  };

  void abort(const std::string &reason) noexcept {
    std::lock_guard lock(mutex);
    if (!aborted) {
      aborted = true;
      why = reason;
    }
    for (UnboundBuffer *buffer : buffers) {
      buffer->abortWaitSend();
      buffer->abortWaitRecv();
    }
  }
  std::string reason() {
    std::lock_guard lock(mutex);
    return aborted ? why : "the wait was ended";
  }
  bool isAborted() {
    std::lock_guard lock(mutex);
    return aborted;
  }

private:
  std::mutex mutex;
  std::set<UnboundBuffer *> buffers;
  bool aborted = false;
  std::string why;
};

/// Gives the rank up when a peer is lost. Gloo itself tells only what it has
/// not begun: a message of which a part is already on its way, or has come,
/// would wait for its dead peer until the timeout. So every member has a
/// receive from every other that nothing but its farewell ends; one that goes
/// without a farewell ends all waits of this rank at once, whatever they wait
/// for.
class Farewells {
public:
  Farewells(gloo::Context &context, std::shared_ptr<Waits> waits)
      : context(context), waits(std::move(waits)),
        buffer(context.createUnboundBuffer(&byte, 1)),
        said(context.createUnboundBuffer(&word, 1)) {
    for (int peer = 0; peer < context.size; ++peer)
      if (peer != context.rank)
        buffer->recv(peer, kTag);
    thread = std::thread([this] { watch(); });
  }

  ~Farewells() {
    if (!waits->isAborted())
      say();
    leaving = true;
    buffer->abortWaitRecv();
    thread.join();
  }

private:
  static constexpr std::uint64_t kTag = Communicator::kMaxTag + 1;
  // Gloo takes a wait that ends by its timeout for a lost connection.
  static constexpr std::chrono::hours kForEver{24 * 3650};
  static constexpr std::chrono::seconds kSaying{2};

  void watch() {
    try {
      for (int left = context.size - 1; left > 0 && !leaving;)
        if (buffer->waitRecv(kForEver))
          --left;
    } catch (const std::exception &error) {
      if (!leaving)
        waits->abort(error.what());
    }
    // What was said before the others' farewells came has been sent; to a
    // connection that is closed nothing more can be said.
    said->abortWaitSend();
  }

  /// Whoever does not hear it has left before, or is lost.
  void say() noexcept {
    int sent = 0;
    for (int peer = 0; peer < context.size; ++peer)
      try {
        if (peer != context.rank) {
          said->send(peer, kTag);
          ++sent;
        }
      } catch (const std::exception &) {
      }
    try {
      while (sent > 0 && said->waitSend(kSaying))
        --sent;
    } catch (const std::exception &) {
    }
  }

  gloo::Context &context;
  std::shared_ptr<Waits> waits;
  char byte = 0, word = 0;
  std::unique_ptr<UnboundBuffer> buffer, said;
  std::atomic<bool> leaving = false;
  std::thread thread;
};

class GlooCommunicator : public Communicator {
public:
  GlooCommunicator(std::shared_ptr<gloo::rendezvous::Context> context,
                   std::shared_ptr<Waits> waits,
                   std::vector<std::uint64_t> ranks,
                   std::chrono::milliseconds timeout)
      : Communicator(context->rank, context->size), context(std::move(context)),
        waits(std::move(waits)), ranks(std::move(ranks)), timeout(timeout) {
    if (size() > 1)
      farewells = std::make_unique<Farewells>(*this->context, this->waits);
  }

  void send(int to, std::uint32_t tag,
            std::span<const std::byte> data) override {
    guarded("sending to", to, [&] {
      // Gloo takes a plain pointer for both directions; a send only reads.
      auto buffer = context->createUnboundBuffer(
          const_cast<std::byte *>(data.data()), data.size());
      Waits::Scope scope(*waits, *buffer);
      buffer->send(to, tag);
      return buffer->waitSend(timeout);
    });
  }

  void receive(int from, std::uint32_t tag,
               std::span<std::byte> data) override {
    guarded("receiving from", from, [&] {
      auto buffer = context->createUnboundBuffer(data.data(), data.size());
      Waits::Scope scope(*waits, *buffer);
      buffer->recv(from, tag);
      return buffer->waitRecv(timeout);
    });
  }

  void sendReceive(int to, std::span<const std::byte> out, int from,
                   std::span<std::byte> in, std::uint32_t tag) override {
    guarded("exchanging with", from, [&] {
      auto sending = context->createUnboundBuffer(
          const_cast<std::byte *>(out.data()), out.size());
      auto receiving = context->createUnboundBuffer(in.data(), in.size());
      Waits::Scope sendScope(*waits, *sending);
      Waits::Scope receiveScope(*waits, *receiving);
      receiving->recv(from, tag);
      sending->send(to, tag);
      return receiving->waitRecv(timeout) && sending->waitSend(timeout);
    });
  }

private:
  template <typename Action>
  void guarded(const char *what, int peer, Action action) {
    std::uint64_t rank = ranks[static_cast<std::size_t>(peer)];
    try {
      if (action())
        return;
    } catch (const gloo::Exception &error) {
      throw PeerError(what, " rank ", rank, ": ", error.what());
    }
    throw PeerError(what, " rank ", rank, ": ", waits->reason());
  }

  std::shared_ptr<gloo::rendezvous::Context> context;
  std::shared_ptr<Waits> waits;
  std::vector<std::uint64_t> ranks;
  std::chrono::milliseconds timeout;
  std::unique_ptr<Farewells> farewells;
};

class GlooTransport : public Transport {
public:
  GlooTransport(std::uint64_t rank, const std::string &store,
                const std::string &host, TransportOptions options)
      : self(rank), options(options), rendezvous(store, options),
        waits(std::make_shared<Waits>()) {
    try {
      WithoutPreemption forItsThread;
      gloo::transport::tcp::attr attributes(host.c_str());
      device = gloo::transport::tcp::CreateDevice(attributes);
    } catch (const gloo::Exception &error) {
      throw Error(Status::Failed, "cannot use the address '", host,
                  "': ", error.what());
    }
  }

  std::unique_ptr<Communicator>
  connect(const std::string &name,
          std::span<const std::uint64_t> ranks) override {
    auto at = std::find(ranks.begin(), ranks.end(), self);
    if (at == ranks.end())
      throw Error("rank ", self, " is no member of communicator '", name, "'");
    auto context = std::make_shared<gloo::rendezvous::Context>(
        static_cast<int>(at - ranks.begin()), static_cast<int>(ranks.size()));
    context->setTimeout(options.connectTimeout);
    gloo::rendezvous::PrefixStore store(options.scope + name, rendezvous);
    try {
      if (ranks.size() > 1) // alone there is nobody to connect to
        context->connectFullMesh(store, device);
    } catch (const gloo::Exception &error) {
      throw PeerError("connecting '", name, "': ", error.what());
    }
    return std::make_unique<GlooCommunicator>(
        std::move(context), waits,
        std::vector<std::uint64_t>(ranks.begin(), ranks.end()),
        options.timeout);
  }

  void abort(const std::string &why) noexcept override { waits->abort(why); }

private:
  std::uint64_t self;
  TransportOptions options;
  Rendezvous rendezvous;
  std::shared_ptr<gloo::transport::Device> device;
  std::shared_ptr<Waits> waits;
};

} // namespace

std::unique_ptr<Transport> createGlooTransport(std::uint64_t rank,
                                               const std::string &store,
                                               const std::string &host,
                                               TransportOptions options) {
  // Gloo writes to sockets without MSG_NOSIGNAL: a peer that has just gone must
  // be an error of the write, not the end of this process.
  std::signal(SIGPIPE, SIG_IGN);
  return std::make_unique<GlooTransport>(rank, store, host, options);
}

} // namespace tombolo::runtime
