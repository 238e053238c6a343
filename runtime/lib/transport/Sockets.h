//===- Sockets.h - what stores and transports share -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TRANSPORT_SOCKETS_H
#define TOMBOLO_LIB_TRANSPORT_SOCKETS_H

#include "tombolo/runtime/Tls.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <netinet/in.h>

namespace tombolo::runtime {

using Deadline = std::chrono::steady_clock::time_point;

/// How long somebody who has connected may take to say who it is.
inline constexpr auto kIntroduction = std::chrono::seconds(10);
/// Before that, so many at a time.
inline constexpr std::size_t kMostIntroductions = 128;

/// Of HOST:PORT. Throws Error.
sockaddr_in parseAddress(const std::string &address);

/// A socket that listens on `host` at `port`, 0: a free one; `address` is where
/// it does. Throws Error, in which `who` wanted it.
int listenOn(const char *who, const std::string &host, std::uint16_t port,
             std::string &address);

/// Connected to `address`; tried again until the deadline where `isPatient`.
/// Throws PeerError.
int dial(const std::string &address, Deadline deadline, bool isPatient);

// Whole, or PeerError at the deadline and when the connection is lost.
void shakeHands(TlsStream &stream, Deadline deadline);
void readAll(TlsStream &stream, std::span<std::byte> data, Deadline deadline);
void writeAll(TlsStream &stream, std::span<const std::byte> data,
              Deadline deadline);

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_TRANSPORT_SOCKETS_H
