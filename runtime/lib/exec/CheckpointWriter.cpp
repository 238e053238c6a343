//===- CheckpointWriter.cpp - writing the state of an island --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Checkpoint.h"

#include "CheckpointParts.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <algorithm>
#include <filesystem>

namespace tombolo::runtime {

namespace fs = std::filesystem;
using nlohmann::json;
using namespace detail;

namespace {

constexpr std::uint64_t kMaxPart = std::uint64_t{1} << 30;

std::string partName(std::uint64_t rank) {
  return "rank-" + std::to_string(rank) + ".part.json";
}

void makeFolder(const std::string &folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw Error("'", folder, "': cannot create: ", error.message());
}

} // namespace

void writeShard(const std::string &folder, std::uint64_t rank,
                const std::vector<SavedTensor> &tensors) {
  makeFolder(folder);
  json part = {{"tensors", json::array()}};
  if (!tensors.empty()) {
    std::string file = "rank-" + std::to_string(rank) + ".safetensors";
    // The header comes first, and sizes alone decide it.
    json header = {{"__metadata__", {{"format", "tombolo"}}}};
    std::uint64_t offset = 0;
    for (const SavedTensor &tensor : tensors) {
      const LocalParameter &p = *tensor.parameter;
      bool whole = p.localElements == p.elements;
      std::uint64_t bytes = p.localElements * 4;
      header[tensor.name] = {
          {"dtype", "F32"},
          {"shape",
           whole ? p.dims : std::vector<std::uint64_t>{p.localElements}},
          {"data_offsets", {offset, offset + bytes}}};
      offset += bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' '); // data stays aligned
    auto length = static_cast<std::uint64_t>(text.size());
    OutputFile out(folder + "/" + file);
    out.write(std::as_bytes(std::span(&length, 1)));
    out.write(text);
    std::vector<float> piece;
    for (const SavedTensor &tensor : tensors) {
      const LocalParameter &p = *tensor.parameter;
      json entry = {{"name", tensor.name},
                    {"dims", p.dims},
                    {"offset", out.written()},
                    {"ranges", json::array()}};
      for (const plan::v1::Slice &slice : p.ranges)
        entry["ranges"].push_back(
            {slice.begin(), slice.length(), slice.count(), slice.stride()});
      Sha256 hash;
      for (std::uint64_t at = 0; at < p.localElements;) {
        piece.resize(static_cast<std::size_t>(
            std::min<std::uint64_t>(kStagingElements, p.localElements - at)));
        tensor.read(at, piece);
        hash.update(std::as_bytes(std::span(piece)));
        out.write(std::as_bytes(std::span(piece)));
        at += piece.size();
      }
      entry["sha256"] = toHex(hash.finish());
      part["tensors"].push_back(std::move(entry));
    }
    out.commit();
    part["file"] = file;
  }
  writeFile(folder + "/" + partName(rank), part.dump());
}

void discardManifest(const std::string &folder) {
  std::error_code error;
  if (fs::remove(folder + "/" + kManifestName, error))
    syncFolder(folder);
}

void writeManifest(const std::string &folder, std::uint64_t ranks,
                   const CheckpointInfo &info) {
  json manifest = {
      {"format", kManifestFormat}, {"model_hash", toHex(info.modelHash)},
      {"island", info.island},     {"step", info.step},
      {"updates", info.updates},   {"next_sample", info.nextSample},
      {"shards", json::array()}};
  for (std::uint64_t rank = 0; rank < ranks; ++rank) {
    std::string path = folder + "/" + partName(rank);
    json part = json::parse(readFile(path, kMaxPart), nullptr, false);
    if (!part.is_object())
      throw Error("'", path, "': is damaged");
    if (part.contains("file"))
      manifest["shards"].push_back(std::move(part));
  }
  manifest["checksum"] = toHex(sha256(manifest.dump()));
  writeFile(folder + "/" + kManifestName, manifest.dump(1) + "\n");
  std::error_code ignored;
  for (std::uint64_t rank = 0; rank < ranks; ++rank)
    fs::remove(folder + "/" + partName(rank), ignored);
  auto all = generations(fs::path(folder).parent_path().string());
  for (std::size_t i = 2; i < all.size(); ++i) {
    // The manifest first: a half-removed generation must not count.
    discardManifest(all[i].second);
    fs::remove_all(all[i].second, ignored);
  }
}

} // namespace tombolo::runtime
