//===- ExchangeClient.h - a rank's connection to the server -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_EXCHANGECLIENT_H
#define TOMBOLO_RUNTIME_SERVER_EXCHANGECLIENT_H

#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/plan/Contract.h"
#include "tombolo/runtime/server/Certificates.h"
#include "tombolo/runtime/server/Codec.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tombolo::plan::v1 {
class Plan;
} // namespace tombolo::plan::v1

namespace tombolo::runtime {

/// How the line to a server is used.
struct LineUse {
  /// Sockets over which the data of one push, or of one pull, goes at once.
  std::uint32_t connections = 1;
  /// What pushes send, over all of them; 0: no limit.
  double mostBytesPerSecond = 0;

  bool operator==(const LineUse &) const = default;
};

struct ExchangeOptions {
  /// ParameterServer::address, of several servers those of the two that keep
  /// the state, with a comma between.
  std::string server;
  /// Where a gateway to each of them listens, likewise; empty: none. Then `tls`
  /// is the gateway's business.
  std::string gateway;
  /// To each of them, in their order; of one that is missing: LineUse().
  std::vector<LineUse> lines;
  TlsFiles tls; ///< none: the server is on this machine
  std::string runId;
  Contract contract;
  std::uint32_t island = 0;
  std::uint32_t rank = 0; ///< in the island
  std::uint64_t incarnation = 0;
  std::uint32_t fragments = 1;
  std::uint64_t innerSteps = 1; ///< H of the island
  std::uint64_t overlapSteps = 0;
  Compression compression = Compression::None;
  std::uint64_t tokensPerStep = 1; ///< of the whole island
  /// How long a server that does not answer is tried before Error.
  double retrySeconds = 30;
  /// Instead of the Error it is tried on, until `abort`: told why after so
  /// long, again every twice as long, and, with an empty `why`, when it is
  /// over. From any thread, one at a time.
  std::function<void(const std::string &why, double seconds)> onUnreachable;
  /// And, when one of the island's ranks has reached none for twice the
  /// servers' `detectionSeconds`, the island goes on without a receipt that is
  /// due, for at most so many inner steps; 0: it waits for it. Above 0 each
  /// rank holds the parameters of all pushes under way.
  std::uint64_t mostStepsAlone = 0;
  IslandLargest largest; ///< needed for that where the island has several ranks
  /// A call in which nothing moves for so long is tried again.
  double idleSeconds = 60;
};

/// Of a list with commas between.
std::vector<std::string> splitAddresses(std::string_view list);

/// The number of the version that a fragment has after so many inner steps of a
/// run without late islands.
std::uint64_t firstVersion(const ExchangeOptions &options,
                           std::uint32_t fragment, std::uint64_t stepsDone);

/// The fields that the plan gives, `mostStepsAlone` without end where it has
/// memory for that; throws Error as `checkServerPlan` does.
/// `server`, `runId` and `incarnation` are left to the caller.
ExchangeOptions exchangeOptions(const plan::v1::Plan &plan,
                                std::uint32_t island, std::uint32_t rank);

/// In which incarnation an island is to be started, as the servers know it;
/// nothing while none is there as primary. `incarnation` and `rank` of the
/// options have no meaning. Throws Error when the island is refused. `why`,
/// when nothing: what came of the last try.
std::optional<std::uint64_t> askIncarnation(const ExchangeOptions &options,
                                            std::string *why = nullptr);

/// Needs, outside the arena, Program.host_bytes (docs/PlanFormat.md) and a few
/// MiB of buffers. Connects with the first call, not here.
std::unique_ptr<Exchange> connectExchange(ExchangeOptions options,
                                          std::vector<ExchangeTensor> tensors,
                                          ArenaAccess arena);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_EXCHANGECLIENT_H
