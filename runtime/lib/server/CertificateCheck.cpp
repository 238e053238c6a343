//===- CertificateCheck.cpp - whether certificates will do ----------------===//
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

#include <algorithm>
#include <vector>

using namespace tombolo::runtime;

namespace {

template <auto Free> struct Freed {
  template <typename T> void operator()(T *object) const { Free(object); }
};
template <typename T, auto Free> using Owned = std::unique_ptr<T, Freed<Free>>;
using OwnedText = Owned<BIO, BIO_free>;
using OwnedCertificate = Owned<X509, X509_free>;

/// Of keys and signatures, as Debian's OpenSSL asks for in a handshake: as
/// strong as 112 bits.
constexpr int kSecurityLevel = 2;

OwnedText openText(std::string_view text) {
  return OwnedText(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

/// All certificates of a text: of a file its own first, then those between it
/// and the authority.
std::vector<OwnedCertificate> certificatesIn(std::string_view text) {
  OwnedText bio = openText(text);
  std::vector<OwnedCertificate> found;
  while (X509 *one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
    found.emplace_back(one);
  ERR_clear_error(); // the end of the text
  return found;
}

std::vector<OwnedCertificate> readCertificates(const std::string &text,
                                               const std::string &path) {
  auto found = certificatesIn(text);
  if (found.empty())
    throw Error("'", path, "': expected a certificate in PEM, found none");
  return found;
}

std::shared_ptr<X509_STORE>
trusting(const std::vector<OwnedCertificate> &authorities) {
  std::shared_ptr<X509_STORE> store(X509_STORE_new(), X509_STORE_free);
  // As gRPC does: an authority need not be the root.
  X509_STORE_set_flags(store.get(),
                       X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
  for (const OwnedCertificate &authority : authorities)
    X509_STORE_add_cert(store.get(), authority.get());
  return store;
}

/// X509_V_OK, or what is wrong with the first certificate. `use` is one of
/// OpenSSL's, null: any.
int verify(X509_STORE *store, X509 *certificate,
           const std::vector<OwnedCertificate> &others, const char *use) {
  auto freeStack = [](STACK_OF(X509) * stack) { sk_X509_free(stack); };
  std::unique_ptr<STACK_OF(X509), decltype(freeStack)> between(
      sk_X509_new_null(), freeStack);
  for (const OwnedCertificate &other : others)
    sk_X509_push(between.get(), other.get());
  Owned<X509_STORE_CTX, X509_STORE_CTX_free> context(X509_STORE_CTX_new());
  if (!context || !between ||
      X509_STORE_CTX_init(context.get(), store, certificate, between.get()) !=
          1)
    return X509_V_ERR_UNSPECIFIED;
  if (use) {
    if (X509_STORE_CTX_set_default(context.get(), use) != 1)
      return X509_V_ERR_UNSPECIFIED;
    X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context.get()),
                                     kSecurityLevel);
  }
  const bool isGood = X509_verify_cert(context.get()) == 1;
  const int error = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  return isGood || error != X509_V_OK ? error : X509_V_ERR_UNSPECIFIED;
}

bool isOutOfDate(int error) {
  return error == X509_V_ERR_CERT_HAS_EXPIRED ||
         error == X509_V_ERR_CERT_NOT_YET_VALID;
}

bool isForeign(int error) {
  switch (error) {
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
  case X509_V_ERR_CERT_SIGNATURE_FAILURE: // of one with the same name
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_CERT_UNTRUSTED:
    return true;
  }
  return false;
}

std::string commonName(X509 *certificate) {
  char name[256] = {};
  int length = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate),
                                         NID_commonName, name, sizeof name);
  return printable(std::string(name, std::max(0, length)));
}

} // namespace

void tombolo::runtime::checkCertificates(const TlsFiles &files) {
  constexpr std::uint64_t kMost = 1 << 20;
  auto read = [](const std::string &path) {
    return readCertificates(readFile(path, kMost), path);
  };
  auto chain = read(files.certificate);
  auto authorities = read(files.authority);
  std::string keyText = readFile(files.key, kMost);
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
  const int error =
      verify(trusting(authorities).get(), chain[0].get(), chain, nullptr);
  if (error == X509_V_OK)
    return;
  throw Error("'", files.certificate,
              isOutOfDate(error) ? "': is out of date or signed by who is, '"
                                 : "': is not signed by the authority '",
              files.authority, "': ", X509_verify_cert_error_string(error),
              isOutOfDate(error)
                  ? "; expected it in date by this machine's clock"
                  : "; expected one authority on all sides of a run");
}

ClientCheck::ClientCheck(const std::string &authority, const std::string &path)
    : store(trusting(readCertificates(authority, path))) {}

std::optional<Stranger> ClientCheck::fault(std::string_view certificate,
                                           std::string_view others) const {
  auto shown = certificatesIn(certificate);
  if (shown.empty())
    return Stranger{Stranger::Reason::NoCertificate,
                    "somebody without a certificate"};
  const int error =
      verify(store.get(), shown[0].get(), certificatesIn(others), "ssl_client");
  if (error == X509_V_OK)
    return std::nullopt;
  std::string who = "somebody with a certificate of '" +
                    commonName(shown[0].get()) + "', which ";
  std::string why = X509_verify_cert_error_string(error);
  if (isOutOfDate(error))
    return Stranger{Stranger::Reason::OutOfDate,
                    who +
                        "is out of date by this machine's clock, or signed "
                        "by who is: " +
                        why};
  if (isForeign(error))
    return Stranger{Stranger::Reason::ForeignCertificate,
                    who + "this run's authority has not signed: " + why};
  return Stranger{Stranger::Reason::BadCertificate,
                  who + "is not one for a site: " + why};
}
