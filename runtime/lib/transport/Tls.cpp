//===- Tls.cpp - connections between sites --------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Tls.h"

#include "tombolo/runtime/Error.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

/// What OpenSSL has to say of this thread's last failure.
std::string reason() {
  unsigned long code = ERR_peek_last_error();
  const char *text = code ? ERR_reason_error_string(code) : nullptr;
  ERR_clear_error();
  return text ? text : "";
}

/// A site that vanishes without a word is noticed after two minutes, and a
/// firewall on the way does not forget a line that is silent.
void keepAlive(int fd) {
  auto set = [&](int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 20);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 20);
  set(IPPROTO_TCP, TCP_KEEPCNT, 5);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

} // namespace

TlsIdentity::TlsIdentity(const TlsFiles &files)
    : context(SSL_CTX_new(TLS_method()), SSL_CTX_free) {
  std::signal(SIGPIPE, SIG_IGN);
  auto check = [](bool good, const char *what, const std::string &path) {
    if (!good)
      throw Error("'", path, "': cannot be used as ", what, ": ", reason());
  };
  SSL_CTX *tls = context.get();
  if (!tls || !SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION))
    throw Error(Status::Failed, "OpenSSL has no TLS 1.3");
  check(SSL_CTX_use_certificate_chain_file(tls, files.certificate.c_str()) == 1,
        "a certificate", files.certificate);
  check(SSL_CTX_use_PrivateKey_file(tls, files.key.c_str(), SSL_FILETYPE_PEM) ==
            1,
        "the key of that certificate", files.key);
  check(SSL_CTX_load_verify_locations(tls, files.authority.c_str(), nullptr) ==
            1,
        "an authority's certificate", files.authority);
  SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     nullptr);
  // Whoever answers has a site's certificate too, which is no server's: who it
  // is, is told by its name.
  X509_VERIFY_PARAM_set_purpose(SSL_CTX_get0_param(tls),
                                X509_PURPOSE_SSL_CLIENT);
  // Nobody comes a second time.
  SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(tls, 0);
  SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

TlsIdentity::TlsIdentity(const TlsFiles &files, std::string name,
                         std::string spoken)
    : TlsIdentity(files) {
  server = std::move(name);
  protocol = std::move(spoken);
  X509_VERIFY_PARAM *verified = SSL_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_purpose(verified, X509_PURPOSE_SSL_SERVER);
  // As gRPC does: an authority need not be the root.
  X509_VERIFY_PARAM_set_flags(verified, X509_V_FLAG_PARTIAL_CHAIN |
                                            X509_V_FLAG_TRUSTED_FIRST);
  const std::string listed = static_cast<char>(protocol.size()) + protocol;
  if (!protocol.empty() &&
      SSL_CTX_set_alpn_protos(
          context.get(), reinterpret_cast<const unsigned char *>(listed.data()),
          static_cast<unsigned>(listed.size())) != 0)
    throw Error(Status::Failed, "OpenSSL does not ask for ", protocol);
}

TlsStream::TlsStream(const TlsIdentity &identity, int fd, Role role)
    : tls(SSL_new(identity.context.get())), fd(fd),
      protocol(identity.protocol) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  keepAlive(fd);
  const std::string &server = identity.server;
  if (!tls || SSL_set_fd(tls, fd) != 1 ||
      (!server.empty() &&
       (SSL_set1_host(tls, server.c_str()) != 1 ||
        SSL_set_tlsext_host_name(tls, server.c_str()) != 1))) {
    SSL_free(tls);
    ::close(fd);
    throw Error(Status::Failed, "cannot make a TLS connection: ", reason());
  }
  if (role == Role::Dials)
    SSL_set_connect_state(tls);
  else
    SSL_set_accept_state(tls);
}

TlsStream::~TlsStream() {
  SSL_free(tls);
  ::close(fd);
}

/// Of a call that has just returned `result`.
TlsStream::Progress TlsStream::progressOf(int result, std::size_t bytes) {
  int system = errno;
  switch (SSL_get_error(tls, result)) {
  case SSL_ERROR_NONE:
    return {State::Moved, bytes, 0, ""};
  case SSL_ERROR_WANT_READ:
    return {State::Waits, 0, POLLIN, ""};
  case SSL_ERROR_WANT_WRITE:
    return {State::Waits, 0, POLLOUT, ""};
  case SSL_ERROR_ZERO_RETURN:
    return {State::Ended, 0, 0, ""};
  }
  std::string why = reason();
  if (long verified = SSL_get_verify_result(tls); verified != X509_V_OK)
    why += std::string(why.empty() ? "" : ": ") +
           X509_verify_cert_error_string(verified);
  if (why.empty())
    why = system ? std::strerror(system) : "the connection is lost";
  return {State::Refused, 0, 0, why};
}

TlsStream::Progress TlsStream::shakeHands() {
  std::lock_guard lock(mutex);
  ERR_clear_error();
  errno = 0;
  Progress progress = progressOf(SSL_do_handshake(tls), 0);
  if (progress.state != State::Moved || protocol.empty())
    return progress;
  const unsigned char *spoken = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(tls, &spoken, &length);
  if (protocol !=
      std::string_view(reinterpret_cast<const char *>(spoken), length))
    return {State::Refused, 0, 0, "the other side does not speak " + protocol};
  return progress;
}

TlsStream::Progress TlsStream::read(std::span<std::byte> data) {
  std::lock_guard lock(mutex);
  ERR_clear_error();
  errno = 0;
  std::size_t bytes = 0;
  int result = SSL_read_ex(tls, data.data(), data.size(), &bytes);
  return progressOf(result, bytes);
}

TlsStream::Progress TlsStream::write(std::span<const std::byte> data) {
  std::lock_guard lock(mutex);
  ERR_clear_error();
  errno = 0;
  std::size_t bytes = 0;
  int result = SSL_write_ex(tls, data.data(), data.size(), &bytes);
  return progressOf(result, bytes);
}

std::string TlsStream::peer() const {
  std::lock_guard lock(mutex);
  std::unique_ptr<X509, decltype(&X509_free)> certificate(
      SSL_get1_peer_certificate(tls), X509_free);
  if (!certificate)
    return "";
  char name[256] = {};
  int length =
      X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()),
                                NID_commonName, name, sizeof name);
  return length > 0 ? std::string(name, static_cast<std::size_t>(length)) : "";
}

void TlsStream::finish() noexcept {
  std::lock_guard lock(mutex);
  ERR_clear_error();
  SSL_shutdown(tls);
  ERR_clear_error();
  ::shutdown(fd, SHUT_WR);
}

void TlsStream::cut() noexcept { ::shutdown(fd, SHUT_RDWR); }

std::string tombolo::runtime::printable(std::string text) {
  text.resize(std::min<std::size_t>(text.size(), 64));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

std::string tombolo::runtime::addressOfPeer(int fd) {
  sockaddr_in from{};
  socklen_t length = sizeof from;
  char text[INET_ADDRSTRLEN] = "";
  if (::getpeername(fd, reinterpret_cast<sockaddr *>(&from), &length) != 0 ||
      from.sin_family != AF_INET ||
      !::inet_ntop(AF_INET, &from.sin_addr, text, sizeof text))
    return "somebody";
  return text;
}
