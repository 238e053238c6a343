//===- FuzzedServer.h - the run whose server is fuzzed ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Shared by the targets and by what makes their seeds.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_FUZZ_FUZZEDSERVER_H
#define TOMBOLO_TEST_FUZZ_FUZZEDSERVER_H

#include "Pieces.h"
#include "RecordFile.h"
#include "Replica.h"

#include "tombolo/runtime/server/DurableState.h"

namespace tombolo::runtime::test {

inline constexpr const char *kRun = "run", *kPlan = "plan";

/// Two islands, the first one of two ranks.
inline OuterConfig fuzzedConfig() {
  OuterConfig config;
  config.islands = 2;
  config.fragments = 2;
  config.compression = Compression::Int8;
  config.tensors = {{"a", 20, 0}, {"b", 300, 0}, {"c", 5, 1}};
  config.deadlineSeconds = 20;
  config.livenessSeconds = 10;
  return config;
}

inline DurableOptions fuzzedOptions() {
  DurableOptions options;
  options.contract = Contract(kPlan);
  options.runId = kRun;
  options.snapshotBytes = 0; // as soon as it is worth while
  return options;
}

inline ReplicaOptions fuzzedReplica(std::uint32_t self) {
  ReplicaOptions options;
  options.self = self;
  options.votes = {1, 1, 1};
  return options;
}

/// What ServerFuzz does with a piece.
enum class Event : std::uint8_t {
  Header, ///< of a push; its data follows
  Data,
  Wait,
  Pull,
  Heartbeat,
  Time,     ///< goes by: so many bytes, so many seconds
  Versions, ///< that are due are made
  Restart,  ///< the server is killed and started again
  Greet,
};

/// What PeerFuzz does with a piece.
enum class PeerEvent : std::uint8_t {
  Message,
  Records, ///< an Append whose data are records as below, to be framed
  Time,
  Work,
  Over, ///< this server, if it is the primary, has nobody to serve any more
};

/// Files of LogFuzz: the kind of a piece is the number of its name here. They
/// hold records as below; with kRaw added bytes as they are.
inline constexpr const char *kFiles[] = {"log-0", "log-1", "snapshot-1"};
inline constexpr std::uint8_t kRaw = 128;

/// A record without its frame is a piece: its type, and the head as the first
/// piece in it; what is left is the body.
inline std::string makeRecord(RecordType type, std::string_view head,
                              std::string_view body = {}) {
  return makePiece(static_cast<std::uint8_t>(type),
                   makePiece(0, head) + std::string(body));
}

/// Records as they stand in a file. A fuzzer would not find their SHA-256.
inline std::string frameRecords(std::string_view pieces) {
  std::string file;
  Piece piece, head;
  while (cutPiece(pieces, piece)) {
    std::string_view body = piece.bytes;
    if (!cutPiece(body, head))
      head.bytes = {};
    file += recordFront(static_cast<RecordType>(piece.kind), head.bytes,
                        std::as_bytes(std::span(body)), file.size());
    file += body;
    file.append(paddingOf(body.size()), '\0');
  }
  return file;
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_FUZZ_FUZZEDSERVER_H
