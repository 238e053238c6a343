//===- StoreTest.cpp - the rendezvous store -------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/Transport.h"

#include "Expect.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

TEST(Store, GivesWhatWasSet) {
  StoreServer server;
  StoreClient a(server.address(), seconds(10)),
      b(server.address(), seconds(10));
  std::vector<char> value(100000, 'v');
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(50));
    a.set("key", value);
  });
  EXPECT_EQ(b.get("key", seconds(10)), value);
  later.join();
  EXPECT_THROW(b.get("other", milliseconds(20)), PeerError);
}

TEST(Store, RefusesBadAddresses) {
  for (const char *address : {"", "nowhere", "1.2.3.4:", "1.2.3.4:99999"})
    expectError([&] { StoreClient client(address, seconds(1)); },
                "expected an address");
}

// Who asks much and takes nothing gets all of it in the end, but the store does
// not keep it all meanwhile.
TEST(Store, HoldsBackWhatIsNotTaken) {
  StoreServer server;
  StoreClient client(server.address(), seconds(10));
  constexpr std::size_t kValue = 1 << 20, kRequests = 400;
  client.set("k", std::vector<char>(kValue, 'v'));
  int port = std::stoi(server.address().substr(server.address().find(':') + 1));
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);
  std::string requests;
  for (std::size_t i = 0; i < kRequests; ++i)
    requests += std::string("\2\1\0\0\0\0\0\0\0k", 10);
  rusage before, after;
  ::getrusage(RUSAGE_SELF, &before);
  ASSERT_EQ(::send(fd, requests.data(), requests.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(requests.size()));
  std::vector<char> piece(1 << 16);
  std::size_t got = 0;
  while (got < kRequests * (kValue + 5)) {
    ssize_t n = ::recv(fd, piece.data(), piece.size(), 0);
    ASSERT_GT(n, 0);
    got += static_cast<std::size_t>(n);
  }
  ::close(fd);
  ::getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 100 << 10) << "KiB";
}

// Garbage closes that connection and harms nobody else.
TEST(Store, SurvivesGarbage) {
  StoreServer server;
  StoreClient client(server.address(), seconds(10));
  client.set("key", {'x'});
  int port = std::stoi(server.address().substr(server.address().find(':') + 1));
  for (unsigned seed = 0; seed < 20; ++seed) {
    int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);
    std::string garbage;
    for (unsigned i = 0; i < 200; ++i)
      garbage += static_cast<char>((i * 131 + seed * 77) >> (seed % 5));
    (void)!::send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL);
    ::close(fd);
  }
  EXPECT_EQ(client.get("key", seconds(10)), std::vector<char>{'x'});
}

} // namespace
