//===- Line.cpp - the line between a site and its servers -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Line.h"

#include "Wire.h"

#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Route.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include "tombolo/schema/plan.pb.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <limits>
#include <set>
#include <sstream>

using namespace tombolo::runtime;
using tombolo::plan::v1::Plan;
using tombolo::plan::v1::Topology;

namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kMostConnections = 1024; // as the planner's Link has it

/// The last of the three numbers in a file: least, first and largest bytes.
std::uint64_t largestBuffer(const std::string &path) {
  std::ifstream file(path);
  std::uint64_t least = 0, first = 0, largest = 0;
  return file >> least >> first >> largest ? largest : 0;
}

/// What loss leaves of one connection.
double rateUnderLoss(const LineFigures &line) {
  if (line.loss <= 0 || line.rttSeconds <= 0)
    return kInfinite;
  return 1.22 * 1460 / (line.rttSeconds * std::sqrt(line.loss));
}

/// What buffers leave of it.
double rateOfWindow(const LineFigures &line, const TcpSettings &tcp) {
  return line.rttSeconds > 0 ? tcp.windowBytes() / line.rttSeconds : kInfinite;
}

bool slowsDownForLoss(const TcpSettings &tcp) {
  return !tcp.congestionControl.starts_with("bbr");
}

/// The sites that a line leads to from one that talks to servers, or has one.
std::set<std::string> sitesToReach(const Plan &plan, const std::string &site) {
  const ServerGroup group = serverGroup(plan);
  std::set<std::string> others;
  for (std::size_t i = 0; i < std::min<std::size_t>(2, group.sites.size()); ++i)
    others.insert(group.sites[i]);
  if (others.contains(site))
    for (const auto &island : plan.islands())
      others.insert(island.sites().begin(), island.sites().end());
  others.erase(site);
  return others;
}

std::string gbits(double bytesPerSecond) {
  std::ostringstream text;
  text << std::setprecision(3) << bytesPerSecond * 8e-9 << " Gbit/s";
  return text.str();
}

std::string megabytes(double bytes) {
  std::ostringstream text;
  text << std::setprecision(3) << bytes * 1e-6 << " MB";
  return text.str();
}

std::uint32_t ranksAt(const Plan &plan, const std::string &site) {
  std::uint64_t ranks = 0;
  for (const auto &island : plan.islands()) {
    IslandLayout layout(island);
    for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank)
      ranks += layout.site(rank) == site;
  }
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(1, ranks));
}

} // namespace

double TcpSettings::windowBytes() const {
  std::uint64_t smaller = std::min(sendBytes, receiveBytes);
  // The kernel keeps half of a buffer for its own (tcp_adv_win_scale).
  return smaller > 0 ? static_cast<double>(smaller) / 2 : kInfinite;
}

TcpSettings tombolo::runtime::readTcpSettings(const std::string &folder) {
  TcpSettings tcp;
  tcp.sendBytes = largestBuffer(folder + "/tcp_wmem");
  tcp.receiveBytes = largestBuffer(folder + "/tcp_rmem");
  std::ifstream file(folder + "/tcp_congestion_control");
  file >> tcp.congestionControl;
  return tcp;
}

std::optional<LineFigures>
tombolo::runtime::lineBetween(const Topology &topology, const std::string &from,
                              const std::string &to) {
  std::optional<std::uint32_t> first, last;
  for (int s = 0; s < topology.sites_size(); ++s) {
    if (topology.sites(s).name() == from)
      first = s;
    if (topology.sites(s).name() == to)
      last = s;
  }
  if (!first || !last || first == last)
    return std::nullopt;
  auto route = routeBetween(topology, *first, *last);
  if (!route)
    return std::nullopt;
  LineFigures way{.bytesPerSecond = kInfinite};
  double arrives = 1; // of packets
  for (std::uint32_t direction : *route) {
    const Topology::Line &line =
        topology.lines(static_cast<int>(direction / 2));
    way.bytesPerSecond = std::min(way.bytesPerSecond, line.bytes_per_second());
    way.rttSeconds += line.rtt_seconds();
    arrives *= 1 - line.loss();
  }
  way.loss = 1 - arrives;
  return way;
}

std::uint32_t tombolo::runtime::connectionsFor(const LineFigures &line,
                                               const TcpSettings &tcp) {
  double one = rateOfWindow(line, tcp);
  if (slowsDownForLoss(tcp))
    one = std::min(one, rateUnderLoss(line));
  constexpr double kRounding = 1e-9; // buffers as advised are enough
  return static_cast<std::uint32_t>(std::clamp(
      std::ceil(line.bytesPerSecond / one - kRounding), 1.0, kMostConnections));
}

std::vector<LineUse> tombolo::runtime::lineUses(const Plan &plan,
                                                const std::string &site,
                                                const std::string &servers,
                                                const LineOptions &options,
                                                const TcpSettings &tcp) {
  const std::vector<std::string> sites = serverGroup(plan).sites;
  const std::uint32_t ranks = ranksAt(plan, site);
  std::vector<LineUse> lines;
  for (const std::string &address : splitAddresses(servers)) {
    LineUse &use = lines.emplace_back();
    std::string other =
        lines.size() <= sites.size() ? sites[lines.size() - 1] : "";
    if (other == site)
      continue;
    std::uint32_t connections = 1;
    auto line = lineBetween(plan.topology(), site, other);
    if (options.connections)
      connections = *options.connections;
    else if (line && !isLocalAddress(address))
      connections = (connectionsFor(*line, tcp) + ranks - 1) / ranks;
    use.mostBytesPerSecond = options.limitBytesPerSecond() / ranks;
    use.connections = std::clamp(connections, 1u, kMostStripes);
  }
  return lines;
}

std::vector<std::string>
tombolo::runtime::lineAdvice(const Plan &plan, const std::string &site,
                             const std::string &addresses,
                             const TcpSettings &tcp) {
  std::vector<std::string> advice;
  std::vector<std::string> servers = splitAddresses(addresses);
  if (std::all_of(servers.begin(), servers.end(), isLocalAddress))
    return advice;
  for (const std::string &other : sitesToReach(plan, site)) {
    auto line = lineBetween(plan.topology(), site, other);
    if (!line || connectionsFor(*line, tcp) == 1)
      continue;
    std::ostringstream text;
    text << "line to '" << other << "' (" << gbits(line->bytesPerSecond) << ", "
         << line->rttSeconds * 1e3 << " ms";
    if (line->loss > 0)
      text << ", loss " << line->loss;
    text << "): it asks for " << connectionsFor(*line, tcp)
         << " connections, more than one,";
    const char *also = "";
    if (rateOfWindow(*line, tcp) < line->bytesPerSecond) {
      // Twice, for the kernel's half.
      auto buffer =
          static_cast<std::uint64_t>(std::ceil(2 * line->bytesUnderWay()));
      text << " for buffers let " << megabytes(tcp.windowBytes())
           << " be under way and the line holds "
           << megabytes(line->bytesUnderWay())
           << " (at both ends: sysctl -w net.ipv4.tcp_wmem='4096 16384 "
           << buffer << "' net.ipv4.tcp_rmem='4096 131072 " << buffer << "')";
      also = " and";
    }
    if (slowsDownForLoss(tcp) && rateUnderLoss(*line) < line->bytesPerSecond)
      text << also << " for "
           << (tcp.congestionControl.empty() ? "congestion control"
                                             : tcp.congestionControl)
           << " slows down to " << gbits(rateUnderLoss(*line))
           << " where packets are lost, which bbr does not (at both ends: "
              "modprobe tcp_bbr; sysctl -w "
              "net.ipv4.tcp_congestion_control=bbr)";
    advice.push_back(text.str());
  }
  return advice;
}
