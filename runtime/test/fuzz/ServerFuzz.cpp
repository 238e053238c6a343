//===- ServerFuzz.cpp - libFuzzer target: what ranks ask of a server ------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The requests of ParameterServer (runtime/lib/server/RankService.cpp)
// without the sockets: identity, admission, the state machine and its log. A
// server that is started again in between must have the same versions.
//
//===----------------------------------------------------------------------===//

#include "FuzzedServer.h"
#include "Identity.h"
#include "Pull.h"
#include "SimulatedDisk.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

class FuzzedServer {
public:
  FuzzedServer() {
    options.outer = fuzzedConfig();
    options.runId = kRun;
    options.contract = Contract(kPlan);
    start();
  }

  void take(const Piece &piece) {
    auto event = static_cast<Event>(piece.kind);
    if (event != Event::Data && header)
      push();
    switch (event) {
    case Event::Header:
      header.emplace();
      data.clear();
      if (!header->ParseFromArray(piece.bytes.data(),
                                  static_cast<int>(piece.bytes.size())) ||
          !mayAsk(header->sender()))
        header.reset();
      return;
    case Event::Data:
      data += piece.bytes;
      return;
    case Event::Wait:
      return ask<wire::WaitRequest>(
          piece, [&](const auto &request) { wait(request); });
    case Event::Pull:
      return ask<wire::PullRequest>(
          piece, [&](const auto &request) { pull(request); });
    case Event::Heartbeat:
      return ask<wire::HeartbeatRequest>(
          piece, [&](const wire::HeartbeatRequest &request) {
            server->heard(request.sender().island(),
                          request.sender().incarnation(), request.done(), now);
            if (request.stop())
              server->stop();
            if (request.gone())
              server->gone(request.sender().island(),
                           request.sender().incarnation());
            server->state().isFinished(now);
            server->state().isDeserted(now);
          });
    case Event::Greet:
      return ask<wire::GreetRequest>(
          piece, [&](const wire::GreetRequest &request) {
            server->state().nextIncarnation(request.sender().island());
          });
    case Event::Time:
      now += static_cast<double>(piece.bytes.size());
      for (auto &due : server->tick(now))
        closings.push_back(std::move(due));
      return;
    case Event::Versions:
      return makeVersions();
    case Event::Restart:
      return restart();
    }
  }

  void end() {
    if (header)
      push();
    restart();
  }

private:
  void start() {
    server = std::make_unique<DurableState>(fuzzedConfig(), fuzzedOptions(),
                                            disk.mount(), now);
    closings = server->takeUnfinished();
  }

  bool mayAsk(const wire::Sender &sender) {
    Stranger stranger;
    return checkIdentity(options, context, sender, stranger) ==
           Outcome::Accepted;
  }

  template <typename Message, typename Then>
  void ask(const Piece &piece, Then then) {
    Message request;
    if (request.ParseFromArray(piece.bytes.data(),
                               static_cast<int>(piece.bytes.size())) &&
        mayAsk(request.sender()))
      then(request);
  }

  void push() {
    std::optional<PushPart> part = fromWire(*header);
    header.reset();
    if (!part)
      return;
    std::uint64_t expected = 0;
    PushResult result = server->state().admit(*part, &expected);
    if (result.outcome != Outcome::Accepted)
      return;
    require(expected < 1 << 20); // of what a fragment has
    data.resize(expected);
    result = server->push(*part, std::as_bytes(std::span(data)), now);
    if (result.closing)
      closings.push_back(result.closing);
  }

  void wait(const wire::WaitRequest &request) {
    if (request.fragment() >= fuzzedConfig().fragments)
      return; // as the service does
    const wire::Sender &sender = request.sender();
    server->heard(sender.island(), sender.incarnation(), false, now);
    Receipt receipt = request.join()
                          ? server->join(request.fragment(), sender.island(),
                                         sender.incarnation())
                          : server->receipt(request.fragment(), sender.island(),
                                            request.round(), request.step());
    // Of a member's round long ago updates are kept at most.
    if (receipt.kind == Receipt::Kind::Member)
      require(receipt.version <=
              server->state().current(request.fragment())->number);
    else if (receipt.kind != Receipt::Kind::Open)
      require(server->state().version(request.fragment(), receipt.version) !=
              nullptr);
    server->overdue(request.fragment(), now);
  }

  void pull(const wire::PullRequest &request) {
    if (request.fragment() >= fuzzedConfig().fragments)
      return;
    Pulled pulled;
    std::string message;
    if (findPulled(server->state(), request, pulled, message) !=
            Outcome::Accepted ||
        locatePulled(server->state(), request, pulled, message) !=
            Outcome::Accepted)
      return;
    const std::vector<float> *values =
        pulled.version ? pulled.momentum ? &pulled.version->momentum
                                         : &pulled.version->parameters
                       : nullptr;
    std::size_t most = values ? values->size() : pulled.update->data.size();
    if (pulled.momentum && values->empty()) // sent as zeros
      most = server->state().elements(request.fragment());
    for (const FragmentRun &run : pulled.runs)
      require(run.offset <= most && run.length <= most - run.offset);
  }

  void makeVersions() {
    while (!closings.empty()) {
      auto closing = std::move(closings.front());
      closings.erase(closings.begin());
      closing->compute();
      server->logVersion(*closing);
      server->publish(*closing);
      if (server->wantsSnapshot())
        server->writeSnapshot(server->beginSnapshot());
    }
  }

  void restart() {
    makeVersions();
    std::vector<std::shared_ptr<const Version>> before;
    for (std::uint32_t f = 0; f < fuzzedConfig().fragments; ++f)
      before.push_back(server->state().current(f));
    server.reset();
    disk.unplug();
    start();
    makeVersions();
    for (std::uint32_t f = 0; f < before.size(); ++f) {
      std::shared_ptr<const Version> after = server->state().current(f);
      require(!before[f] == !after);
      require(!after || (after->number == before[f]->number &&
                         after->hash == before[f]->hash));
    }
  }

  ParameterServerOptions options;
  grpc::ServerContext context;
  SimulatedDisk disk{1};
  std::unique_ptr<DurableState> server;
  std::vector<std::shared_ptr<RoundClosing>> closings;
  std::optional<wire::PushHeader> header;
  std::string data;
  double now = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes,
                                      std::size_t size) {
  std::string_view input(reinterpret_cast<const char *>(bytes), size);
  FuzzedServer server;
  for (Piece piece; cutPiece(input, piece);)
    server.take(piece);
  server.end();
  return 0;
}
