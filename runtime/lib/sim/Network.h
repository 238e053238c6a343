//===- Network.h - flows that share cards, wires and lines--------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A resource is something that flows share: the sending side of a network card,
// a line in one direction. A flow uses several at once, of each so much per byte
// and second, and all flows together at most its capacity. Rates are max-min
// fair (Bertsekas and Gallager, Data Networks, 6.5.2): raised together until a
// resource is full, then those of the flows that do not use it, and so on.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_NETWORK_H
#define TOMBOLO_RUNTIME_LIB_SIM_NETWORK_H

#include <cstdint>
#include <functional>
#include <vector>

namespace tombolo::runtime::sim {

/// So much of a resource's capacity per byte and second of one flow. Where the
/// flow stands for several that share the resource it is so many times that.
struct Usage {
  std::uint32_t resource = 0;
  double perByte = 0;
  bool operator==(const Usage &) const = default;
};
using Path = std::vector<Usage>;

class Network {
public:
  /// What `schedule` is asked for: to call `wake` with the same numbers at
  /// `time`.
  struct Timer {
    double time;
    std::uint32_t flow;
    std::uint32_t version;
  };
  using Schedule = std::function<void(const Timer &)>;

  explicit Network(Schedule schedule) : schedule(std::move(schedule)) {}

  std::uint32_t addResource(double capacity);
  double capacity(std::uint32_t resource) const {
    return resources[resource].capacity;
  }
  /// Capacity 0 stops the flows that use it until it is raised again.
  void setCapacity(std::uint32_t resource, double capacity, double now);

  /// A flow of `bytes` over `path`, which must stay where it is. Completes
  /// `latency` seconds after its last byte has left. Returns its number, which
  /// is used again after it has completed.
  std::uint32_t start(double now, const Path &path, double bytes,
                      double latency);
  /// Takes it out, unfinished.
  void cancel(std::uint32_t flow, double now);

  /// True when the flow has completed.
  bool wake(std::uint32_t flow, std::uint32_t version, double now);

  static constexpr std::uint32_t kNoFlow = ~0u;
  /// Of the resource's capacity now, as a fraction; without what one flow uses.
  double load(std::uint32_t resource, std::uint32_t without = kNoFlow) const;
  /// Of a flow, in bytes per second.
  double rate(std::uint32_t flow) const { return flows[flow].rate; }
  /// Flows that use it now.
  std::size_t flowsOn(std::uint32_t resource) const {
    return resources[resource].flows.size();
  }
  bool idle() const { return active == 0; }
  /// Forgets all flows, and their timers.
  void clear();

  /// What a flow would have alone.
  double freeRate(const Path &path) const;

private:
  struct Resource {
    double capacity = 1;
    std::vector<std::uint32_t> flows;
    std::uint32_t mark = 0;
    double left = 0, wanted = 0; // while rates are shared out
  };
  struct Flow {
    const Path *path = nullptr;
    double remaining = 0; // bytes, at `since`
    double rate = 0;
    double since = 0;
    double latency = 0;
    std::uint32_t version = 0;
    std::uint32_t mark = 0;
    bool sending = false; // still has bytes
    bool alone = false;   // one timer for its bytes and its latency
    bool frozen = false;
  };

  /// Gives all flows that are joined to `seed` by shared resources new rates.
  void share(const Path &seed, double now);
  void settle(Flow &flow, double now);
  void leave(std::uint32_t flow);
  void leaveWhenSent(std::vector<std::uint32_t> &on, double now);

  Schedule schedule;
  std::vector<Resource> resources;
  std::vector<Flow> flows;
  std::vector<std::uint32_t> unused;
  std::uint32_t marks = 0;
  std::size_t active = 0;
  std::vector<std::uint32_t> joined, touched; // while rates are shared out
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_NETWORK_H
