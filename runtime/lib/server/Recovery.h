//===- Recovery.h - from files to the server's state ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// `snapshot-N` is the state before the first record of `log-N`; log-0 begins
// with nothing. So any snapshot with all logs from its number on is the whole
// state, and the last two snapshots are kept.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_RECOVERY_H
#define TOMBOLO_LIB_SERVER_RECOVERY_H

#include "Replay.h"

#include "tombolo/runtime/server/DurableState.h"

namespace tombolo::runtime {

inline constexpr std::uint32_t kStateFormat = 2;
inline constexpr const char *kAside = ".tmp";

/// Throws Error when a file is of another version of this program, or of a plan
/// with another contract.
void checkState(const Contract &contract, std::uint32_t format,
                const std::string &contractText, const std::string &path);

std::string logName(std::uint64_t number);
std::string snapshotName(std::uint64_t number);
/// All but the two newest snapshots and the logs that they need.
void removeOldGenerations(Storage &storage);
/// All of them.
void removeState(Storage &storage);

class Recovery {
public:
  Recovery(Storage &storage, const OuterConfig &config,
           const DurableOptions &options, double now);

  /// Throws Error when what is there is damaged beyond use.
  void run();

  // What it has found.
  std::unique_ptr<Replay> replay;
  std::uint64_t bytesSinceSnapshot = 0;
  std::uint64_t nextLog = 0;      ///< the number of the log to begin
  std::uint64_t lastLogBytes = 0; ///< of the log before, that count

private:
  bool load(std::uint64_t number);
  void replayLog(std::uint64_t number, std::optional<std::uint64_t> bytes);

  Storage &storage;
  const OuterConfig &config;
  const DurableOptions &options;
  const double now;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_RECOVERY_H
