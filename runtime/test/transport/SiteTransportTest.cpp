//===- SiteTransportTest.cpp - between sites, and with strangers ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Sites.h"

#include "Expect.h"

#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <csignal>
#include <cstring>
#include <functional>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using std::chrono::seconds;

namespace {

const TransportOptions kOptions{seconds(30), seconds(30), "", std::nullopt};

sockaddr_in socketAddress(const std::string &address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  std::size_t colon = address.rfind(':');
  to.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
  ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
  return to;
}

int connectTo(const std::string &address) {
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = socketAddress(address);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);
  return fd;
}

/// Shows a certificate and tells whether the other side lets it in.
bool isLetIn(const std::string &address, const TlsFiles &files,
             const std::string &said = "") {
  TlsStream stream(TlsIdentity(files), connectTo(address),
                   TlsStream::Role::Dials);
  auto until = [&](auto step) {
    for (;;) {
      TlsStream::Progress progress = step();
      if (progress.state != TlsStream::State::Waits)
        return progress.state == TlsStream::State::Moved;
      pollfd polled{stream.descriptor(), progress.events, 0};
      if (::poll(&polled, 1, 20000) <= 0)
        return false;
    }
  };
  std::byte answer[1];
  return until([&] { return stream.shakeHands(); }) &&
         (said.empty() || until([&] {
            return stream.write(std::as_bytes(std::span(said)));
          })) &&
         until([&] { return stream.read(answer); });
}

/// Shakes hands without a certificate.
void comeWithoutCertificate(const std::string &address) {
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
      SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context.get()),
                                                SSL_free);
  int fd = connectTo(address);
  SSL_set_fd(tls.get(), fd);
  SSL_connect(tls.get());
  char answer;
  EXPECT_LE(SSL_read(tls.get(), &answer, 1), 0);
  ::close(fd);
}

bool eventually(const std::function<bool()> &condition) {
  for (int i = 0; i < 2000 && !condition(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}

/// The address of a rank's door, as it stands in the store.
std::string invitationOf(Sites &sites, std::uint64_t rank) {
  StoreClient client(sites.store->address(), seconds(30),
                     StoreKeeper{sites.files(0), "north"});
  std::vector<char> text =
      client.get("door-of-rank-" + std::to_string(rank), seconds(30));
  return {text.begin(), text.end()};
}

std::string introduction(const std::string &word, std::uint64_t rank,
                         const std::string &name) {
  auto bytes = static_cast<std::uint32_t>(name.size());
  std::string said = word;
  said.append(reinterpret_cast<const char *>(&rank), sizeof rank);
  said.append(reinterpret_cast<const char *>(&bytes), sizeof bytes);
  return said + name;
}

/// Sums on two ranks, which `meanwhile` happens to between their start and
/// their meeting.
void expectSum(Sites &sites, const std::function<void()> &meanwhile) {
  std::unique_ptr<Transport> first = sites.transport(0, kOptions);
  meanwhile();
  auto sum = [&](Transport &transport) {
    auto pair = transport.connect("all", std::vector<std::uint64_t>{0, 1});
    std::vector<float> data(100000, 1);
    pair->allReduceSum(data);
    for (float each : data)
      ASSERT_EQ(each, 2);
  };
  std::thread other([&] { sum(*sites.transport(1, kOptions)); });
  sum(*first);
  other.join();
}

// Whoever has no certificate, one of another authority, or that of a site that
// has no part in the island, and whoever says that it is another rank or does
// not know the word: all go, are told of, and nothing else notices.
TEST(SiteTransport, TurnsStrangersAway) {
  Sites sites(2), others(2);
  sites.start();
  // It trusts this run's authority, which has not signed its own certificate.
  TlsFiles forged = others.files(1);
  forged.authority = sites.files(1).authority;
  expectSum(sites, [&] {
    std::string invitation = invitationOf(sites, 0);
    std::string word = invitation.substr(0, 16), door = invitation.substr(16);
    int plain = connectTo(door);
    std::string text = "GET / HTTP/1.0\r\n\r\n";
    ASSERT_EQ(::send(plain, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    std::string fromSouth = introduction(word, 1, "all");
    comeWithoutCertificate(door);
    EXPECT_FALSE(isLetIn(door, forged, fromSouth));
    EXPECT_FALSE(isLetIn(door, sites.files(2), fromSouth));
    EXPECT_FALSE(isLetIn(door, sites.files(0), fromSouth));
    EXPECT_FALSE(isLetIn(door, sites.files(1),
                         introduction(std::string(16, 'x'), 1, "all")));
    EXPECT_FALSE(isLetIn(door, sites.files(1), introduction(word, 7, "all")));
    EXPECT_FALSE(isLetIn(door, sites.files(1), fromSouth + "more"));
    for (const char *why :
         {"peer did not return a certificate", "certificate verify failed",
          "that of 'west', which is no site of",
          "it says that it is rank 1, which is not at its site, 'north'",
          "it does not know this rank's word", "it says that it is rank 7",
          "it says more than who it is"})
      EXPECT_TRUE(eventually([&] { return sites.hasTurnedAway(why); }))
          << why << "\n"
          << sites.all();
    EXPECT_TRUE(eventually([&] {
      return sites.hasTurnedAway("http request") ||
             sites.hasTurnedAway("wrong version number");
    })) << sites.all();
    ::close(plain);
    // It is let in as who it is, and only then the door was right to refuse.
    EXPECT_TRUE(isLetIn(door, sites.files(1), introduction(word, 1, "other")));
  });
}

// The store, too.
TEST(SiteTransport, StrangersDoNotReadTheStore) {
  Sites sites(2), others(2);
  sites.start();
  TlsFiles forged = others.files(1);
  forged.authority = sites.files(1).authority;
  expectSum(sites, [&] {
    comeWithoutCertificate(sites.store->address());
    auto enter = [&](const TlsFiles &files, const std::string &keeper) {
      StoreClient client(sites.store->address(), seconds(30),
                         StoreKeeper{files, keeper});
      return client.look("door-of-rank-0").has_value();
    };
    EXPECT_TRUE(enter(sites.files(1), "north"));
    expectError([&] { enter(others.files(1), "north"); },
                "certificate verify failed");
    EXPECT_THROW(enter(forged, "north"), PeerError);
    EXPECT_THROW(enter(sites.files(2), "north"), PeerError);
    // The store is not the one that it is taken for.
    expectError(
        [&] { enter(sites.files(1), "south"); },
        "expected the certificate of site 'south', got that of 'north'");
    for (const char *why :
         {"peer did not return a certificate", "certificate verify failed",
          "that of 'west', which is none"})
      EXPECT_TRUE(eventually([&] { return sites.hasTurnedAway(why); }))
          << why << "\n"
          << sites.all();
    // In plain text nobody is answered.
    int plain = connectTo(sites.store->address());
    std::string ask("\2\1\0\0\0\0\0\0\0k", 10);
    ASSERT_EQ(::send(plain, ask.data(), ask.size(), MSG_NOSIGNAL), 10);
    char answer[64];
    ssize_t got;
    std::string all;
    while ((got = ::recv(plain, answer, sizeof answer, 0)) > 0)
      all.append(answer, static_cast<std::size_t>(got));
    EXPECT_TRUE(all.empty() || all[0] == 21) << "an alert of TLS at most";
    ::close(plain);
  });
}

// Whoever connects and says nothing holds nobody up.
TEST(SiteTransport, TheSilentHoldNobodyUp) {
  Sites sites(2);
  sites.start();
  std::vector<int> silent;
  expectSum(sites, [&] {
    std::string door = invitationOf(sites, 0).substr(16);
    for (int i = 0; i < 20; ++i) {
      silent.push_back(connectTo(door));
      silent.push_back(connectTo(sites.store->address()));
    }
  });
  for (int fd : silent)
    ::close(fd);
}

/// Hands on what comes at its address to another, both ways, and keeps it.
class Tap {
public:
  explicit Tap(std::string to) : to(std::move(to)) {
    sockaddr_in at = socketAddress("127.0.0.1:0");
    socklen_t length = sizeof at;
    listener = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr *>(&at), length), 0);
    EXPECT_EQ(::listen(listener, 8), 0);
    ::getsockname(listener, reinterpret_cast<sockaddr *>(&at), &length);
    address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    thread = std::thread([this] { serve(); });
  }
  ~Tap() {
    if (thread.joinable())
      stop();
    ::close(listener);
  }
  /// What it has heard, of both directions.
  std::string stop() {
    ::shutdown(listener, SHUT_RDWR);
    thread.join();
    return heard;
  }
  std::string address;

private:
  void serve() {
    std::vector<pollfd> ends{{listener, POLLIN, 0}};
    while (::poll(ends.data(), ends.size(), 30000) > 0) {
      if (ends[0].revents) {
        int in = ::accept(listener, nullptr, nullptr);
        if (in < 0)
          break;
        ends.push_back({in, POLLIN, 0});
        ends.push_back({connectTo(to), POLLIN, 0});
      }
      for (std::size_t i = 1; i < ends.size(); ++i) {
        char data[65536];
        if (!(ends[i].revents & (POLLIN | POLLHUP | POLLERR)))
          continue;
        std::size_t other = (i - 1) % 2 ? i - 1 : i + 1;
        ssize_t got = ::recv(ends[i].fd, data, sizeof data, 0);
        if (got <= 0) {
          ::shutdown(ends[other].fd, SHUT_WR);
          ends[i].fd = -ends[i].fd - 1; // poll passes over it
          continue;
        }
        heard.append(data, static_cast<std::size_t>(got));
        int out = ends[other].fd < 0 ? -ends[other].fd - 1 : ends[other].fd;
        for (ssize_t put = 0; put < got;) {
          ssize_t n = ::send(out, data + put,
                             static_cast<std::size_t>(got - put), MSG_NOSIGNAL);
          if (n <= 0)
            break;
          put += n;
        }
      }
    }
    for (std::size_t i = 1; i < ends.size(); ++i)
      ::close(ends[i].fd < 0 ? -ends[i].fd - 1 : ends[i].fd);
  }
  std::string to, heard;
  int listener;
  std::thread thread;
};

// What crosses the line between two ranks is TLS, and nothing of what they say.
TEST(SiteTransport, NothingIsInPlainText) {
  Sites sites(2);
  sites.start();
  const std::string kName = "all-ranks-of-the-island";
  std::string secret;
  for (int i = 0; i < 4096; ++i)
    secret += "activations ";
  std::string heard;
  {
    std::unique_ptr<Transport> first = sites.transport(0, kOptions);
    std::string invitation = invitationOf(sites, 0);
    Tap tap(invitation.substr(16));
    { // the second rank goes by way of the tap
      StoreClient client(sites.store->address(), seconds(30),
                         StoreKeeper{sites.files(0), "north"});
      std::string through = invitation.substr(0, 16) + tap.address;
      client.set("door-of-rank-0", {through.begin(), through.end()});
    }
    std::vector<std::uint64_t> both{0, 1};
    std::thread other([&] {
      std::unique_ptr<Transport> second = sites.transport(1, kOptions);
      auto pair = second->connect(kName, both);
      pair->send(0, 3, std::as_bytes(std::span(secret)));
    });
    std::string got(secret.size(), ' ');
    {
      auto pair = first->connect(kName, both);
      pair->receive(1, 3, std::as_writable_bytes(std::span(got)));
      EXPECT_EQ(got, secret);
      other.join();
    }
    heard = tap.stop();
  }
  ASSERT_GT(heard.size(), secret.size());
  // A record of a handshake, of a version that all know.
  EXPECT_EQ(heard.substr(0, 2), "\x16\x03");
  EXPECT_EQ(heard.find("activations"), heard.npos);
  EXPECT_EQ(heard.find(kName), heard.npos) << "the communicator's name";
}

/// In a process: sums with others until it is told of a lost peer.
[[noreturn]] void sumForEver(Sites &sites, std::uint64_t rank,
                             std::uint64_t count, int addresses, int ready) {
  try {
    std::string address;
    for (char c; ::read(addresses, &c, 1) == 1 && c != '\n';)
      address += c;
    // The timeout is long: what ends the wait must be the dead peer itself.
    auto transport = sites.transport(
        rank, {std::chrono::minutes(5), seconds(30), "", std::nullopt},
        address);
    std::vector<std::uint64_t> ranks;
    for (std::uint64_t i = 0; i < count; ++i)
      ranks.push_back(i);
    auto ring = transport->connect("all", ranks);
    std::vector<float> data(3 << 20);
    for (int round = 0;; ++round) {
      ring->allReduceSum(data);
      char byte = 1;
      if (round == 2)
        (void)!::write(ready, &byte, 1);
    }
  } catch (const PeerError &) {
    ::_exit(42);
  } catch (...) {
    ::_exit(1);
  }
}

// Sums of more than is asked for ahead, in parts of unlike lengths.
TEST(SiteTransport, SumsMoreThanIsOnItsWay) {
  constexpr std::uint64_t kRanks = 3;
  Sites sites(kRanks);
  sites.start();
  auto sum = [&](std::uint64_t rank) {
    auto transport = sites.transport(rank, kOptions);
    auto ring = transport->connect("all", std::vector<std::uint64_t>{0, 1, 2});
    std::vector<float> data((60u << 18) + 1);
    auto value = [](std::size_t i) { return static_cast<float>(i % 1021); };
    for (std::size_t i = 0; i < data.size(); ++i)
      data[i] = value(i) + static_cast<float>(rank);
    ring->allReduceSum(data);
    for (std::size_t i = 0; i < data.size(); ++i)
      ASSERT_EQ(data[i], 3 * value(i) + 3) << "element " << i;
  };
  std::vector<std::thread> others;
  for (std::uint64_t rank = 1; rank < kRanks; ++rank)
    others.emplace_back(sum, rank);
  sum(0);
  for (std::thread &other : others)
    other.join();
}

// What was valid until yesterday is not any more.
TEST(SiteTransport, ExpiredCertificatesAreRefused) {
  Sites sites(2, /*validDays=*/-1);
  sites.start();
  expectError(
      [&] {
        sites.transport(0, {seconds(5), seconds(5), "", {}});
      },
      "certificate has expired");
}

// Of four ranks at two sites one is killed: the others end by themselves.
TEST(SiteTransport, ADeadPeerEndsEveryRank) {
  constexpr std::uint64_t kRanks = 4;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  Sites sites(kRanks);
  std::vector<pid_t> children;
  std::vector<int> addresses;
  for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    pid_t child = ::fork();
    if (child == 0)
      sumForEver(sites, rank, kRanks, pipe[0], ready[1]);
    children.push_back(child);
    ::close(pipe[0]);
    addresses.push_back(pipe[1]);
  }
  sites.start();
  std::string text = sites.store->address() + "\n";
  for (int fd : addresses)
    EXPECT_EQ(::write(fd, text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
  ::close(ready[1]);
  char byte;
  for (std::uint64_t rank = 0; rank < kRanks; ++rank)
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
  ::kill(children[1], SIGKILL);
  for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
    int status = 0;
    pid_t ended = 0;
    EXPECT_TRUE(eventually([&] {
      return ended == children[rank] ||
             (ended = ::waitpid(children[rank], &status, WNOHANG)) != 0;
    })) << rank;
    if (ended != children[rank]) {
      ::kill(children[rank], SIGKILL);
      ::waitpid(children[rank], &status, 0);
    }
    EXPECT_TRUE(rank == 1 || (WIFEXITED(status) && WEXITSTATUS(status) == 42))
        << rank;
  }
  for (int fd : addresses)
    ::close(fd);
  ::close(ready[0]);
}

} // namespace
