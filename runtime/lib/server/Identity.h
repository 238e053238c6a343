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

/// A rank: of this run, under a plan with its contract; with certificates it
/// speaks for the islands of its own site alone. `stranger` says what is wrong.
/// `contract`: the text of its contract, where it has come along.
Outcome checkIdentity(const ParameterServerOptions &options,
                      const grpc::ServerContext &context,
                      const server::v1::Sender &sender, Stranger &stranger,
                      const std::string &contract = "");

/// An operator: of this run; with certificates that of a site. Those of the
/// servers that keep the state may ask for anything, another site may look and
/// take itself out. `who`: the site, empty without certificates.
Outcome checkOperator(const ParameterServerOptions &options,
                      const grpc::ServerContext &context,
                      const server::v1::AdminRequest &request, std::string &who,
                      Stranger &stranger);

/// Another server of this run and contract, with a server's certificate.
bool checkPeer(const ParameterServerOptions &options,
               const grpc::ServerContext &context,
               const server::v1::PeerMessage &message, Stranger &stranger);

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_IDENTITY_H
