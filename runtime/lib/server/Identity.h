//===- Identity.h - who may speak to a server -------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_IDENTITY_H
#define TOMBOLO_LIB_SERVER_IDENTITY_H

#include "Wire.h"

#include "tombolo/runtime/server/ParameterServer.h"

#include <grpcpp/server_context.h>

namespace tombolo::runtime {

/// With where it calls from, without the port, which is another each time.
Stranger withAddress(const grpc::ServerContext &context, Stranger stranger);

/// A rank: of this run and plan; with certificates it speaks for the islands of
/// its own site alone. `stranger` says what is wrong.
Outcome checkIdentity(const ParameterServerOptions &options,
                      const grpc::ServerContext &context,
                      const server::v1::Sender &sender, Stranger &stranger);

/// Another server of this run and plan, with a server's certificate.
bool checkPeer(const ParameterServerOptions &options,
               const grpc::ServerContext &context,
               const server::v1::PeerMessage &message, Stranger &stranger);

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_IDENTITY_H
