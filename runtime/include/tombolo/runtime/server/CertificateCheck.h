//===- CertificateCheck.h - whether certificates will do --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Who is refused in a handshake often is not told why. What can be found out
// without the other side is found before anything begins; and a server looks at
// certificates itself, for gRPC does not tell it what was wrong with one.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_CERTIFICATECHECK_H
#define TOMBOLO_RUNTIME_SERVER_CERTIFICATECHECK_H

#include "tombolo/runtime/Tls.h"
#include "tombolo/runtime/server/Stranger.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct x509_store_st;

namespace tombolo::runtime {

/// Throws Error (status 1) unless the key is that of the certificate, and the
/// certificate is in date and signed by the authority, as `openssl verify` has
/// it.
void checkCertificates(const TlsFiles &files);

/// Whom a server lets in. From any thread.
class ClientCheck {
public:
  /// With the authority's certificates, in PEM; `path` names them in the Error
  /// when there is none.
  ClientCheck(const std::string &authority, const std::string &path);

  /// What is wrong with a certificate (PEM) whose key the other side has proved
  /// to have; `others` (PEM) are those that came with it. Nothing: it is in
  /// date, for a client, and signed by the authority, as OpenSSL's own check in
  /// a handshake has it.
  std::optional<Stranger> fault(std::string_view certificate,
                                std::string_view others) const;

private:
  std::shared_ptr<x509_store_st> store;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_CERTIFICATECHECK_H
