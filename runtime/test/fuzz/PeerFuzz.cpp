//===- PeerFuzz.cpp - libFuzzer target: what servers tell one another -----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A server with a vote and the state, as another server of the run might drive
// it that has lost its senses: epochs, grants, and records to be stored.
//
//===----------------------------------------------------------------------===//

#include "FuzzedServer.h"
#include "Identity.h"
#include "SimulatedDisk.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes,
                                      std::size_t size) {
  std::string_view input(reinterpret_cast<const char *>(bytes), size);
  ParameterServerOptions options;
  options.runId = kRun;
  options.contract = Contract(kPlan);
  options.self = 1;
  options.group.votes = {1, 1, 1};
  grpc::ServerContext context;
  SimulatedDisk disk(1);
  double now = 0;
  std::mutex mutex;
  Replica replica(fuzzedConfig(), fuzzedOptions(), fuzzedReplica(options.self),
                  disk.mount(), now);
  try {
    for (Piece piece; cutPiece(input, piece);) {
      auto event = static_cast<PeerEvent>(piece.kind);
      if (event == PeerEvent::Time) {
        now += static_cast<double>(piece.bytes.size()) / 8;
        replica.tick(now);
        for (std::uint32_t peer : {0, 2})
          for (int most = 0; most < 8 && replica.next(peer, now); ++most) {
          }
      } else if (event == PeerEvent::Work) {
        std::unique_lock lock(mutex);
        while (replica.work(lock, now)) {
        }
      } else if (event == PeerEvent::Over) {
        if (replica.isPrimary())
          replica.setOver();
      } else {
        wire::PeerMessage message;
        if (!message.ParseFromArray(piece.bytes.data(),
                                    static_cast<int>(piece.bytes.size())))
          continue;
        if (event == PeerEvent::Records && message.has_append())
          message.mutable_append()->set_data(
              frameRecords(message.append().data()));
        Stranger stranger;
        if (checkPeer(options, context, message, stranger))
          replica.receive(message, now);
      }
    }
  } catch (const Error &) {
    // A server that is told what cannot be says so and ends.
  }
  return 0;
}
