//===- ServiceTest.cpp - the service over a real socket -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Outer.h"
#include "Temporary.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/server/Administer.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <cmath>
#include <filesystem>
#include <future>
#include <limits>
#include <mutex>
#include <thread>

#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

constexpr std::uint64_t kRows = 300, kColumns = 1400; // w: more than one chunk
constexpr std::uint64_t kBig = kRows * kColumns;

OuterConfig modelConfig(std::uint32_t islands) {
  OuterConfig config;
  config.islands = islands;
  config.tensors = {{"w", kBig, 0}, {"b", 7, 0}};
  return config;
}

ParameterServerOptions serverFor(OuterConfig config) {
  ParameterServerOptions options;
  options.outer = std::move(config);
  options.runId = "run";
  options.contract = Contract("plan");
  return options;
}

ExchangeTensor tensorPart(std::string name, std::uint64_t elements,
                          std::vector<ElementRange> ranges,
                          std::uint64_t address, bool owner) {
  return {std::move(name), elements, 0, std::move(ranges), address, owner};
}

/// A rank without anything but its arena and its connection.
struct TestRank {
  TestRank(const std::string &server, std::uint32_t island, std::uint32_t rank,
           std::vector<ExchangeTensor> given, std::size_t arenaFloats)
      : tensors(std::move(given)), arena(arenaFloats) {
    ExchangeOptions options;
    options.server = server;
    options.runId = "run";
    options.contract = Contract("plan");
    options.island = island;
    options.rank = rank;
    options.innerSteps = 5;
    options.tokensPerStep = 100 * (island + 1);
    options.retrySeconds = 5;
    auto bytes = [this](std::uint64_t address) {
      return reinterpret_cast<std::byte *>(arena.data()) + address;
    };
    exchange = connectExchange(
        options, tensors,
        {[bytes](std::uint64_t address, std::span<std::byte> to) {
           std::copy_n(bytes(address), to.size(), to.begin());
         },
         [bytes](std::uint64_t address, std::span<const std::byte> from) {
           std::copy(from.begin(), from.end(), bytes(address));
         }});
  }

  /// Calls `visit(name, element of the whole, value)` for all that lies here.
  template <typename Visit> void each(Visit visit) {
    for (const ExchangeTensor &tensor : tensors) {
      float *at = arena.data() + tensor.address / sizeof(float);
      for (const ElementRange &range : tensor.ranges)
        for (std::uint64_t r = 0; r < range.count; ++r)
          for (std::uint64_t e = 0; e < range.length; ++e)
            visit(tensor.name, range.begin + r * range.stride + e, *at++);
    }
  }

  std::vector<ExchangeTensor> tensors;
  std::vector<float> arena;
  std::unique_ptr<Exchange> exchange;
};

/// Island 0: two ranks that split `w` by columns, and a third that holds all
/// and owns nothing. Island 1: one rank with everything, `b` before `w`.
std::vector<std::unique_ptr<TestRank>> twoIslands(const std::string &server) {
  std::vector<std::unique_ptr<TestRank>> ranks;
  constexpr std::uint64_t kHalf = kColumns / 2;
  ranks.push_back(std::make_unique<TestRank>(
      server, 0, 0,
      std::vector{
          tensorPart("w", kBig, {{0, kHalf, kRows, kColumns}}, 64, true)},
      16 + kBig / 2));
  ranks.push_back(std::make_unique<TestRank>(
      server, 0, 1,
      std::vector{
          tensorPart("b", 7, {{0, 7, 1, 7}}, 0, true),
          tensorPart("w", kBig, {{kHalf, kHalf, kRows, kColumns}}, 32, true)},
      8 + kBig / 2));
  ranks.push_back(std::make_unique<TestRank>(
      server, 0, 2,
      std::vector{tensorPart("w", kBig, {{0, kBig, 1, kBig}}, 0, false),
                  tensorPart("b", 7, {{0, 7, 1, 7}}, 4 * kBig, false)},
      kBig + 7));
  ranks.push_back(std::make_unique<TestRank>(
      server, 1, 0,
      std::vector{tensorPart("b", 7, {{0, 7, 1, 7}}, 0, true),
                  tensorPart("w", kBig, {{0, kBig, 1, kBig}}, 28, true)},
      kBig + 7));
  return ranks;
}

float startValue(const std::string &name, std::uint64_t element) {
  return static_cast<float>(element % 1009) * 0.001f + (name == "b" ? 3 : 0);
}

/// What training does to a parameter: some change that depends on everything.
float changeOf(std::uint32_t island, int round, const std::string &name,
               std::uint64_t element) {
  return 0.01f * static_cast<float>((element * 31 + island * 17 +
                                     static_cast<std::uint64_t>(round) * 7 +
                                     name.size()) %
                                    101) -
         0.5f;
}

void inParallel(std::vector<std::function<void()>> bodies) {
  std::vector<std::future<void>> running;
  for (auto &body : bodies)
    running.push_back(std::async(std::launch::async, body));
  for (auto &one : running)
    one.get();
}

/// Islands of different layouts over a socket agree, to the bit, with the plain
/// reference, on ranks that own something and ranks that do not.
TEST(Service, TwoIslandsOfDifferentLayoutsAgreeWithTheReference) {
  OuterConfig config = modelConfig(2);
  std::vector<OuterEvent> events;
  ParameterServerOptions options = serverFor(config);
  std::mutex mutex;
  options.onEvent = [&](const OuterEvent &event) {
    std::lock_guard lock(mutex);
    events.push_back(event);
  };
  ParameterServer server(options);
  auto ranks = twoIslands(server.address());

  // The islands start differently: what island 0 has counts.
  for (auto &rank : ranks)
    rank->each([&](const std::string &name, std::uint64_t e, float &value) {
      value = rank.get() == ranks[3].get() ? -1 : startValue(name, e);
    });
  Reference reference(config);
  Tensors g, zero;
  for (const OuterTensor &tensor : config.tensors)
    for (std::uint64_t e = 0; e < tensor.elements; ++e) {
      g[tensor.name].push_back(startValue(tensor.name, e));
      zero[tensor.name].push_back(0);
    }
  reference.start(g, zero);
  auto onAll = [&](std::function<void(TestRank &)> call) {
    std::vector<std::function<void()>> bodies;
    for (auto &rank : ranks)
      bodies.push_back([&call, &rank] { call(*rank); });
    inParallel(bodies);
  };
  auto expectAgreement = [&] {
    for (auto &rank : ranks) {
      std::size_t wrong = 0;
      rank->each([&](const std::string &name, std::uint64_t e, float &value) {
        wrong += value != reference.g.at(name)[e];
      });
      ASSERT_EQ(wrong, 0u);
    }
  };
  onAll([](TestRank &rank) { rank.exchange->begin(10); });
  expectAgreement();
  for (int round = 0; round < 3; ++round) {
    std::vector<IslandPush> pushes(2);
    for (std::uint32_t island : {0u, 1u}) {
      IslandPush &push = pushes[island];
      push.innerSteps = round == 2 ? 3 : 5; // the last: the end of the run
      push.tokens = push.innerSteps * 100 * (island + 1);
      for (auto &[name, values] : reference.g)
        for (std::uint64_t e = 0; e < values.size(); ++e) {
          float local = values[e] + changeOf(island, round, name, e);
          push.delta[name].push_back(values[e] - local);
        }
    }
    for (std::size_t i = 0; i < ranks.size(); ++i)
      ranks[i]->each([&](const std::string &name, std::uint64_t e, float &x) {
        x += changeOf(i == 3, round, name, e);
      });
    std::uint64_t stepsDone = round == 2 ? 23 : 10 + 5 * (round + 1);
    onAll([&](TestRank &rank) {
      rank.exchange->beginPush(0, stepsDone);
      rank.exchange->apply(0, stepsDone);
    });
    reference.round(pushes);
    ASSERT_NO_FATAL_FAILURE(expectAgreement());
  }
  // Right after a synchronisation there is nothing to push and to wait for.
  onAll([&](TestRank &rank) {
    rank.exchange->beginPush(0, 23);
    rank.exchange->apply(0, 23);
  });
  ASSERT_NO_FATAL_FAILURE(expectAgreement());
  std::vector<float> momentum(kBig);
  ranks[3]->exchange->outerMomentum(1, 0, momentum);
  EXPECT_EQ(momentum, reference.v.at("w"));

  {
    std::lock_guard lock(mutex);
    ASSERT_EQ(events.size(), 4u);
    EXPECT_EQ(events[0].kind, OuterEvent::Kind::Start);
    for (std::size_t i = 0; i < events.size(); ++i)
      EXPECT_EQ(events[i].version, 2 + i);
    EXPECT_EQ(events[1].tokens, 5u * 300);
  }

  // A new run that starts from this state, momentum included, goes on alike.
  ParameterServer resumed(serverFor(config));
  auto again = twoIslands(resumed.address());
  std::vector<std::vector<float>> arenas;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    again[i]->arena = ranks[i]->arena;
    for (std::size_t t = 0; i < 2 && t < again[i]->tensors.size(); ++t) {
      std::uint64_t elements = again[i]->tensors[t].name == "b" ? 7 : kBig / 2;
      std::vector<float> values(elements);
      // In pieces that end in the middle of a run.
      for (std::uint64_t first = 0; first < elements; first += 1234) {
        std::span piece = std::span(values).subspan(
            first, std::min<std::uint64_t>(1234, elements - first));
        ranks[i]->exchange->outerMomentum(t, first, piece);
        again[i]->exchange->setOuterMomentum(t, first, piece);
      }
    }
  }
  std::swap(ranks, again);
  onAll([](TestRank &rank) { rank.exchange->begin(23); });
  ASSERT_NO_FATAL_FAILURE(expectAgreement());
  ranks[0]->exchange->outerMomentum(0, 0, std::span(momentum).first(kBig / 2));
  EXPECT_EQ(momentum[kColumns / 2], reference.v.at("w")[kColumns]);
}

wire::Sender senderOf(std::uint32_t island, std::uint32_t rank) {
  wire::Sender sender;
  sender.set_run_id("run");
  sender.set_protocol(kServerProtocol);
  sender.set_contract(Contract("plan").digest());
  sender.set_island(island);
  sender.set_rank(rank);
  return sender;
}

std::unique_ptr<wire::ParameterServer::Stub>
rawStub(const std::string &address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return wire::ParameterServer::NewStub(grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments));
}

/// All ranks of an island that is taken out learn so of the same push, and keep
/// what they have trained; the other island goes on alone.
TEST(Service, ARemovedIslandEndsWithItsNextPush) {
  std::mutex mutex;
  std::vector<OuterEvent> events;
  auto count = [&](OuterEvent::Kind kind) {
    std::lock_guard lock(mutex);
    return std::count_if(
        events.begin(), events.end(), [&](const OuterEvent &event) {
          return event.kind == kind && event.members == std::vector{0u} &&
                 event.message == "asked for on this machine";
        });
  };
  ParameterServerOptions options = serverFor(modelConfig(2));
  options.sites = {{"east"}, {"west"}};
  options.onEvent = [&](const OuterEvent &event) {
    std::lock_guard lock(mutex);
    events.push_back(event);
  };
  ParameterServer server(options);
  auto ranks = twoIslands(server.address());
  auto onSome = [&](std::size_t from, std::size_t to,
                    std::function<void(TestRank &)> call) {
    std::vector<std::function<void()>> bodies;
    for (std::size_t i = from; i < to; ++i)
      bodies.push_back([&call, rank = ranks[i].get()] { call(*rank); });
    inParallel(bodies);
  };
  for (auto &rank : ranks)
    rank->each([&](const std::string &name, std::uint64_t e, float &value) {
      value = startValue(name, e);
    });
  onSome(0, 4, [](TestRank &rank) { rank.exchange->begin(0); });
  AdminOptions admin;
  admin.servers = server.address();
  admin.runId = "run";
  EXPECT_TRUE(
      administer(admin, AdminAction::Remove, "east", 0).islands[0].removed);
  // Whoever ends it does not end the others.
  {
    auto stub = rawStub(server.address());
    grpc::ClientContext context;
    wire::HeartbeatRequest stop;
    wire::HeartbeatReply reply;
    *stop.mutable_sender() = senderOf(0, 0);
    stop.set_stop(true);
    ASSERT_TRUE(stub->Heartbeat(&context, stop, &reply).ok());
    EXPECT_EQ(reply.outcome(), wire::OUTCOME_ACCEPTED);
  }
  std::vector<std::vector<float>> trained;
  for (auto &rank : ranks) {
    for (float &x : rank->arena)
      x += 0.5f;
    trained.push_back(rank->arena);
  }
  onSome(0, 3, [](TestRank &rank) {
    rank.exchange->beginPush(0, 5);
    EXPECT_EQ(rank.exchange->apply(0, 5), Exchange::Applied::Nothing);
    EXPECT_TRUE(rank.exchange->isRemoved());
    EXPECT_EQ(rank.exchange->stopStep(), 5u);
    rank.exchange->beginPush(0, 5); // the end of its program
    rank.exchange->apply(0, 5);
    rank.exchange->end(5);
    std::vector<FragmentPoint> points = rank.exchange->points();
    EXPECT_EQ(points.at(0).version, 0u);
    EXPECT_EQ(points.at(0).stepsDone, 0u);
    EXPECT_FALSE(points.at(0).pushedStep);
  });
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(ranks[i]->arena, trained[i]);
  std::vector<float> base(7);
  ranks[1]->exchange->kept(Kept::Base, 0, 0, base);
  EXPECT_EQ(base[6], startValue("b", 6));

  onSome(3, 4, [](TestRank &rank) {
    rank.exchange->beginPush(0, 5);
    EXPECT_EQ(rank.exchange->apply(0, 5), Exchange::Applied::Version);
    EXPECT_FALSE(rank.exchange->isRemoved());
    EXPECT_FALSE(rank.exchange->stopStep());
  });
  EXPECT_FALSE(
      administer(admin, AdminAction::Add, "east", 0).islands[0].removed);
  while (count(OuterEvent::Kind::Added) == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(count(OuterEvent::Kind::Removed), 1);
  EXPECT_EQ(count(OuterEvent::Kind::Added), 1);
}

/// Sends messages as they are, and the trailer that belongs to their data, and
/// returns how it ended.
std::pair<grpc::Status, wire::PushReply>
rawPush(wire::ParameterServer::Stub &stub,
        const std::vector<wire::PushRequest> &requests) {
  grpc::ClientContext context;
  wire::PushReply reply;
  auto writer = stub.Push(&context, &reply);
  bool open = true;
  std::string data;
  for (const wire::PushRequest &request : requests) {
    open = open && writer->Write(request);
    data += request.data();
  }
  wire::PushRequest trailer;
  trailer.mutable_trailer()->set_sha256(sha256(data));
  if (open)
    writer->Write(trailer);
  writer->WritesDone();
  grpc::Status status = writer->Finish();
  return {status, reply};
}

wire::PushRequest headerOf(wire::Content content, std::uint64_t elements) {
  wire::PushRequest request;
  wire::PushHeader *header = request.mutable_header();
  *header->mutable_sender() = senderOf(0, 0);
  header->set_content(content);
  if (content == wire::CONTENT_DELTA) {
    header->set_tokens(100);
    header->set_inner_steps(5);
  }
  wire::TensorSlice *slice = header->add_slices();
  slice->set_tensor("w");
  auto *range = slice->add_ranges();
  range->set_length(elements);
  range->set_count(1);
  range->set_stride(elements);
  return request;
}

wire::PushRequest dataOf(const std::vector<float> &values) {
  wire::PushRequest request;
  request.set_data(std::string(reinterpret_cast<const char *>(values.data()),
                               4 * values.size()));
  return request;
}

/// What is malformed, foreign or too large is refused, and the job goes on as
/// if it had never come.
TEST(Service, HostileMessagesDoNotHarmTheJob) {
  OuterConfig config;
  config.tensors = {{"w", 8, 0}};
  ParameterServer server(serverFor(config));
  auto stub = rawStub(server.address());
  const std::vector<float> ones(8, 1.0f);
  auto outcome = [&](const std::vector<wire::PushRequest> &requests) {
    auto [status, reply] = rawPush(*stub, requests);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.outcome();
  };
  wire::PushRequest start = headerOf(wire::CONTENT_START_PARAMETERS, 8);

  EXPECT_EQ(outcome({}), wire::OUTCOME_MALFORMED);
  EXPECT_EQ(outcome({dataOf(ones)}), wire::OUTCOME_MALFORMED);
  EXPECT_EQ(outcome({start, start}), wire::OUTCOME_MALFORMED);
  wire::PushRequest ragged;
  ragged.set_data("abc");
  EXPECT_EQ(outcome({start, ragged}), wire::OUTCOME_BAD_SIZE);
  wire::PushRequest trailer;
  trailer.mutable_trailer()->set_sha256("not of this data");
  EXPECT_EQ(outcome({start, dataOf(ones), trailer}), wire::OUTCOME_BUSY);
  trailer.mutable_trailer()->clear_sha256();
  EXPECT_EQ(outcome({start, dataOf(ones), trailer}), wire::OUTCOME_BUSY);
  EXPECT_EQ(outcome({headerOf(wire::CONTENT_UNSPECIFIED, 8)}),
            wire::OUTCOME_MALFORMED);
  EXPECT_EQ(outcome({start}), wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(outcome({start, dataOf(ones), dataOf({1})}),
            wire::OUTCOME_BAD_SIZE);
  wire::PushRequest foreign = start;
  foreign.mutable_header()->mutable_sender()->set_run_id("other");
  EXPECT_EQ(outcome({foreign, dataOf(ones)}), wire::OUTCOME_WRONG_RUN);
  foreign = start;
  foreign.mutable_header()->mutable_sender()->set_contract(
      Contract("other").digest());
  EXPECT_EQ(outcome({foreign, dataOf(ones)}), wire::OUTCOME_WRONG_RUN);
  foreign = start;
  foreign.mutable_header()->mutable_sender()->set_protocol(kServerProtocol + 1);
  EXPECT_EQ(outcome({foreign, dataOf(ones)}), wire::OUTCOME_WRONG_RUN);
  foreign = start;
  foreign.mutable_header()->mutable_sender()->set_rank(kMostRanks);
  EXPECT_EQ(outcome({foreign, dataOf(ones)}), wire::OUTCOME_UNKNOWN_SENDER);
  foreign.mutable_header()->mutable_sender()->set_island(4000000000u);
  EXPECT_EQ(outcome({foreign, dataOf(ones)}), wire::OUTCOME_UNKNOWN_SENDER);
  foreign = start;
  foreign.mutable_header()->set_fragment(1);
  EXPECT_EQ(outcome({foreign}), wire::OUTCOME_UNKNOWN_FRAGMENT);
  foreign = start;
  foreign.mutable_header()->mutable_slices(0)->mutable_ranges(0)->set_count(
      ~std::uint64_t(0));
  EXPECT_EQ(outcome({foreign}), wire::OUTCOME_BAD_RANGE);
  wire::PushRequest infinite =
      dataOf(std::vector<float>(8, std::numeric_limits<float>::infinity()));
  EXPECT_EQ(outcome({start, infinite}), wire::OUTCOME_NOT_FINITE);
  // Larger than any message may be.
  wire::PushRequest oversize;
  oversize.set_data(std::string(8 << 20, 'x'));
  auto [status, unused] = rawPush(*stub, {start, oversize});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  // A sender that goes away in the middle.
  {
    grpc::ClientContext context;
    wire::PushReply reply;
    auto writer = stub->Push(&context, &reply);
    writer->Write(start);
    writer->Write(dataOf(ones));
    context.TryCancel();
    writer->Finish();
  }
  // Bytes that are no protobuf, straight at the method.
  {
    grpc::GenericStub generic(grpc::CreateChannel(
        server.address(), grpc::InsecureChannelCredentials()));
    grpc::Slice slice(std::string(100, '\xff'));
    grpc::ByteBuffer request(&slice, 1), reply;
    grpc::ClientContext context;
    std::promise<grpc::Status> done;
    generic.UnaryCall(&context, "/tombolo.server.v1.ParameterServer/Wait", {},
                      &request, &reply,
                      [&](grpc::Status s) { done.set_value(std::move(s)); });
    EXPECT_FALSE(done.get_future().get().ok());
  }
  {
    grpc::ClientContext context;
    wire::PullRequest nothing;
    auto reader = stub->Pull(&context, nothing);
    wire::PullReply reply;
    ASSERT_TRUE(reader->Read(&reply));
    EXPECT_EQ(reply.header().outcome(), wire::OUTCOME_WRONG_RUN);
    reader->Finish();
  }
  auto pullOutcome = [&](auto change) {
    grpc::ClientContext context;
    wire::PullRequest request;
    *request.mutable_sender() = senderOf(0, 0);
    *request.add_slices() = start.header().slices(0);
    change(request);
    auto reader = stub->Pull(&context, request);
    wire::PullReply reply;
    EXPECT_TRUE(reader->Read(&reply));
    wire::PullReply rest;
    while (reader->Read(&rest)) {
    }
    EXPECT_TRUE(reader->Finish().ok());
    return reply.header().outcome();
  };
  EXPECT_EQ(pullOutcome([](auto &) {}), wire::OUTCOME_NOT_STARTED);

  // The cancelled push may still be on its way; BUSY says so.
  wire::Outcome started;
  while ((started = outcome({start, dataOf(ones)})) == wire::OUTCOME_BUSY)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(started == wire::OUTCOME_ACCEPTED) << started;
  auto await = [&](std::uint64_t version) {
    grpc::ClientContext context;
    wire::WaitRequest wait;
    *wait.mutable_sender() = senderOf(0, 0);
    wait.set_round(version - 1);
    wait.set_join(version == 0);
    wait.set_milliseconds(10000);
    wire::WaitReply reply;
    ASSERT_TRUE(stub->Wait(&context, wait, &reply).ok());
    ASSERT_EQ(reply.version(), version);
  };
  await(0);
  EXPECT_EQ(outcome({start, dataOf(ones)}), wire::OUTCOME_REPEATED);

  EXPECT_EQ(pullOutcome([](auto &) {}), wire::OUTCOME_ACCEPTED);
  EXPECT_EQ(pullOutcome([](auto &r) { r.set_version(1); }),
            wire::OUTCOME_UNKNOWN_VERSION);
  EXPECT_EQ(pullOutcome([](auto &r) { r.set_fragment(9); }),
            wire::OUTCOME_UNKNOWN_FRAGMENT);
  EXPECT_EQ(pullOutcome([](auto &r) { r.mutable_slices(0)->set_tensor("x"); }),
            wire::OUTCOME_UNKNOWN_TENSOR);
  // A small request cannot ask for the same data a thousand times.
  EXPECT_EQ(pullOutcome([](auto &r) {
              for (int i = 0; i < 1000; ++i)
                *r.add_slices() = r.slices(0);
            }),
            wire::OUTCOME_BAD_SIZE);

  wire::PushRequest delta = headerOf(wire::CONTENT_DELTA, 8);
  wire::PushRequest future = delta;
  future.mutable_header()->set_round(5);
  EXPECT_EQ(outcome({future, dataOf(ones)}), wire::OUTCOME_FUTURE_ROUND);
  EXPECT_EQ(outcome({delta, dataOf(ones)}), wire::OUTCOME_ACCEPTED);
  EXPECT_EQ(outcome({delta, dataOf(ones)}), wire::OUTCOME_REPEATED);
  await(1);
}

/// Who asks for the update while its push is under way is told how the push has
/// ended, then sent the update in the same answer; nobody else is.
TEST(Service, AnUpdateComesToWhoHasAskedBeforehand) {
  OuterConfig config;
  config.tensors = {{"w", 8, 0}};
  ParameterServer server(serverFor(config));
  auto stub = rawStub(server.address());
  const std::vector<float> ones(8, 1.0f);
  wire::PushRequest start = headerOf(wire::CONTENT_START_PARAMETERS, 8);
  EXPECT_EQ(rawPush(*stub, {start, dataOf(ones)}).second.outcome(),
            wire::OUTCOME_ACCEPTED);
  wire::PullRequest request;
  *request.mutable_sender() = senderOf(0, 0);
  *request.add_slices() = start.header().slices(0);
  wire::WaitRequest &push = *request.mutable_push();
  push.set_milliseconds(1);

  // A stranger may no more ask this way than another.
  wire::PullReply reply;
  {
    grpc::ClientContext context;
    auto reader = stub->Pull(&context, request);
    ASSERT_TRUE(reader->Read(&reply));
    EXPECT_EQ(reply.push().outcome(), wire::OUTCOME_WRONG_RUN);
    EXPECT_FALSE(reader->Read(&reply));
    EXPECT_TRUE(reader->Finish().ok());
  }
  *push.mutable_sender() = senderOf(0, 0);
  {
    grpc::ClientContext context;
    auto reader = stub->Pull(&context, request);
    ASSERT_TRUE(reader->Read(&reply));
    EXPECT_EQ(reply.push().receipt(), wire::RECEIPT_OPEN);
    EXPECT_FALSE(reader->Read(&reply));
    EXPECT_TRUE(reader->Finish().ok());
  }
  push.set_milliseconds(10000);
  grpc::ClientContext context;
  auto reader = stub->Pull(&context, request);
  wire::PushRequest delta = headerOf(wire::CONTENT_DELTA, 8);
  wire::Outcome outcome = wire::OUTCOME_NOT_STARTED;
  // Until the first version is made.
  for (int i = 0; i < 2000 && (outcome == wire::OUTCOME_NOT_STARTED ||
                               outcome == wire::OUTCOME_BUSY);
       ++i) {
    outcome = rawPush(*stub, {delta, dataOf(ones)}).second.outcome();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(outcome, wire::OUTCOME_ACCEPTED);
  ASSERT_TRUE(reader->Read(&reply));
  EXPECT_EQ(reply.push().receipt(), wire::RECEIPT_MEMBER);
  EXPECT_EQ(reply.push().go_on_from(), 1u);
  ASSERT_TRUE(reader->Read(&reply));
  EXPECT_EQ(reply.header().outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_EQ(reply.header().version(), 1u);
  ASSERT_TRUE(reader->Read(&reply));
  EXPECT_EQ(reply.data().size(), 32u);
  ASSERT_TRUE(reader->Read(&reply));
  EXPECT_TRUE(reply.has_trailer());
  EXPECT_TRUE(reader->Finish().ok());
}

/// A sender that stops in the middle does not block its rank for ever.
TEST(Service, AStalledPushIsGivenUp) {
  OuterConfig config;
  config.tensors = {{"w", 8, 0}};
  ParameterServerOptions options = serverFor(config);
  options.idleSeconds = 0.2;
  ParameterServer server(options);
  auto stub = rawStub(server.address());
  const std::vector<float> ones(8, 1.0f);
  wire::PushRequest start = headerOf(wire::CONTENT_START_PARAMETERS, 8);
  grpc::ClientContext context;
  wire::PushReply reply;
  auto stalled = stub->Push(&context, &reply);
  ASSERT_TRUE(stalled->Write(start));
  ASSERT_TRUE(stalled->Write(dataOf({1, 1, 1, 1})));
  EXPECT_FALSE(stalled->Finish().ok()); // neither side has said that it ends
  // The server may still be about to forget the first; BUSY says so.
  wire::Outcome next;
  while ((next = rawPush(*stub, {start, dataOf(ones)}).second.outcome()) ==
         wire::OUTCOME_BUSY)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(next == wire::OUTCOME_ACCEPTED) << next;
}

/// A rank that waits for a first version that never comes ends with status 3
/// and says who should have brought it.
TEST(Service, AnIslandThatDoesNotStartIsAnError) {
  OuterConfig config = modelConfig(2);
  config.startSeconds = 0.5;
  ParameterServer server(serverFor(config));
  auto ranks = twoIslands(server.address());
  try {
    ranks[3]->exchange->begin(0);
    FAIL() << "expected an error";
  } catch (const Error &error) {
    EXPECT_EQ(error.exitStatus(), 3);
    EXPECT_NE(std::string(error.what()).find("island 0 has not sent"),
              std::string::npos)
        << error.what();
  }
}

/// `abort` frees a rank that waits for an island that never comes.
TEST(Service, AbortEndsAWait) {
  ParameterServer server(serverFor(modelConfig(2)));
  auto ranks = twoIslands(server.address());
  auto waiting =
      std::async(std::launch::async, [&] { ranks[3]->exchange->begin(0); });
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(50)),
            std::future_status::timeout);
  ranks[3]->exchange->abort();
  // An echo, so that the cause of the abort is told instead.
  EXPECT_THROW(waiting.get(), PeerError);
}

/// Heartbeats reach all servers, also one of another run at a wrong address; it
/// is not taken for the primary because it answers.
TEST(Service, AServerOfAnotherRunIsNotTheOneToAsk) {
  OuterConfig config;
  config.tensors = {{"w", 8, 0}};
  ParameterServerOptions options = serverFor(config);
  options.detectionSeconds = 0.4; // a heartbeat each 0.1 s
  std::mutex mutex;
  std::size_t refused = 0;
  std::uint64_t version = 0;
  options.onEvent = [&](const OuterEvent &event) {
    std::lock_guard lock(mutex);
    version = std::max(version, event.version);
  };
  ParameterServer server(options);
  options.runId = "another";
  options.onStranger = [&](const Stranger &) {
    std::lock_guard lock(mutex);
    ++refused;
  };
  ParameterServer other(options);
  TestRank rank(server.address() + "," + other.address(), 0, 0,
                {tensorPart("w", 8, {{0, 8, 1, 8}}, 0, true)}, 8);
  rank.exchange->begin(0);
  for (bool hasBeaten = false; !hasBeaten;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::lock_guard lock(mutex);
    hasBeaten = refused >= 3;
  }
  for (std::uint64_t round = 1; round < 4; ++round) {
    rank.arena[0] += 1;
    rank.exchange->beginPush(0, 5 * round);
    rank.exchange->apply(0, 5 * round);
  }
  std::lock_guard lock(mutex);
  EXPECT_EQ(version, 3u);
}

/// Without a server the client gives up after its time, with status 3.
TEST(Service, ALostServerIsAnError) {
  // Nobody else can come to listen there.
  TemporaryFolder folder;
  std::string address = "unix:" + (folder / "nobody");
  ExchangeOptions options;
  options.server = address;
  options.retrySeconds = 0.2;
  auto exchange = connectExchange(options, {}, {});
  try {
    exchange->begin(0);
    FAIL() << "expected an error";
  } catch (const Error &error) {
    EXPECT_EQ(error.exitStatus(), 3);
    EXPECT_NE(std::string(error.what()).find(address), std::string::npos);
  }
}

TEST(Service, ListensOnlyWhereNothingElseCanReachIt) {
  for (const char *address :
       {"0.0.0.0:0", "10.0.0.1:0", "example.org:0", "nonsense", "[::]:0",
        "127.0.0.1.example.org:0", "unix:"}) {
    ParameterServerOptions options = serverFor(modelConfig(1));
    options.address = address;
    try {
      ParameterServer server(options);
      FAIL() << address;
    } catch (const Error &error) {
      EXPECT_EQ(error.exitStatus(), 1);
      EXPECT_NE(std::string(error.what()).find(address), std::string::npos);
    }
  }
  ParameterServer first(serverFor(modelConfig(1)));
  ParameterServerOptions same = serverFor(modelConfig(1));
  same.address = first.address();
  EXPECT_THROW(ParameterServer second(same), Error);

  std::filesystem::path socket =
      std::filesystem::temp_directory_path() /
      ("tombolo-server-test-" + std::to_string(getpid()));
  ParameterServerOptions local = serverFor(modelConfig(1));
  local.address = "unix:" + socket.string();
  {
    ParameterServer server(local);
    auto ranks = twoIslands(server.address());
    inParallel({[&] { ranks[0]->exchange->begin(0); },
                [&] { ranks[1]->exchange->begin(0); }});
  }
  std::filesystem::remove(socket);
}

} // namespace
