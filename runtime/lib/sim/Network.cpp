//===- Network.cpp - flows that share cards, wires and lines------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "Network.h"

#include <algorithm>

namespace tombolo::runtime::sim {


std::uint32_t Network::addResource(double capacity) {
  resources.push_back({});
  resources.back().capacity = capacity;
  return static_cast<std::uint32_t>(resources.size() - 1);
}

void Network::setCapacity(std::uint32_t resource, double capacity,
                          double now) {
  if (resources[resource].capacity == capacity)
    return;
  leaveWhenSent(resources[resource].flows, now);
  resources[resource].capacity = capacity;
  if (!resources[resource].flows.empty())
    share({{resource, 0}}, now);
}

double Network::freeRate(const Path &path) const {
  double rate = kInfinity;
  for (const Usage &usage : path)
    rate = std::min(rate, resources[usage.resource].capacity / usage.perByte);
  return rate;
}

std::uint32_t Network::start(double now, const Path &path, double bytes,
                             double latency) {
  std::uint32_t number;
  if (unused.empty()) {
    number = static_cast<std::uint32_t>(flows.size());
    flows.emplace_back();
  } else {
    number = unused.back();
    unused.pop_back();
  }
  Flow &flow = flows[number];
  flow.path = &path;
  flow.remaining = bytes;
  flow.since = now;
  flow.latency = latency;
  flow.sending = true;
  ++flow.version;
  ++active;
  bool alone = true;
  for (const Usage &usage : path) {
    std::vector<std::uint32_t> &others = resources[usage.resource].flows;
    leaveWhenSent(others, now);
    alone &= others.empty();
  }
  for (const Usage &usage : path)
    resources[usage.resource].flows.push_back(number);
  flow.rate = freeRate(path);
  flow.alone = alone && flow.rate > 0;
  if (flow.alone) {
    double sending = bytes > 0 ? bytes / flow.rate : 0;
    schedule({now + sending + latency, number, flow.version});
  } else {
    flow.rate = 0;
    share(path, now);
  }
  return number;
}

/// Flows alone leave only when they complete; their last byte may have left.
void Network::leaveWhenSent(std::vector<std::uint32_t> &on, double now) {
  for (std::size_t i = 0; i < on.size();) {
    Flow &flow = flows[on[i]];
    if (flow.alone && flow.since + flow.remaining / flow.rate <= now)
      leave(on[i]);
    else
      ++i;
  }
}

void Network::leave(std::uint32_t number) {
  Flow &flow = flows[number];
  if (!flow.sending)
    return;
  flow.sending = false;
  for (const Usage &usage : *flow.path) {
    std::vector<std::uint32_t> &others = resources[usage.resource].flows;
    others.erase(std::find(others.begin(), others.end(), number));
  }
}

bool Network::wake(std::uint32_t number, std::uint32_t version, double now) {
  Flow &flow = flows[number];
  if (flow.version != version || !flow.path)
    return false;
  if (flow.alone || !flow.sending) {
    leave(number);
  } else {
    const Path &path = *flow.path;
    leave(number);
    ++flow.version;
    share(path, now);
    if (flow.latency > 0) {
      schedule({now + flow.latency, number, flow.version});
      return false;
    }
  }
  flow.path = nullptr;
  flow.alone = false;
  --active;
  unused.push_back(number);
  return true;
}

void Network::cancel(std::uint32_t number, double now) {
  Flow &flow = flows[number];
  if (!flow.path)
    return;
  const Path &path = *flow.path;
  leave(number);
  ++flow.version;
  flow.path = nullptr;
  flow.alone = false;
  --active;
  unused.push_back(number);
  share(path, now);
}

void Network::clear() {
  for (Resource &resource : resources)
    resource.flows.clear();
  unused.clear();
  for (std::size_t i = flows.size(); i-- > 0;) {
    flows[i].path = nullptr;
    flows[i].sending = flows[i].alone = false;
    ++flows[i].version;
    unused.push_back(static_cast<std::uint32_t>(i));
  }
  active = 0;
}

double Network::load(std::uint32_t index, std::uint32_t without) const {
  const Resource &resource = resources[index];
  double used = 0;
  for (std::uint32_t number : resource.flows)
    for (const Usage &usage : *flows[number].path)
      if (usage.resource == index && number != without)
        used += flows[number].rate * usage.perByte;
  return resource.capacity > 0 ? used / resource.capacity : 0;
}

/// Counts what has been sent since its rate last changed.
void Network::settle(Flow &flow, double now) {
  flow.remaining = std::max(0.0, flow.remaining - flow.rate * (now - flow.since));
  flow.since = now;
}

void Network::share(const Path &seed, double now) {
  ++marks;
  joined.clear();
  touched.clear();
  auto touch = [&](std::uint32_t index) {
    Resource &resource = resources[index];
    if (resource.mark == marks)
      return;
    resource.mark = marks;
    resource.left = resource.capacity;
    resource.wanted = 0;
    touched.push_back(index);
  };
  for (const Usage &usage : seed)
    touch(usage.resource);
  for (std::size_t t = 0; t < touched.size(); ++t)
    for (std::uint32_t number : resources[touched[t]].flows) {
      Flow &flow = flows[number];
      if (flow.mark == marks)
        continue;
      flow.mark = marks;
      flow.frozen = false;
      joined.push_back(number);
      for (const Usage &usage : *flow.path) {
        touch(usage.resource);
        resources[usage.resource].wanted += usage.perByte;
      }
    }
  for (std::uint32_t number : joined)
    settle(flows[number], now);
  // All unfrozen flows have the rate `level`.
  double level = 0;
  for (std::size_t open = joined.size(); open > 0;) {
    double step = kInfinity;
    for (std::uint32_t index : touched)
      if (resources[index].wanted > 0)
        step = std::min(step, std::max(0.0, resources[index].left) /
                                  resources[index].wanted);
    level += step;
    for (std::uint32_t index : touched)
      if (resources[index].wanted > 0)
        resources[index].left -= step * resources[index].wanted;
    bool any = false;
    for (std::uint32_t number : joined) {
      Flow &flow = flows[number];
      if (flow.frozen)
        continue;
      bool full = step == kInfinity;
      for (const Usage &usage : *flow.path)
        full |= resources[usage.resource].left <=
                1e-12 * resources[usage.resource].capacity;
      if (!full)
        continue;
      any = flow.frozen = true;
      flow.rate = level;
      --open;
    }
    if (!any) // rounding: the fullest is full
      for (std::uint32_t number : joined)
        if (!flows[number].frozen) {
          flows[number].frozen = true;
          flows[number].rate = level;
          --open;
        }
    for (std::uint32_t index : touched)
      resources[index].wanted = 0;
    for (std::uint32_t number : joined)
      if (!flows[number].frozen)
        for (const Usage &usage : *flows[number].path)
          resources[usage.resource].wanted += usage.perByte;
  }
  for (std::uint32_t number : joined) {
    Flow &flow = flows[number];
    ++flow.version;
    flow.alone = false;
    if (flow.remaining <= 0)
      schedule({now, number, flow.version});
    else if (flow.rate > 0)
      schedule({now + flow.remaining / flow.rate, number, flow.version});
  }
}

} // namespace tombolo::runtime::sim
