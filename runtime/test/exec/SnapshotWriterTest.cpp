//===- SnapshotWriterTest.cpp - checkpoints beside training ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SnapshotWriter.h"

#include "Expect.h"
#include "Temporary.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <filesystem>
#include <latch>

using namespace tombolo::runtime;
using namespace tombolo::runtime::detail;
using namespace tombolo::runtime::test;

namespace {

using Kind = CheckpointNews::Kind;

/// A parameter of eight elements; each of two ranks has a half of it.
struct Half {
  explicit Half(std::uint64_t rank) : values(4, static_cast<float>(rank)) {
    parameter.name = "w";
    parameter.dims = {8};
    parameter.elements = 8;
    parameter.localElements = 4;
    tombolo::plan::v1::Slice &slice = parameter.ranges.emplace_back();
    slice.set_begin(4 * rank);
    slice.set_length(4);
    slice.set_count(1);
    slice.set_stride(4);
  }
  Snapshot snapshot(std::uint64_t step) {
    Snapshot taken;
    taken.info.modelHash = std::string(32, 'h');
    taken.info.step = taken.info.islandStep = step;
    taken.tensors.push_back(
        {"w", &parameter, [this](std::uint64_t begin, std::span<float> to) {
           std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(begin),
                       to.size(), to.begin());
         }});
    return taken;
  }
  LocalParameter parameter;
  std::vector<float> values;
};

class SnapshotWriterTest : public testing::Test {
protected:
  SnapshotWriter::Place place(std::uint64_t rank,
                              std::vector<std::string> more = {}) {
    SnapshotWriter::Place at{{folder / "c"}, rank, 2};
    at.dirs.insert(at.dirs.end(), more.begin(), more.end());
    return at;
  }
  std::vector<float> read(const std::string &generation) {
    Half whole(0);
    whole.parameter.localElements = 8;
    whole.parameter.ranges[0].set_length(8);
    std::vector<float> found(8);
    Checkpoint(generation)
        .read("w", whole.parameter, [&](std::uint64_t at, auto some) {
          std::copy(some.begin(), some.end(),
                    found.begin() + static_cast<std::ptrdiff_t>(at));
        });
    return found;
  }
  static std::vector<Kind> kinds(SnapshotWriter &writer) {
    std::vector<Kind> found;
    for (const CheckpointNews &news : writer.takeNews())
      found.push_back(news.kind);
    return found;
  }

  TemporaryFolder folder;
  std::string generation = checkpointFolder(folder / "c", 0, 5);
  Half first{0}, second{1};
};

// What is written is what was there when the snapshot was begun, and the
// generation is whole when the last rank has written its shard, not before.
TEST_F(SnapshotWriterTest, WritesWhatWasThere) {
  std::latch changed(1);
  SnapshotWriter one(place(0), [&](std::uint64_t step) {
    EXPECT_EQ(step, 5u);
    changed.wait();
  });
  SnapshotWriter two(place(1));
  Snapshot taken = first.snapshot(5);
  ASSERT_TRUE(one.begin(taken));
  EXPECT_TRUE(one.isOpen());
  first.values.assign(4, 9);
  changed.count_down();
  EXPECT_TRUE(one.awaitShard(0));
  EXPECT_EQ(latestCheckpoint(folder / "c", 0), "");
  taken = second.snapshot(5);
  ASSERT_TRUE(two.begin(taken));
  EXPECT_TRUE(two.awaitShard(0));
  one.awaitManifest(0, true);
  EXPECT_EQ(read(generation), (std::vector<float>{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(one.finish(), nullptr);
  EXPECT_EQ(two.finish(), nullptr);
  EXPECT_FALSE(one.isOpen());
  EXPECT_EQ(kinds(one), std::vector<Kind>{Kind::Whole});
  EXPECT_TRUE(two.takeNews().empty());
}

// Without the shard of every rank the one before stays the newest; the next one
// clears up.
TEST_F(SnapshotWriterTest, GivesUpWithoutAShard) {
  SnapshotWriter one(place(0)), two(place(1));
  for (std::uint64_t step : {5, 6, 7}) {
    one.clear(0, step);
    Snapshot taken = first.snapshot(step), other = second.snapshot(step);
    ASSERT_TRUE(one.begin(taken));
    if (step != 6)
      two.beginInPlace(other);
    EXPECT_TRUE(one.awaitShard(0));
    one.awaitManifest(0, step != 6);
    EXPECT_EQ(one.finish(), nullptr);
    two.finish();
    EXPECT_EQ(latestCheckpoint(folder / "c", 0),
              checkpointFolder(folder / "c", 0, step == 6 ? 5 : step));
  }
  EXPECT_FALSE(std::filesystem::exists(checkpointFolder(folder / "c", 0, 6)));
  EXPECT_EQ(kinds(one), (std::vector<Kind>{Kind::Whole, Kind::Whole}));
}

// A rank that ends for another one's sake waits no longer than it is told.
TEST_F(SnapshotWriterTest, EndsWithoutTheOthers) {
  SnapshotWriter one(place(0));
  Snapshot taken = first.snapshot(5);
  ASSERT_TRUE(one.begin(taken));
  EXPECT_TRUE(one.awaitShard(0));
  one.end(std::chrono::milliseconds(1));
  EXPECT_EQ(latestCheckpoint(folder / "c", 0), "");
  EXPECT_TRUE(one.takeNews().empty());
}

// When training fails everywhere, all write what they had begun.
TEST_F(SnapshotWriterTest, EndsWithTheOthers) {
  SnapshotWriter one(place(0)), two(place(1));
  Snapshot taken = first.snapshot(5), other = second.snapshot(5);
  ASSERT_TRUE(one.begin(taken));
  ASSERT_TRUE(two.begin(other));
  two.end(std::chrono::minutes(1));
  one.end(std::chrono::minutes(1));
  EXPECT_EQ(latestCheckpoint(folder / "c", 0), generation);
}

// Where memory has no room for a copy nothing is begun; what is then written in
// place is the same.
TEST_F(SnapshotWriterTest, WritesInPlaceWithoutRoom) {
  std::uint64_t room = 15;
  SnapshotWriter one(place(0), {}, [&] { return room; }), two(place(1));
  Snapshot taken = first.snapshot(5), other = second.snapshot(5);
  EXPECT_FALSE(one.begin(taken));
  EXPECT_FALSE(one.isOpen());
  two.beginInPlace(other);
  one.beginInPlace(taken);
  EXPECT_TRUE(one.awaitShard(0));
  one.awaitManifest(0, true);
  one.finish();
  EXPECT_EQ(read(generation), (std::vector<float>{0, 0, 0, 0, 1, 1, 1, 1}));
  room = 16;
  taken = first.snapshot(6);
  EXPECT_TRUE(one.begin(taken));
  one.end(std::chrono::seconds(0));
}

// The second folder gets a shard of its own, also where another rank is behind.
TEST_F(SnapshotWriterTest, WritesACopy) {
  SnapshotWriter one(place(0, {folder / "copy"})),
      two(place(1, {folder / "copy"}));
  Snapshot taken = first.snapshot(5), other = second.snapshot(5);
  ASSERT_TRUE(one.begin(taken));
  EXPECT_EQ(one.count(), 2u);
  EXPECT_TRUE(one.awaitShard(1));
  two.beginInPlace(other);
  one.awaitManifest(0, true);
  one.awaitManifest(1, true);
  one.finish();
  two.finish();
  EXPECT_EQ(kinds(one), (std::vector<Kind>{Kind::Whole, Kind::Copied}));
  EXPECT_EQ(read(checkpointFolder(folder / "copy", 0, 5)), read(generation));
}

// What cannot be written names the file; of the copy it is no failure of the
// checkpoint.
TEST_F(SnapshotWriterTest, NamesWhatCannotBeWritten) {
  writeFile(folder / "file", "x");
  for (bool isCopy : {true, false}) {
    SnapshotWriter::Place at{{folder / "c", folder / "file"}, 0, 1};
    if (!isCopy)
      std::swap(at.dirs[0], at.dirs[1]);
    SnapshotWriter one(at);
    one.clear(0, 5);
    Snapshot taken = first.snapshot(5);
    ASSERT_TRUE(one.begin(taken));
    for (std::size_t i : {0, 1})
      one.awaitManifest(i, one.awaitShard(i));
    std::exception_ptr failure = one.finish();
    EXPECT_EQ(failure == nullptr, isCopy);
    std::vector<CheckpointNews> news = one.takeNews();
    ASSERT_EQ(news.size(), 2u);
    if (news[0].kind != Kind::Failed)
      std::swap(news[0], news[1]);
    EXPECT_EQ(news[0].kind, Kind::Failed);
    EXPECT_EQ(news[1].kind, isCopy ? Kind::Whole : Kind::Copied);
    EXPECT_NE(news[0].message.find("/file"), std::string::npos)
        << news[0].message;
  }
}

// There is some room, and what is reserved is there.
TEST(HostMemory, HasRoom) {
  EXPECT_GT(roomInHostMemory(), 0u);
  HostBuffer buffer;
  std::uint64_t size = (std::uint64_t{64} << 20) + 1;
  std::vector<std::uint64_t> rooms = {size, 0}; // another process takes it
  std::size_t asked = 0;
  EXPECT_FALSE(buffer.reserve(size, [&] { return rooms.at(asked++); }));
  EXPECT_EQ(buffer.data(), nullptr);
  ASSERT_TRUE(buffer.reserve(100, [] { return std::uint64_t{100}; }));
  std::byte *kept = buffer.data();
  kept[99] = std::byte{1};
  EXPECT_TRUE(buffer.reserve(50, [] { return std::uint64_t{0}; }));
  EXPECT_EQ(buffer.data(), kept);
}

} // namespace
