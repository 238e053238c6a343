//===- Certificates.h - who is who between sites ----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A run has a private authority. It signs one certificate for the server, with
// the DNS name `tombolo-server`, and one for each site, with the site's name as
// its common name. `utils/make-certs` makes the same with the openssl program.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_CERTIFICATES_H
#define TOMBOLO_RUNTIME_SERVER_CERTIFICATES_H

#include "tombolo/runtime/Tls.h"

#include <memory>
#include <string>
#include <vector>

struct evp_pkey_st;
struct x509_st;

namespace tombolo::runtime {

/// The name that a server's certificate must have.
inline constexpr const char *kServerName = "tombolo-server";

/// A private authority, whose key goes with it.
class Authority {
public:
  /// Writes ca.crt into `folder`. It, and what it signs, is valid from an hour
  /// ago for so many days. Throws Error.
  explicit Authority(std::string folder, int days = 365);

  /// NAME.crt and NAME.key, which can be read by its owner alone.
  void makeServer(const std::string &name, int days = 365) const;
  void makeSite(const std::string &name, const std::string &site,
                int days = 365) const;

private:
  const std::string folder;
  std::shared_ptr<evp_pkey_st> key;
  std::shared_ptr<x509_st> certificate;
};

/// Makes an authority, whose key is forgotten at once, and writes into `folder`
/// ca.crt, server.crt and server.key, and site-N.crt and site-N.key for each
/// site; keys can be read by their owner alone. Valid from an hour ago for so
/// many days.
void makeCertificates(const std::string &folder,
                      const std::vector<std::string> &sites, int days = 365);

/// NAME.crt, NAME.key and ca.crt, as also utils/make-certs writes them.
TlsFiles namedFiles(const std::string &folder, const std::string &name);
/// Of what `makeCertificates` has written.
TlsFiles serverFiles(const std::string &folder);
TlsFiles siteFiles(const std::string &folder, std::size_t site);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_CERTIFICATES_H
