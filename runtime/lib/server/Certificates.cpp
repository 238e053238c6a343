//===- Certificates.cpp - who is who between sites ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Certificates.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <memory>

#include <fcntl.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

template <auto Free> struct Deleter {
  template <typename T> void operator()(T *object) const { Free(object); }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Text = std::unique_ptr<BIO, Deleter<BIO_free>>;

void check(bool good) {
  if (!good)
    throw Error(Status::Failed, "cannot make certificates: OpenSSL failed");
}

Key makeKey() {
  Key key(EVP_EC_gen("P-256"));
  check(key != nullptr);
  return key;
}

struct Subject {
  std::string commonName;
  std::string dnsName; ///< empty: none
  bool isAuthority = false;
};

void extend(X509 *certificate, X509 *issuer, int kind, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value));
  check(extension && X509_add_ext(certificate, extension.get(), -1));
}

Certificate sign(const Subject &subject, EVP_PKEY *key, X509 *issuer,
                 EVP_PKEY *issuerKey, int days) {
  Certificate certificate(X509_new());
  check(certificate && X509_set_version(certificate.get(), 2));
  // At most 20 bytes, positive.
  unsigned char serial[16];
  check(RAND_bytes(serial, sizeof serial) == 1);
  serial[0] &= 0x7f;
  std::unique_ptr<BIGNUM, Deleter<BN_free>> number(
      BN_bin2bn(serial, sizeof serial, nullptr));
  check(number && BN_to_ASN1_INTEGER(
                      number.get(), X509_get_serialNumber(certificate.get())));
  check(X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600) &&
        X509_time_adj_ex(X509_getm_notAfter(certificate.get()), days, 0,
                         nullptr));
  X509_NAME *name = X509_get_subject_name(certificate.get());
  check(X509_NAME_add_entry_by_txt(
      name, "CN", MBSTRING_UTF8,
      reinterpret_cast<const unsigned char *>(subject.commonName.data()),
      static_cast<int>(subject.commonName.size()), -1, 0));
  X509 *by = issuer ? issuer : certificate.get();
  check(X509_set_issuer_name(certificate.get(), X509_get_subject_name(by)) &&
        X509_set_pubkey(certificate.get(), key));
  extend(certificate.get(), by, NID_basic_constraints,
         subject.isAuthority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  extend(certificate.get(), by, NID_key_usage,
         subject.isAuthority ? "critical,keyCertSign,cRLSign"
                             : "critical,digitalSignature");
  if (!subject.isAuthority)
    extend(certificate.get(), by, NID_ext_key_usage,
           subject.dnsName.empty() ? "clientAuth" // servers call one another
                                   : "serverAuth,clientAuth");
  if (!subject.dnsName.empty())
    extend(certificate.get(), by, NID_subject_alt_name,
           ("DNS:" + subject.dnsName).c_str());
  check(X509_sign(certificate.get(), issuerKey, EVP_sha256()) > 0);
  return certificate;
}

std::string content(BIO *bio) {
  char *data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<std::size_t>(size));
}

void save(const std::string &path, X509 *certificate) {
  Text text(BIO_new(BIO_s_mem()));
  check(text && PEM_write_bio_X509(text.get(), certificate));
  writeFile(path, content(text.get()));
}

/// For the owner alone from its first moment on.
void save(const std::string &path, EVP_PKEY *key) {
  Text text(BIO_new(BIO_s_mem()));
  check(text && PEM_write_bio_PrivateKey(text.get(), key, nullptr, nullptr, 0,
                                         nullptr, nullptr));
  std::string data = content(text.get());
  ::unlink(path.c_str());
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool good = fd >= 0 && ::write(fd, data.data(), data.size()) ==
                             static_cast<ssize_t>(data.size());
  if (fd >= 0)
    ::close(fd);
  if (!good)
    throw Error(Status::Failed, "'", path, "': cannot write");
}

std::string siteName(std::size_t site) {
  return "site-" + std::to_string(site);
}

} // namespace

TlsFiles tombolo::runtime::namedFiles(const std::string &folder,
                                      const std::string &name) {
  return {folder + "/" + name + ".crt", folder + "/" + name + ".key",
          folder + "/ca.crt"};
}

Authority::Authority(std::string given, int days)
    : folder(std::move(given)), key(makeKey()),
      certificate(sign({"Tombolo run", "", true}, key.get(), nullptr, key.get(),
                       days)) {
  save(folder + "/ca.crt", certificate.get());
}

/// PATH.crt and PATH.key.
static void make(const std::string &path, const Subject &subject, X509 *issuer,
                 EVP_PKEY *issuerKey, int days) {
  Key key = makeKey();
  save(path + ".key", key.get());
  save(path + ".crt", sign(subject, key.get(), issuer, issuerKey, days).get());
}

void Authority::makeServer(const std::string &name, int days) const {
  make(folder + "/" + name, {kServerName, kServerName, false},
       certificate.get(), key.get(), days);
}

void Authority::makeSite(const std::string &name, const std::string &site,
                         int days) const {
  make(folder + "/" + name, {site, "", false}, certificate.get(), key.get(),
       days);
}

void tombolo::runtime::makeCertificates(const std::string &folder,
                                        const std::vector<std::string> &sites,
                                        int days) {
  Authority authority(folder, days);
  authority.makeServer("server", days);
  for (std::size_t site = 0; site < sites.size(); ++site)
    authority.makeSite(siteName(site), sites[site], days);
}

TlsFiles tombolo::runtime::serverFiles(const std::string &folder) {
  return namedFiles(folder, "server");
}

TlsFiles tombolo::runtime::siteFiles(const std::string &folder,
                                     std::size_t site) {
  return namedFiles(folder, siteName(site));
}
