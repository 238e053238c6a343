//===- TlsTest.cpp - strangers at the door --------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "Temporary.h"

#include "Wire.h"

#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

/// A server for an island in the east and one in the west.
class Tls : public testing::Test {
protected:
  Tls() {
    for (const char *name : {"/own", "/other", "/expired"})
      std::filesystem::create_directory(folder.path + name);
    makeCertificates(folder / "own", {"east", "west"});
    makeCertificates(folder / "other", {"east", "west"});
    makeCertificates(folder / "expired", {"east", "west"}, /*days=*/-1);
  }

  void serve(TlsFiles files) {
    ParameterServerOptions options;
    options.outer.islands = 2;
    options.outer.tensors = {{"w", 4, 0}};
    options.runId = "run";
    options.planChecksum = "plan";
    options.ranks = {1, 1};
    options.sites = {{"east"}, {"west"}};
    options.tls = std::move(files);
    options.onStranger = [this](const std::string &message) {
      std::lock_guard lock(mutex);
      strangers.push_back(message);
    };
    server = std::make_unique<ParameterServer>(options);
  }

  /// Sends what an island begins with.
  void begin(std::uint32_t island, TlsFiles files) {
    ExchangeOptions options;
    options.server = server->address();
    options.runId = "run";
    options.planChecksum = "plan";
    options.island = island;
    options.innerSteps = 5;
    options.retrySeconds = 0.2;
    options.tls = std::move(files);
    std::vector<float> arena(4, 1);
    auto bytes = std::as_writable_bytes(std::span(arena));
    auto exchange = connectExchange(
        options, {{"w", 4, 0, {{0, 4, 1, 4}}, 0, true}},
        {[&](std::uint64_t at, std::span<std::byte> to) {
           std::copy_n(bytes.begin() + static_cast<long>(at), to.size(),
                       to.begin());
         },
         [&](std::uint64_t at, std::span<const std::byte> from) {
           std::copy(from.begin(), from.end(),
                     bytes.begin() + static_cast<long>(at));
         }});
    exchange->begin(0);
    exchange->abort();
  }

  std::size_t logged() {
    std::lock_guard lock(mutex);
    return strangers.size();
  }
  bool isLogged(const std::string &part) {
    std::lock_guard lock(mutex);
    return std::any_of(strangers.begin(), strangers.end(),
                       [&](const std::string &message) {
                         return message.find(part) != std::string::npos;
                       });
  }

  test::TemporaryFolder folder;
  std::mutex mutex;
  std::vector<std::string> strangers;
  std::unique_ptr<ParameterServer> server;
};

/// Whoever is of the run gets in; nobody else does, and each is logged.
TEST_F(Tls, StrangersAreRefusedAndLogged) {
  serve(serverFiles(folder / "own"));
  begin(0, siteFiles(folder / "own", 0));
  begin(1, siteFiles(folder / "own", 1));
  EXPECT_EQ(logged(), 0u);

  // A site that says it is another.
  expectError([&] { begin(1, siteFiles(folder / "own", 0)); },
              "unknown sender");
  EXPECT_TRUE(isLogged("the certificate is that of site 'east', which is not "
                       "one of island 1"));
  // A certificate that another authority has signed.
  TlsFiles wrong = siteFiles(folder / "other", 0);
  wrong.authority = folder / "own/ca.crt";
  expectError([&] { begin(0, wrong); }, "failed");
  EXPECT_TRUE(isLogged("certificate")) << "of no authority that is known";
  // No certificate at all: plain text.
  std::size_t before = logged();
  expectError([&] { begin(0, TlsFiles()); }, "failed");
  EXPECT_GT(logged(), before);
  // The job goes on.
  begin(0, siteFiles(folder / "own", 0));
}

TEST_F(Tls, ExpiredCertificatesAreRefused) {
  // The authority is as old as what it has signed; each alone would do.
  serve(serverFiles(folder / "own"));
  TlsFiles expired = siteFiles(folder / "expired", 0);
  expired.authority = folder / "own/ca.crt";
  expectError([&] { begin(0, expired); }, "failed");
  serve(serverFiles(folder / "expired"));
  expectError([&] { begin(0, siteFiles(folder / "expired", 0)); }, "failed");
}

/// A site's certificate does not make a server.
TEST_F(Tls, ClientsTellAServerFromASite) {
  serve(siteFiles(folder / "own", 0));
  expectError([&] { begin(0, siteFiles(folder / "own", 0)); }, "failed");
  serve(serverFiles(folder / "other"));
  expectError([&] { begin(0, siteFiles(folder / "own", 0)); }, "failed");
}

/// Only a server of the run may speak as one.
TEST_F(Tls, ServersTellAServerFromASite) {
  ParameterServerOptions options;
  options.outer.tensors = {{"w", 4, 0}};
  options.runId = "run";
  options.planChecksum = "plan";
  options.ranks = {1};
  options.sites = {{"east"}};
  options.group = {{"east", "west", "south"}, {1, 1, 1}};
  options.addresses = {"", "unix:" + (folder / "west"),
                       "unix:" + (folder / "south")};
  options.stateDir = folder / "state";
  options.tls = serverFiles(folder / "own");
  options.onStranger = [this](const std::string &message) {
    std::lock_guard lock(mutex);
    strangers.push_back(message);
  };
  server = std::make_unique<ParameterServer>(options);
  auto deliver = [&](const TlsFiles &files, const std::string &run,
                     std::uint32_t from) {
    auto stub = wire::Peers::NewStub(
        connectTo(server->address(), files, /*impatient=*/true));
    grpc::ClientContext context;
    wire::PeerReply reply;
    auto stream = stub->Deliver(&context, &reply);
    wire::PeerMessage message;
    message.set_run_id(run);
    message.set_plan_checksum("plan");
    message.set_protocol(kServerProtocol);
    message.set_from(from);
    message.mutable_prepare();
    stream->Write(message);
    stream->WritesDone();
    return stream->Finish().error_code();
  };
  EXPECT_EQ(deliver(serverFiles(folder / "own"), "run", 1),
            grpc::StatusCode::OK);
  EXPECT_EQ(deliver(siteFiles(folder / "own", 1), "run", 1),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(isLogged("the certificate is that of 'west', which is no "
                       "server"));
  EXPECT_EQ(deliver(serverFiles(folder / "own"), "another", 1),
            grpc::StatusCode::PERMISSION_DENIED);
  for (std::uint32_t from : {0u, 3u})
    EXPECT_EQ(deliver(serverFiles(folder / "own"), "run", from),
              grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(deliver(serverFiles(folder / "other"), "run", 1),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(Tls, MissingFilesAreNamed) {
  expectError([&] { serve({"", folder / "own/server.key", ""}); }, "not all");
  expectError([&] { serve(serverFiles(folder / "nowhere")); },
              folder / "nowhere/ca.crt");
}

} // namespace
