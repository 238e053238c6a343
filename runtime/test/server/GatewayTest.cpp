//===- GatewayTest.cpp - ranks without a key ------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "Temporary.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/Gateway.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr int kPatienceMilliseconds = 20000;

bool awaitFor(int fd, short events, int milliseconds = kPatienceMilliseconds) {
  pollfd polled{fd, events, 0};
  return ::poll(&polled, 1, milliseconds) > 0;
}

/// A site's gateway and its folder; servers and others have certificates.
class Ways : public testing::Test {
protected:
  Ways() {
    for (const char *name : {"/own", "/other", "/sockets"})
      std::filesystem::create_directory(folder.path + name);
    makeCertificates(folder / "own", {"east", "west"});
    makeCertificates(folder / "other", {"east", "west"});
  }

  void open(const std::string &server, const std::string &protocol,
            std::size_t site = 0) {
    gateway.reset();
    gateway = std::make_unique<Gateway>(
        TlsIdentity(siteFiles(folder / "own", site), kServerName, protocol),
        std::vector{server}, folder / "sockets",
        [this](const std::string &why) {
          std::lock_guard lock(mutex);
          failures.push_back(why);
        });
  }
  bool hasFailed(const std::string &why) {
    for (int tries = 0; tries < 1000; ++tries) {
      {
        std::lock_guard lock(mutex);
        for (const std::string &each : failures)
          if (each.find(why) != each.npos)
            return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  std::string all() {
    std::lock_guard lock(mutex);
    std::string text;
    for (const std::string &each : failures)
      text += each + "\n";
    return text;
  }

  test::TemporaryFolder folder;
  std::mutex mutex;
  std::vector<std::string> failures;
  std::unique_ptr<Gateway> gateway;
};

/// Something that answers in TLS, and somebody who comes through the gateway.
class GatewayBytes : public Ways {
protected:
  ~GatewayBytes() override {
    gateway.reset();
    for (int fd : {rank, listener})
      if (fd >= 0)
        ::close(fd);
  }

  void begin(const TlsFiles &files, const std::string &protocol = "") {
    listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    auto *where = reinterpret_cast<sockaddr *>(&at);
    ASSERT_EQ(::bind(listener, where, sizeof at), 0);
    ASSERT_EQ(::listen(listener, 8), 0);
    ASSERT_EQ(::getsockname(listener, where, &length), 0);
    open("localhost:" + std::to_string(ntohs(at.sin_port)), protocol);
    rank = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::string path = gateway->addresses().at(0).substr(5);
    std::copy(path.begin(), path.end(), to.sun_path);
    ASSERT_EQ(::connect(rank, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);
    ASSERT_TRUE(awaitFor(listener, POLLIN));
    int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    server = std::make_unique<TlsStream>(TlsIdentity(files), fd,
                                         TlsStream::Role::Answers);
    last = until([&] { return server->shakeHands(); });
  }

  template <typename Step> TlsStream::State until(Step step) {
    for (;;) {
      TlsStream::Progress progress = step();
      moved = progress.bytes;
      if (progress.state != TlsStream::State::Waits ||
          !awaitFor(server->descriptor(), progress.events))
        return progress.state;
    }
  }
  /// Reads and throws away; how many bytes until there are so many, or the end.
  std::size_t drain(std::size_t most) {
    std::vector<std::byte> data(1 << 16);
    std::size_t sum = 0;
    while (sum < most &&
           until([&] { return server->read(data); }) == TlsStream::State::Moved)
      sum += moved;
    return sum;
  }
  bool rankSeesTheEnd() {
    char byte;
    return awaitFor(rank, POLLIN) && ::recv(rank, &byte, 1, 0) <= 0;
  }

  int listener = -1, rank = -1;
  std::unique_ptr<TlsStream> server;
  TlsStream::State last = TlsStream::State::Waits;
  std::size_t moved = 0;
};

/// What goes in comes out, in order, both ways at once.
TEST_F(GatewayBytes, PassBothWays) {
  begin(serverFiles(folder / "own"));
  ASSERT_EQ(last, TlsStream::State::Moved);
  EXPECT_EQ(server->peer(), "east") << "the rank has shown nothing";
  std::mt19937 random(1);
  std::vector<std::uint8_t> sent(5 << 20), got;
  for (std::uint8_t &byte : sent)
    byte = static_cast<std::uint8_t>(random());
  std::thread writer([&] {
    std::size_t piece = 1;
    for (std::size_t at = 0; at < sent.size(); at += piece) {
      piece = std::min<std::size_t>(1 + at % 70001, sent.size() - at);
      std::size_t done = 0;
      while (done < piece) {
        ssize_t put =
            ::send(rank, sent.data() + at + done, piece - done, MSG_NOSIGNAL);
        if (put <= 0)
          return;
        done += static_cast<std::size_t>(put);
      }
    }
  });
  std::thread reader([&] {
    std::uint8_t data[4096];
    while (got.size() < sent.size() && awaitFor(rank, POLLIN)) {
      ssize_t n = ::recv(rank, data, sizeof data, 0);
      if (n <= 0)
        return;
      got.insert(got.end(), data, data + n);
    }
  });
  // An echo.
  std::vector<std::byte> data(30000);
  for (std::size_t echoed = 0; echoed < sent.size();) {
    ASSERT_EQ(until([&] { return server->read(data); }),
              TlsStream::State::Moved);
    std::span left = std::span(data).first(moved);
    echoed += moved;
    while (!left.empty()) {
      ASSERT_EQ(until([&] { return server->write(left); }),
                TlsStream::State::Moved);
      left = left.subspan(moved);
    }
  }
  writer.join();
  reader.join();
  EXPECT_TRUE(got == sent);
  EXPECT_EQ(all(), "");
}

/// A server that takes nothing holds the rank up; nothing piles up between.
TEST_F(GatewayBytes, WaitForAServerThatDoesNotTakeThem) {
  begin(serverFiles(folder / "own"));
  ASSERT_EQ(last, TlsStream::State::Moved);
  const std::vector<char> data(1 << 20);
  std::size_t sent = 0;
  constexpr std::size_t kMost = std::size_t(256) << 20;
  while (sent < kMost && awaitFor(rank, POLLOUT, 500)) {
    ssize_t put =
        ::send(rank, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    ASSERT_GT(put, 0);
    sent += static_cast<std::size_t>(put);
  }
  EXPECT_LT(sent, kMost / 4) << "more than sockets hold";
  ::shutdown(rank, SHUT_WR);
  EXPECT_EQ(drain(kMost), sent) << "and nothing is lost";
}

TEST_F(GatewayBytes, EndWithTheServer) {
  begin(serverFiles(folder / "own"));
  server.reset();
  EXPECT_TRUE(rankSeesTheEnd());
}

TEST_F(GatewayBytes, EndWithTheRank) {
  begin(serverFiles(folder / "own"));
  ::close(std::exchange(rank, -1));
  EXPECT_EQ(drain(1), 0u);
}

TEST_F(GatewayBytes, EndWithTheGateway) {
  begin(serverFiles(folder / "own"));
  gateway.reset();
  EXPECT_TRUE(rankSeesTheEnd());
  EXPECT_EQ(drain(1), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "sockets"));
}

/// As ranks do that have a key, it looks who answers.
TEST_F(GatewayBytes, GoToAServerOfTheRunAlone) {
  begin(siteFiles(folder / "own", 1)); // a site is none
  EXPECT_TRUE(rankSeesTheEnd());
  EXPECT_TRUE(hasFailed("certificate")) << all();
}

TEST_F(GatewayBytes, GoToNoServerOfAnotherAuthority) {
  begin(serverFiles(folder / "other"));
  EXPECT_TRUE(rankSeesTheEnd());
  EXPECT_TRUE(hasFailed("certificate")) << all();
}

TEST_F(GatewayBytes, GoToWhoSpeaksHttp2Alone) {
  begin(serverFiles(folder / "own"), "h2");
  EXPECT_TRUE(rankSeesTheEnd());
  EXPECT_TRUE(hasFailed("does not speak h2")) << all();
}

TEST_F(Ways, ToNobodyAreToldOf) {
  open("127.0.0.1:1", "h2");
  ExchangeOptions options;
  options.server = "127.0.0.1:1";
  options.gateway = gateway->addresses().at(0);
  std::string why;
  EXPECT_FALSE(askIncarnation(options, &why));
  EXPECT_TRUE(hasFailed("the server at 127.0.0.1:1: cannot connect: "
                        "Connection refused"))
      << all();
}

TEST_F(Ways, BeginAtASocketWithAName) {
  TlsIdentity tls(siteFiles(folder / "own", 0), kServerName, "h2");
  auto at = [&](const std::string &place) {
    Gateway(tls, {"127.0.0.1:1"}, place, nullptr);
  };
  expectError([&] { at("/" + std::string(200, 'x')); },
              "expected a path for a socket with at most 107 bytes");
  expectError([&] { at(folder / "nowhere"); }, "cannot listen there");
}

/// A rank that has no certificate, at the end of a gateway that has.
class GatewayRank : public Ways {
protected:
  static constexpr std::size_t kElements = 500000; // more than one stripe

  GatewayRank() : arena(kElements, 1) {
    options.outer.islands = 2;
    options.outer.tensors = {{"w", kElements, 0}};
    options.runId = "run";
    options.contract = Contract("plan");
    options.sites = {{"east"}, {"west"}};
    options.tls = serverFiles(folder / "own");
    options.onStranger = [this](const Stranger &stranger) {
      std::lock_guard lock(mutex);
      strangers.push_back(stranger);
    };
    options.onEvent = [this](const OuterEvent &event) {
      std::lock_guard lock(mutex);
      events.push_back(event);
    };
    options.outer.deadlineSeconds = 0; // nobody waits for island 1
    server = std::make_unique<ParameterServer>(options);
    open(server->address(), "h2");
  }

  std::unique_ptr<Exchange> connect(std::uint32_t island = 0) {
    ExchangeOptions client;
    client.server = server->address();
    client.gateway = gateway->addresses().at(0);
    client.lines = {{.connections = 4}};
    client.runId = "run";
    client.contract = Contract("plan");
    client.island = island;
    client.innerSteps = 5;
    client.retrySeconds = 20;
    auto bytes = std::as_writable_bytes(std::span(arena));
    return connectExchange(
        client, {{"w", kElements, 0, {{0, kElements, 1, kElements}}, 0, true}},
        {[bytes](std::uint64_t at, std::span<std::byte> to) {
           std::copy_n(bytes.begin() + static_cast<long>(at), to.size(),
                       to.begin());
         },
         [bytes](std::uint64_t at, std::span<const std::byte> from) {
           std::copy(from.begin(), from.end(),
                     bytes.begin() + static_cast<long>(at));
         }});
  }

  ParameterServerOptions options;
  std::vector<float> arena;
  std::vector<Stranger> strangers;
  std::vector<OuterEvent> events;
  std::unique_ptr<ParameterServer> server;
};

/// It trains as one with a key does, and goes on when the gateway has been
/// away.
TEST_F(GatewayRank, TrainsWithoutAKey) {
  auto rank = connect();
  rank->begin(0);
  for (std::uint64_t round = 1; round <= 4; ++round) {
    for (float &each : arena)
      each += 1;
    if (round == 3)
      open(server->address(), "h2");
    rank->beginPush(0, 5 * round);
    rank->apply(0, 5 * round);
  }
  rank->abort();
  std::lock_guard lock(mutex);
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events.back().version, 4u);
  EXPECT_TRUE(strangers.empty());
}

/// It is taken for what the gateway's certificate says.
TEST_F(GatewayRank, SpeaksForItsSiteAlone) {
  expectError([&] { connect(/*island=*/1)->begin(0); }, "unknown sender");
  std::lock_guard lock(mutex);
  ASSERT_FALSE(strangers.empty());
  EXPECT_EQ(strangers[0].reason, Stranger::Reason::AnotherSite);
}

} // namespace
