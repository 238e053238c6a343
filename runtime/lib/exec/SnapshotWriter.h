//===- SnapshotWriter.h - checkpoints beside training -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Between two steps a rank copies what it saves into host memory, and trains on
// while a thread writes the copy. A rank's part of the manifest in the
// generation's folder says that its shard is durable; a second thread of rank 0
// looks for the parts of all ranks and then writes the manifest, which makes
// the generation whole. Whoever dies before leaves the one before as the
// newest.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_SNAPSHOTWRITER_H
#define TOMBOLO_RUNTIME_LIB_EXEC_SNAPSHOTWRITER_H

#include "HostMemory.h"
#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Rank.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tombolo::runtime::detail {

/// What one rank saves between two steps.
struct Snapshot {
  CheckpointInfo info;
  std::vector<SavedTensor> tensors;
  std::deque<LocalParameter> parts; ///< that tensors refer to; they stay there
};

/// A rank's part in one generation after the other, each in one or more
/// folders: that of checkpoints first, then that of their copies. All calls
/// come from one thread, but for the constructor's functions.
class SnapshotWriter {
public:
  struct Place {
    std::vector<std::string> dirs;
    std::uint64_t rank = 0, ranks = 1;
  };

  /// `writing` is called where a shard is written, before it is.
  explicit SnapshotWriter(
      Place place, std::function<void(std::uint64_t step)> writing = {},
      std::function<std::uint64_t()> room = roomInHostMemory)
      : place(std::move(place)), writing(std::move(writing)),
        room(std::move(room)) {}
  ~SnapshotWriter() { end(std::chrono::seconds(0)); }
  SnapshotWriter(const SnapshotWriter &) = delete;
  SnapshotWriter &operator=(const SnapshotWriter &) = delete;

  /// Of rank 0 before any rank begins to write a step, and when all have
  /// finished the one before: what a generation of this step, and what an
  /// unfinished one has left, is gone.
  void clear(std::uint32_t island, std::uint64_t step);

  /// Copies the snapshot and writes the copy beside the caller. False: host
  /// memory has no room for the copy, and nothing has happened.
  bool begin(Snapshot &snapshot);
  /// Writes this rank's shards before it returns, from where everything lies.
  void beginInPlace(Snapshot &snapshot);

  /// Between `begin` and `finish`.
  bool isOpen() const { return !folders.empty(); }
  /// How many folders a generation is written to; the same on all ranks.
  std::size_t count() const { return folders.size(); }
  /// Waits until this rank's shard is durable in a folder; false: it is not to
  /// be.
  bool awaitShard(std::size_t folder);
  /// Then on rank 0: waits until the manifest is there as well. `all`: the
  /// shards of all ranks are durable; else the generation is given up.
  void awaitManifest(std::size_t folder, bool all);
  /// Ends the generation. Gives what has kept this rank from writing the
  /// checkpoint (not a copy), if anything.
  std::exception_ptr finish();

  /// Some rank has failed. For so long what is under way may still come to its
  /// end: where training itself has failed all ranks write their shards.
  void end(std::chrono::duration<double> patience);

  /// What has come to its end since the last call: on rank 0 of each folder,
  /// else failures alone.
  std::vector<CheckpointNews> takeNews();

private:
  using Clock = std::chrono::steady_clock;
  enum class State { Open, Done, Failed };
  struct Folder {
    std::string path;
    bool isCopy = false;
    State shard = State::Open, manifest = State::Open;
    bool isGivenUp = false;                    ///< some rank has no shard
    std::optional<Clock::time_point> deadline; ///< of parts that are there
    std::exception_ptr failure;                ///< of this rank
  };

  void open(Snapshot &snapshot);
  void writeShards();
  void joinShards();
  bool awaitParts(Folder &folder);
  bool isOver() const { return over && Clock::now() >= *over; }
  void tell(const Folder &folder, const std::string &failure);

  const Place place;
  const std::function<void(std::uint64_t)> writing;
  const std::function<std::uint64_t()> room;
  HostBuffer copy; // stays: the next one is as large
  Snapshot snapshot;
  Clock::time_point begun;
  std::vector<Folder> folders;
  std::thread shards, joining;

  std::mutex mutex; // of all that follows, and of the folders' states
  std::condition_variable changed;
  std::optional<Clock::time_point> over; // no work is done from then on
  std::vector<CheckpointNews> news;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_SNAPSHOTWRITER_H
