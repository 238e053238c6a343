//===- CheckpointTest.cpp - checkpoints, split and damaged ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Checkpoint.h"

#include "Expect.h"
#include "Temporary.h"
#include "tombolo/runtime/File.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using tombolo::plan::v1::Slice;

namespace {

/// A parameter [4, 6] of which some ranges are here; its element i is i.
LocalParameter part(std::vector<std::array<std::uint64_t, 4>> ranges) {
  LocalParameter parameter;
  parameter.name = "w";
  parameter.dims = {4, 6};
  parameter.elements = 24;
  for (auto [begin, length, count, stride] : ranges) {
    Slice slice;
    slice.set_begin(begin);
    slice.set_length(length);
    slice.set_count(count);
    slice.set_stride(stride);
    parameter.ranges.push_back(slice);
    parameter.localElements += length * count;
  }
  return parameter;
}

SavedTensor saved(const LocalParameter &parameter) {
  return {"w", &parameter, [&](std::uint64_t begin, std::span<float> to) {
            forEachRun(parameter, [&](std::uint64_t first, std::uint64_t length,
                                      std::uint64_t local) {
              for (std::uint64_t i = 0; i < length; ++i)
                if (local + i >= begin && local + i - begin < to.size())
                  to[local + i - begin] = static_cast<float>(first + i);
            });
          }};
}

class CheckpointTest : public testing::Test {
protected:
  void SetUp() override {
    // Columns 0-1 and 4-5 on one rank, 2-3 on another, nothing on a third.
    writeShard(path, 0, {saved(outer)});
    writeShard(path, 1, {saved(inner)});
    writeShard(path, 2, {});
    info.modelHash = std::string(32, 'h');
    info.step = 5;
    info.updates = 4;
    info.nextSample = 60;
    info.freeSample = 72;
    info.innerSteps = 3;
    info.batches = {12, 12};
    writeManifest(path, 3, info);
  }
  std::vector<float> read(const LocalParameter &parameter) {
    Checkpoint checkpoint(path);
    std::vector<float> out(parameter.localElements, -1);
    checkpoint.read("w", parameter,
                    [&](std::uint64_t at, std::span<const float> values) {
                      std::copy(values.begin(), values.end(),
                                out.begin() + static_cast<std::ptrdiff_t>(at));
                    });
    return out;
  }
  TemporaryFolder folder;
  std::string path = checkpointFolder(folder.path, 0, 5);
  LocalParameter outer = part({{0, 2, 4, 6}, {4, 2, 4, 6}});
  LocalParameter inner = part({{2, 2, 4, 6}});
  CheckpointInfo info;
};

TEST_F(CheckpointTest, ReadsAnyPartFromAnyShards) {
  std::vector<float> whole = read(part({{0, 24, 1, 24}}));
  for (std::size_t i = 0; i < 24; ++i)
    EXPECT_EQ(whole[i], static_cast<float>(i));
  EXPECT_EQ(read(part({{7, 4, 2, 6}})),
            (std::vector<float>{7, 8, 9, 10, 13, 14, 15, 16}));
  // Ranges in another order than in the file keep their place in memory.
  EXPECT_EQ(read(part({{20, 2, 1, 2}, {1, 3, 1, 3}})),
            (std::vector<float>{20, 21, 1, 2, 3}));
  Checkpoint checkpoint(path);
  EXPECT_EQ(checkpoint.info().step, 5u);
  EXPECT_EQ(checkpoint.info().updates, 4);
  EXPECT_EQ(checkpoint.info().nextSample, 60u);
  EXPECT_EQ(checkpoint.info().freeSample, 72u);
  EXPECT_EQ(checkpoint.info().innerSteps, 3u);
  EXPECT_EQ(checkpoint.info().batches, info.batches);
  EXPECT_EQ(checkpoint.info().modelHash, info.modelHash);
  EXPECT_EQ(checkpoint.info().islandStep, 5u);
  EXPECT_EQ(latestCheckpoint(folder.path, 0), path);
  EXPECT_EQ(latestCheckpoint(folder.path, 1), "");
}

// Where islands have inner steps of their own, their fragments stand in these.
TEST_F(CheckpointTest, KeepsWhatTheIslandHasDoneItself) {
  std::string own = checkpointFolder(folder.path, 1, 5);
  info.islandStep = 9;
  info.ownInnerSteps = {3, 6};
  info.contract = std::string(32, 'c');
  info.points = {{1, 6, 9}};
  writeShard(own, 0, {saved(outer)});
  writeManifest(own, 1, info);
  Checkpoint checkpoint(own);
  EXPECT_EQ(checkpoint.info().step, 5u);
  EXPECT_EQ(checkpoint.info().islandStep, 9u);
  EXPECT_EQ(checkpoint.info().ownInnerSteps, info.ownInnerSteps);
  EXPECT_EQ(checkpoint.info().points[0].pushedStep, 9u);
  info.points = {{1, 6, 10}};
  writeManifest(own, 0, info);
  EXPECT_THROW(Checkpoint{own}, Error);
}

TEST_F(CheckpointTest, IsReadableAsSafetensors) {
  std::string bytes = readFile(path + "/rank-1.safetensors", 1 << 20);
  std::uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(bytes.size(), 8 + length + 8 * 4);
  std::string header = bytes.substr(8, length);
  EXPECT_NE(header.find("\"w\":{\"data_offsets\":[0,32],\"dtype\":\"F32\","
                        "\"shape\":[8]}"),
            std::string::npos)
      << header;
  EXPECT_FALSE(std::filesystem::exists(path + "/rank-2.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(path + "/rank-0.part.json"));
}

// A generation that lost a shard's entry does not silently give zeros.
TEST_F(CheckpointTest, RefusesWhatIsMissing) {
  std::string half = checkpointFolder(folder.path, 1, 5);
  writeShard(half, 0, {saved(outer)});
  writeManifest(half, 1, info);
  path = half;
  EXPECT_NO_THROW(read(outer));
  expectError([&] { read(inner); }, "holds 0 of the 8 elements");
}

TEST_F(CheckpointTest, RefusesOtherShapesAndNames) {
  LocalParameter other = part({{0, 24, 1, 24}});
  other.dims = {6, 4};
  expectError([&] { read(other); }, "another shape");
  Checkpoint checkpoint(path);
  expectError([&] { checkpoint.read("v", inner, [](auto, auto) {}); },
              "holds no 'v'");
}

// A damaged tensor is refused; a damaged manifest makes its generation count
// as absent, and the one before is taken.
TEST_F(CheckpointTest, NoticesDamage) {
  std::string older = checkpointFolder(folder.path, 0, 3);
  std::filesystem::copy(path, older);
  std::string file = path + "/rank-1.safetensors";
  std::string bytes = readFile(file, 1 << 20);
  bytes.back() ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  expectError([&] { read(inner); }, "checksum does not match");
  EXPECT_NO_THROW(read(outer));
  std::string manifest = readFile(path + "/manifest.json", 1 << 20);
  manifest[manifest.find("\"step\": 5") + 8] = '6';
  std::ofstream(path + "/manifest.json", std::ios::binary) << manifest;
  expectError([&] { Checkpoint checkpoint(path); }, "checksum does not match");
  EXPECT_EQ(latestCheckpoint(folder.path, 0), older);
}

// So is a shard whose header is damaged, which nothing here reads. Those of
// earlier versions have no checksum of it.
TEST_F(CheckpointTest, NoticesADamagedHeader) {
  std::string file = path + "/rank-1.safetensors";
  std::string bytes = readFile(file, 1 << 20);
  bytes[bytes.find("data_offsets")] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  expectError([&] { read(inner); }, "/rank-1.safetensors': its header is");
  expectError([&] { Checkpoint(path).check(); }, "its header is damaged");
  EXPECT_NO_THROW(read(outer));
  nlohmann::json manifest =
      nlohmann::json::parse(readFile(path + "/manifest.json", 1 << 20));
  for (nlohmann::json &shard : manifest["shards"]) {
    EXPECT_EQ(shard.erase("header_bytes"), 1u);
    EXPECT_EQ(shard.erase("header_sha256"), 1u);
  }
  manifest.erase("checksum");
  manifest["checksum"] = toHex(sha256(manifest.dump()));
  std::ofstream(path + "/manifest.json", std::ios::binary) << manifest.dump();
  EXPECT_NO_THROW(Checkpoint(path).check());
}

// Without the manifest, that is, before the last shard was there, a generation
// does not exist.
TEST_F(CheckpointTest, CountsOnlyWithItsManifest) {
  discardManifest(path);
  EXPECT_EQ(latestCheckpoint(folder.path, 0), "");
}

// What a run that died while it saved has left goes; what is whole stays.
TEST_F(CheckpointTest, DiscardsWhatIsUnfinished) {
  std::string half = checkpointFolder(folder.path, 0, 8);
  writeShard(half, 1, {saved(inner)});
  writeFile(half + "/rank-0.safetensors.tmp-77", "half");
  writeFile(path + "/rank-0.safetensors.tmp-77", "half");
  writeFile(path + "/rank-1.part.json", "{}");
  std::string other = checkpointFolder(folder.path, 1, 8);
  writeShard(other, 1, {saved(inner)});
  std::filesystem::create_directory(folder / "island-0/step-mine");
  discardUnfinished(folder.path, 0);
  EXPECT_FALSE(std::filesystem::exists(half));
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(path))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names,
            (std::vector<std::string>{"manifest.json", "rank-0.safetensors",
                                      "rank-1.safetensors"}));
  EXPECT_NO_THROW(read(part({{0, 24, 1, 24}})));
  EXPECT_TRUE(std::filesystem::exists(folder / "island-0/step-mine"));
  EXPECT_TRUE(std::filesystem::exists(other)) << "another island's";
  discardUnfinished(folder.path, 1);
  EXPECT_FALSE(std::filesystem::exists(folder / "island-1")) << "empty";
  discardUnfinished(folder / "nothing", 0);
}

// An island that the run before did not have goes on from island 0.
TEST_F(CheckpointTest, NewIslandsResumeFromTheFirst) {
  EXPECT_EQ(resumedCheckpoint(folder.path, 0), path);
  EXPECT_EQ(resumedCheckpoint(folder.path, 1), "")
      << "it had one, but not here";
  EXPECT_EQ(resumedCheckpoint(folder.path, 2), path);
  std::string own = checkpointFolder(folder.path, 1, 4);
  std::filesystem::create_directories(own);
  std::filesystem::copy(path, own);
  EXPECT_EQ(resumedCheckpoint(folder.path, 1), own);
  EXPECT_EQ(resumedCheckpoint(folder / "nothing", 1), "");
}

// Behind a run that has lost an island it goes on from what another has saved.
TEST_F(CheckpointTest, ALostIslandResumesFromAnother) {
  auto save = [&](std::uint32_t island, std::uint64_t step) {
    info.island = island;
    info.step = step;
    std::string to = checkpointFolder(folder.path, island, step);
    writeShard(to, 0, {saved(outer)});
    writeManifest(to, 1, info);
    return to;
  };
  std::vector<std::uint32_t> told;
  auto point = [&](std::set<std::uint32_t> islands) {
    told.clear();
    return resumePoint(
        folder.path, islands,
        [&](std::uint32_t island, const auto &) { told.push_back(island); });
  };
  using Islands = std::set<std::uint32_t>;
  info.batches = {12, 12, 12};
  std::filesystem::remove_all(folder / "island-0");
  EXPECT_FALSE(point({0, 1}));
  save(1, 201);
  save(1, 251);
  save(0, 3951);
  std::string newest = save(0, 4000);
  ASSERT_TRUE(point({0, 1}));
  EXPECT_EQ(point({0, 1})->step, 4000u);
  EXPECT_EQ(point({0, 1})->without, Islands{1});
  EXPECT_EQ(resumedCheckpoint(folder.path, 1, 4000), newest);
  EXPECT_EQ(resumableStep(folder.path, {1}, [](auto, const auto &) {}), 251u);

  // A third one that was killed before it saved: it loses nothing.
  save(2, 3951);
  EXPECT_EQ(point({0, 1, 2})->step, 3951u);
  EXPECT_EQ(point({0, 1, 2})->without, Islands{1});
  EXPECT_EQ(point({0, 2})->step, 3951u);
  EXPECT_EQ(point({0, 2})->without, Islands{});

  // Two that were lost together do not take the furthest back.
  std::filesystem::remove_all(folder / "island-2");
  save(2, 251);
  EXPECT_EQ(point({0, 1, 2})->step, 4000u);
  EXPECT_EQ(point({0, 1, 2})->without, (Islands{1, 2}));

  // Island 0 is lost as any other.
  std::string shard = newest + "/rank-0.safetensors";
  std::filesystem::resize_file(shard, 20);
  std::string other = save(2, 4000);
  EXPECT_EQ(point({0, 1, 2})->without, (Islands{0, 1}));
  EXPECT_EQ(told, std::vector<std::uint32_t>{0});
  setAsideBeyond(folder.path, 0, 0);
  EXPECT_EQ(resumedCheckpoint(folder.path, 0, 4000), other);
}

/// One byte of a file is another one.
void damage(const std::string &path) {
  std::string bytes = readFile(path, 1 << 20);
  bytes.back() ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
}

// What is damaged or gone is put back from its copy, if that is whole; damage
// is named wherever it is.
TEST_F(CheckpointTest, TakesTheCopyOfWhatIsDamagedOrGone) {
  std::string copies = folder / "copies";
  std::string copy = checkpointFolder(copies, 0, 5);
  auto older = [&](const std::string &dir) {
    info.step = 3;
    std::string to = checkpointFolder(dir, 0, 3);
    writeShard(to, 0, {saved(part({{0, 24, 1, 24}}))});
    writeManifest(to, 1, info);
    return to;
  };
  std::filesystem::create_directories(copies);
  std::filesystem::copy(folder / "island-0", copies + "/island-0",
                        std::filesystem::copy_options::recursive);
  std::vector<std::string> damaged, restored;
  auto step = [&] {
    damaged.clear();
    restored.clear();
    return resumableStep(
        folder.path, {0},
        [&](auto, const std::string &what) { damaged.push_back(what); },
        {copies,
         [&](auto, const std::string &what) { restored.push_back(what); }});
  };
  auto names = [](const std::vector<std::string> &told,
                  const std::string &file) {
    return told.size() == 1 && told[0].find("'" + file + "'") == 0;
  };
  // A whole one is left alone.
  EXPECT_EQ(step(), 5u);
  EXPECT_TRUE(damaged.empty() && restored.empty());

  damage(path + "/rank-1.safetensors");
  EXPECT_EQ(step(), 5u);
  EXPECT_TRUE(names(damaged, path + "/rank-1.safetensors"));
  EXPECT_TRUE(names(restored, path));
  EXPECT_NO_THROW(Checkpoint(path).check());
  EXPECT_TRUE(std::filesystem::exists(folder / "island-0/set-aside"));
  EXPECT_EQ(step(), 5u);
  EXPECT_TRUE(damaged.empty() && restored.empty());

  for (const std::string &gone :
       {path, path + "/manifest.json", folder / "island-0"}) {
    std::filesystem::remove_all(gone);
    EXPECT_EQ(step(), 5u) << gone;
    EXPECT_TRUE(damaged.empty()) << gone;
    EXPECT_TRUE(names(restored, path)) << gone;
    EXPECT_NO_THROW(Checkpoint(path).check());
  }

  // Both: the one before, wherever that is whole.
  damage(path + "/rank-0.safetensors");
  damage(copy + "/rank-1.safetensors");
  EXPECT_FALSE(step());
  ASSERT_EQ(damaged.size(), 2u);
  EXPECT_EQ(damaged[0].find("'" + path + "/rank-0.safetensors'"), 0u);
  EXPECT_EQ(damaged[1].find("'" + copy + "/rank-1.safetensors'"), 0u);
  std::string before = older(copies);
  EXPECT_EQ(step(), 3u);
  EXPECT_EQ(restored.size(), 1u);
  damage(before + "/manifest.json");
  EXPECT_EQ(step(), 3u);
  EXPECT_TRUE(restored.empty());
  // Nothing is read of a copy that nobody has asked for.
  EXPECT_EQ(resumableStep(folder.path, {0}, [](auto, const auto &) {}), 3u);
}

// What was being put back when its process died goes.
TEST_F(CheckpointTest, DiscardsWhatWasBeingPutBack) {
  std::filesystem::copy(path, path + ".tmp-restored");
  discardUnfinished(folder.path, 0);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp-restored"));
  EXPECT_NO_THROW(Checkpoint(path).check());
}

// Whatever stands in a manifest, reading it ends in an Error or works.
TEST_F(CheckpointTest, SurvivesHostileManifests) {
  auto refuse = [&](const std::string &text) {
    std::ofstream(path + "/manifest.json", std::ios::binary) << text;
    EXPECT_THROW(Checkpoint checkpoint(path), Error) << text.substr(0, 60);
    EXPECT_EQ(latestCheckpoint(folder.path, 0), "");
  };
  refuse("");
  refuse("[]");
  refuse("{\"checksum\":7}");
  refuse(std::string(1000000, '['));
  // Brackets inside strings close nothing.
  std::string deep = "{\"checksum\":\"x\",\"a\":";
  for (int i = 0; i < 300000; ++i)
    deep += "[\"]\",";
  refuse(deep + "1" + std::string(300000, ']') + "}");
  // Well-formed with a right checksum, and wrong inside.
  auto hostile = [&](nlohmann::json manifest, bool fine = false) {
    manifest["checksum"] = toHex(sha256(manifest.dump()));
    std::ofstream(path + "/manifest.json", std::ios::binary) << manifest.dump();
    if (fine)
      EXPECT_NO_THROW(Checkpoint checkpoint(path)) << manifest.dump();
    else
      EXPECT_THROW(Checkpoint checkpoint(path), Error) << manifest.dump();
  };
  nlohmann::json good = {{"format", "tombolo-checkpoint-1"},
                         {"model_hash", std::string(64, 'a')},
                         {"island", 0},
                         {"step", 5},
                         {"updates", 4},
                         {"next_sample", 0},
                         {"free_sample", 0},
                         {"inner_steps", 0},
                         {"batches", {12}},
                         {"shards", nlohmann::json::array()}};
  nlohmann::json tensor = {{"name", "w"},
                           {"dims", {4, 6}},
                           {"offset", 0},
                           {"sha256", std::string(64, 'b')},
                           {"ranges", {{0, 24, 1, 24}}}};
  auto with = [&](const char *file, nlohmann::json entry) {
    nlohmann::json manifest = good;
    manifest["shards"] = {{{"file", file}, {"tensors", {entry}}}};
    return manifest;
  };
  nlohmann::json bad = good;
  bad["model_hash"] = std::string(64, 'x');
  hostile(bad);
  bad = good;
  bad.erase("step");
  hostile(bad);
  hostile(with("../up", tensor));
  bad = tensor;
  bad["ranges"] = {{0, 25, 1, 25}};
  hostile(with("f", bad));
  bad["ranges"] = {{0, 1, std::uint64_t{1} << 63, 2}};
  hostile(with("f", bad));
  bad["dims"] = {std::uint64_t{1} << 40, std::uint64_t{1} << 40};
  hostile(with("f", bad));
  bad["dims"] = {std::uint64_t{1} << 40};
  bad["ranges"] = {{0, 1, std::uint64_t{1} << 40, 1}};
  hostile(with("f", bad));
  bad["dims"] = "text";
  hostile(with("f", bad));
  bad = good;
  bad["format"] = 7;
  hostile(bad);
  bad = good;
  bad["step"] = 1e300;
  hostile(bad);
  // Twice the first half is not the whole.
  bad = tensor;
  bad["ranges"] = {{0, 12, 1, 12}, {0, 12, 1, 12}};
  hostile(with("f", bad));
  bad["ranges"] = {{0, 12, 2, 6}};
  hostile(with("f", bad));
  bad["ranges"] = {{0, 12, 1, 12}};
  nlohmann::json twice = with("f", bad);
  twice["shards"].push_back(twice["shards"][0]);
  hostile(twice);
  hostile(good, /*fine=*/true);
  hostile(with("f", tensor), /*fine=*/true);
}

} // namespace
