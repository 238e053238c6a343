//===- Stranger.h - who was turned away, and why ----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_STRANGER_H
#define TOMBOLO_RUNTIME_SERVER_STRANGER_H

#include <string>
#include <string_view>

namespace tombolo::runtime {

/// Somebody whom a server has turned away, or a rank whose push no rank makes.
struct Stranger {
  enum class Reason {
    NoTls, ///< plain text, or nonsense
    NoCertificate,
    OutOfDate,          ///< of the authority, expired or not valid yet
    ForeignCertificate, ///< another authority has signed it
    BadCertificate,     ///< another fault, as of one that is for no client
    AnotherSite,        ///< the certificate is that of none of the island's
    NoServer,           ///< it speaks as a server, with a site's certificate
    WrongRun,           ///< another run, plan or protocol
    UnknownSender,      ///< an island, rank or server that the plan has not
    BadPush,
    Silent,    ///< a handshake that was begun and not ended in time
    Handshake, ///< one that failed in another way
  };
  Reason reason = Reason::Handshake;
  std::string message;
};

/// As the server's log has it: "no_tls" and so on.
std::string_view name(Stranger::Reason reason);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_STRANGER_H
