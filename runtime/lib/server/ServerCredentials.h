//===- ServerCredentials.h - whom a server lets in --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_SERVERCREDENTIALS_H
#define TOMBOLO_LIB_SERVER_SERVERCREDENTIALS_H

#include "tombolo/runtime/Tls.h"
#include "tombolo/runtime/server/Stranger.h"

#include <grpcpp/security/server_credentials.h>

#include <functional>
#include <memory>

namespace tombolo::runtime {

/// Of a server that asks everybody for a certificate of its authority. Who has
/// none, or a wrong one, is let go behind the handshake, before any request,
/// and HandshakeFailures tell of it. Throws Error for files that are not there.
std::shared_ptr<grpc::ServerCredentials>
serverCredentials(const TlsFiles &files);

/// Tells of handshakes that failed, of any server in this process, until it
/// goes.
class HandshakeFailures {
public:
  using Tell = std::function<void(const Stranger &)>;
  explicit HandshakeFailures(Tell tell);
  ~HandshakeFailures();
  HandshakeFailures(const HandshakeFailures &) = delete;
  HandshakeFailures &operator=(const HandshakeFailures &) = delete;

  /// All of them.
  static void note(const Stranger &stranger);
  /// A line of gRPC's log, which alone has the reason of one that failed before
  /// there was a certificate to look at.
  static void readLog(std::string_view line);

private:
  Tell tell;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_SERVERCREDENTIALS_H
