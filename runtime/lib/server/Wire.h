//===- Wire.h - between messages and the server's own types -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_WIRE_H
#define TOMBOLO_LIB_SERVER_WIRE_H

#include "tombolo/runtime/server/Certificates.h"
#include "tombolo/runtime/server/OuterState.h"

#include "tombolo/schema/server.pb.h"

#include <google/protobuf/repeated_field.h>

#include <algorithm>
#include <memory>
#include <optional>

namespace grpc {
class Channel;
} // namespace grpc

namespace tombolo::runtime {

/// Bytes of data in one message of a stream.
inline constexpr std::size_t kChunkBytes = std::size_t(1) << 20;
/// The largest message either side accepts: a chunk, or a header with the
/// slices of a rank.
inline constexpr int kMostMessageBytes = 4 << 20;
/// Of one push or pull.
inline constexpr std::uint32_t kMostStripes = 64;
/// Where a stripe of so many bytes begins; `stripe` == `stripes`: the end.
inline std::uint64_t stripeBegin(std::uint64_t bytes, std::uint32_t stripe,
                                 std::uint32_t stripes) {
  return bytes / stripes * stripe +
         std::min<std::uint64_t>(stripe, bytes % stripes);
}
/// The longest that the server holds a Wait.
inline constexpr std::uint32_t kMostWaitMilliseconds = 10000;

using RepeatedSlices =
    google::protobuf::RepeatedPtrField<server::v1::TensorSlice>;

void toWire(const TensorSlice &slice, server::v1::TensorSlice &message);
std::vector<TensorSlice> fromWire(const RepeatedSlices &slices);
void toWire(const PushPart &part, server::v1::PushHeader &header);
/// Nothing when the content is not one of the closed set.
std::optional<PushPart> fromWire(const server::v1::PushHeader &header);
void toWire(const Membership &members, server::v1::LogMembers &message);
/// Throws Error when there are no such islands. `place` is for messages.
Membership fromWire(const server::v1::LogMembers &message,
                    std::uint32_t islands, const std::string &place);
inline server::v1::Outcome toWire(Outcome outcome) {
  return static_cast<server::v1::Outcome>(outcome);
}
inline Outcome fromWire(server::v1::Outcome outcome) {
  return static_cast<Outcome>(outcome);
}

/// The files' contents, as gRPC wants them: authority, key, certificate. Throws
/// Error when one is missing.
struct TlsTexts {
  std::string authority, key, certificate;
};
TlsTexts readTls(const TlsFiles &files);

/// Called before the first use of gRPC; any number of times.
void prepareGrpc();

/// Whether an address may be used without encryption: unix:PATH or a loopback
/// host with a port.
bool isLocalAddress(const std::string &address);

/// Whether gRPC measures what fits on the way to or from an address, and lets
/// as much be on its way. Without, it is 1 MiB for each message and round trip,
/// whatever GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES says (grpc/grpc#39585): half
/// of a line of 210 Mbit/s and 30 ms. On a machine by itself there is no way to
/// fill, and where its answers are late, because it is busy, the measurement
/// comes to more than all that is sent, and that is kept in memory.
inline bool measuresWay(const std::string &address) {
  return !isLocalAddress(address);
}

/// A way to a server. `impatient`: who vanishes without a word is noticed
/// within a few seconds, for there is somebody else to go to. `measures`: as
/// `measuresWay` has it, of where the way ends. Throws Error when an address
/// that is not of this machine comes without certificates.
std::shared_ptr<grpc::Channel> connectTo(const std::string &address,
                                         const TlsFiles &tls, bool impatient,
                                         bool measures);
inline std::shared_ptr<grpc::Channel>
connectTo(const std::string &address, const TlsFiles &tls, bool impatient) {
  return connectTo(address, tls, impatient, measuresWay(address));
}

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_WIRE_H
