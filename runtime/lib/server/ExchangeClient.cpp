//===- ExchangeClient.cpp - a rank's part in the outer steps --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankExchange.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <chrono>
#include <cstring>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

/// Elements that are copied out of the arena at a time; whole blocks of the
/// codec.
constexpr std::uint64_t kPiece = 1 << 16;
static_assert(kPiece % kCodecBlock == 0);

} // namespace

RankExchange::RankExchange(ExchangeOptions given,
                           std::vector<ExchangeTensor> list, ArenaAccess access)
    : options(std::move(given)), arena(std::move(access)),
      fragments(options.fragments), client(options) {
  for (ExchangeTensor &tensor : list)
    tensors.emplace_back(std::move(tensor), options.compression);
  for (HeldTensor &held : tensors) {
    if (held.tensor.fragment >= options.fragments)
      throw Error("tensor '", held.tensor.name, "': expected a fragment below ",
                  options.fragments, ", got ", held.tensor.fragment);
    fragments[held.tensor.fragment].tensors.push_back(&held);
  }
}

RankExchange::~RankExchange() {
  if (isOver && options.rank == 0) // others have passed a barrier since `end`
    client.tryFarewell();
  client.abort();
  {
    std::lock_guard lock(heartMutex);
    stopping = true;
    heartStops.notify_all();
  }
  for (std::thread &heart : hearts)
    heart.join();
  for (Fragment &fragment : fragments)
    if (fragment.flight)
      fragment.flight->join();
}

RankExchange::Fragment &RankExchange::known(std::uint32_t fragment,
                                            const char *what) {
  if (!begun || fragment >= fragments.size())
    throw Error(Status::Failed, what, " of fragment ", fragment,
                " before the exchange has begun, or of none that the plan has");
  return fragments[fragment];
}

// ----------------------------------------------------------------- the start

void RankExchange::pushStart(std::uint32_t number, std::uint64_t version,
                             bool withMomentum, bool isMomentum) {
  wire::PushHeader header;
  header.set_content(isMomentum ? wire::CONTENT_START_MOMENTUM
                                : wire::CONTENT_START_PARAMETERS);
  header.set_fragment(number);
  header.set_round(version);
  header.set_base_version(version);
  header.set_with_momentum(withMomentum);
  std::vector<std::byte> data;
  std::size_t size = 0;
  for (HeldTensor *held : fragments[number].tensors)
    size += held->tensor.owner ? held->elements * sizeof(float) : 0;
  data.reserve(size);
  for (HeldTensor *held : fragments[number].tensors) {
    if (!held->tensor.owner)
      continue;
    toWire(TensorSlice{held->tensor.name, held->tensor.ranges},
           *header.add_slices());
    std::size_t old = data.size();
    data.resize(old + held->elements * sizeof(float));
    if (isMomentum)
      std::memcpy(data.data() + old, held->momentum.data(), data.size() - old);
    else if (!held->base.empty()) // of a snapshot
      std::memcpy(data.data() + old, held->base.data(), data.size() - old);
    else
      arena.read(held->tensor.address, std::span(data).subspan(old));
  }
  if (data.empty())
    return; // another rank owns all that is here
  wire::PushReply reply = client.push(header, data);
  // Started already: this island has been started again, and joins.
  if (reply.outcome() != wire::OUTCOME_ACCEPTED &&
      reply.outcome() != wire::OUTCOME_REPEATED &&
      reply.outcome() != wire::OUTCOME_ALREADY_STARTED)
    client.refused("start", reply.outcome(), reply.message());
}

void RankExchange::beginStart(std::uint64_t stepsDone) {
  std::size_t owned = 0, withMomentum = 0;
  for (const HeldTensor &held : tensors) {
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
  for (std::uint32_t f = 0; f < fragments.size(); ++f) {
    std::uint64_t version = firstVersion(options, f, stepsDone);
    pushStart(f, version, withMomentum != 0, /*isMomentum=*/false);
    if (withMomentum != 0)
      pushStart(f, version, true, /*isMomentum=*/true);
  }
  for (HeldTensor &held : tensors)
    discard(held.momentum);
}

void RankExchange::install(std::uint32_t number, std::uint64_t version,
                           const Fetched &fetched) {
  Fragment &fragment = fragments[number];
  for (std::size_t i = 0; i < fragment.tensors.size(); ++i) {
    advance(*fragment.tensors[i], i, fetched);
    installBase(*fragment.tensors[i]);
  }
  fragment.version = version;
}

void RankExchange::moveOn(HeldTensor &held, std::span<const float> reference) {
  std::vector<float> local(std::min(kPiece, held.elements));
  for (std::uint64_t at = 0; at < held.elements; at += kPiece) {
    std::span piece =
        std::span(local).first(std::min(kPiece, held.elements - at));
    readArena(held, at, piece);
    for (std::size_t k = 0; k < piece.size(); ++k)
      piece[k] = held.base[at + k] + (piece[k] - reference[at + k]);
    writeArena(held, at, piece);
  }
}

/// Asks which version of a fragment to begin with.
wire::WaitReply RankExchange::join(std::uint32_t number,
                                   std::uint64_t stepsDone) {
  wire::WaitRequest request;
  request.set_fragment(number);
  request.set_join(true);
  request.set_milliseconds(5000);
  wire::WaitReply reply;
  while ((reply = wait(request)).receipt() == wire::RECEIPT_OPEN) {
  }
  if (reply.receipt() == wire::RECEIPT_REMOVED)
    client.refused("begin", wire::OUTCOME_REMOVED,
                   removedMessage(options.island));
  std::uint64_t expected = firstVersion(options, number, stepsDone);
  if (options.incarnation == 0 && stepsDone > 0 &&
      reply.first_version() != expected)
    throw Error(Status::Failed, "island ", options.island,
                " begins after step ", stepsDone, " with version ", expected,
                ", but the server began with version ", reply.first_version(),
                ": all islands resume from the same step; one without "
                "checkpoints joins there");
  return reply;
}

std::uint64_t RankExchange::begin(std::uint64_t stepsDone) {
  if (begun &&
      (!resumed.empty() ||
       std::any_of(fragments.begin(), fragments.end(),
                   [](const Fragment &fragment) { return !!fragment.flight; })))
    throw Error(Status::Failed, "island ", options.island,
                ": its ranks were told to go on from different versions");
  if (options.island == 0 && !begun)
    beginStart(stepsDone);
  std::vector<wire::WaitReply> replies;
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    replies.push_back(join(f, stepsDone));
  // A restarted island, or one that joins a resumed run with nothing of its
  // own, goes on no earlier than where it, or the others, pushed what counts:
  // steps that count are not done again, and it takes the samples of their
  // round.
  std::uint64_t before = stepsDone;
  bool joins =
      options.incarnation > 0 ||
      (stepsDone == 0 && std::any_of(replies.begin(), replies.end(),
                                     [](const wire::WaitReply &reply) {
                                       return reply.first_version() > 0;
                                     }));
  for (std::uint32_t f = 0; f < fragments.size() && joins; ++f)
    stepsDone =
        std::max({stepsDone, replies[f].counted_steps(),
                  stepsBefore(options, f,
                              std::max(replies[f].go_on_from(),
                                       replies[f].counted_rounds()))});
  for (FragmentPoint &point : resumed) { // as if it had done all of these
    point.stepsDone += stepsDone - before;
    if (point.pushedStep)
      *point.pushedStep += stepsDone - before;
  }
  for (std::uint32_t f = 0; f < fragments.size(); ++f) {
    std::uint64_t version = replies[f].go_on_from();
    Fetched fetched = fetchState(f, version);
    if (!resumed.empty()) {
      goOn(f, resumed[f], replies[f], fetched, stepsDone);
    } else {
      install(f, version, fetched);
      fragments[f].stepsDone = stepsDone;
    }
  }
  pushPassedOver(stepsDone);
  agreedStop = stopRound;
  if (std::exchange(begun, true) || options.rank != 0)
    return stepsDone;
  for (std::size_t server = 0; server < client.serverCount(); ++server)
    hearts.emplace_back([this, server] { beat(server); });
  return stepsDone;
}

/// To one of the servers: none waits for another that is lost.
void RankExchange::beat(std::size_t server) {
  // The first one at once: its answer says how often.
  std::chrono::duration<double> pause(0);
  std::unique_lock lock(heartMutex);
  bool asked = false;
  while (!stopping) {
    // At once when there is something to ask for.
    heartStops.wait_for(lock, pause,
                        [&] { return stopping || (wantsStop && !asked); });
    if (stopping)
      break;
    asked = wantsStop;
    lock.unlock();
    client.tryHeartbeat(server, wantsStop);
    pause = std::chrono::duration<double>(client.beatSeconds());
    lock.lock();
  }
}

// ------------------------------------------------------------------- a round

void RankExchange::startPush(std::uint32_t number, std::uint64_t stepsDone,
                             PushManner manner) {
  Fragment &fragment = fragments[number];
  auto flight = std::make_unique<InFlight>();
  flight->base = fragment.version;
  flight->step = stepsDone;
  // None when it only clears the way for other fragments: such a push is all
  // zero, its island weighs nothing in the round and keeps its error feedback.
  flight->innerSteps =
      std::max(stepsDone, fragment.stepsDone) - fragment.stepsDone;
  const bool delta = manner.sends && flight->innerSteps > 0;
  std::size_t size = 0;
  for (HeldTensor *held : fragment.tensors)
    if (held->tensor.owner && manner.sends)
      size += encodedBytes(options.compression, held->elements);
  if (size > 0)
    flight->encoded = buffers.take(size);
  std::span<std::byte> encoded = flight->encoded.bytes();
  if (!delta)
    std::fill(encoded.begin(), encoded.end(), std::byte(0));
  for (std::size_t i = 0; i < fragment.tensors.size(); ++i) {
    HeldTensor *held = fragment.tensors[i];
    std::vector<float> &error = flight->errorBefore.emplace_back();
    std::vector<float> &atPush = flight->atPush.emplace_back();
    if (!manner.saved.empty())
      atPush = std::move(manner.saved[i]);
    else if (manner.trainsOn)
      atPush.resize(held->elements);
    else if (!held->tensor.owner)
      continue;
    error = held->error;
    std::vector<float> local(std::min(kPiece, held->elements));
    for (std::uint64_t at = 0; at < held->elements; at += kPiece) {
      std::span piece =
          std::span(local).first(std::min(kPiece, held->elements - at));
      if (!manner.saved.empty())
        piece = std::span(atPush).subspan(at, piece.size());
      else
        readArena(*held, at, piece);
      if (manner.saved.empty() && manner.trainsOn)
        std::copy(piece.begin(), piece.end(), atPush.begin() + at);
      if (!held->tensor.owner || !delta)
        continue;
      std::size_t bytes = encodedBytes(options.compression, piece.size());
      held->encodeDelta(at, piece, std::span(encoded).first(bytes));
      encoded = encoded.subspan(bytes);
    }
  }
  fragment.flight = std::move(flight);
  InFlight &running = *fragment.flight;
  running.pushing = inThread(running, running.pushFailure, [=, this, &running] {
    try {
      sendPush(number, running);
    } catch (...) {
      running.isLost = true;
      throw;
    }
  });
  if (manner.asksAtOnce)
    startAsking(number, running);
}

std::thread RankExchange::inThread(InFlight &flight,
                                   std::exception_ptr &failure,
                                   std::function<void()> body) {
  std::lock_guard lock(landing);
  std::thread thread([this, &flight, &failure, body = std::move(body)] {
    try {
      body();
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(landing);
    --flight.running;
    landed.notify_all();
  });
  ++flight.running;
  return thread;
}

void RankExchange::startAsking(std::uint32_t number, InFlight &flight) {
  flight.asksAtOnce = true;
  flight.asking = inThread(flight, flight.askFailure, [this, number, &flight] {
    askReceipt(number, flight);
  });
}

void RankExchange::sendPush(std::uint32_t number, InFlight &flight) {
  if (flight.encoded.empty())
    return;
  wire::PushHeader header;
  header.set_content(wire::CONTENT_DELTA);
  header.set_fragment(number);
  header.set_round(flight.base);
  header.set_base_version(flight.base);
  header.set_step(flight.step);
  header.set_inner_steps(flight.innerSteps);
  header.set_tokens(flight.innerSteps * options.tokensPerStep);
  for (HeldTensor *held : fragments[number].tensors)
    if (held->tensor.owner)
      toWire(TensorSlice{held->tensor.name, held->tensor.ranges},
             *header.add_slices());
  wire::PushReply reply = client.push(header, flight.encoded.bytes());
  switch (reply.outcome()) {
  case wire::OUTCOME_ACCEPTED:
  case wire::OUTCOME_REPEATED: // of this island, if of an earlier life
  case wire::OUTCOME_CLOSED_ROUND:
  case wire::OUTCOME_WRONG_BASE:
  case wire::OUTCOME_NOT_FINITE:
  case wire::OUTCOME_REMOVED:
    break; // the receipt tells all ranks alike
  default:
    client.refused("push", reply.outcome(), reply.message());
  }
  flight.encoded.giveBack();
}

void RankExchange::askReceipt(std::uint32_t number, InFlight &flight) {
  std::uint64_t bytes = 0;
  wire::PullRequest request =
      pullRequest(number, wire::PullRequest::UPDATE, bytes);
  wire::WaitRequest &push = *request.mutable_push();
  push.set_fragment(number);
  push.set_round(flight.base);
  push.set_step(flight.step);
  push.set_milliseconds(5000);
  // How long another island may take is the server's decision.
  wire::WaitReply ended;
  bool kept = false;
  do {
    if (flight.isLost)
      return;
    if (bytes == 0) { // nothing of the fragment is here
      ended = wait(push);
      continue;
    }
    Buffer update =
        client.pullAll(request, bytes, buffers, kept, &ended, &flight.isLost);
    noteStop(ended);
    kept &= ended.go_on_from() == flight.base + 1;
    if (kept)
      flight.fetched.updates.push_back(std::move(update));
  } while (ended.receipt() == wire::RECEIPT_OPEN);
  flight.receipt = {static_cast<Receipt::Kind>(ended.receipt()),
                    ended.go_on_from()};
  if (!kept && flight.receipt.kind != Receipt::Kind::Removed)
    flight.fetched = fetch(number, flight.base, ended.go_on_from());
}

wire::PullRequest RankExchange::pullRequest(std::uint32_t number,
                                            wire::PullRequest::What what,
                                            std::uint64_t &bytes) const {
  wire::PullRequest request;
  request.set_fragment(number);
  request.set_what(what);
  bytes = 0;
  for (const HeldTensor *held : fragments[number].tensors) {
    toWire(TensorSlice{held->tensor.name, held->tensor.ranges},
           *request.add_slices());
    bytes += what == wire::PullRequest::UPDATE ? held->updateBytes
                                               : held->elements * sizeof(float);
  }
  return request;
}

Buffer RankExchange::pullBytes(std::uint32_t number, std::uint64_t version,
                               wire::PullRequest::What what, bool &kept) {
  std::uint64_t expected = 0;
  wire::PullRequest request = pullRequest(number, what, expected);
  request.set_version(version);
  if (expected == 0)
    return {};
  return client.pullAll(request, expected, buffers, kept);
}

Fetched RankExchange::fetch(std::uint32_t number, std::uint64_t from,
                            std::uint64_t to) {
  if (to < from)
    throw Error(Status::Failed, "parameter server at ", options.server,
                ": it went back from version ", from, " to ", to,
                " of fragment ", number);
  // More are dearer than the state, in memory and on the line.
  std::uint64_t update = 0, state = 0;
  for (HeldTensor *held : fragments[number].tensors) {
    update += held->updateBytes;
    state += held->elements * sizeof(float);
  }
  bool kept = to - from <= 1 || update * (to - from) <= state;
  Fetched fetched;
  for (std::uint64_t version = from + 1; kept && version <= to; ++version)
    fetched.updates.push_back(
        pullBytes(number, version, wire::PullRequest::UPDATE, kept));
  if (kept)
    return fetched;
  fetched = Fetched(); // before there is more
  return fetchState(number, to);
}

Fetched RankExchange::fetchState(std::uint32_t number, std::uint64_t version) {
  bool kept = true;
  Fetched fetched;
  fetched.state =
      pullBytes(number, version, wire::PullRequest::PARAMETERS, kept);
  if (!kept)
    throw Error(Status::Failed, "parameter server at ", options.server,
                ": it does not keep version ", version, " of fragment ", number,
                ", which it told to go on from");
  return fetched;
}

void RankExchange::advance(HeldTensor &held, std::size_t index,
                           const Fetched &fetched) {
  const std::vector<HeldTensor *> &all =
      fragments[held.tensor.fragment].tensors;
  if (!fetched.state.empty()) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < index; ++i)
      at += all[i]->elements * sizeof(float);
    held.base.resize(held.elements);
    std::memcpy(held.base.data(), fetched.state.bytes().data() + at,
                held.elements * sizeof(float));
    return;
  }
  for (const Buffer &update : fetched.updates) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < index; ++i)
      at += all[i]->updateBytes;
    held.applyUpdate(update.bytes().subspan(at, held.updateBytes));
  }
}

void RankExchange::beginPush(std::uint32_t number, std::uint64_t stepsDone) {
  Fragment &fragment = known(number, "push");
  if (isRemoved())
    return;
  if (fragment.flight) {
    // A push that came too late was made once more, for the round of now.
    if (turnOf(number, fragment.flight->base).first == stepsDone)
      return;
    fragment.reset |= apply(number, stepsDone) == Applied::Reset;
  }
  if (stepsDone < fragment.stepsDone)
    throw Error(Status::Failed, "push after ", stepsDone,
                " steps, but the last was after ", fragment.stepsDone);
  // The run ends right after a synchronisation: another would move the state
  // by its momentum alone.
  if (fragment.flight || stepsDone == fragment.stepsDone || isRemoved())
    return;
  startPush(number, stepsDone,
            {.trainsOn = options.overlapSteps > 0, .asksAtOnce = true});
}

Exchange::Applied RankExchange::apply(std::uint32_t number,
                                      std::uint64_t stepsDone) {
  Fragment &fragment = known(number, "apply");
  if (isRemoved())
    return Applied::Nothing;
  if (!fragment.flight)
    return std::exchange(fragment.reset, false) ? Applied::Reset
                                                : Applied::Nothing;
  if (pushEarlierOnes(number, stepsDone) &&
      isTakenNow(number, stepsDone, /*waits=*/true))
    return land(number, stepsDone);
  keepPushed(fragment);
  return Applied::Nothing;
}

Exchange::Applied RankExchange::land(std::uint32_t number,
                                     std::uint64_t stepsDone) {
  Fragment &fragment = fragments[number];
  bool reset = std::exchange(fragment.reset, false);
  fragment.flight->join();
  std::unique_ptr<InFlight> flight = std::move(fragment.flight);
  for (const std::exception_ptr &failure :
       {flight->pushFailure, flight->askFailure})
    if (failure)
      std::rethrow_exception(failure);
  if (!flight->asksAtOnce)
    askReceipt(number, *flight);
  if (flight->receipt.kind == Receipt::Kind::Removed) {
    leave(fragment, *flight, stepsDone);
    return reset ? Applied::Reset : Applied::Nothing;
  }
  bool moved = stepsDone != flight->step;
  std::vector<float> reference;
  for (std::size_t i = 0; i < fragment.tensors.size(); ++i) {
    HeldTensor &held = *fragment.tensors[i];
    if (flight->receipt.kind == Receipt::Kind::Late) {
      reference = held.base;
      held.error = flight->errorBefore[i];
    } else if (flight->receipt.kind == Receipt::Kind::Discarded) {
      std::fill(held.error.begin(), held.error.end(), 0.0f);
    } else {
      reference = std::move(flight->atPush[i]);
    }
    advance(held, i, flight->fetched);
    if (flight->receipt.kind == Receipt::Kind::Discarded ||
        (flight->receipt.kind == Receipt::Kind::Member && !moved)) {
      installBase(held);
      continue;
    }
    moveOn(held, reference);
  }
  fragment.version = flight->receipt.version;
  switch (flight->receipt.kind) {
  case Receipt::Kind::Late:
    if (stepsDone > fragment.stepsDone)
      startPush(number, stepsDone, {});
    break;
  case Receipt::Kind::Discarded:
    fragment.stepsDone = stepsDone;
    return Applied::Reset;
  default:
    fragment.stepsDone = flight->step;
  }
  return reset ? Applied::Reset : Applied::Version;
}

// ------------------------------------------------------------------- the end

void RankExchange::noteStop(const wire::WaitReply &reply) {
  if (reply.stop_round() > 0)
    stopRound = reply.stop_round();
}

wire::WaitReply RankExchange::wait(const wire::WaitRequest &request,
                                   bool givesUp) {
  wire::WaitReply reply = client.wait(request, givesUp);
  noteStop(reply);
  return reply;
}

void RankExchange::requestStop() {
  std::lock_guard lock(heartMutex);
  wantsStop = true;
  heartStops.notify_all();
}

std::optional<std::uint64_t> RankExchange::stopStep() const {
  if (removedStep)
    return removedStep;
  std::uint64_t round = mayBeAlone() ? agreedStop : stopRound.load();
  return round ? std::optional(round * options.innerSteps) : std::nullopt;
}

std::uint64_t RankExchange::newestVersion(std::uint32_t number, bool givesUp) {
  wire::WaitRequest request;
  request.set_fragment(number);
  request.set_round(~std::uint64_t(0)); // of no push
  return wait(request, givesUp).version();
}

void RankExchange::end(std::uint64_t stepsDone) {
  known(0, "end");
  settle(stepsDone);
  if (isRemoved()) // nobody waits for it, and it waits for nobody
    return;
  while (!client.heartbeat(/*done=*/true).finished())
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (std::uint32_t f = 0; f < fragments.size(); ++f) {
    std::uint64_t newest = newestVersion(f);
    install(f, newest, fetch(f, fragments[f].version, newest));
  }
  isOver = true;
}

std::optional<std::uint64_t>
tombolo::runtime::askIncarnation(const ExchangeOptions &options,
                                 std::string *why) {
  return ServerClient(options).tryGreet(why);
}

std::unique_ptr<Exchange>
tombolo::runtime::connectExchange(ExchangeOptions options,
                                  std::vector<ExchangeTensor> tensors,
                                  ArenaAccess arena) {
  return std::make_unique<RankExchange>(std::move(options), std::move(tensors),
                                        std::move(arena));
}
