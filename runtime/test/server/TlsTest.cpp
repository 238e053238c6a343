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

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/server/Administer.h"
#include "tombolo/runtime/server/CertificateCheck.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"
#include "tombolo/runtime/server/Seldom.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

using Reason = Stranger::Reason;

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

  void serve(TlsFiles files, double handshakeSeconds = 60) {
    ParameterServerOptions options;
    options.outer.islands = 2;
    options.outer.tensors = {{"w", 4, 0}};
    options.runId = "run";
    options.contract = Contract("plan");
    options.sites = {{"east"}, {"west"}};
    options.group.sites = {"east"};
    options.tls = std::move(files);
    options.handshakeSeconds = handshakeSeconds;
    options.onStranger = [this](const Stranger &stranger) {
      std::lock_guard lock(mutex);
      strangers.push_back(stranger);
    };
    server = std::make_unique<ParameterServer>(options);
  }

  /// Sends what an island begins with.
  void begin(std::uint32_t island, TlsFiles files) {
    ExchangeOptions options;
    options.server = server->address();
    options.runId = "run";
    options.contract = Contract("plan");
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

  /// As a client that trusts the authority and has no certificate.
  void greetWithout(const std::string &authority) {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = readFile(authority, 1 << 20);
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(kServerName);
    auto stub = wire::ParameterServer::NewStub(grpc::CreateCustomChannel(
        server->address(), grpc::SslCredentials(ssl), arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(20));
    wire::GreetReply reply;
    EXPECT_EQ(stub->Greet(&context, {}, &reply).error_code(),
              grpc::StatusCode::UNAVAILABLE);
  }

  std::size_t logged() {
    std::lock_guard lock(mutex);
    return strangers.size();
  }
  bool isLogged(Reason reason, const std::string &part) {
    std::lock_guard lock(mutex);
    return std::any_of(
        strangers.begin(), strangers.end(), [&](const Stranger &stranger) {
          return stranger.reason == reason &&
                 stranger.message.find(part) != std::string::npos;
        });
  }
  /// What the server tells of in `body`, but for the last try, which the other
  /// side may have given up in the middle.
  std::set<Reason> reasonsFor(const std::function<void()> &body) {
    {
      std::lock_guard lock(mutex);
      strangers.clear();
    }
    body();
    // The other side may know it first.
    for (int tries = 0; tries < 500; ++tries) {
      {
        std::lock_guard lock(mutex);
        std::set<Reason> reasons;
        for (const Stranger &stranger : strangers)
          if (stranger.reason != Reason::Handshake)
            reasons.insert(stranger.reason);
        if (!reasons.empty())
          return reasons;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return {};
  }
  /// Connected to the server.
  int connected() const {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(
        std::stoi(server->address().substr(server->address().rfind(':') + 1))));
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);
    return fd;
  }

  test::TemporaryFolder folder;
  std::mutex mutex;
  std::vector<Stranger> strangers;
  std::unique_ptr<ParameterServer> server;
};

/// The primary's site may take islands out and let them in; another one may
/// look, and take itself out. Whoever else asks is refused and logged.
TEST_F(Tls, WhoMayAdminister) {
  serve(serverFiles(folder / "own"));
  begin(0, siteFiles(folder / "own", 0));
  begin(1, siteFiles(folder / "own", 1));
  auto options = [&](std::uint32_t site, const std::string &authority = "own",
                     const std::string &runId = "run") {
    AdminOptions made;
    made.servers = server->address();
    made.tls = siteFiles(folder / authority, site);
    made.tls.authority = folder / "own/ca.crt";
    made.runId = runId;
    made.retrySeconds = 0.2;
    return made;
  };
  const AdminOptions east = options(0), west = options(1);
  auto refuses = [&](const AdminOptions &who, AdminAction action,
                     const std::string &site, std::uint32_t quorum,
                     const std::string &part) {
    expectError([&] { administer(who, action, site, quorum); }, part);
  };
  Members members = administer(west, AdminAction::List, "", 0);
  ASSERT_EQ(members.islands.size(), 2u);
  EXPECT_EQ(members.islands[1].sites, std::vector<std::string>{"west"});
  EXPECT_FALSE(members.islands[1].removed);
  EXPECT_TRUE(members.islands[1].live);
  EXPECT_EQ(members.quorum, 1u);
  EXPECT_EQ(logged(), 0u);

  const std::string mayNot = "the certificate is that of 'west', which may not "
                             "ask for this; the primary's site may";
  refuses(west, AdminAction::Remove, "east", 0, "unknown sender: " + mayNot);
  EXPECT_TRUE(isLogged(Reason::AnotherSite, "ipv4:127.0.0.1: " + mayNot));
  refuses(west, AdminAction::Add, "west", 0, mayNot);
  refuses(west, AdminAction::Remove, "west", 1, mayNot);
  refuses(options(0, "own", "other"), AdminAction::Remove, "west", 0,
          "wrong run: expected the run 'run', got 'other'");
  EXPECT_TRUE(
      isLogged(Reason::WrongRun, "expected the run 'run', got 'other'"));
  refuses(options(0, "other"), AdminAction::Remove, "west", 0, "failed");
  refuses(east, AdminAction::Remove, "north", 0,
          "impossible: the run's plan has no island at site 'north'");
  refuses(east, AdminAction::Remove, "west", 2,
          "impossible: a round needs 2 islands (the quorum), and there would "
          "be 1");
  EXPECT_FALSE(administer(west, AdminAction::List, "", 0).islands[1].removed);

  members = administer(west, AdminAction::Remove, "west", 0);
  EXPECT_TRUE(members.islands[1].removed);
  EXPECT_FALSE(members.islands[1].live);
  EXPECT_FALSE(members.wasSo);
  EXPECT_TRUE(administer(east, AdminAction::Remove, "west", 0).wasSo);
  expectError([&] { begin(1, siteFiles(folder / "own", 1)); },
              "island 1 has been removed from the run");
  refuses(east, AdminAction::Remove, "east", 0,
          "impossible: no island would be left");
  members = administer(east, AdminAction::Add, "west", 2);
  EXPECT_FALSE(members.islands[1].removed);
  EXPECT_EQ(members.quorum, 2u);
  begin(1, siteFiles(folder / "own", 1));
}

/// Whoever is of the run gets in; nobody else does, and the log says of each
/// what was wrong.
TEST_F(Tls, StrangersAreRefusedAndToldApart) {
  Authority authority(folder / "own");
  authority.makeServer("server");
  authority.makeSite("site-0", "east");
  authority.makeSite("site-1", "west");
  authority.makeSite("expired", "east", /*days=*/-1);
  serve(serverFiles(folder / "own"));
  begin(0, siteFiles(folder / "own", 0));
  begin(1, siteFiles(folder / "own", 1));
  EXPECT_EQ(logged(), 0u);

  // A site that says it is another.
  using Reasons = std::set<Reason>;
  EXPECT_EQ(reasonsFor([&] {
              expectError([&] { begin(1, siteFiles(folder / "own", 0)); },
                          "unknown sender");
            }),
            Reasons{Reason::AnotherSite});
  EXPECT_TRUE(isLogged(Reason::AnotherSite,
                       "ipv4:127.0.0.1: the certificate is that of site "
                       "'east', which is not one of island 1"))
      << "without the port, which is another each time";
  auto refusedFor = [&](const TlsFiles &files) {
    return reasonsFor([&] { expectError([&] { begin(0, files); }, "failed"); });
  };
  // A certificate that another authority has signed, of the same name.
  TlsFiles foreign = siteFiles(folder / "other", 0);
  foreign.authority = folder / "own/ca.crt";
  EXPECT_EQ(refusedFor(foreign), Reasons{Reason::ForeignCertificate});
  EXPECT_TRUE(isLogged(Reason::ForeignCertificate,
                       "a certificate of 'east', which this run's authority "
                       "has not signed"));
  // One of the authority that was good until yesterday.
  EXPECT_EQ(refusedFor(namedFiles(folder / "own", "expired")),
            Reasons{Reason::OutOfDate});
  EXPECT_TRUE(isLogged(Reason::OutOfDate, "certificate has expired"));
  // TLS without a certificate, and none at all.
  TlsFiles none = siteFiles(folder / "own", 0);
  EXPECT_EQ(reasonsFor([&] { greetWithout(none.authority); }),
            Reasons{Reason::NoCertificate});
  EXPECT_EQ(refusedFor(TlsFiles()), Reasons{Reason::NoTls});
  // The job goes on.
  begin(0, siteFiles(folder / "own", 0));
}

/// What a handshake of gRPC's own would refuse, for reasons of any kind.
TEST_F(Tls, ACertificateIsForAClient) {
  Authority authority(folder / "own");
  authority.makeServer("server");
  authority.makeSite("site", "east");
  const std::string none;
  ClientCheck check(readFile(folder / "own/ca.crt", 1 << 20), "ca.crt");
  auto fault = [&](const std::string &path) {
    return check.fault(readFile(folder / path, 1 << 20), none);
  };
  EXPECT_FALSE(fault("own/site.crt"));
  EXPECT_FALSE(fault("own/server.crt")) << "servers call one another";
  ASSERT_TRUE(fault("other/site-0.crt"));
  EXPECT_EQ(fault("other/site-0.crt")->reason, Reason::ForeignCertificate);
  // It signed itself, and is nobody's authority here.
  EXPECT_EQ(fault("other/ca.crt")->reason, Reason::ForeignCertificate);
  EXPECT_EQ(fault("own/site.key")->reason, Reason::NoCertificate);
  expectError([&] { ClientCheck(none, "ca.crt"); },
              "'ca.crt': expected a certificate in PEM");
  // The authority's own is for signing alone.
  ASSERT_TRUE(fault("own/ca.crt"));
  EXPECT_EQ(fault("own/ca.crt")->reason, Reason::BadCertificate);
}

/// Who begins to say who it is and does not go on is let go, and told of.
TEST_F(Tls, AHandshakeThatDoesNotEndIsGivenUp) {
  serve(serverFiles(folder / "own"), /*handshakeSeconds=*/2);
  int fd = connected();
  ASSERT_EQ(::send(fd, "\x16\x03\x01", 3, MSG_NOSIGNAL), 3);
  timeval patience{20, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  char byte;
  EXPECT_EQ(::recv(fd, &byte, 1, 0), 0) << "closed by the server";
  ::close(fd);
  for (int tries = 0; logged() == 0 && tries < 200; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(isLogged(Reason::Silent, "not ended in time"));
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

/// Who is let in and pushes what cannot be is told of, with who it is.
TEST_F(Tls, APushThatCannotBeIsLogged) {
  serve(serverFiles(folder / "own"));
  auto stub = wire::ParameterServer::NewStub(connectTo(
      server->address(), siteFiles(folder / "own", 0), /*impatient=*/true));
  auto push = [&](const std::string &tensor, std::uint64_t begin,
                  bool withHeader = true) {
    grpc::ClientContext context;
    wire::PushReply reply;
    auto stream = stub->Push(&context, &reply);
    wire::PushRequest request;
    if (withHeader) {
      wire::PushHeader &header = *request.mutable_header();
      header.mutable_sender()->set_run_id("run");
      header.mutable_sender()->set_contract(Contract("plan").digest());
      header.mutable_sender()->set_protocol(kServerProtocol);
      header.set_content(wire::CONTENT_START_PARAMETERS);
      wire::TensorSlice &slice = *header.add_slices();
      slice.set_tensor(tensor);
      auto &range = *slice.add_ranges();
      range.set_begin(begin);
      range.set_length(4);
      range.set_count(1);
      range.set_stride(4);
    } else {
      request.set_data("x");
    }
    stream->Write(request);
    request.mutable_trailer()->set_sha256(sha256(""));
    stream->Write(request);
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
    return reply.outcome();
  };
  EXPECT_EQ(push("w", 1), wire::OUTCOME_BAD_RANGE);
  EXPECT_TRUE(isLogged(Reason::BadPush,
                       "ipv4:127.0.0.1: the push of rank 0 of island 0 was "
                       "refused (bad range): "));
  EXPECT_EQ(push("v", 0), wire::OUTCOME_UNKNOWN_TENSOR);
  EXPECT_TRUE(isLogged(Reason::BadPush, "(unknown tensor)"));
  EXPECT_EQ(push("w", 0), wire::OUTCOME_BAD_SIZE) << "no data";
  EXPECT_TRUE(isLogged(Reason::BadPush, "(bad size)"));
  EXPECT_EQ(push("", 0, /*withHeader=*/false), wire::OUTCOME_MALFORMED);
  EXPECT_TRUE(isLogged(Reason::BadPush, "(malformed)"));
  std::size_t before = logged();
  begin(0, siteFiles(folder / "own", 0));
  EXPECT_EQ(logged(), before) << "who does it right is not told of";
}

/// An island with two ranks, each at a site of its own.
class TlsIsland : public Tls {
protected:
  TlsIsland() {
    ParameterServerOptions options;
    options.outer.tensors = {{"w", 4, 0}};
    options.runId = "run";
    options.contract = Contract("plan");
    options.sites = {{"east", "west"}};
    options.tls = serverFiles(folder / "own");
    options.onStranger = [this](const Stranger &stranger) {
      std::lock_guard lock(mutex);
      strangers.push_back(stranger);
    };
    server = std::make_unique<ParameterServer>(options);
    for (std::size_t site : {0, 1})
      stubs.push_back(wire::ParameterServer::NewStub(
          connectTo(server->address(), siteFiles(folder / "own", site),
                    /*impatient=*/true)));
  }

  /// Elements [begin, end) of w, sent from a site as one of the ranks.
  wire::PushReply push(std::size_t site, std::uint32_t rank,
                       wire::Content content, std::uint64_t round,
                       std::uint64_t begin, std::uint64_t end) {
    grpc::ClientContext context;
    wire::PushReply reply;
    auto stream = stubs[site]->Push(&context, &reply);
    wire::PushRequest request;
    wire::PushHeader &header = *request.mutable_header();
    header.mutable_sender()->set_run_id("run");
    header.mutable_sender()->set_contract(Contract("plan").digest());
    header.mutable_sender()->set_protocol(kServerProtocol);
    header.mutable_sender()->set_rank(rank);
    header.set_content(content);
    header.set_round(round);
    header.set_base_version(round);
    if (content == wire::CONTENT_DELTA) {
      header.set_tokens(100);
      header.set_inner_steps(5);
    }
    wire::TensorSlice &slice = *header.add_slices();
    slice.set_tensor("w");
    auto &range = *slice.add_ranges();
    range.set_begin(begin);
    range.set_length(end - begin);
    range.set_count(1);
    range.set_stride(end - begin);
    stream->Write(request);
    const std::string data((end - begin) * sizeof(float), '\0');
    request.set_data(data);
    stream->Write(request);
    request.mutable_trailer()->set_sha256(sha256(data));
    stream->Write(request);
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
    return reply;
  }

  std::vector<std::unique_ptr<wire::ParameterServer::Stub>> stubs;
};

/// What another rank of the island owns is refused and told of, and no element
/// is taken twice.
TEST_F(TlsIsland, ARankPushesItsOwnSlices) {
  // Versions are made beside the service.
  const auto start = wire::CONTENT_START_PARAMETERS;
  while (!push(0, 0, start, 0, 0, 4).started())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto delta = wire::CONTENT_DELTA;
  EXPECT_EQ(push(0, 0, delta, 0, 0, 2).outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_EQ(push(1, 1, delta, 0, 1, 4).outcome(), wire::OUTCOME_OVERLAP);
  EXPECT_TRUE(isLogged(Reason::BadPush, "the push of rank 1 of island 0 was "
                                        "refused (overlap)"));
  wire::PushReply last = push(1, 1, delta, 0, 2, 4);
  EXPECT_EQ(last.outcome(), wire::OUTCOME_ACCEPTED);
  EXPECT_TRUE(last.committed());
  while (push(1, 1, delta, 0, 2, 4).version() == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(push(1, 1, delta, 1, 0, 2).outcome(), wire::OUTCOME_INCONSISTENT);
  EXPECT_TRUE(isLogged(Reason::BadPush, "(inconsistent)"));
  EXPECT_EQ(push(0, 0, delta, 1, 0, 2).outcome(), wire::OUTCOME_ACCEPTED);
}

/// Only a server of the run may speak as one.
TEST_F(Tls, ServersTellAServerFromASite) {
  ParameterServerOptions options;
  options.outer.tensors = {{"w", 4, 0}};
  options.runId = "run";
  options.contract = Contract("plan");
  options.sites = {{"east"}};
  options.group = {{"east", "west", "south"}, {1, 1, 1}};
  options.addresses = {"", "unix:" + (folder / "west"),
                       "unix:" + (folder / "south")};
  options.stateDir = folder / "state";
  options.tls = serverFiles(folder / "own");
  options.onStranger = [this](const Stranger &stranger) {
    std::lock_guard lock(mutex);
    strangers.push_back(stranger);
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
    message.set_contract(Contract("plan").digest());
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
  EXPECT_TRUE(
      isLogged(Reason::NoServer,
               "the certificate is that of 'west', which is no server"));
  EXPECT_EQ(deliver(serverFiles(folder / "own"), "another", 1),
            grpc::StatusCode::PERMISSION_DENIED);
  for (std::uint32_t from : {0u, 3u})
    EXPECT_EQ(deliver(serverFiles(folder / "own"), "run", from),
              grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(deliver(serverFiles(folder / "other"), "run", 1),
            grpc::StatusCode::UNAVAILABLE);
}

/// What a side can know of its own files it says before it connects.
TEST_F(Tls, FilesThatCannotDoAreFoundWithoutTheOtherSide) {
  checkCertificates(serverFiles(folder / "own"));
  checkCertificates(siteFiles(folder / "own", 1));
  TlsFiles files = siteFiles(folder / "own", 0);
  files.key = folder / "own/site-1.key";
  expectError([&] { checkCertificates(files); },
              "site-1.key': is not the key of the certificate");
  files = siteFiles(folder / "other", 0);
  files.authority = folder / "own/ca.crt";
  expectError([&] { checkCertificates(files); },
              "site-0.crt': is not signed by the authority");
  expectError([&] { checkCertificates(siteFiles(folder / "expired", 0)); },
              "certificate has expired");
  files = siteFiles(folder / "own", 0);
  std::swap(files.certificate, files.key);
  expectError([&] { checkCertificates(files); }, "site-0.key': expected a "
                                                 "certificate in PEM");
}

/// An agent that waits for a server is told what comes of its tries.
TEST_F(Tls, AFailedGreetingSaysWhy) {
  serve(serverFiles(folder / "other"));
  ExchangeOptions options;
  options.server = server->address();
  options.tls = siteFiles(folder / "own", 0);
  std::string why;
  // A busy machine may take longer than one try.
  for (int tries = 0; tries < 20 && why.find("andshake") == why.npos; ++tries)
    EXPECT_FALSE(askIncarnation(options, &why));
  EXPECT_NE(why.find("andshake failed"), std::string::npos) << why;
}

/// Somebody who tries again and again is told of, and does not fill the log.
TEST_F(Tls, TheSameStrangerIsToldOfOnceAMinute) {
  Seldom seldom;
  EXPECT_EQ(seldom.say("a", 0), "a");
  EXPECT_EQ(seldom.say("b", 1), "b");
  for (double now = 1; now < 60; ++now)
    EXPECT_FALSE(seldom.say("a", now));
  EXPECT_EQ(seldom.say("a", 60), "a (and 59 times more since it was told)");
  // Others, each with a message of its own, do not silence it for good.
  std::size_t told = 0;
  for (int i = 0; i < 1000; ++i)
    told += seldom.say("port " + std::to_string(i), 61).has_value();
  EXPECT_EQ(told, 99u);
  EXPECT_EQ(seldom.say("a", 130), "a (901 other refusals were left out)");
}

TEST_F(Tls, MissingFilesAreNamed) {
  expectError([&] { serve({"", folder / "own/server.key", ""}); }, "not all");
  expectError([&] { serve(serverFiles(folder / "nowhere")); },
              folder / "nowhere/ca.crt");
}

} // namespace
