//===- IncomingPush.cpp - the data of pushes while it comes in ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IncomingPush.h"

#include <algorithm>
#include <cstring>
#include <utility>

using namespace tombolo::runtime;

bool StagingRoom::take(std::uint64_t bytes) {
  std::uint64_t now = used;
  do {
    if (bytes > most || now > most - bytes)
      return false;
  } while (!used.compare_exchange_weak(now, now + bytes));
  return true;
}

IncomingPush::IncomingPush(PushPart given, std::uint32_t count,
                           std::uint64_t size, StagingRoom &room, double now)
    : part(std::move(given)), room(room), size(size),
      bytes(std::make_unique_for_overwrite<std::byte[]>(size)), stripes(count),
      moved(now) {
  for (std::uint32_t s = 0; s < count; ++s) {
    stripes[s].begin = stripeBegin(size, s, count);
    stripes[s].end = stripeBegin(size, s + 1, count);
  }
}

IncomingPush::~IncomingPush() {
  for (const Stripe &stripe : stripes)
    room.giveBack(stripe.received);
}

bool IncomingPush::enter(const void *stream, std::uint32_t number,
                         std::uint64_t before, std::function<void()> cancel) {
  std::lock_guard lock(mutex);
  Stripe &stripe = stripes[number];
  if (stripe.cancel)
    stripe.cancel();
  stripe.stream = stream;
  stripe.cancel = std::move(cancel);
  if (before > stripe.received)
    return false;
  if (!taken) { // who sends from the begin again has not asked
    room.giveBack(stripe.received - before);
    stripe.received = before;
    stripe.ended = false;
  }
  return true;
}

IncomingPush::Added IncomingPush::add(const void *stream, std::uint32_t number,
                                      std::string_view data, double now) {
  std::lock_guard lock(mutex);
  Stripe &stripe = stripes[number];
  if (stripe.stream != stream || taken)
    return Added::Replaced;
  if (data.size() > stripe.end - stripe.begin - stripe.received)
    return Added::TooMuch;
  if (!room.take(data.size()))
    return Added::NoRoom;
  std::memcpy(bytes.get() + stripe.begin + stripe.received, data.data(),
              data.size());
  stripe.received += data.size();
  moved = now;
  return Added::Yes;
}

IncomingPush::Ended IncomingPush::end(std::uint32_t number) {
  std::lock_guard lock(mutex);
  if (taken)
    return Ended::Taken;
  Stripe &stripe = stripes[number];
  if (stripe.received != stripe.end - stripe.begin)
    return Ended::Short;
  stripe.ended = true;
  taken = std::all_of(stripes.begin(), stripes.end(),
                      [](const Stripe &each) { return each.ended; });
  return taken ? Ended::Whole : Ended::Waits;
}

void IncomingPush::leave(const void *stream, std::uint32_t number) {
  std::lock_guard lock(mutex);
  Stripe &stripe = stripes[number];
  if (stripe.stream != stream)
    return;
  stripe.stream = nullptr;
  stripe.cancel = nullptr;
}

void IncomingPush::forget(const void *stream, std::uint32_t number) {
  std::lock_guard lock(mutex);
  Stripe &stripe = stripes[number];
  if (stripe.stream != stream || taken)
    return;
  room.giveBack(std::exchange(stripe.received, 0));
  stripe.ended = false;
}

void IncomingPush::addTo(Sha256 &digest, std::uint32_t number) const {
  std::span<const std::byte> come;
  {
    std::lock_guard lock(mutex);
    const Stripe &stripe = stripes[number];
    come = data().subspan(stripe.begin, stripe.received);
  }
  digest.update(come); // long, and others come meanwhile
}

std::uint64_t IncomingPush::received(std::uint32_t stripe) const {
  std::lock_guard lock(mutex);
  return stripes[stripe].received;
}

void IncomingPush::cancel() {
  std::lock_guard lock(mutex);
  for (Stripe &stripe : stripes)
    if (stripe.cancel)
      stripe.cancel();
}

bool IncomingPush::isIdleSince(double then) const {
  std::lock_guard lock(mutex);
  return moved <= then &&
         std::none_of(stripes.begin(), stripes.end(),
                      [](const Stripe &s) { return s.stream != nullptr; });
}

std::shared_ptr<IncomingPush> IncomingPushes::find(const PushPart &part,
                                                   std::uint32_t stripes,
                                                   std::uint64_t bytes,
                                                   double now) {
  std::lock_guard lock(mutex);
  std::erase_if(pushes, [&](const auto &entry) {
    return entry.second->isIdleSince(now - idleSeconds);
  });
  std::shared_ptr<IncomingPush> &push = pushes[keyOf(part)];
  if (push && push->isOf(part, stripes))
    return push;
  if (push)
    push->cancel();
  push = std::make_shared<IncomingPush>(part, stripes, bytes, room, now);
  return push;
}

void IncomingPushes::drop(const IncomingPush &push) {
  std::lock_guard lock(mutex);
  auto found = pushes.find(keyOf(push.part));
  if (found != pushes.end() && found->second.get() == &push)
    pushes.erase(found);
}
