//===- ServerCredentials.cpp - whom a server lets in ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// gRPC's own check of certificates says that one failed and not why. So gRPC
// asks for one, has its key proved, and leaves the rest to ClientCheck.
//
//===----------------------------------------------------------------------===//

#include "ServerCredentials.h"

#include "Wire.h"

#include "tombolo/runtime/server/CertificateCheck.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <mutex>
#include <set>

using namespace tombolo::runtime;
namespace tls = grpc::experimental;

std::string_view tombolo::runtime::name(Stranger::Reason reason) {
  switch (reason) {
  case Stranger::Reason::NoTls:
    return "no_tls";
  case Stranger::Reason::NoCertificate:
    return "no_certificate";
  case Stranger::Reason::OutOfDate:
    return "certificate_out_of_date";
  case Stranger::Reason::ForeignCertificate:
    return "foreign_certificate";
  case Stranger::Reason::BadCertificate:
    return "bad_certificate";
  case Stranger::Reason::AnotherSite:
    return "another_site";
  case Stranger::Reason::NoServer:
    return "no_server";
  case Stranger::Reason::WrongRun:
    return "wrong_run";
  case Stranger::Reason::UnknownSender:
    return "unknown_sender";
  case Stranger::Reason::BadPush:
    return "bad_push";
  case Stranger::Reason::Silent:
    return "silent";
  case Stranger::Reason::Handshake:
    break;
  }
  return "handshake_failed";
}

namespace {

std::mutex listenersMutex;
std::set<const HandshakeFailures::Tell *> listeners;

class ClientVerifier final : public tls::ExternalCertificateVerifier {
public:
  explicit ClientVerifier(ClientCheck check) : check(std::move(check)) {}

  bool Verify(tls::TlsCustomVerificationCheckRequest *request,
              std::function<void(grpc::Status)>,
              grpc::Status *status) override {
    auto text = [](grpc::string_ref given) {
      return std::string_view(given.data(), given.size());
    };
    *status = {grpc::StatusCode::UNAUTHENTICATED, "refused"};
    auto fault = check.fault(text(request->peer_cert()),
                             text(request->peer_cert_full_chain()));
    if (fault)
      HandshakeFailures::note(*fault);
    else
      *status = grpc::Status::OK;
    return true; // this was all
  }
  void Cancel(tls::TlsCustomVerificationCheckRequest *) override {}

private:
  const ClientCheck check;
};

} // namespace

HandshakeFailures::HandshakeFailures(Tell given) : tell(std::move(given)) {
  std::lock_guard lock(listenersMutex);
  listeners.insert(&tell);
}

HandshakeFailures::~HandshakeFailures() {
  std::lock_guard lock(listenersMutex);
  listeners.erase(&tell);
}

void HandshakeFailures::note(const Stranger &stranger) {
  std::lock_guard lock(listenersMutex);
  for (const Tell *tell : listeners)
    if (*tell)
      (*tell)(stranger);
}

void HandshakeFailures::readLog(std::string_view line) {
  auto has = [&](std::string_view part) {
    return line.find(part) != line.npos;
  };
  using Reason = Stranger::Reason;
  if (line.starts_with("Handshaking failed") && has("timed out"))
    note({Reason::Silent, "a handshake was begun and not ended in time"});
  else if (!line.starts_with("Handshake failed"))
    return; // something else
  else if (has("peer did not return a certificate"))
    note({Reason::NoCertificate, "somebody without a certificate"});
  else if (has("wrong version number") || has("http request"))
    note({Reason::NoTls, "somebody who does not speak TLS"});
  else
    note({Reason::Handshake, std::string(line)});
}

std::shared_ptr<grpc::ServerCredentials>
tombolo::runtime::serverCredentials(const TlsFiles &files) {
  TlsTexts texts = readTls(files);
  ClientCheck check(texts.authority, files.authority);
  tls::TlsServerCredentialsOptions options(
      std::make_shared<tls::StaticDataCertificateProvider>(
          texts.authority, std::vector<tls::IdentityKeyCertPair>{
                               {texts.key, texts.certificate}}));
  options.watch_identity_key_cert_pairs();
  options.watch_root_certs(); // whose names clients are told
  options.set_cert_request_type(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
  options.set_certificate_verifier(
      tls::ExternalCertificateVerifier::Create<ClientVerifier>(
          std::move(check)));
  return tls::TlsServerCredentials(options);
}
