//===- CheckpointFuzz.cpp - libFuzzer target: checkpoints -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input is a generation: of its files the manifest first. Checksums that a
// fuzzer would not find are put right where the rest lets them be found, so
// that it reaches what is behind them.
//
//===----------------------------------------------------------------------===//

#include "Pieces.h"
#include "Temporary.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <nlohmann/json.hpp>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using nlohmann::json;

namespace {

/// Of the file's bytes that an entry names; nothing where it names none.
void putRight(json &entry, std::string_view file) {
  std::uint64_t offset = entry.at("offset"), elements = 0;
  for (const json &range : entry.at("ranges"))
    elements +=
        range.at(1).get<std::uint64_t>() * range.at(2).get<std::uint64_t>();
  if (offset <= file.size() && elements <= (file.size() - offset) / 4)
    entry["sha256"] = toHex(sha256(file.substr(offset, 4 * elements)));
}

std::string withChecksums(std::string_view text, std::string_view file) {
  json manifest = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object())
    return std::string(text);
  try {
    for (json &shard : manifest.at("shards"))
      for (json &entry : shard.at("tensors"))
        putRight(entry, file);
  } catch (const json::exception &) {
    // As it is.
  }
  manifest.erase("checksum");
  try {
    manifest["checksum"] = toHex(sha256(manifest.dump()));
    return manifest.dump();
  } catch (const json::exception &) { // no UTF-8
    return std::string(text);
  }
}

LocalParameter part(std::uint64_t begin, std::uint64_t length,
                    std::uint64_t count) {
  LocalParameter parameter;
  parameter.dims = {4, 6};
  parameter.elements = 24;
  tombolo::plan::v1::Slice &slice = parameter.ranges.emplace_back();
  slice.set_begin(begin);
  slice.set_length(length);
  slice.set_count(count);
  slice.set_stride(6);
  parameter.localElements = length * count;
  return parameter;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data,
                                      std::size_t size) {
  static const TemporaryFolder folder;
  static const std::string generation = checkpointFolder(folder.path, 0, 5);
  std::filesystem::create_directories(generation);
  std::string_view input(reinterpret_cast<const char *>(data), size);
  Piece manifest, shard;
  cutPiece(input, manifest);
  cutPiece(input, shard);
  // Not through writeFile, which syncs.
  auto write = [&](const char *name, std::string_view content) {
    std::FILE *file = std::fopen((generation + "/" + name).c_str(), "wb");
    std::fwrite(content.data(), 1, content.size(), file);
    std::fclose(file);
  };
  write("rank-0.safetensors", shard.bytes);
  write("manifest.json", manifest.kind % 2
                             ? withChecksums(manifest.bytes, shard.bytes)
                             : std::string(manifest.bytes));
  resumableStep(folder.path, {0, 1}, [](std::uint32_t, const std::string &) {});
  try {
    Checkpoint checkpoint(generation);
    for (const char *name : {"w", "w/exp_avg"})
      for (const LocalParameter &wanted : {part(0, 6, 4), part(2, 3, 3)}) {
        std::vector<float> values(wanted.localElements);
        try {
          checkpoint.read(name, wanted,
                          [&](std::uint64_t at, std::span<const float> piece) {
                            require(at <= values.size() &&
                                    piece.size() <= values.size() - at);
                            std::copy(piece.begin(), piece.end(),
                                      values.begin() +
                                          static_cast<std::ptrdiff_t>(at));
                          });
        } catch (const Error &) {
        }
      }
    checkpoint.check();
  } catch (const Error &) {
  }
  return 0;
}
