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

/// Each level that is made is durable in the one above.
void makeFolder(const fs::path &folder) {
  std::error_code error;
  if (fs::is_directory(folder, error))
    return;
  fs::path parent = folder.parent_path();
  if (!parent.empty())
    makeFolder(parent);
  fs::create_directory(folder, error); // another rank may have been first
  std::string why = error ? error.message() : "not a folder";
  if (!fs::is_directory(folder, error))
    throw Error("'", folder.string(), "': cannot create: ", why);
  syncFolder(parent.string());
}

/// The file is durable; the folder's entry of it as well.
void copyFile(const std::string &from, const std::string &to) {
  InputFile in(from);
  OutputFile out(to);
  std::vector<std::byte> piece;
  for (std::uint64_t at = 0; at < in.size(); at += piece.size()) {
    piece.resize(static_cast<std::size_t>(
        std::min<std::uint64_t>(kStagingElements * 4, in.size() - at)));
    in.read(at, piece);
    out.write(piece);
  }
  out.commit();
}

/// Removes a generation unless a manifest turns up in it. It is moved away
/// first, so that no rank that still lives can complete it meanwhile.
void removeUnfinished(const fs::path &folder) {
  std::error_code error;
  fs::path aside = folder;
  aside += ".tmp-removed";
  fs::remove_all(aside, error);
  fs::rename(folder, aside, error);
  if (error)
    return;
  if (fs::exists(aside / kManifestName, error))
    fs::rename(aside, folder, error);
  else
    fs::remove_all(aside, error);
}

/// Of a folder that a generation was moved to, or put together in.
bool isAside(const std::string &name) {
  std::size_t tail = name.find(".tmp-");
  return tail != std::string::npos && isGeneration(name.substr(0, tail));
}

bool endsWith(const std::string &name, const std::string &end) {
  return name.size() >= end.size() &&
         name.compare(name.size() - end.size(), end.size(), end) == 0;
}

std::vector<fs::path> entries(const fs::path &folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error))
    found.push_back(at->path());
  return found;
}

} // namespace

std::string detail::partName(std::uint64_t rank) {
  return "rank-" + std::to_string(rank) + ".part.json";
}

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
    Sha256 head;
    head.update(std::as_bytes(std::span(&length, 1)));
    head.update(text);
    part["header_bytes"] = out.written();
    part["header_sha256"] = toHex(head.finish());
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

void discardUnfinished(const std::string &dir, std::uint32_t island) {
  fs::path folder = fs::path(dir) / ("island-" + std::to_string(island));
  std::error_code error;
  for (const fs::path &generation : entries(folder)) {
    std::string name = generation.filename().string();
    if (isAside(name)) {
      fs::remove_all(generation, error);
      continue;
    }
    if (!isGeneration(name))
      continue;
    if (!fs::exists(generation / kManifestName, error)) {
      removeUnfinished(generation);
      continue;
    }
    for (const fs::path &file : entries(generation))
      if (file.filename().string().find(".tmp-") != std::string::npos ||
          endsWith(file.filename().string(), ".part.json"))
        fs::remove(file, error);
  }
  fs::remove(folder, error); // only when empty
}

void setAsideBeyond(const std::string &dir, std::uint32_t island,
                    std::uint64_t step) {
  std::string folder = dir + "/island-" + std::to_string(island);
  std::error_code error;
  bool first = true;
  for (const auto &[beyond, generation] : generations(folder)) {
    if (beyond <= step)
      break;
    if (first) {
      fs::remove_all(folder + "/set-aside", error);
      fs::rename(generation, folder + "/set-aside", error);
    }
    if (!first || error) {
      // The manifest first: a half-removed generation must not count.
      discardManifest(generation);
      fs::remove_all(generation, error);
    }
    first = false;
  }
  if (!first)
    syncFolder(folder);
}

void restoreGeneration(const std::string &copy, const std::string &folder) {
  Checkpoint(copy).check();
  std::string aside = folder + ".tmp-restored";
  std::error_code error;
  fs::remove_all(aside, error);
  makeFolder(aside);
  const json manifest = readManifest(copy);
  for (const json &shard : manifest.at("shards")) {
    std::string file = shard.at("file");
    copyFile(copy + "/" + file, aside + "/" + file);
  }
  copyFile(copy + "/" + kManifestName, aside + "/" + kManifestName);
  fs::path island = fs::path(folder).parent_path();
  if (fs::exists(folder, error)) {
    fs::remove_all(island / "set-aside", error);
    fs::rename(folder, island / "set-aside", error);
  }
  if (!error)
    fs::rename(aside, folder, error);
  if (error)
    throw Error("'", folder, "': cannot put its copy there: ", error.message());
  syncFolder(island.string());
}

void discardManifest(const std::string &folder) {
  std::error_code error;
  if (fs::remove(folder + "/" + kManifestName, error))
    syncFolder(folder);
}

void writeManifest(const std::string &folder, std::uint64_t ranks,
                   const CheckpointInfo &info) {
  json manifest = {
      {"format", kManifestFormat},      {"model_hash", toHex(info.modelHash)},
      {"island", info.island},          {"step", info.step},
      {"updates", info.updates},        {"next_sample", info.nextSample},
      {"batches", info.batches},        {"free_sample", info.freeSample},
      {"inner_steps", info.innerSteps}, {"shards", json::array()}};
  if (!info.ownInnerSteps.empty()) {
    manifest["island_step"] = info.islandStep;
    manifest["own_inner_steps"] = info.ownInnerSteps;
  }
  if (!info.points.empty()) {
    manifest["contract"] = toHex(info.contract);
    for (const FragmentPoint &point : info.points) {
      json &fragment = manifest["fragments"].emplace_back();
      fragment = {{"version", point.version}, {"steps_done", point.stepsDone}};
      if (point.pushedStep)
        fragment["pushed_step"] = *point.pushedStep;
    }
  }
  for (std::uint64_t rank = 0; rank < ranks; ++rank) {
    std::string path = folder + "/" + partName(rank);
    json part = parseManifest(readFile(path, kMaxPart), path);
    if (part.contains("file"))
      manifest["shards"].push_back(std::move(part));
  }
  manifest["checksum"] = toHex(sha256(manifest.dump()));
  writeFile(folder + "/" + kManifestName, manifest.dump(1) + "\n");
  std::error_code ignored;
  for (std::uint64_t rank = 0; rank < ranks; ++rank)
    fs::remove(folder + "/" + partName(rank), ignored);
  // What is durable before anything older goes: also the entry of this one.
  std::string island = fs::path(folder).parent_path().string();
  syncFolder(island);
  auto all = generations(island);
  for (std::size_t i = 2; i < all.size(); ++i) {
    // The manifest first: a half-removed generation must not count.
    discardManifest(all[i].second);
    fs::remove_all(all[i].second, ignored);
  }
}

} // namespace tombolo::runtime
