//===- Tls.h - connections between sites --------------------------*- C++
//-*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// TLS 1.3 between the sites of a run. Both sides show a certificate that the
// run's authority has signed, and know the other by its common name.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TLS_H
#define TOMBOLO_RUNTIME_TLS_H

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>

struct ssl_ctx_st;
struct ssl_st;

namespace tombolo::runtime {

/// Files in PEM. All empty: no encryption.
struct TlsFiles {
  std::string certificate; ///< of this side
  std::string key;
  std::string authority; ///< that has signed both sides' certificates

  bool any() const {
    return !certificate.empty() || !key.empty() || !authority.empty();
  }
};

/// Who this process is to others. From the first one on SIGPIPE is ignored: a
/// peer that has gone is an error of the write.
class TlsIdentity {
public:
  /// Throws Error for files that cannot be used.
  explicit TlsIdentity(const TlsFiles &files);
  /// To dial servers alone, which have a server's certificate with this DNS
  /// name and speak `protocol` (as ALPN has it; empty: it is not asked for).
  TlsIdentity(const TlsFiles &files, std::string server, std::string protocol);

private:
  friend class TlsStream;
  std::shared_ptr<ssl_ctx_st> context;
  std::string server, protocol; ///< empty: whoever has a certificate
};

/// TLS on a connected socket. Nothing here waits; one thread may read while
/// another writes.
class TlsStream {
public:
  enum class Role { Dials, Answers };
  /// Takes the socket, and makes it one that does not block.
  TlsStream(const TlsIdentity &identity, int fd, Role role);
  ~TlsStream();
  TlsStream(const TlsStream &) = delete;
  TlsStream &operator=(const TlsStream &) = delete;

  enum class State {
    Moved,   ///< something; `bytes` says how much
    Waits,   ///< for `events` of poll(2)
    Ended,   ///< the other side has said that nothing more comes
    Refused, ///< by one of the sides, or the connection is lost: `why`
  };
  struct Progress {
    State state = State::Moved;
    std::size_t bytes = 0;
    short events = 0;
    std::string why;
  };
  /// Goes on with the handshake; Moved when it is done.
  Progress shakeHands();
  /// At most so much; both shake hands first.
  Progress read(std::span<std::byte> data);
  Progress write(std::span<const std::byte> data);

  /// The common name on the other side's certificate, after the handshake.
  std::string peer() const;
  int descriptor() const { return fd; }
  /// Says that nothing more comes from here.
  void finish() noexcept;
  /// Ends every wait for the socket, on both sides.
  void cut() noexcept;

private:
  Progress progressOf(int result, std::size_t bytes);

  mutable std::mutex mutex;
  ssl_st *tls;
  int fd;
  const std::string protocol; ///< that the other side has to speak
};

/// What a stranger says, fit for a message.
std::string printable(std::string text);

/// The address of the machine at the other end of a socket, without the port.
std::string addressOfPeer(int fd);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_TLS_H
