//===- SnapshotWriter.cpp - checkpoints beside training -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SnapshotWriter.h"

#include "CheckpointParts.h"
#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <sys/resource.h>
#include <unistd.h>

namespace tombolo::runtime::detail {

namespace {

/// Between two looks for the other ranks' parts.
constexpr auto kLook = std::chrono::milliseconds(10);
/// A file that another machine has written may show only when what this one
/// remembers of the folder has grown old.
constexpr auto kShowsAfter = std::chrono::minutes(2);
/// Training goes first where both want a core (nice).
constexpr int kNice = 10;

std::string textOf(const std::exception_ptr &failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception &error) {
    return error.what();
  } catch (...) {
    return "unknown error";
  }
}

} // namespace

void SnapshotWriter::clear(std::uint32_t island, std::uint64_t step) {
  for (const std::string &dir : place.dirs) {
    discardManifest(checkpointFolder(dir, island, step));
    discardUnfinished(dir, island);
  }
}

bool SnapshotWriter::begin(Snapshot &taken) {
  std::uint64_t elements = 0;
  for (const SavedTensor &tensor : taken.tensors)
    elements += tensor.parameter->localElements;
  if (!copy.reserve(elements * sizeof(float), room))
    return false;
  Clock::time_point start = Clock::now();
  auto *to = reinterpret_cast<float *>(copy.data());
  for (SavedTensor &tensor : taken.tensors) {
    std::span<float> here(to, tensor.parameter->localElements);
    to += here.size();
    for (std::uint64_t at = 0; at < here.size(); at += kStagingElements)
      tensor.read(at,
                  here.subspan(at, std::min<std::uint64_t>(kStagingElements,
                                                           here.size() - at)));
    tensor.read = [this, here](std::uint64_t begin, std::span<float> out) {
      if (std::lock_guard lock(mutex); isOver())
        throw Error(Status::Failed, "the run has ended");
      std::copy_n(here.begin() + static_cast<std::ptrdiff_t>(begin), out.size(),
                  out.begin());
    };
  }
  begun = start;
  open(taken);
  shards = std::thread([this] {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
    writeShards();
  });
  return true;
}

void SnapshotWriter::beginInPlace(Snapshot &taken) {
  begun = Clock::now();
  open(taken);
  writeShards();
}

void SnapshotWriter::open(Snapshot &taken) {
  snapshot = std::move(taken);
  for (const std::string &dir : place.dirs) {
    Folder &folder = folders.emplace_back();
    folder.path =
        checkpointFolder(dir, snapshot.info.island, snapshot.info.step);
    folder.isCopy = folders.size() > 1;
  }
  if (place.rank == 0)
    joining = std::thread([this] { joinShards(); });
}

void SnapshotWriter::writeShards() {
  for (Folder &folder : folders) {
    std::exception_ptr failure;
    try {
      if (writing)
        writing(snapshot.info.step);
      writeShard(folder.path, place.rank, snapshot.tensors);
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(mutex);
    folder.failure = failure;
    folder.shard = failure ? State::Failed : State::Done;
    if (failure && !isOver())
      tell(folder, textOf(failure));
    changed.notify_all();
  }
}

/// Rank 0's second thread.
void SnapshotWriter::joinShards() {
  for (Folder &folder : folders) {
    std::exception_ptr failure;
    bool isThere = awaitParts(folder);
    try {
      if (isThere)
        writeManifest(folder.path, place.ranks, snapshot.info);
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(mutex);
    if (failure)
      folder.failure = failure;
    folder.manifest = isThere && !failure ? State::Done : State::Failed;
    if (isThere)
      tell(folder, failure ? textOf(failure) : "");
    changed.notify_all();
  }
}

/// False: some rank's part is not to come.
bool SnapshotWriter::awaitParts(Folder &folder) {
  std::uint64_t found = 0;
  std::error_code error;
  for (;;) {
    while (found < place.ranks &&
           std::filesystem::exists(folder.path + "/" + partName(found), error))
      ++found;
    std::unique_lock lock(mutex);
    if (found == place.ranks || folder.isGivenUp || isOver() ||
        (folder.deadline && Clock::now() >= *folder.deadline))
      return found == place.ranks;
    changed.wait_for(lock, kLook);
  }
}

void SnapshotWriter::tell(const Folder &folder, const std::string &failure) {
  CheckpointNews &item = news.emplace_back();
  item.kind = !failure.empty() ? CheckpointNews::Kind::Failed
              : folder.isCopy  ? CheckpointNews::Kind::Copied
                               : CheckpointNews::Kind::Whole;
  item.step = snapshot.info.step;
  item.folder = folder.path;
  item.message = failure;
  item.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
}

bool SnapshotWriter::awaitShard(std::size_t number) {
  std::unique_lock lock(mutex);
  Folder &folder = folders.at(number);
  changed.wait(lock, [&] { return folder.shard != State::Open; });
  return folder.shard == State::Done;
}

void SnapshotWriter::awaitManifest(std::size_t number, bool all) {
  std::unique_lock lock(mutex);
  Folder &folder = folders.at(number);
  folder.isGivenUp = !all;
  folder.deadline = Clock::now() + kShowsAfter;
  changed.notify_all();
  changed.wait(lock, [&] { return folder.manifest != State::Open; });
  if (all && folder.manifest == State::Failed && !folder.failure) {
    folder.failure = std::make_exception_ptr(
        Error(Status::Failed, "'", folder.path,
              "': what all ranks have written there does not show"));
    tell(folder, textOf(folder.failure));
  }
}

std::exception_ptr SnapshotWriter::finish() {
  for (std::thread *thread : {&shards, &joining})
    if (thread->joinable())
      thread->join();
  std::exception_ptr failure = folders.empty() ? nullptr : folders[0].failure;
  folders.clear();
  snapshot = {};
  return failure;
}

void SnapshotWriter::end(std::chrono::duration<double> patience) {
  {
    std::lock_guard lock(mutex);
    over = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience);
  }
  finish();
}

std::vector<CheckpointNews> SnapshotWriter::takeNews() {
  std::lock_guard lock(mutex);
  return std::exchange(news, {});
}

} // namespace tombolo::runtime::detail
