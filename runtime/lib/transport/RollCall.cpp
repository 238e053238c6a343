//===- RollCall.cpp - all are there, and are the same ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/RollCall.h"

#include "tombolo/runtime/Transport.h"

#include <algorithm>
#include <thread>

namespace tombolo::runtime {

namespace {
constexpr const char *kRefused = "refused";
constexpr const char *kEntry = "roll-call/";
constexpr const char *kBegin = "begin";
} // namespace

RollCall::RollCall(const std::string &store, std::string scope,
                   std::chrono::milliseconds timeout,
                   const std::optional<StoreKeeper> &keeper)
    : client(store, timeout, keeper), address(store), scope(std::move(scope)),
      timeout(timeout) {}

std::optional<std::string> RollCall::look(const std::string &key) {
  std::optional<std::vector<char>> value = client.look(scope + key);
  if (!value)
    return std::nullopt;
  return std::string(value->begin(), value->end());
}

void RollCall::set(const std::string &key, const std::string &value) {
  client.set(scope + key, {value.begin(), value.end()});
}

std::string RollCall::get(const std::string &key) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  auto pause = std::chrono::milliseconds(1);
  for (;;) {
    std::optional<std::string> value = look(key);
    if (std::optional<std::string> refusal = look(kRefused))
      throw PeerError(*refusal);
    if (value)
      return *value;
    if (std::chrono::steady_clock::now() >= deadline)
      throw PeerError("store at ", address, ": nobody set '", scope, key,
                      "' within ", timeout.count() / 1000.0, " seconds");
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(50));
  }
}

void RollCall::refuse(const std::string &message) noexcept {
  try {
    set(kRefused, message);
  } catch (const std::exception &) {
    // Without a store nobody waits there.
  }
}

void RollCall::call(const std::string &what, std::uint64_t number,
                    std::uint64_t count, const std::string &shared) {
  auto fail = [&](const std::string &message) {
    refuse(message);
    throw Error(message);
  };
  if (!client.claim(scope + kEntry + std::to_string(number),
                    {shared.begin(), shared.end()}))
    fail(what + " " + std::to_string(number) +
         " was started twice: two processes claim to be it");
  // The first looks at all, so that the store has few requests of each.
  if (number == 0) {
    for (std::uint64_t other = 1; other < count; ++other) {
      std::string theirs = get(kEntry + std::to_string(other));
      if (theirs != shared)
        fail("expected all processes of a launch to run the same: " + what +
             " 0 has " + shared + ", " + what + " " + std::to_string(other) +
             " has " + theirs);
    }
    set(kBegin, shared);
  }
  get(kBegin);
}

} // namespace tombolo::runtime
