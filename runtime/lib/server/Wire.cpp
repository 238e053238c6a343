//===- Wire.cpp - between messages and the server's own types -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Wire.h"

#include "ServerCredentials.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/server/ExchangeClient.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/create_channel.h>

#include <arpa/inet.h>

#include <cstdlib>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

static_assert(static_cast<int>(Outcome::Impossible) ==
                      wire::OUTCOME_IMPOSSIBLE &&
                  wire::Outcome_MAX == wire::OUTCOME_IMPOSSIBLE,
              "Outcome and server.proto have the same values");
static_assert(static_cast<int>(Receipt::Kind::Removed) ==
                  wire::RECEIPT_REMOVED &&
              wire::Receipt_MAX == wire::RECEIPT_REMOVED);

void tombolo::runtime::toWire(const TensorSlice &slice,
                              wire::TensorSlice &message) {
  message.set_tensor(slice.tensor);
  for (const ElementRange &range : slice.ranges) {
    wire::TensorSlice::Range *r = message.add_ranges();
    r->set_begin(range.begin);
    r->set_length(range.length);
    r->set_count(range.count);
    r->set_stride(range.stride);
  }
}

std::vector<TensorSlice>
tombolo::runtime::fromWire(const RepeatedSlices &slices) {
  std::vector<TensorSlice> result;
  result.reserve(slices.size());
  for (const wire::TensorSlice &message : slices) {
    TensorSlice slice;
    slice.tensor = message.tensor();
    slice.ranges.reserve(message.ranges_size());
    for (const wire::TensorSlice::Range &r : message.ranges())
      slice.ranges.push_back({r.begin(), r.length(), r.count(), r.stride()});
    result.push_back(std::move(slice));
  }
  return result;
}

void tombolo::runtime::toWire(const PushPart &part, wire::PushHeader &header) {
  switch (part.content) {
  case PushContent::Delta:
    header.set_content(wire::CONTENT_DELTA);
    break;
  case PushContent::StartParameters:
    header.set_content(wire::CONTENT_START_PARAMETERS);
    break;
  case PushContent::StartMomentum:
    header.set_content(wire::CONTENT_START_MOMENTUM);
    break;
  }
  header.mutable_sender()->set_island(part.island);
  header.mutable_sender()->set_incarnation(part.incarnation);
  header.mutable_sender()->set_rank(part.rank);
  header.set_fragment(part.fragment);
  header.set_round(part.round);
  header.set_base_version(part.baseVersion);
  header.set_tokens(part.tokens);
  header.set_inner_steps(part.innerSteps);
  header.set_step(part.step);
  header.set_with_momentum(part.withMomentum);
  for (const TensorSlice &slice : part.slices)
    toWire(slice, *header.add_slices());
}

std::optional<PushPart>
tombolo::runtime::fromWire(const wire::PushHeader &header) {
  PushPart part;
  switch (header.content()) {
  case wire::CONTENT_DELTA:
    part.content = PushContent::Delta;
    break;
  case wire::CONTENT_START_PARAMETERS:
    part.content = PushContent::StartParameters;
    break;
  case wire::CONTENT_START_MOMENTUM:
    part.content = PushContent::StartMomentum;
    break;
  default:
    return std::nullopt;
  }
  part.island = header.sender().island();
  part.incarnation = header.sender().incarnation();
  part.rank = header.sender().rank();
  part.fragment = header.fragment();
  part.round = header.round();
  part.baseVersion = header.base_version();
  part.tokens = header.tokens();
  part.innerSteps = header.inner_steps();
  part.step = header.step();
  part.withMomentum = header.with_momentum();
  part.slices = fromWire(header.slices());
  return part;
}

void tombolo::runtime::toWire(const Membership &members,
                              wire::LogMembers &message) {
  for (std::uint32_t island = 0; island < members.removed.size(); ++island)
    if (members.removed[island])
      message.add_removed(island);
  message.set_quorum(members.quorum);
}

Membership tombolo::runtime::fromWire(const wire::LogMembers &message,
                                      std::uint32_t islands,
                                      const std::string &place) {
  Membership members{std::vector<bool>(islands), message.quorum()};
  for (std::uint32_t island : message.removed()) {
    if (island >= islands)
      throw Error(place, ": of no island of the plan");
    members.removed[island] = true;
  }
  return members;
}

TlsTexts tombolo::runtime::readTls(const TlsFiles &files) {
  constexpr std::uint64_t kMost = 1 << 20;
  if (files.certificate.empty() || files.key.empty() || files.authority.empty())
    throw Error("TLS: expected a certificate, its key and the authority's "
                "certificate, got not all of them");
  return {readFile(files.authority, kMost), readFile(files.key, kMost),
          readFile(files.certificate, kMost)};
}

/// The library writes to stderr what it also returns as an error, and
/// something that it does not return.
static void readLog(gpr_log_func_args *entry) {
  HandshakeFailures::readLog(entry->message);
}

void tombolo::runtime::prepareGrpc() {
  static const bool done = [] {
    if (!std::getenv("GRPC_VERBOSITY")) {
      gpr_set_log_function(readLog);
      // A handshake that does not end is no error to it.
      gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);
    }
    // Between two tries nobody waits in a call, and a handshake goes on only
    // when gRPC looks by itself: every 5 s unless told otherwise, so that it
    // took 20 s to come back to a server that was started again.
    setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "100", 0);
    // Held for good: gRPC 1.51 can take 10 seconds to shut down, for an idle
    // poll, when the last server or channel of a process goes.
    grpc_init();
    return true;
  }();
  (void)done;
}

std::shared_ptr<grpc::Channel>
tombolo::runtime::connectTo(const std::string &address, const TlsFiles &files,
                            bool impatient, bool measures) {
  if (!files.any() && !isLocalAddress(address))
    throw Error("server address '", address,
                "': expected a loopback address with a port or unix:PATH, or "
                "certificates");
  prepareGrpc();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, measures);
  // A server's machine that vanishes without a word is noticed.
  const int keepalive = impatient ? 3000 : 20000;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, impatient ? 1000 : 2000);
  if (impatient) // how long a machine may take to answer, too
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 3000);
  // Proxies named in the environment are for the way out, not for loopback.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Several ranks in one process (tests) do not share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  auto credentials = grpc::InsecureChannelCredentials();
  if (files.any()) {
    TlsTexts tls = readTls(files);
    credentials =
        grpc::SslCredentials({tls.authority, tls.key, tls.certificate});
    // Servers are known by this name, wherever they are.
    arguments.SetSslTargetNameOverride(kServerName);
  }
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

std::vector<std::string>
tombolo::runtime::splitAddresses(std::string_view list) {
  std::vector<std::string> addresses;
  while (!list.empty()) {
    std::size_t end = std::min(list.find(','), list.size());
    addresses.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return addresses;
}

bool tombolo::runtime::isLocalAddress(const std::string &address) {
  if (address.starts_with("unix:"))
    return address.size() > 5;
  std::size_t colon = address.rfind(':');
  if (colon == std::string::npos)
    return false;
  std::string host = address.substr(0, colon);
  if (host == "localhost" || host == "[::1]")
    return true;
  in_addr v4{};
  return inet_pton(AF_INET, host.c_str(), &v4) == 1 &&
         (ntohl(v4.s_addr) >> 24) == 127;
}
