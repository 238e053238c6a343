//===- LineTest.cpp - how the data of an exchange crosses a line ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IncomingPush.h"
#include "Outer.h"
#include "RateLimit.h"
#include "Relay.h"
#include "ServerClient.h"
#include "Temporary.h"

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/Line.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include "tombolo/schema/plan.pb.h"
#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/create_channel.h>

#include <cmath>
#include <fstream>
#include <future>
#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

constexpr std::uint64_t kElements = 2'500'007; // several chunks of each stripe
constexpr std::uint64_t kBytes = kElements * sizeof(float);

ParameterServerOptions serverFor(std::uint64_t elements) {
  ParameterServerOptions options;
  options.outer.islands = 1;
  options.outer.tensors = {{"w", elements, 0}};
  options.runId = "run";
  options.contract = Contract("plan");
  return options;
}

/// An island of one rank that has all of one tensor.
struct OneRank {
  using Tell = std::function<void(const std::string &why, double seconds)>;
  explicit OneRank(const std::string &server, LineUse line,
                   double retrySeconds = 20, Tell onUnreachable = {})
      : arena(kElements) {
    for (std::uint64_t e = 0; e < kElements; ++e)
      arena[e] = static_cast<float>(e % 1009) * 0.001f;
    ExchangeOptions options;
    options.server = server;
    options.lines = {line};
    options.runId = "run";
    options.contract = Contract("plan");
    options.innerSteps = 5;
    options.retrySeconds = retrySeconds;
    options.onUnreachable = std::move(onUnreachable);
    auto bytes = [this](std::uint64_t address) {
      return reinterpret_cast<std::byte *>(arena.data()) + address;
    };
    exchange = connectExchange(
        options, {{"w", kElements, 0, {{0, kElements, 1, kElements}}, 0, true}},
        {[bytes](std::uint64_t address, std::span<std::byte> to) {
           std::copy_n(bytes(address), to.size(), to.begin());
         },
         [bytes](std::uint64_t address, std::span<const std::byte> from) {
           std::copy(from.begin(), from.end(), bytes(address));
         }});
  }

  std::vector<float> arena;
  std::unique_ptr<Exchange> exchange;
};

/// Exchanges twice; what comes of it has the reference's bits.
void exchangeTwice(OneRank &rank) {
  Reference reference(serverFor(kElements).outer);
  reference.start({{"w", rank.arena}}, {{"w", std::vector<float>(kElements)}});
  rank.exchange->begin(0);
  for (std::uint64_t round : {1, 2}) {
    IslandPush push;
    push.innerSteps = push.tokens = 5;
    std::vector<float> &delta = push.delta["w"];
    for (std::uint64_t e = 0; e < kElements; ++e) {
      float base = rank.arena[e];
      rank.arena[e] += static_cast<float>((e * 31 + round) % 101) * 0.01f;
      delta.push_back(base - rank.arena[e]);
    }
    rank.exchange->beginPush(0, 5 * round);
    rank.exchange->apply(0, 5 * round);
    reference.round({push});
    ASSERT_TRUE(rank.arena == reference.g.at("w")) << "round " << round;
  }
}

class Line : public testing::TestWithParam<std::uint32_t> {};

/// As many sockets as are asked for, and the same bits over any number.
TEST_P(Line, HasSoManyConnections) {
  ParameterServer server(serverFor(kElements));
  Relay relay(server.address());
  OneRank rank(relay.address(), {GetParam()});
  ASSERT_NO_FATAL_FAILURE(exchangeTwice(rank));
  EXPECT_EQ(relay.connections(), static_cast<int>(GetParam()));
  // The first version and two exchanges, each way: each byte crosses once.
  for (Relay::Direction direction : {Relay::ToServer, Relay::ToClient}) {
    EXPECT_GE(relay.bytes(direction), 3 * kBytes);
    EXPECT_LT(relay.bytes(direction), 3 * kBytes + (1 << 20));
  }
}

/// When a connection breaks what has come is not sent again, but for the chunk
/// that was on its way.
TEST_P(Line, GoesOnBehindABreak) {
  for (Relay::Direction direction : {Relay::ToServer, Relay::ToClient}) {
    ParameterServer server(serverFor(kElements));
    Relay relay(server.address());
    // In the first exchange after the start, behind some chunks of a stripe.
    const std::uint64_t stripe = kBytes / GetParam();
    relay.cutAfter(direction, stripe + stripe * 2 / 3 + (stripe >> 5));
    OneRank rank(relay.address(), {GetParam()});
    ASSERT_NO_FATAL_FAILURE(exchangeTwice(rank));
    EXPECT_EQ(relay.cuts(), 1);
    EXPECT_EQ(relay.connections(), static_cast<int>(GetParam()) + 1);
    EXPECT_GE(relay.bytes(direction), 3 * kBytes);
    EXPECT_LT(relay.bytes(direction), 3 * kBytes + kChunkBytes + (1 << 20));
  }
}

/// Whoever is told of it waits for a server without end, and loses nothing.
TEST_P(Line, IsWaitedForWhenItIsCut) {
  ParameterServer server(serverFor(kElements));
  Relay relay(server.address());
  std::mutex mutex;
  std::vector<std::string> told;
  OneRank rank(relay.address(), {GetParam()}, /*retrySeconds=*/0.3,
               [&](const std::string &why, double seconds) {
                 std::lock_guard lock(mutex);
                 told.push_back(why);
                 EXPECT_GE(seconds, 0.3);
               });
  auto times = [&] {
    std::lock_guard lock(mutex);
    return told.size();
  };
  // In the first exchange after the start.
  std::thread cutter([&] {
    while (relay.bytes(Relay::ToClient) < kBytes)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    relay.cut(true);
    while (times() < 3)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    relay.cut(false);
  });
  exchangeTwice(rank);
  cutter.join();
  EXPECT_EQ(told.back(), "");
  EXPECT_NE(told.front().find("of rank 0 of island 0 failed: "),
            std::string::npos)
      << told.front();
  for (std::size_t i = 0; i + 1 < told.size(); ++i)
    EXPECT_NE(told[i], "");
}

TEST(LineCut, EndsForWhoeverIsToldToEnd) {
  ParameterServer server(serverFor(kElements));
  Relay relay(server.address());
  std::promise<void> noticed;
  OneRank rank(relay.address(), {}, /*retrySeconds=*/0.1,
               [&, once = false](const std::string &, double) mutable {
                 if (!std::exchange(once, true))
                   noticed.set_value();
               });
  rank.exchange->begin(0);
  relay.cut(true);
  auto exchange = std::async(std::launch::async, [&] {
    rank.exchange->beginPush(0, 5);
    rank.exchange->apply(0, 5);
  });
  noticed.get_future().wait();
  rank.exchange->abort();
  EXPECT_THROW(exchange.get(), PeerError);
}

INSTANTIATE_TEST_SUITE_P(Connections, Line, testing::Values(1, 4));

wire::PushHeader headerOf(std::uint64_t elements) {
  wire::PushHeader header;
  header.mutable_sender()->set_run_id("run");
  header.mutable_sender()->set_protocol(kServerProtocol);
  header.mutable_sender()->set_contract(Contract("plan").digest());
  header.set_content(wire::CONTENT_START_PARAMETERS);
  auto *slice = header.add_slices();
  slice->set_tensor("w");
  auto *range = slice->add_ranges();
  range->set_length(elements);
  range->set_count(1);
  range->set_stride(elements);
  return header;
}

/// How long the begin takes, in which all parameters go to the server, and come
/// back.
double secondsOfBegin(const ParameterServerOptions &options, LineUse line) {
  ParameterServer server(options);
  OneRank rank(server.address(), line);
  auto begin = std::chrono::steady_clock::now();
  rank.exchange->begin(0);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
      .count();
}

/// Over several connections together, too.
TEST_P(Line, SendsNoFasterThanItMay) {
  constexpr double kRate = 2e7;
  LineUse line{.connections = GetParam(), .mostBytesPerSecond = kRate};
  EXPECT_GE(secondsOfBegin(serverFor(kElements), line), kBytes / kRate);
  line.mostBytesPerSecond = 0;
  ParameterServerOptions limited = serverFor(kElements);
  limited.mostBytesPerSecond = kRate;
  EXPECT_GE(secondsOfBegin(limited, line), kBytes / kRate);
}

TEST(LineLimit, IsNotForTheServersOwnSite) {
  ParameterServerOptions limited = serverFor(kElements);
  limited.mostBytesPerSecond = 1000; // some hours
  limited.group.sites = {"here"};
  limited.sites = {{"here"}};
  EXPECT_LT(secondsOfBegin(limited, {}), 600);
}

/// A heartbeat does not wait behind what may only go slowly.
TEST(LineLimit, DoesNotHoldUpHeartbeats) {
  ParameterServer server(serverFor(kElements));
  ExchangeOptions options;
  options.server = server.address();
  options.lines = {{.connections = 1, .mostBytesPerSecond = 4e6}};
  options.runId = "run";
  options.contract = Contract("plan");
  ServerClient client(options);
  wire::PushHeader header = headerOf(kElements);
  const std::vector<std::byte> data(kBytes); // two and a half seconds
  auto push =
      std::async(std::launch::async, [&] { return client.push(header, data); });
  for (int beat = 0; beat < 3; ++beat)
    EXPECT_EQ(client.heartbeat(false).outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_EQ(push.wait_for(std::chrono::seconds(0)),
            std::future_status::timeout);
  EXPECT_EQ(push.get().outcome(), wire::OUTCOME_ACCEPTED);
}

TEST(RateLimit, IsSharedByAllWhoSend) {
  constexpr double kRate = 1e6;
  RateLimit limit(kRate);
  auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n)
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i)
        EXPECT_TRUE(limit.take(2500, [] { return false; }));
    });
  for (std::thread &thread : threads)
    thread.join();
  limit.charge(50000); // does not wait, but makes the next one wait
  EXPECT_TRUE(limit.take(1, [] { return false; }));
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took.count(), 150001 / kRate);
}

TEST(RateLimit, EndsWhenNobodyWantsIt) {
  RateLimit slow(1), none(0);
  EXPECT_FALSE(slow.take(1 << 20, [] { return true; }));
  EXPECT_TRUE(none.take(~std::size_t(0), [] { return true; }));
  EXPECT_EQ(none.piece(1000), 1000u);
  EXPECT_EQ(slow.piece(1000), 1000u);
  EXPECT_EQ(slow.piece(1 << 20), 4096u);
  EXPECT_EQ(RateLimit(1e7).piece(1 << 20), 200000u);
  EXPECT_EQ(RateLimit(1e9).piece(1 << 20), 1u << 20);
}

/// Without the client: what the server says of stripes, as a stranger may send
/// them.
class Stripes : public testing::Test {
protected:
  static constexpr std::uint64_t kFew = 10; // 40 bytes
  ParameterServer server{serverFor(kFew)};
  std::unique_ptr<wire::ParameterServer::Stub> stub =
      wire::ParameterServer::NewStub(grpc::CreateChannel(
          server.address(), grpc::InsecureChannelCredentials()));

  /// All bytes are 1; what has come before counts in the digest.
  wire::PushReply push(std::uint32_t stripe, std::uint32_t stripes,
                       std::uint64_t before, const std::string &data) {
    std::size_t known = std::min<std::uint64_t>(before, 4 * kFew);
    return push(stripe, stripes, before, data,
                sha256(std::string(known, 1) + data));
  }
  wire::PushReply push(std::uint32_t stripe, std::uint32_t stripes,
                       std::uint64_t before, const std::string &data,
                       const std::string &digest) {
    wire::PushRequest request;
    *request.mutable_header() = headerOf(kFew);
    request.mutable_header()->set_stripe(stripe);
    request.mutable_header()->set_stripes(stripes);
    request.mutable_header()->set_sent_before(before);
    grpc::ClientContext context;
    wire::PushReply reply;
    auto writer = stub->Push(&context, &reply);
    bool open = writer->Write(request);
    request.set_data(data);
    if (open && !data.empty())
      open = writer->Write(request);
    request.mutable_trailer()->set_sha256(digest);
    if (open)
      writer->Write(request);
    writer->WritesDone();
    EXPECT_TRUE(writer->Finish().ok());
    return reply;
  }
};

TEST_F(Stripes, AreTakenTogether) {
  wire::PushReply reply = push(1, 2, 0, std::string(20, 1));
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_FALSE(reply.whole());
  EXPECT_FALSE(reply.started());
  // The same once more: it is there.
  reply = push(1, 2, 20, "");
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_FALSE(reply.whole());
  reply = push(0, 2, 0, std::string(20, 1));
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_TRUE(reply.whole());
  EXPECT_EQ(push(1, 2, 20, "").outcome(), wire::OUTCOME_REPEATED);
}

TEST_F(Stripes, OfAnotherDivisionAreAnotherPush) {
  EXPECT_FALSE(push(1, 2, 0, std::string(20, 1)).whole());
  EXPECT_FALSE(push(0, 4, 0, std::string(10, 1)).whole());
  EXPECT_FALSE(push(0, 2, 0, std::string(20, 1)).whole()); // alone again
  EXPECT_TRUE(push(1, 2, 0, std::string(20, 1)).whole());
}

TEST_F(Stripes, TellHowMuchHasCome) {
  wire::PushReply reply = push(0, 2, 8, std::string(12, 1));
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_BUSY);
  EXPECT_EQ(reply.received(), 0u);
}

/// What is damaged on its way has not come, and the rest of the push is there
/// still.
TEST_F(Stripes, ThatAreDamagedAreSentAgain) {
  EXPECT_EQ(push(0, 2, 0, std::string(20, 1)).outcome(),
            wire::OUTCOME_ACCEPTED);
  wire::PushReply reply =
      push(1, 2, 0, std::string(20, 1), sha256(std::string(20, 2)));
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_BUSY);
  EXPECT_EQ(reply.received(), 0u);
  reply = push(1, 2, 0, std::string(20, 1));
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_TRUE(reply.whole());
}

/// Of a stripe that goes on after a break the checksum is of all of it.
TEST_F(Stripes, AreCheckedAcrossBreaks) {
  {
    wire::PushRequest request;
    *request.mutable_header() = headerOf(kFew);
    grpc::ClientContext context;
    wire::PushReply reply;
    auto writer = stub->Push(&context, &reply);
    EXPECT_TRUE(writer->Write(request));
    request.set_data(std::string(8, 1));
    EXPECT_TRUE(writer->Write(request));
    writer->WritesDone(); // without a trailer
    EXPECT_TRUE(writer->Finish().ok());
    EXPECT_EQ(reply.outcome(), wire::OUTCOME_MALFORMED);
    EXPECT_EQ(reply.received(), 8u);
  }
  wire::PushReply reply =
      push(0, 1, 8, std::string(32, 1), sha256(std::string(32, 1)));
  EXPECT_EQ(reply.outcome(), wire::OUTCOME_BUSY);
  EXPECT_EQ(push(0, 1, 0, std::string(40, 1)).outcome(),
            wire::OUTCOME_ACCEPTED);
}

TEST_F(Stripes, ThatCannotBeAreRefused) {
  EXPECT_EQ(push(0, 65, 0, "").outcome(), wire::OUTCOME_MALFORMED);
  EXPECT_EQ(push(2, 2, 0, "").outcome(), wire::OUTCOME_MALFORMED);
  EXPECT_EQ(push(0, 2, 0, std::string(21, 1)).outcome(),
            wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(push(0, 2, 0, std::string(19, 1)).outcome(),
            wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(push(0, 2, ~std::uint64_t(0), "").outcome(), wire::OUTCOME_BUSY);
  EXPECT_EQ(push(0, 1, 0, std::string(40, 1)).outcome(),
            wire::OUTCOME_ACCEPTED);
}

TEST_F(Stripes, OfAPullAreBytesThatAreThere) {
  ASSERT_EQ(push(0, 1, 0, std::string(40, 1)).outcome(),
            wire::OUTCOME_ACCEPTED);
  auto pull = [&](std::uint64_t first, std::uint64_t bytes,
                  std::uint64_t before) {
    wire::PullRequest request;
    *request.mutable_sender() = headerOf(kFew).sender();
    *request.add_slices() = headerOf(kFew).slices(0);
    request.set_first_byte(first);
    request.set_bytes(bytes);
    request.set_sent_before(before);
    while (true) {
      grpc::ClientContext context;
      auto reader = stub->Pull(&context, request);
      wire::PullReply reply;
      EXPECT_TRUE(reader->Read(&reply));
      wire::Outcome outcome = reply.header().outcome();
      std::uint64_t size = 0;
      while (reader->Read(&reply))
        size += reply.data().size();
      EXPECT_TRUE(reader->Finish().ok());
      if (outcome != wire::OUTCOME_NOT_STARTED) // is being made
        return std::pair(outcome, size);
    }
  };
  using Answer = std::pair<wire::Outcome, std::uint64_t>;
  const std::uint64_t huge = ~std::uint64_t(0);
  EXPECT_EQ(pull(0, 0, 0), Answer(wire::OUTCOME_ACCEPTED, 40));
  EXPECT_EQ(pull(39, 1, 0), Answer(wire::OUTCOME_ACCEPTED, 1));
  EXPECT_EQ(pull(10, 20, 7), Answer(wire::OUTCOME_ACCEPTED, 13));
  EXPECT_EQ(pull(10, 20, 20), Answer(wire::OUTCOME_ACCEPTED, 0));
  EXPECT_EQ(pull(40, 0, 0), Answer(wire::OUTCOME_ACCEPTED, 0));
  EXPECT_EQ(pull(41, 0, 0).first, wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(pull(39, 2, 0).first, wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(pull(2, huge, 0).first, wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(pull(10, 20, 21).first, wire::OUTCOME_BAD_SIZE);
  EXPECT_EQ(pull(huge, huge, huge).first, wire::OUTCOME_BAD_SIZE);
}

tombolo::plan::v1::Topology threeSites() {
  tombolo::plan::v1::Topology topology;
  for (const char *name : {"north", "middle", "south", "alone"})
    topology.add_sites()->set_name(name);
  auto add = [&](std::uint32_t first, std::uint32_t second, double gbits,
                 double rtt, double loss) {
    auto &line = *topology.add_lines();
    line.set_first(first);
    line.set_second(second);
    line.set_bytes_per_second(gbits * 1e9 / 8);
    line.set_rtt_seconds(rtt);
    line.set_loss(loss);
  };
  add(0, 1, 10, 0.030, 1e-4);
  add(2, 1, 1, 0.010, 1e-4);
  return topology;
}

TEST(LineFigures, OfAWayOverSeveralLines) {
  auto topology = threeSites();
  auto way = lineBetween(topology, "north", "south");
  ASSERT_TRUE(way);
  EXPECT_DOUBLE_EQ(way->bytesPerSecond, 1.25e8);
  EXPECT_DOUBLE_EQ(way->rttSeconds, 0.040);
  EXPECT_NEAR(way->loss, 2e-4, 1e-7);
  EXPECT_FALSE(lineBetween(topology, "north", "alone"));
  EXPECT_FALSE(lineBetween(topology, "north", "north"));
  EXPECT_FALSE(lineBetween(topology, "north", "elsewhere"));
}

TEST(LineFigures, HaveAsManyConnectionsAsTheyNeed) {
  LineFigures line{.bytesPerSecond = 1.25e9, .rttSeconds = 0.03};
  TcpSettings tcp;
  EXPECT_EQ(connectionsFor(line, tcp), 1u); // nothing is known
  // 37.5 MB under way, of which one connection has 2 MiB.
  tcp.sendBytes = 4 << 20;
  tcp.receiveBytes = 6 << 20;
  EXPECT_EQ(connectionsFor(line, tcp), 18u);
  // What loss leaves: 1.22 * 1460 / (0.03 * 0.01) = 5.94 MB/s.
  line.loss = 1e-4;
  tcp.congestionControl = "cubic";
  EXPECT_EQ(connectionsFor(line, tcp), 211u); // TopologyTest has the same
  tcp.congestionControl = "bbr";
  EXPECT_EQ(connectionsFor(line, tcp), 18u);
  line.rttSeconds = 0;
  EXPECT_EQ(connectionsFor(line, tcp), 1u);
  EXPECT_EQ(connectionsFor({.bytesPerSecond = 1e15, .rttSeconds = 1}, tcp),
            1024u);
}

TEST(TcpSettings, AreReadOrNotKnown) {
  TemporaryFolder folder;
  auto write = [&](const char *name, const char *text) {
    std::ofstream(folder / name) << text;
  };
  TcpSettings tcp = readTcpSettings(folder.path);
  EXPECT_EQ(tcp.sendBytes, 0u);
  EXPECT_EQ(tcp.congestionControl, "");
  write("tcp_wmem", "4096\t16384\t4194304\n");
  write("tcp_rmem", "4096\t131072\t");
  write("tcp_congestion_control", "cubic\n");
  tcp = readTcpSettings(folder.path);
  EXPECT_EQ(tcp.sendBytes, 4194304u);
  EXPECT_EQ(tcp.receiveBytes, 0u);
  EXPECT_EQ(tcp.congestionControl, "cubic");
  EXPECT_TRUE(std::isinf(tcp.windowBytes()));
}

/// Two ranks in the north, where the server is, and two in the south.
tombolo::plan::v1::Plan twoSites() {
  tombolo::plan::v1::Plan plan;
  *plan.mutable_topology() = threeSites();
  for (const char *site : {"north", "south"}) {
    auto &island = *plan.add_islands();
    island.add_sites(site);
    auto &group = *island.add_stages()->add_groups();
    group.set_site(site);
    group.set_count(2);
    group.set_tensor_parallel(1);
    group.set_share(1);
  }
  plan.mutable_server()->add_placements()->set_primary("north");
  return plan;
}

TEST(LineUses, AreSharedByTheRanksOfASite) {
  auto plan = twoSites();
  TcpSettings tcp;
  tcp.sendBytes = tcp.receiveBytes = 1 << 20;
  auto connections = [&](const char *site, const char *servers,
                         const LineOptions &options) {
    std::vector<std::uint32_t> result;
    for (const LineUse &use : lineUses(plan, site, servers, options, tcp))
      result.push_back(use.connections);
    return result;
  };
  using List = std::vector<std::uint32_t>;
  // 5 MB under way, 0.5 MiB of each; or, of what loss leaves, 40.
  EXPECT_EQ(connections("south", "10.0.0.1:7000", {}), List{20});
  EXPECT_EQ(connections("north", "10.0.0.1:7000", {}), List{1});
  EXPECT_EQ(connections("south", "127.0.0.1:7000", {}), List{1});
  EXPECT_EQ(connections("south", "10.0.0.1:7000", {3}), List{3});
  EXPECT_EQ(connections("north", "127.0.0.1:7000", {3}), List{1});
  LineOptions limited{.connections = {}, .limitGbits = 0.8};
  EXPECT_EQ(lineUses(plan, "south", "127.0.0.1:7000", limited, tcp),
            (std::vector<LineUse>{{1, 5e7}})); // of two ranks
  EXPECT_EQ(lineUses(plan, "north", "10.0.0.1:7000", limited, tcp),
            (std::vector<LineUse>{{1, 0}}));
  auto &place = *plan.mutable_server()->mutable_placements(0);
  place.set_backup("south");
  EXPECT_EQ(connections("south", "10.0.0.1:7000,10.0.0.2:7000", {}),
            (List{20, 1}));
}

TEST(LineAdvice, SaysWhatKeepsAConnectionFromFillingALine) {
  auto plan = twoSites();
  TcpSettings tcp;
  tcp.sendBytes = tcp.receiveBytes = 1 << 20;
  tcp.congestionControl = "cubic";
  auto advice = [&](const char *site, const char *servers) {
    return lineAdvice(plan, site, servers, tcp);
  };
  auto both = advice("south", "10.0.0.1:7000");
  ASSERT_EQ(both.size(), 1u);
  EXPECT_EQ(
      both[0],
      "line to 'north' (1 Gbit/s, 40 ms, loss 0.00019999): it asks for 40 "
      "connections, more than one, for buffers let 0.524 MB be under way and "
      "the line holds 5 MB (at both ends: sysctl -w "
      "net.ipv4.tcp_wmem='4096 16384 10000000' "
      "net.ipv4.tcp_rmem='4096 131072 10000000') and for cubic slows down to "
      "0.0252 Gbit/s where packets are lost, which bbr does not (at both ends: "
      "modprobe tcp_bbr; sysctl -w net.ipv4.tcp_congestion_control=bbr)");
  // The server's site has a line to each other one.
  EXPECT_EQ(advice("north", "10.0.0.1:7000").size(), 1u);
  EXPECT_TRUE(advice("south", "127.0.0.1:7000").empty());
  EXPECT_TRUE(advice("south", "unix:/a,unix:/b").empty());
  tcp.congestionControl = "bbr";
  EXPECT_EQ(advice("south", "10.0.0.1:7000")[0].find("bbr"), std::string::npos);
  tcp.sendBytes = tcp.receiveBytes = 10'000'000;
  EXPECT_TRUE(advice("south", "10.0.0.1:7000").empty());
  tcp.congestionControl = "cubic";
  EXPECT_EQ(advice("south", "10.0.0.1:7000")[0].find("tcp_wmem"),
            std::string::npos);
}

PushPart partOf(std::uint64_t round) {
  PushPart part;
  part.round = round;
  return part;
}

TEST(IncomingPush, ANewStreamTakesAStripeOver) {
  IncomingPushes pushes(100, 60);
  auto push = pushes.find(partOf(0), 2, 9, 0);
  int first = 0, second = 0, cancelled = 0;
  ASSERT_TRUE(push->enter(&first, 0, 0, [&] { ++cancelled; }));
  EXPECT_EQ(push->add(&first, 0, "abc", 0), IncomingPush::Added::Yes);
  ASSERT_TRUE(push->enter(&second, 0, 3, [] {}));
  EXPECT_EQ(cancelled, 1);
  EXPECT_EQ(push->add(&first, 0, "d", 0), IncomingPush::Added::Replaced);
  EXPECT_EQ(push->add(&second, 0, "DE", 0), IncomingPush::Added::Yes);
  push->leave(&first, 0);
  EXPECT_EQ(push->end(0), IncomingPush::Ended::Waits);
  ASSERT_TRUE(push->enter(&first, 1, 0, [] {}));
  EXPECT_EQ(push->end(1), IncomingPush::Ended::Short);
  EXPECT_EQ(push->add(&first, 1, "FGHI", 0), IncomingPush::Added::Yes);
  EXPECT_EQ(push->end(1), IncomingPush::Ended::Whole);
  EXPECT_EQ(push->end(0), IncomingPush::Ended::Taken);
  EXPECT_EQ(push->add(&first, 1, "", 0), IncomingPush::Added::Replaced);
  std::string all(reinterpret_cast<const char *>(push->data().data()), 9);
  EXPECT_EQ(all, "abcDEFGHI");
}

TEST(IncomingPush, RoomIsGivenBack) {
  IncomingPushes pushes(10, 60);
  auto push = pushes.find(partOf(0), 1, 8, 0);
  int stream = 0, cancelled = 0;
  ASSERT_TRUE(push->enter(&stream, 0, 0, [&] { ++cancelled; }));
  EXPECT_EQ(push->add(&stream, 0, "12345678", 0), IncomingPush::Added::Yes);
  EXPECT_EQ(pushes.bytes(), 8u);
  // From the begin again.
  ASSERT_TRUE(push->enter(&stream, 0, 0, [&] { ++cancelled; }));
  EXPECT_EQ(pushes.bytes(), 0u);
  EXPECT_EQ(push->add(&stream, 0, "1234", 0), IncomingPush::Added::Yes);
  // A newer push of the same rank ends it.
  auto newer = pushes.find(partOf(1), 1, 8, 0);
  EXPECT_EQ(cancelled, 2);
  ASSERT_TRUE(newer->enter(&stream, 0, 0, [] {}));
  EXPECT_EQ(newer->add(&stream, 0, "1234567", 0), IncomingPush::Added::NoRoom);
  push.reset();
  EXPECT_EQ(newer->add(&stream, 0, "1234567", 0), IncomingPush::Added::Yes);
  pushes.drop(*newer);
  newer.reset();
  EXPECT_EQ(pushes.bytes(), 0u);
}

TEST(IncomingPush, WhatNobodyGoesOnWithIsForgotten) {
  IncomingPushes pushes(10, 60);
  int stream = 0;
  {
    auto push = pushes.find(partOf(0), 1, 8, 100);
    ASSERT_TRUE(push->enter(&stream, 0, 0, [] {}));
    EXPECT_EQ(push->add(&stream, 0, "1234", 100), IncomingPush::Added::Yes);
  }
  PushPart other = partOf(0);
  other.fragment = 1;
  pushes.find(other, 1, 8, 200);
  EXPECT_EQ(pushes.bytes(), 4u); // a stream has it
  pushes.find(partOf(0), 1, 8, 200)->leave(&stream, 0);
  pushes.find(other, 1, 8, 159);
  EXPECT_EQ(pushes.bytes(), 4u);
  pushes.find(other, 1, 8, 160);
  EXPECT_EQ(pushes.bytes(), 0u);
}

} // namespace
