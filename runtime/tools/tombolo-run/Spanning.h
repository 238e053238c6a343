//===- Spanning.h - islands with ranks at several sites ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The ranks of such an island talk over TLS, with the certificates of their
// sites, and meet at a store that one of the sites keeps and that knows them by
// these certificates. In plain text only where it is asked for, on one machine.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_SPANNING_H
#define TOMBOLO_TOOLS_TOMBOLORUN_SPANNING_H

#include "Commands.h"
#include "Executor.h"

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/server/Seldom.h"

#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// Throws Error where ranks at several sites would have to talk over TLS and
/// cannot.
void checkCanSpan(const ExecutorOptions &executor, bool plaintext);

/// Throws Error unless ranks at several sites can talk as they are told to.
/// Their store and host: addresses, empty for those not known yet.
void checkSpanning(const ExecutorOptions &executor, const TlsOptions &tls,
                   const std::string &store, const std::string &host);

/// The store's as its clients know it; nothing in plain text.
std::optional<StoreKeeper> keeperOf(const Plan &plan, const TlsOptions &tls);

/// The store for agents to talk in, once it is there; until then it is looked
/// for, in a thread that ends with the process. Throws PeerError when it does
/// not come.
std::shared_future<std::shared_ptr<StoreClient>>
meetAgents(const std::string &address, std::optional<StoreKeeper> keeper);

/// Strangers that were turned away: somebody who tries again and again shall
/// not fill the log. Noted in one thread, taken in another.
class Strangers {
public:
  void note(const std::string &message);
  std::vector<std::string> take();

private:
  std::mutex mutex;
  Seldom seldom;
  std::vector<std::string> fresh;
};

/// The store where the ranks of such islands meet, at `address` (a.b.c.d:PORT,
/// port 0: any), for all sites with a part of one. Throws Error.
std::unique_ptr<StoreServer> keepMeeting(const std::string &address,
                                         const Plan &plan,
                                         const TlsOptions &tls,
                                         Strangers &strangers);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_SPANNING_H
