//===- Checkpoint.cpp - reading the state of an island --------------------===//
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
using plan::v1::Slice;
using namespace detail;

namespace {

constexpr std::uint64_t kMaxManifest = std::uint64_t{1} << 30;
constexpr std::uint64_t kMostHeaderBytes = std::uint64_t{1} << 28;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 50;

// Runs are listed one by one; no layout of a real model has more.
constexpr std::uint64_t kMaxRuns = std::uint64_t{1} << 26;
// A manifest needs 7 levels; the JSON library's writer recurses.
constexpr int kMaxManifestDepth = 16;

std::string digest(const std::string &text, const std::string &place) {
  if (text.size() != 64 ||
      text.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw Error(place, ": expected 64 hexadecimal digits, got '", text, "'");
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2)
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

[[noreturn]] void notManifest(const std::string &path) {
  throw Error("'", path, "': not a checkpoint's manifest, or damaged");
}

/// A count as the writer writes it: no float, nothing negative.
std::uint64_t number(const json &value, const std::string &place) {
  if (!value.is_number_unsigned())
    throw Error(place, ": expected a count, got ", value.dump().substr(0, 60));
  return value.get<std::uint64_t>();
}

struct Run {
  std::uint64_t begin;
  std::uint64_t end;
  std::uint64_t local; // element of the part, or of the arena
};

bool before(const Run &a, const Run &b) { return a.begin < b.begin; }

template <typename Slices> std::vector<Run> sortedRuns(const Slices &slices) {
  std::vector<Run> runs;
  std::uint64_t local = 0;
  for (const Slice &slice : slices)
    for (std::uint64_t i = 0; i < slice.count(); ++i) {
      std::uint64_t begin = slice.begin() + i * slice.stride();
      runs.push_back({begin, begin + slice.length(), local});
      local += slice.length();
    }
  std::sort(runs.begin(), runs.end(), before);
  return runs;
}

} // namespace

namespace detail {

json parseManifest(const std::string &text, const std::string &path) {
  auto shallow = [&](int depth, json::parse_event_t, json &) {
    if (depth > kMaxManifestDepth)
      notManifest(path);
    return true;
  };
  json parsed = json::parse(text, shallow, /*allow_exceptions=*/false);
  if (!parsed.is_object())
    notManifest(path);
  return parsed;
}

json readManifest(const std::string &folder) {
  std::string path = folder + "/" + kManifestName;
  json manifest = parseManifest(readFile(path, kMaxManifest), path);
  if (!manifest.contains("checksum") || !manifest["checksum"].is_string())
    notManifest(path);
  std::string checksum = manifest["checksum"];
  manifest.erase("checksum");
  if (checksum != toHex(sha256(manifest.dump())))
    throw Error("'", path, "': the checksum does not match, it is damaged");
  if (!manifest.contains("format") || manifest["format"] != kManifestFormat)
    throw Error("'", path, "': expected format '", kManifestFormat, "'");
  return manifest;
}

bool isGeneration(const std::string &name) {
  return name.rfind("step-", 0) == 0 && name.size() > 5 && name.size() <= 24 &&
         name.find_first_not_of("0123456789", 5) == std::string::npos;
}

std::vector<std::pair<std::uint64_t, std::string>>
generations(const std::string &islandFolder) {
  std::vector<std::pair<std::uint64_t, std::string>> found;
  std::error_code error;
  for (const fs::directory_entry &entry :
       fs::directory_iterator(islandFolder, error)) {
    std::string name = entry.path().filename().string();
    if (!isGeneration(name) || !fs::exists(entry.path() / kManifestName, error))
      continue;
    found.push_back({std::stoull(name.substr(5)), entry.path().string()});
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

} // namespace detail

std::string checkpointFolder(const std::string &dir, std::uint32_t island,
                             std::uint64_t step) {
  return dir + "/island-" + std::to_string(island) + "/step-" +
         std::to_string(step);
}

std::string latestCheckpoint(const std::string &dir, std::uint32_t island) {
  for (const auto &[step, folder] :
       generations(dir + "/island-" + std::to_string(island))) {
    try {
      readManifest(folder);
      return folder;
    } catch (const Error &) {
      // A damaged generation does not count; the one before is kept for this.
    }
  }
  return "";
}

/// Without those of other islands that only `resumedCheckpoint` takes.
static std::string ownCheckpoint(const std::string &dir, std::uint32_t island,
                                 std::optional<std::uint64_t> step) {
  auto find = [&](std::uint32_t of) -> std::string {
    if (!step)
      return latestCheckpoint(dir, of);
    std::string folder = checkpointFolder(dir, of, *step);
    std::error_code error;
    return fs::exists(fs::path(folder) / kManifestName, error) ? folder : "";
  };
  if (island > 0)
    if (std::string first = find(0); !first.empty())
      try {
        if (Checkpoint(first).info().batches.size() <= island)
          return first;
      } catch (const Error &) {
        // Of its damage island 0 is told; this one has its own.
      }
  return find(island);
}

/// The numbers of all islands that have a folder.
static std::set<std::uint32_t> islandsIn(const std::string &dir) {
  std::set<std::uint32_t> found;
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(dir, error)) {
    std::string name = entry.path().filename().string();
    if (name.rfind("island-", 0) == 0 && name.size() > 7 && name.size() <= 16 &&
        name.find_first_not_of("0123456789", 7) == std::string::npos)
      found.insert(static_cast<std::uint32_t>(std::stoul(name.substr(7))));
  }
  return found;
}

std::string resumedCheckpoint(const std::string &dir, std::uint32_t island,
                              std::optional<std::uint64_t> step) {
  std::string own = ownCheckpoint(dir, island, step);
  if (!own.empty() || !step)
    return own;
  for (std::uint32_t other : islandsIn(dir))
    if (std::string lent = ownCheckpoint(dir, other, step); !lent.empty())
      return lent;
  return "";
}

/// Shows the steps at which there is something, the newest first, with those of
/// `islands` that can go on from there, until `enough` says so.
static void eachStep(
    const std::string &dir, const std::set<std::uint32_t> &islands,
    const DamageListener &damaged, const CheckpointCopies &copies,
    const std::function<bool(std::uint64_t, const std::set<std::uint32_t> &)>
        &enough) {
  // An island may go on from what island 0 has saved.
  std::set<std::uint64_t, std::greater<>> steps;
  std::set<std::uint32_t> sources = islands;
  sources.insert(0);
  auto collect = [&](const std::string &where) {
    for (std::uint32_t island : sources)
      for (const auto &[step, folder] :
           generations(where + "/island-" + std::to_string(island)))
        steps.insert(step);
  };
  collect(dir);
  if (!copies.dir.empty())
    collect(copies.dir);
  std::set<std::string> told;
  // False, and told of, when it throws; false when it is not there.
  auto look = [&](std::uint32_t island, const std::function<bool()> &isThere) {
    try {
      return isThere();
    } catch (const Error &error) {
      if (told.insert(error.what()).second)
        damaged(island, error.what());
      return false;
    }
  };
  auto isWhole = [&](std::uint32_t island, std::uint64_t step) {
    if (look(island, [&] {
          std::string folder = ownCheckpoint(dir, island, step);
          if (folder.empty())
            return false;
          Checkpoint(folder).check();
          return true;
        }))
      return true;
    std::string copy = checkpointFolder(copies.dir, island, step);
    std::error_code error;
    if (copies.dir.empty() ||
        !fs::exists(fs::path(copy) / kManifestName, error))
      return false;
    std::string folder = checkpointFolder(dir, island, step);
    return look(island, [&] {
      restoreGeneration(copy, folder);
      Checkpoint(folder).check();
      copies.restored(island, "'" + folder + "': put back from its copy '" +
                                  copy + "'");
      return true;
    });
  };
  for (std::uint64_t step : steps) {
    std::set<std::uint32_t> whole;
    for (std::uint32_t island : islands)
      if (isWhole(island, step))
        whole.insert(island);
    if (enough(step, whole))
      return;
  }
}

std::optional<std::uint64_t>
resumableStep(const std::string &dir, const std::set<std::uint32_t> &islands,
              const DamageListener &damaged, const CheckpointCopies &copies) {
  std::optional<std::uint64_t> found;
  eachStep(dir, islands, damaged, copies,
           [&](std::uint64_t step, const std::set<std::uint32_t> &whole) {
             if (whole != islands)
               return false;
             found = step;
             return true;
           });
  return found;
}

std::optional<ResumePoint> resumePoint(const std::string &dir,
                                       const std::set<std::uint32_t> &islands,
                                       const DamageListener &damaged,
                                       const CheckpointCopies &copies) {
  std::optional<std::uint64_t> found;
  std::set<std::uint32_t> best;
  int seen = 0;
  eachStep(dir, islands, damaged, copies,
           [&](std::uint64_t step, const std::set<std::uint32_t> &whole) {
             seen += !whole.empty();
             if (whole == islands ||
                 (seen <= 2 && whole.size() > best.size())) {
               found = step;
               best = whole;
             }
             return whole == islands;
           });
  if (!found)
    return std::nullopt;
  ResumePoint point{*found, {}};
  for (std::uint32_t island : islands)
    if (!best.count(island))
      point.without.insert(island);
  return point;
}

Checkpoint::Checkpoint(const std::string &folder) : folder(folder) {
  json manifest = readManifest(folder);
  std::string place = "'" + folder + "/" + kManifestName + "'";
  try {
    header.modelHash = digest(manifest.at("model_hash"), place);
    header.island =
        static_cast<std::uint32_t>(number(manifest.at("island"), place));
    header.step = header.islandStep = number(manifest.at("step"), place);
    if (manifest.contains("island_step")) {
      header.islandStep = number(manifest.at("island_step"), place);
      for (const json &steps : manifest.at("own_inner_steps"))
        header.ownInnerSteps.push_back(number(steps, place));
    }
    header.updates =
        static_cast<std::int64_t>(number(manifest.at("updates"), place));
    header.nextSample = number(manifest.at("next_sample"), place);
    header.freeSample = number(manifest.at("free_sample"), place);
    header.innerSteps = number(manifest.at("inner_steps"), place);
    for (const json &batch : manifest.at("batches"))
      header.batches.push_back(number(batch, place));
    // Earlier versions had that of the plan's file in its place: what is
    // another plan's is left out.
    if (manifest.contains("fragments") && manifest.contains("contract")) {
      header.contract = digest(manifest.at("contract"), place);
      for (const json &fragment : manifest.at("fragments")) {
        FragmentPoint &point = header.points.emplace_back();
        point.version = number(fragment.at("version"), place);
        point.stepsDone = number(fragment.at("steps_done"), place);
        if (fragment.contains("pushed_step"))
          point.pushedStep = number(fragment.at("pushed_step"), place);
        std::uint64_t pushed = point.pushedStep.value_or(header.islandStep);
        if (point.stepsDone > pushed || pushed > header.islandStep)
          throw Error(place, ": a fragment is beyond the checkpoint's step");
      }
    }
    std::uint64_t runs = 0;
    for (const json &shard : manifest.at("shards")) {
      std::string file = shard.at("file");
      if (file.empty() || file.find('/') != std::string::npos)
        throw Error(place, ": a shard's file name '", file,
                    "' is no plain name");
      if (shard.contains("header_sha256")) // not in those of earlier versions
        headers[file] = {number(shard.at("header_bytes"), place),
                         digest(shard.at("header_sha256"), place)};
      if (headers.contains(file) && headers[file].first > kMostHeaderBytes)
        throw Error(place, ": a shard's header of ", headers[file].first,
                    " bytes, expected at most ", kMostHeaderBytes);
      for (const json &entry : shard.at("tensors")) {
        Part part;
        part.file = file;
        part.offset = number(entry.at("offset"), place);
        part.sha256 = digest(entry.at("sha256"), place);
        std::string name = entry.at("name");
        Tensor &tensor = tensors[name];
        std::vector<std::uint64_t> dims;
        for (const json &dim : entry.at("dims"))
          dims.push_back(number(dim, place));
        if (!tensor.parts.empty() && tensor.dims != dims)
          throw Error(place, ": '", name, "' has two shapes");
        tensor.dims = dims;
        std::uint64_t whole = 1;
        for (std::uint64_t dim : dims)
          if (__builtin_mul_overflow(whole, dim, &whole) ||
              whole > kMaxElements)
            throw Error(place, ": '", name, "' is too large");
        for (const json &range : entry.at("ranges")) {
          Slice slice;
          slice.set_begin(number(range.at(0), place));
          slice.set_length(number(range.at(1), place));
          slice.set_count(number(range.at(2), place));
          slice.set_stride(number(range.at(3), place));
          if (slice.begin() > whole || slice.length() > whole ||
              slice.count() > whole || slice.stride() > whole ||
              static_cast<unsigned __int128>(slice.begin()) +
                      static_cast<unsigned __int128>(
                          slice.count() ? slice.count() - 1 : 0) *
                          slice.stride() +
                      slice.length() >
                  whole)
            throw Error(place, ": '", name, "': a range lies outside it");
          part.elements += slice.length() * slice.count();
          runs += slice.count();
          part.ranges.push_back(slice);
        }
        if (runs > kMaxRuns)
          throw Error(place, ": more than ", kMaxRuns, " ranges");
        if (part.elements > whole)
          throw Error(place, ": '", name, "': its ranges overlap");
        tensor.parts.push_back(std::move(part));
      }
    }
    checkDisjoint(place);
  } catch (const json::exception &error) {
    throw Error(place,
                ": a field is missing or of the wrong kind: ", error.what());
  }
}

/// No element of a tensor stands twice; so where as many elements are found as
/// are needed, none is missing.
void Checkpoint::checkDisjoint(const std::string &place) const {
  for (const auto &[name, tensor] : tensors) {
    std::vector<Run> runs;
    for (const Part &part : tensor.parts) {
      std::vector<Run> more = sortedRuns(part.ranges);
      runs.insert(runs.end(), more.begin(), more.end());
    }
    std::sort(runs.begin(), runs.end(), before);
    for (std::size_t i = 1; i < runs.size(); ++i)
      if (runs[i].begin < runs[i - 1].end)
        throw Error(place, ": '", name, "': its ranges overlap");
  }
}

Checkpoint::~Checkpoint() = default;

const std::vector<std::uint64_t> &
Checkpoint::dims(const std::string &name) const {
  return tensors.at(name).dims;
}

const InputFile &Checkpoint::open(const std::string &file) const {
  std::unique_ptr<InputFile> &opened = files[file];
  if (opened)
    return *opened;
  auto fresh = std::make_unique<InputFile>(folder + "/" + file);
  // Nothing here needs it, but every other reader does.
  if (auto header = headers.find(file); header != headers.end()) {
    const auto &[bytes, checksum] = header->second;
    std::vector<std::byte> head(
        static_cast<std::size_t>(std::min(bytes, fresh->size())));
    fresh->read(0, head);
    if (Sha256 hash; hash.update(head), hash.finish() != checksum)
      throw Error("'", folder, "/", file,
                  "': its header is damaged: its checksum does not match");
  }
  opened = std::move(fresh);
  return *opened;
}

/// The bytes of a part against its SHA-256, once.
void Checkpoint::verify(const std::string &name, const Part &part) const {
  if (part.verified)
    return;
  const InputFile &file = open(part.file);
  Sha256 hash;
  std::vector<std::byte> piece;
  std::uint64_t left = part.elements * 4, at = part.offset;
  while (left > 0) {
    piece.resize(static_cast<std::size_t>(
        std::min<std::uint64_t>(left, kStagingElements * 4)));
    file.read(at, piece);
    hash.update(piece);
    at += piece.size();
    left -= piece.size();
  }
  if (hash.finish() != part.sha256)
    throw Error("'", folder, "/", part.file, "': '", name,
                "' is damaged: its checksum does not match");
  part.verified = true;
}

void Checkpoint::check() const {
  for (const auto &[name, tensor] : tensors)
    for (const Part &part : tensor.parts)
      verify(name, part);
}

void Checkpoint::read(
    const std::string &name, const LocalParameter &parameter,
    const std::function<void(std::uint64_t, std::span<const float>)> &put)
    const {
  auto found = tensors.find(name);
  if (found == tensors.end())
    throw Error("'", folder, "': holds no '", name,
                "'; it was written for another model or optimizer");
  const Tensor &tensor = found->second;
  if (tensor.dims != parameter.dims)
    throw Error("'", folder, "': '", name, "' has another shape than the plan");
  std::vector<Run> wanted = sortedRuns(parameter.ranges);
  std::vector<float> piece;
  std::uint64_t covered = 0;
  for (const Part &part : tensor.parts) {
    std::vector<Run> given = sortedRuns(part.ranges);
    std::size_t g = 0;
    for (const Run &want : wanted) {
      while (g < given.size() && given[g].end <= want.begin)
        ++g;
      for (std::size_t k = g; k < given.size() && given[k].begin < want.end;
           ++k) {
        verify(name, part);
        std::uint64_t begin = std::max(want.begin, given[k].begin);
        std::uint64_t end = std::min(want.end, given[k].end);
        covered += end - begin;
        while (begin < end) {
          piece.resize(static_cast<std::size_t>(
              std::min<std::uint64_t>(end - begin, kStagingElements)));
          std::uint64_t element = given[k].local + (begin - given[k].begin);
          open(part.file).read(part.offset + element * 4,
                               std::as_writable_bytes(std::span(piece)));
          put(want.local + (begin - want.begin), piece);
          begin += piece.size();
        }
      }
    }
  }
  if (covered != parameter.localElements)
    throw Error("'", folder, "': holds ", covered, " of the ",
                parameter.localElements, " elements of '", name,
                "' that are needed");
}

} // namespace tombolo::runtime
