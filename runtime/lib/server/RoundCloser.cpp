//===- RoundCloser.cpp - the thread that makes new versions ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankService.h"

#include <chrono>
#include <utility>

using namespace tombolo::runtime;

namespace {

/// How often time is looked at when nothing comes.
constexpr std::chrono::milliseconds kTick(100);
/// How long a primary stays after the end, to tell the other servers.
constexpr double kFarewellSeconds = 1;

} // namespace

/// With the mutex. What was decided before this server was primary, or while it
/// was, has no meaning now that it is no more, or is again.
void RankService::noteTerm() {
  if (term == replica.term())
    return;
  term = replica.term();
  toClose.clear();
  toTell.clear();
  if (!replica.isPrimary())
    return;
  // Whoever listens may have missed them.
  for (OuterEvent &event : durable().newestEvents())
    toTell.push_back(std::move(event));
  for (auto &start : durable().takeUnfinished())
    toClose.push_back(std::move(start));
}

void RankService::closeRounds() {
  std::unique_lock lock(mutex);
  try {
    while (true) {
      changed.wait_for(lock, kTick, [&] {
        return core.stopping || term != replica.term() || replica.hasWork() ||
               !toClose.empty() || !toTell.empty();
      });
      if (core.stopping)
        return;
      replica.work(lock, nowSeconds());
      noteTerm();
      if (replica.isPrimary())
        closeRound(lock);
      noteEnd(lock);
    }
  } catch (const std::exception &error) {
    if (lock.owns_lock())
      lock.unlock();
    core.fail(std::string("the next version cannot be made: ") + error.what());
  }
}

void RankService::closeRound(std::unique_lock<std::mutex> &lock) {
  for (auto &due : durable().tick(nowSeconds()))
    toClose.push_back(std::move(due));
  std::deque<OuterEvent> events = std::exchange(toTell, {});
  std::shared_ptr<RoundClosing> closing;
  if (!toClose.empty()) {
    closing = std::move(toClose.front());
    toClose.pop_front();
  }
  if (!closing && events.empty())
    return;
  // Should another server become primary meanwhile.
  const std::uint64_t then = term;
  const std::shared_ptr<const OuterState> alive = durable().sharedState();
  lock.unlock();
  if (closing) {
    closing->compute();
    lock.lock();
    if (replica.term() != then)
      return;
    durable().logVersion(*closing);
    Replica::Mark mark = replica.mark();
    lock.unlock();
    if (!core.waitUntilTold(mark, /*forLong=*/true)) {
      lock.lock();
      return;
    }
    events.push_back(closing->event());
  }
  lock.lock();
  for (OuterEvent &event : events) {
    event.pushedBytes = pushedBytes;
    event.pulledBytes = pulledBytes;
  }
  lock.unlock();
  for (const OuterEvent &event : events)
    if (options.onEvent)
      options.onEvent(event);
  lock.lock();
  if (!closing || replica.term() != then)
    return;
  durable().publish(*closing);
  changed.notify_all();
  takeSnapshotIfDue(lock);
}

void RankService::takeSnapshotIfDue(std::unique_lock<std::mutex> &lock) {
  if (!durable().wantsSnapshot())
    return;
  DurableState::Snapshot snapshot = durable().beginSnapshot();
  lock.unlock();
  durable().writeSnapshot(snapshot);
  lock.lock();
}

void RankService::noteEnd(std::unique_lock<std::mutex> &lock) {
  const double now = nowSeconds();
  bool isPrimary = replica.isPrimary();
  if (isPrimary && finishedTerm == replica.term() && replica.serves(now) &&
      state().isDeserted(now))
    replica.setOver();
  if (!replica.isOver() || toldOver)
    return;
  if (!overSeconds)
    overSeconds = now;
  if (isPrimary && options.group.isReplicated() &&
      now - *overSeconds < kFarewellSeconds)
    return;
  toldOver = true;
  lock.unlock();
  if (options.onOver)
    options.onOver();
  lock.lock();
}
