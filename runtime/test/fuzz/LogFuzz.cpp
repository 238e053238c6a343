//===- LogFuzz.cpp - libFuzzer target: what a server finds on its disk ----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Logs and snapshots, of records that have their SHA-256 and of any bytes. What
// is taken up must be taken up again alike from what is written of it.
//
//===----------------------------------------------------------------------===//

#include "FuzzedServer.h"
#include "SimulatedDisk.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

static std::unique_ptr<DurableState> start(SimulatedDisk &disk) {
  auto server = std::make_unique<DurableState>(fuzzedConfig(), fuzzedOptions(),
                                               disk.mount(), 0);
  for (auto &closing : server->takeUnfinished()) {
    closing->compute();
    server->logVersion(*closing);
    server->publish(*closing);
  }
  return server;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes,
                                      std::size_t size) {
  std::string_view input(reinterpret_cast<const char *>(bytes), size);
  SimulatedDisk disk(1);
  {
    std::unique_ptr<Storage> storage = disk.mount();
    for (Piece piece; cutPiece(input, piece);) {
      std::string name = kFiles[piece.kind % kRaw % std::size(kFiles)];
      std::string content = piece.kind >= kRaw ? std::string(piece.bytes)
                                               : frameRecords(piece.bytes);
      auto file = storage->create(name);
      file->append(std::as_bytes(std::span(content)));
      file->sync();
    }
    storage->syncNames();
  }
  std::vector<std::shared_ptr<const Version>> found;
  try {
    auto server = start(disk);
    server->newestEvents();
    for (std::uint32_t f = 0; f < fuzzedConfig().fragments; ++f) {
      server->join(f, 0, 1);
      found.push_back(server->state().current(f));
    }
    server->writeSnapshot(server->beginSnapshot());
  } catch (const Error &) {
    return 0; // damaged beyond use, and told so
  }
  disk.unplug();
  auto again = start(disk);
  for (std::uint32_t f = 0; f < found.size(); ++f) {
    std::shared_ptr<const Version> version = again->state().current(f);
    require(!version == !found[f]);
    require(!version ||
            (version->number == found[f]->number &&
             version->hash == found[f]->hash &&
             version->parameters.size() == found[f]->parameters.size()));
  }
  return 0;
}
