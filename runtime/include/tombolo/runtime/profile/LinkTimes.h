//===- LinkTimes.h - what transfers between ranks take ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PROFILE_LINKTIMES_H
#define TOMBOLO_RUNTIME_PROFILE_LINKTIMES_H

#include "tombolo/runtime/Transport.h"

#include <cstdint>
#include <vector>

namespace tombolo::runtime::profile {

/// A message, or a sum over all members, of so many bytes.
struct LinkTime {
  std::uint64_t bytes = 0;
  double seconds = 0;          ///< median
  double lower = 0, upper = 0; ///< quartiles
  std::uint64_t runs = 0;
};

/// From member 0 to member 1, both ready: half of a round trip. Collective over
/// the communicator's members; the others wait. All have the same answer.
LinkTime measureMessage(Communicator &over, std::uint64_t bytes,
                        double budgetSeconds);

/// A sum of f32 over all members, in place. Collective, all have the same
/// answer.
LinkTime measureAllReduce(Communicator &over, std::uint64_t bytes,
                          double budgetSeconds);

/// What was seen to go over a wire: so many messages one after the other, of so
/// many bytes together.
struct WireTime {
  double messages = 0, bytes = 0, seconds = 0;
  double weight = 1;
};

/// Latency and rate for which messages x latency + bytes / rate is nearest to
/// the times, in relative least squares; the latency is at least 0.
struct WireFit {
  double latencySeconds = 0, bytesPerSecond = 0;
};
WireFit fitWire(const std::vector<WireTime> &times);

} // namespace tombolo::runtime::profile

#endif // TOMBOLO_RUNTIME_PROFILE_LINKTIMES_H
