//===- CertificateCheck.cpp - whether a side's own files will do ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/CertificateCheck.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include <memory>
#include <vector>

using namespace tombolo::runtime;

namespace {

template <auto Free> struct Freed {
  template <typename T> void operator()(T *object) const { Free(object); }
};
template <typename T, auto Free> using Owned = std::unique_ptr<T, Freed<Free>>;
using OwnedText = Owned<BIO, BIO_free>;
using OwnedCertificate = Owned<X509, X509_free>;

OwnedText openText(const std::string &text) {
  return OwnedText(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

/// All certificates of a file: its own first, then those between it and the
/// authority.
std::vector<OwnedCertificate> readCertificates(const std::string &path) {
  std::string text = readFile(path, 1 << 20);
  OwnedText bio = openText(text);
  std::vector<OwnedCertificate> found;
  while (X509 *one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
    found.emplace_back(one);
  ERR_clear_error(); // the end of the file
  if (found.empty())
    throw Error("'", path, "': expected a certificate in PEM, found none");
  return found;
}

} // namespace

void tombolo::runtime::checkCertificates(const TlsFiles &files) {
  auto chain = readCertificates(files.certificate);
  auto authorities = readCertificates(files.authority);
  std::string keyText = readFile(files.key, 1 << 20);
  char noPassword[] = ""; // else OpenSSL asks the terminal
  Owned<EVP_PKEY, EVP_PKEY_free> key(PEM_read_bio_PrivateKey(
      openText(keyText).get(), nullptr, nullptr, noPassword));
  ERR_clear_error();
  if (!key)
    throw Error("'", files.key,
                "': expected a private key in PEM without a password");
  if (X509_check_private_key(chain[0].get(), key.get()) != 1) {
    ERR_clear_error();
    throw Error("'", files.key, "': is not the key of the certificate '",
                files.certificate, "'; both come from one call of make-certs");
  }

  Owned<X509_STORE, X509_STORE_free> store(X509_STORE_new());
  // As gRPC does: an authority need not be the root.
  X509_STORE_set_flags(store.get(),
                       X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
  for (const OwnedCertificate &authority : authorities)
    X509_STORE_add_cert(store.get(), authority.get());
  auto freeStack = [](STACK_OF(X509) * stack) { sk_X509_free(stack); };
  std::unique_ptr<STACK_OF(X509), decltype(freeStack)> between(
      sk_X509_new_null(), freeStack);
  for (std::size_t i = 1; i < chain.size(); ++i)
    sk_X509_push(between.get(), chain[i].get());
  Owned<X509_STORE_CTX, X509_STORE_CTX_free> context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(),
                      between.get());
  if (X509_verify_cert(context.get()) == 1)
    return;
  int error = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  const bool isOutOfDate = error == X509_V_ERR_CERT_HAS_EXPIRED ||
                           error == X509_V_ERR_CERT_NOT_YET_VALID;
  throw Error("'", files.certificate,
              isOutOfDate ? "': is out of date or signed by who is, '"
                          : "': is not signed by the authority '",
              files.authority, "': ", X509_verify_cert_error_string(error),
              isOutOfDate ? "; expected it in date by this machine's clock"
                          : "; expected one authority on all sides of a run");
}
