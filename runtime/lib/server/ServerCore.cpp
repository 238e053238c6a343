//===- ServerCore.cpp - what the threads of a server share ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ServerCore.h"

#include <chrono>

using namespace tombolo::runtime;

namespace {

DurableOptions durableOptions(const ParameterServerOptions &options) {
  DurableOptions result;
  result.contract = options.contract;
  result.runId = options.runId;
  result.onDamage = options.onDamage;
  return result;
}

ReplicaOptions replicaOptions(const ParameterServerOptions &options,
                              std::condition_variable &outgoing) {
  ReplicaOptions result;
  result.onStored = [&outgoing] { outgoing.notify_all(); };
  result.self = options.self;
  result.votes = options.group.votes;
  result.detectWithin(0.75 * options.detectionSeconds);
  return result;
}

OuterConfig outerConfig(const ParameterServerOptions &options) {
  OuterConfig result = options.outer;
  result.livenessSeconds = options.detectionSeconds;
  return result;
}

} // namespace

double tombolo::runtime::nowSeconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

ServerCore::ServerCore(const ParameterServerOptions &given)
    : options(given), limit(given.mostBytesPerSecond),
      replica(outerConfig(options), durableOptions(options),
              replicaOptions(options, outgoing),
              options.stateDir.empty()
                  ? nullptr
                  : std::shared_ptr<Storage>(openStorage(options.stateDir)),
              nowSeconds()) {}

bool ServerCore::waitUntilTold(const Replica::Mark &mark, bool forLong) {
  outgoing.notify_all();
  DurableState::sync(mark.log);
  std::unique_lock lock(mutex);
  Replica::Told told;
  while ((told = replica.mayTell(mark)) == Replica::Told::NotYet && !stopping &&
         failure.empty() && (forLong || replica.serves(nowSeconds())))
    changed.wait(lock);
  return told == Replica::Told::Yes;
}

void ServerCore::fail(const std::string &why) {
  {
    std::lock_guard lock(mutex);
    if (!failure.empty())
      return;
    failure = why;
    changed.notify_all();
  }
  if (options.onFailure)
    options.onFailure(why);
}

bool ServerCore::isStopping() {
  std::lock_guard lock(mutex);
  return stopping;
}

void ServerCore::stop() {
  std::lock_guard lock(mutex);
  stopping = true;
  changed.notify_all();
  outgoing.notify_all();
}
