//===- ExchangeClient.cpp - a rank's connection to the server -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/ExchangeClient.h"

#include "Watchdog.h"
#include "Wire.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Transport.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/create_channel.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

constexpr std::size_t kChunkElements = kChunkBytes / sizeof(float);

/// The connection failed, not the request: worth another try.
bool isTransient(grpc::StatusCode code) {
  return code == grpc::StatusCode::UNAVAILABLE ||
         code == grpc::StatusCode::DEADLINE_EXCEEDED ||
         code == grpc::StatusCode::CANCELLED; // by a watchdog, of either side
}

/// One tensor of this rank.
struct Held {
  ExchangeTensor tensor;
  std::uint64_t elements = 0; ///< held here
  /// Of owned tensors. Before the first version of a resumed run is there: the
  /// momentum to start with, so that nothing is held twice.
  std::vector<float> base;
  std::uint64_t momentumGiven = 0; ///< elements of it
};

/// Elements of one tensor of this rank, in the order in which they lie here.
struct Piece {
  std::size_t tensor = 0;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

/// What a tensor's local elements first ... first + count are in the whole.
std::vector<ElementRange> cut(const std::vector<ElementRange> &ranges,
                              std::uint64_t first, std::uint64_t count) {
  std::vector<ElementRange> pieces;
  for (const ElementRange &range : ranges) {
    std::uint64_t size = range.length * range.count;
    if (first >= size) {
      first -= size;
      continue;
    }
    std::uint64_t left = std::min(count, size - first);
    count -= left;
    // The end of a run, whole runs, the start of a run.
    for (std::uint64_t take = 0; left > 0; first += take, left -= take) {
      std::uint64_t run = first / range.length, at = first % range.length;
      std::uint64_t begin = range.begin + run * range.stride + at;
      if (at == 0 && left >= range.length) {
        std::uint64_t runs = left / range.length;
        take = runs * range.length;
        pieces.push_back({begin, range.length, runs, range.stride});
      } else {
        take = std::min(left, range.length - at);
        pieces.push_back({begin, take, 1, take});
      }
    }
    first = 0;
  }
  return pieces;
}

class RankExchange final : public Exchange {
public:
  RankExchange(ExchangeOptions given, std::vector<ExchangeTensor> tensors,
               ArenaAccess access);

  std::uint64_t begin(std::uint64_t stepsDone) override;
  void beginPush(std::uint32_t fragment, std::uint64_t stepsDone) override;
  void apply(std::uint32_t fragment) override;
  void outerMomentum(std::size_t tensor, std::uint64_t first,
                     std::span<float> to) override;
  void setOuterMomentum(std::size_t tensor, std::uint64_t first,
                        std::span<const float> from) override;
  void abort() noexcept override;

private:
  using Source =
      std::function<void(Held &, std::uint64_t first, std::span<float>)>;
  using Sink = std::function<void(std::size_t tensor, std::uint64_t first,
                                  std::span<const float>)>;

  void fill(wire::Sender &sender) const;
  /// Runs `attempt` (-> grpc::Status) until it succeeds, is refused for good,
  /// or `retrySeconds` have passed. `what` names it in errors.
  template <typename Attempt> void retry(const char *what, Attempt attempt);
  /// Sends the owned elements of a fragment; `source` gives the values.
  void push(wire::PushHeader header, const Source &source);
  grpc::Status pushOnce(const wire::PushHeader &header, const Source &source,
                        wire::PushReply &reply);
  /// Waits until the fragment has reached the version; returns the newest.
  std::uint64_t waitFor(std::uint32_t fragment, std::uint64_t version);
  /// Fetches `pieces` of `version`.
  void pull(std::uint32_t fragment, std::uint64_t version, bool momentum,
            const std::vector<Piece> &pieces, const Sink &sink);
  grpc::Status pullOnce(const wire::PullRequest &request,
                        const std::vector<Piece> &pieces, const Sink &sink);
  void install(std::uint32_t fragment, std::uint64_t version);
  void readArena(const Held &held, std::uint64_t first, std::span<float> to);
  std::vector<std::size_t> tensorsOf(std::uint32_t fragment, bool owned) const;

  /// Makes a context that `abort` can cancel, for as long as it lives.
  class Call {
  public:
    explicit Call(RankExchange &exchange);
    ~Call();
    grpc::ClientContext context;

    /// Something has moved.
    void touch() { watch.touch(); }

  private:
    RankExchange &exchange;
    Watchdog::Watch watch;
  };

  [[noreturn]] void fail(const char *what, const grpc::Status &status) const;
  [[noreturn]] void fail(const char *what, wire::Outcome outcome,
                         const std::string &message) const;

  const ExchangeOptions options;
  ArenaAccess arena;
  std::vector<Held> tensors;
  std::unique_ptr<wire::ParameterServer::Stub> stub;

  struct FragmentProgress {
    std::uint64_t version = 0;   ///< what `base` is
    std::uint64_t stepsDone = 0; ///< at the last push
    bool pushed = false;         ///< and not yet applied
  };
  std::vector<FragmentProgress> progress;
  bool begun = false;
  Watchdog watchdog;

  std::mutex callMutex; // guards the two below
  grpc::ClientContext *running = nullptr;
  bool aborted = false;
};

RankExchange::Call::Call(RankExchange &exchange)
    : exchange(exchange),
      watch(exchange.watchdog, [this] { context.TryCancel(); }) {
  std::lock_guard lock(exchange.callMutex);
  exchange.running = &context;
  if (exchange.aborted)
    context.TryCancel();
}

RankExchange::Call::~Call() {
  std::lock_guard lock(exchange.callMutex);
  exchange.running = nullptr;
}

RankExchange::RankExchange(ExchangeOptions given,
                           std::vector<ExchangeTensor> list, ArenaAccess access)
    : options(std::move(given)), arena(std::move(access)),
      progress(options.fragments), watchdog(options.idleSeconds) {
  if (!isLocalAddress(options.server))
    throw Error("server address '", options.server,
                "': expected a loopback address with a port or unix:PATH");
  for (ExchangeTensor &tensor : list) {
    Held held;
    for (const ElementRange &range : tensor.ranges) {
      auto count = checkedElements(range, tensor.elements);
      if (!count)
        throw Error("tensor '", tensor.name, "': a range with begin ",
                    range.begin, " and length ", range.length,
                    " does not lie in its ", tensor.elements, " elements");
      held.elements += *count;
    }
    if (tensor.fragment >= options.fragments || held.elements == 0)
      throw Error("tensor '", tensor.name, "': expected a fragment below ",
                  options.fragments, " and some elements, got fragment ",
                  tensor.fragment, " and ", held.elements, " elements");
    held.tensor = std::move(tensor);
    tensors.push_back(std::move(held));
  }
  prepareGrpc();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  // A server's machine that vanishes without a word is noticed.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Proxies named in the environment are for the way out, not for loopback.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Several ranks in one process (tests) do not share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub = wire::ParameterServer::NewStub(grpc::CreateCustomChannel(
      options.server, grpc::InsecureChannelCredentials(), arguments));
}

void RankExchange::abort() noexcept {
  std::lock_guard lock(callMutex);
  aborted = true;
  if (running)
    running->TryCancel();
}

void RankExchange::fail(const char *what, const grpc::Status &status) const {
  throw Error(Status::Failed, "parameter server at ", options.server, ": ",
              what, " of rank ", options.rank, " of island ", options.island,
              " failed: ", status.error_message());
}

void RankExchange::fail(const char *what, wire::Outcome outcome,
                        const std::string &message) const {
  throw Error(Status::Failed, "parameter server at ", options.server,
              " refused the ", what, " of rank ", options.rank, " of island ",
              options.island, " (", name(fromWire(outcome)), "): ", message);
}

void RankExchange::fill(wire::Sender &sender) const {
  sender.set_run_id(options.runId);
  sender.set_plan_checksum(options.planChecksum);
  sender.set_island(options.island);
  sender.set_incarnation(options.incarnation);
  sender.set_rank(options.rank);
}

template <typename Attempt>
void RankExchange::retry(const char *what, Attempt attempt) {
  using Clock = std::chrono::steady_clock;
  // From the first failure on: an attempt may take long and be well.
  std::optional<Clock::time_point> end;
  auto pause = std::chrono::milliseconds(50);
  while (true) {
    grpc::Status status = attempt();
    if (status.ok())
      return;
    {
      std::lock_guard lock(callMutex);
      if (aborted) // what made somebody abort explains more
        throw PeerError("the exchange with the parameter server was aborted");
    }
    if (!end)
      end = Clock::now() +
            std::chrono::duration_cast<Clock::duration>(
                std::chrono::duration<double>(options.retrySeconds));
    if (!isTransient(status.error_code()) || Clock::now() >= *end)
      fail(what, status);
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::milliseconds(1000));
  }
}

std::vector<std::size_t> RankExchange::tensorsOf(std::uint32_t fragment,
                                                 bool owned) const {
  std::vector<std::size_t> which;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].tensor.fragment == fragment &&
        (!owned || tensors[i].tensor.owner))
      which.push_back(i);
  return which;
}

void RankExchange::readArena(const Held &held, std::uint64_t first,
                             std::span<float> to) {
  arena.read(held.tensor.address + first * sizeof(float),
             std::as_writable_bytes(to));
}

grpc::Status RankExchange::pushOnce(const wire::PushHeader &header,
                                    const Source &source,
                                    wire::PushReply &reply) {
  Call call(*this);
  auto writer = stub->Push(&call.context, &reply);
  wire::PushRequest request;
  *request.mutable_header() = header;
  bool open = writer->Write(request);
  for (std::size_t i : tensorsOf(header.fragment(), true)) {
    Held &held = tensors[i];
    for (std::uint64_t first = 0; open && first < held.elements;) {
      std::size_t count =
          std::min<std::uint64_t>(kChunkElements, held.elements - first);
      std::string chunk(count * sizeof(float), '\0');
      source(held, first, {reinterpret_cast<float *>(chunk.data()), count});
      request.set_data(std::move(chunk));
      // False: the server has answered already; Finish tells what.
      open = writer->Write(request);
      call.touch();
      first += count;
    }
  }
  writer->WritesDone();
  return writer->Finish();
}

void RankExchange::push(wire::PushHeader header, const Source &source) {
  fill(*header.mutable_sender());
  for (std::size_t i : tensorsOf(header.fragment(), true))
    toWire(TensorSlice{tensors[i].tensor.name, tensors[i].tensor.ranges},
           *header.add_slices());
  if (header.slices_size() == 0)
    return; // another rank owns all that is here
  wire::PushReply reply;
  retry("push", [&] {
    reply.Clear();
    grpc::Status status = pushOnce(header, source, reply);
    // The first try may still be on its way when its connection has broken.
    if (status.ok() && reply.outcome() == wire::OUTCOME_BUSY)
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, reply.message());
    return status;
  });
  // Island 0 restarts with what it has, whether it had been heard or not.
  bool started = reply.outcome() == wire::OUTCOME_ALREADY_STARTED &&
                 options.incarnation > 0;
  if (reply.outcome() != wire::OUTCOME_ACCEPTED &&
      reply.outcome() != wire::OUTCOME_REPEATED && !started)
    fail("push", reply.outcome(), reply.message());
}

std::uint64_t RankExchange::waitFor(std::uint32_t fragment,
                                    std::uint64_t version) {
  wire::WaitRequest request;
  fill(*request.mutable_sender());
  request.set_fragment(fragment);
  request.set_version(version);
  request.set_milliseconds(5000);
  wire::WaitReply reply;
  // As long as the server answers, waiting goes on: how long another island
  // may take is the server's decision (Outcome::Overdue).
  do {
    retry("wait", [&] {
      reply.Clear();
      Call call(*this);
      call.context.set_deadline(std::chrono::system_clock::now() +
                                std::chrono::seconds(20));
      return stub->Wait(&call.context, request, &reply);
    });
    if (reply.outcome() != wire::OUTCOME_ACCEPTED)
      fail("wait", reply.outcome(), reply.message());
  } while (!reply.started() || reply.version() < version);
  return reply.version();
}

grpc::Status RankExchange::pullOnce(const wire::PullRequest &request,
                                    const std::vector<Piece> &pieces,
                                    const Sink &sink) {
  Call call(*this);
  auto reader = stub->Pull(&call.context, request);
  auto broken = [&](const char *why) {
    call.context.TryCancel();
    reader->Finish();
    throw Error(Status::Failed, "parameter server at ", options.server,
                ": malformed answer to a pull: ", why);
  };
  wire::PullReply reply;
  if (!reader->Read(&reply))
    return reader->Finish();
  if (!reply.has_header())
    broken("expected a header first");
  if (reply.header().outcome() != wire::OUTCOME_ACCEPTED) {
    wire::PullHeader header = reply.header();
    reader->Finish();
    fail("pull", header.outcome(), header.message());
  }

  Sha256 digest;
  std::size_t at = 0;     // index into `pieces`
  std::uint64_t done = 0; // elements of that piece
  std::vector<float> chunk;
  bool whole = false;
  while (reader->Read(&reply)) {
    call.touch();
    if (reply.has_trailer()) {
      if (at != pieces.size())
        broken("less data than asked for");
      if (reply.trailer().sha256() != digest.finish())
        broken("the data does not have its SHA-256");
      whole = true;
      break;
    }
    if (!reply.has_data() || reply.data().size() % sizeof(float) != 0)
      broken("expected whole floats");
    digest.update(reply.data());
    chunk.resize(reply.data().size() / sizeof(float));
    std::memcpy(chunk.data(), reply.data().data(), reply.data().size());
    for (std::span<const float> rest = chunk; !rest.empty();) {
      if (at == pieces.size())
        broken("more data than asked for");
      const Piece &piece = pieces[at];
      std::size_t count =
          std::min<std::uint64_t>(rest.size(), piece.count - done);
      sink(piece.tensor, piece.first + done, rest.first(count));
      rest = rest.subspan(count);
      done += count;
      if (done == piece.count) {
        ++at;
        done = 0;
      }
    }
  }
  grpc::Status status = reader->Finish();
  if (status.ok() && !whole)
    broken("no trailer");
  return status;
}

void RankExchange::pull(std::uint32_t fragment, std::uint64_t version,
                        bool momentum, const std::vector<Piece> &pieces,
                        const Sink &sink) {
  if (pieces.empty())
    return;
  wire::PullRequest request;
  fill(*request.mutable_sender());
  request.set_fragment(fragment);
  request.set_version(version);
  request.set_momentum(momentum);
  for (const Piece &piece : pieces) {
    const ExchangeTensor &tensor = tensors[piece.tensor].tensor;
    toWire(
        TensorSlice{tensor.name, cut(tensor.ranges, piece.first, piece.count)},
        *request.add_slices());
  }
  // A second try writes the same values again.
  retry("pull", [&] { return pullOnce(request, pieces, sink); });
}

void RankExchange::install(std::uint32_t fragment, std::uint64_t version) {
  std::vector<Piece> pieces;
  for (std::size_t i : tensorsOf(fragment, false))
    pieces.push_back({i, 0, tensors[i].elements});
  pull(fragment, version, /*momentum=*/false, pieces,
       [&](std::size_t i, std::uint64_t first, std::span<const float> from) {
         Held &held = tensors[i];
         arena.write(held.tensor.address + first * sizeof(float),
                     std::as_bytes(from));
         if (held.tensor.owner)
           std::copy(from.begin(), from.end(), held.base.begin() + first);
       });
  progress[fragment].version = version;
}

std::uint64_t RankExchange::begin(std::uint64_t stepsDone) {
  bool restarted = options.incarnation > 0;
  std::uint64_t version = stepsDone / options.innerSteps;
  if (options.island == 0 && !begun) {
    std::size_t owned = 0, withMomentum = 0;
    for (const Held &held : tensors) {
      owned += held.tensor.owner;
      withMomentum += held.tensor.owner && held.momentumGiven != 0;
      if (held.momentumGiven != 0 && held.momentumGiven != held.elements)
        throw Error(Status::Failed, "outer momentum of '", held.tensor.name,
                    "': expected ", held.elements, " elements, got ",
                    held.momentumGiven);
    }
    if (withMomentum != 0 && withMomentum != owned)
      throw Error(Status::Failed, "rank ", options.rank, " owns ", owned,
                  " tensors but has the outer momentum of ", withMomentum);
    for (std::uint32_t f = 0; f < options.fragments; ++f) {
      wire::PushHeader header;
      header.set_fragment(f);
      header.set_round(version);
      header.set_base_version(version);
      header.set_with_momentum(withMomentum != 0);
      header.set_content(wire::CONTENT_START_PARAMETERS);
      push(header, [&](Held &held, std::uint64_t first, std::span<float> to) {
        readArena(held, first, to);
      });
      if (withMomentum == 0)
        continue;
      header.set_content(wire::CONTENT_START_MOMENTUM);
      push(header, [&](Held &held, std::uint64_t first, std::span<float> to) {
        std::copy_n(held.base.begin() + first, to.size(), to.begin());
      });
    }
  }
  for (Held &held : tensors)
    if (held.tensor.owner)
      held.base.resize(held.elements);
  for (std::uint32_t f = 0; f < options.fragments; ++f) {
    std::uint64_t newest = waitFor(f, version);
    if (newest != version && restarted)
      stepsDone = newest * options.innerSteps;
    else if (newest != version)
      throw Error(Status::Failed, "island ", options.island,
                  " begins after step ", stepsDone, " with version ", version,
                  ", but the server has version ", newest,
                  ": all islands resume from the same step");
    install(f, newest);
    progress[f].stepsDone = stepsDone;
  }
  begun = true;
  return stepsDone;
}

void RankExchange::beginPush(std::uint32_t fragment, std::uint64_t stepsDone) {
  if (!begun || fragment >= options.fragments)
    throw Error(Status::Failed, "push of fragment ", fragment,
                " before the exchange has begun, or of none that the plan has");
  FragmentProgress &state = progress[fragment];
  if (stepsDone < state.stepsDone)
    throw Error(Status::Failed, "push after ", stepsDone,
                " steps, but the last was after ", state.stepsDone);
  std::uint64_t innerSteps = stepsDone - state.stepsDone;
  // The run ends right after a synchronisation: another would move the state
  // by its momentum alone.
  if (innerSteps == 0)
    return;
  wire::PushHeader header;
  header.set_content(wire::CONTENT_DELTA);
  header.set_fragment(fragment);
  header.set_round(state.version);
  header.set_base_version(state.version);
  header.set_inner_steps(innerSteps);
  header.set_tokens(innerSteps * options.tokensPerStep);
  push(header, [&](Held &held, std::uint64_t first, std::span<float> to) {
    readArena(held, first, to);
    const float *base = held.base.data() + first;
    for (std::size_t k = 0; k < to.size(); ++k)
      to[k] = base[k] - to[k];
  });
  state.stepsDone = stepsDone;
  state.pushed = true;
}

void RankExchange::apply(std::uint32_t fragment) {
  if (!begun || fragment >= options.fragments)
    throw Error(Status::Failed, "apply of fragment ", fragment,
                " before the exchange has begun, or of none that the plan has");
  if (!progress[fragment].pushed)
    return; // there was nothing to push, so there is nothing new
  progress[fragment].pushed = false;
  std::uint64_t version = progress[fragment].version + 1;
  waitFor(fragment, version);
  install(fragment, version);
}

void RankExchange::outerMomentum(std::size_t tensor, std::uint64_t first,
                                 std::span<float> to) {
  Held &held = tensors.at(tensor);
  if (!begun || first > held.elements || to.size() > held.elements - first)
    throw Error(Status::Failed, "outer momentum of '", held.tensor.name,
                "': expected some of ", held.elements, " elements, got ",
                to.size(), " from ", first);
  if (to.empty())
    return;
  pull(held.tensor.fragment, progress[held.tensor.fragment].version,
       /*momentum=*/true, {{tensor, first, to.size()}},
       [&](std::size_t, std::uint64_t at, std::span<const float> from) {
         std::copy(from.begin(), from.end(), to.begin() + (at - first));
       });
}

void RankExchange::setOuterMomentum(std::size_t tensor, std::uint64_t first,
                                    std::span<const float> from) {
  Held &held = tensors.at(tensor);
  if (begun || !held.tensor.owner || first > held.elements ||
      from.size() > held.elements - first)
    throw Error(Status::Failed, "outer momentum of '", held.tensor.name,
                "': expected some of ", held.elements, " elements of an owned ",
                "tensor before the exchange begins, got ", from.size(),
                " from ", first);
  held.base.resize(held.elements);
  std::copy(from.begin(), from.end(), held.base.begin() + first);
  held.momentumGiven += from.size();
}

} // namespace

std::unique_ptr<Exchange>
tombolo::runtime::connectExchange(ExchangeOptions options,
                                  std::vector<ExchangeTensor> tensors,
                                  ArenaAccess arena) {
  return std::make_unique<RankExchange>(std::move(options), std::move(tensors),
                                        std::move(arena));
}
