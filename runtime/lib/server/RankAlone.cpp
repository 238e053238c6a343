//===- RankAlone.cpp - an island that can reach no server -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All ranks of an island take a receipt after the same inner step, or its
// replicas differ. So where it is due they tell each other how far they are: as
// soon as all have it, it is taken, and if one can reach no server all go on
// without. The push stays under way, the fragment is not pushed again until
// then, and after each step the ranks look whether all have it now. What it is
// by then, that of a member or of one who was late, follows from the receipt as
// ever: nothing of the training meanwhile is lost or counts twice.
//
// Who trains on waits for nobody, so the order of rounds (PushOrder.cpp) is as
// it was.
//
//===----------------------------------------------------------------------===//

#include "RankExchange.h"

#include <algorithm>
#include <chrono>

using namespace tombolo::runtime;
using Clock = std::chrono::steady_clock;

namespace {

/// How often ranks that wait ask one another, so that those who have it learn
/// of one who is cut off; and how often a rank looks whether it is.
constexpr auto kAskOthers = std::chrono::seconds(1);
constexpr auto kLookAgain = std::chrono::milliseconds(50);

} // namespace

bool RankExchange::hasLanded(InFlight &flight, bool waits, bool mayGoOn) {
  const Clock::time_point end =
      Clock::now() + (waits ? kAskOthers : Clock::duration(0));
  {
    std::unique_lock lock(landing);
    while (flight.running > 0) {
      Clock::time_point now = Clock::now();
      if (now >= end || (mayGoOn && client.isSilent()))
        return false;
      landed.wait_until(lock, std::min(end, now + kLookAgain));
    }
  }
  flight.join();
  for (const std::exception_ptr &failure :
       {flight.pushFailure, flight.askFailure})
    if (failure) // the others need not wait for this rank
      std::rethrow_exception(failure);
  return true;
}

bool RankExchange::isTakenNow(std::uint32_t number, std::uint64_t stepsDone,
                              bool waits) {
  if (!mayBeAlone())
    return true;
  InFlight &flight = *fragments[number].flight;
  // All ranks have been told how the push before has ended, or none would have
  // gone on from there.
  if (!flight.asksAtOnce)
    startAsking(number, flight);
  const std::uint64_t due = flight.step + options.overlapSteps;
  const bool mayGoOn =
      stepsDone < due || stepsDone - due < options.mostStepsAlone;
  // Who does not know yet what another one has told last time does not make all
  // wait for that again.
  for (bool stays = waits && !isCutOff;; stays = true) {
    const bool isUnderWay = !hasLanded(flight, stays, mayGoOn);
    // Also who has it says so: others may not have noticed it.
    std::uint64_t told[] = {isUnderWay, mayGoOn && client.isSilent(),
                            stopRound};
    if (options.largest)
      options.largest(told);
    isCutOff = told[1];
    agreedStop = told[2];
    if (!told[0])
      return true;
    if (waits && !isCutOff)
      continue;
    flight.isPutOff |= waits;
    return false;
  }
}

void RankExchange::keepPushed(Fragment &fragment) {
  InFlight &flight = *fragment.flight;
  for (std::size_t i = 0; i < fragment.tensors.size(); ++i) {
    const HeldTensor &held = *fragment.tensors[i];
    if (!flight.atPush[i].empty())
      continue;
    // Without overlap: it is still the step of the push.
    flight.atPush[i].resize(held.elements);
    readArena(held, 0, flight.atPush[i]);
  }
}

std::vector<std::uint32_t> RankExchange::putOff() const {
  std::vector<std::uint32_t> list;
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    if (fragments[f].flight && fragments[f].flight->isPutOff)
      list.push_back(f);
  return list;
}

Exchange::Applied RankExchange::applyLate(std::uint32_t number,
                                          std::uint64_t stepsDone) {
  Fragment &fragment = known(number, "late apply");
  if (isRemoved())
    return Applied::Nothing;
  if (fragment.flight && isTakenNow(number, stepsDone, /*waits=*/false))
    return land(number, stepsDone);
  return Applied::Nothing;
}
