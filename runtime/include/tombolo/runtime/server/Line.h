//===- Line.h - the line between a site and its servers ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_LINE_H
#define TOMBOLO_RUNTIME_SERVER_LINE_H

#include "tombolo/runtime/server/ExchangeClient.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::plan::v1 {
class Plan;
class Topology;
} // namespace tombolo::plan::v1

namespace tombolo::runtime {

/// What a system lets one TCP connection do.
struct TcpSettings {
  /// The largest buffers, tcp_wmem and tcp_rmem; 0: not known.
  std::uint64_t sendBytes = 0, receiveBytes = 0;
  std::string congestionControl; ///< empty: not known

  /// What can be on its way; infinite where that is not known.
  double windowBytes() const;
};
/// Of this machine; what cannot be read is not known.
TcpSettings readTcpSettings(const std::string &folder = "/proc/sys/net/ipv4");

/// The way between two sites.
struct LineFigures {
  double bytesPerSecond = 0; ///< of its slowest line
  double rttSeconds = 0;
  double loss = 0; ///< fraction of packets

  double bytesUnderWay() const { return bytesPerSecond * rttSeconds; }
};
/// As the plan's topology has it; nothing where it has no way, or not the
/// sites.
std::optional<LineFigures> lineBetween(const plan::v1::Topology &topology,
                                       const std::string &from,
                                       const std::string &to);

/// How many connections fill a line, at most 1,024: each carries what its
/// buffers and, unless congestion control is by bbr, what losses let it (Mathis
/// et al. 1997, as the planner has it).
std::uint32_t connectionsFor(const LineFigures &line, const TcpSettings &tcp);

/// What a person says instead.
struct LineOptions {
  std::optional<std::uint32_t> connections; ///< of each rank
  double limitGbits = 0; ///< that the site may send; 0: no limit

  double limitBytesPerSecond() const { return limitGbits * 1e9 / 8; }
};

/// How a rank at a site uses the lines to the servers, whose addresses have a
/// comma between them: the site's ranks share the connections that a line asks
/// for, and its limit. A server of the same site or, unless a person says more,
/// machine takes one, and one of the same site no limit.
std::vector<LineUse> lineUses(const plan::v1::Plan &plan,
                              const std::string &site,
                              const std::string &servers,
                              const LineOptions &options,
                              const TcpSettings &tcp);

/// What of this machine's settings keeps one connection from filling a line,
/// and what to set instead: a sentence for each line from a site to the servers
/// of the plan or, from where one is, to all other sites, on which more than
/// one is needed. `addresses`, with commas between, are those of the servers
/// that are talked to; none where all of these are on this machine.
std::vector<std::string> lineAdvice(const plan::v1::Plan &plan,
                                    const std::string &site,
                                    const std::string &addresses,
                                    const TcpSettings &tcp);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_LINE_H
