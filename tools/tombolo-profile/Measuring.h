//===- Measuring.h - what tombolo-profile measures ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLO_PROFILE_MEASURING_H
#define TOMBOLO_TOOLS_TOMBOLO_PROFILE_MEASURING_H

#include "tombolo/runtime/profile/DeviceTimes.h"
#include "tombolo/runtime/profile/LinkTimes.h"
#include "tombolo/runtime/profile/ProgramTimer.h"

#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tombolo {

struct MeasureOptions {
  std::vector<std::string> plans; // or models; empty: generic figures alone
  /// Of a model: what its layouts are measured with, and for tombolo-plan.
  std::vector<uint64_t> microbatches = {1, 2, 4, 8};
  std::vector<std::string> planOptions;
  std::string chip;               // empty: the only one of the plans
  std::string device = "cpu";
  std::string output;
  double seconds = 3;   // of each program
  uint32_t threads = 0; // of a rank; 0: as tombolo-run local has
  uint64_t ranks = 0;   // that share this machine; 0: all of the plan
};

/// Where and how it was measured; for people.
struct Machine {
  std::string processor, system, device;
  uint64_t cores = 0, ranks = 0, threads = 0;
  double memoryGib = 0;
};

using runtime::profile::CarryTime;
using runtime::profile::CollectiveTime;
using runtime::profile::DeviceTimes;
using runtime::profile::LinkTime;
using runtime::profile::Spread;

/// What a function of a block takes, part by part between its collectives.
struct FunctionKey {
  std::string block, function;
  uint64_t tensorParallel = 1, microbatch = 1;
  auto operator<=>(const FunctionKey &) const = default;
  /// But for the microbatch.
  bool isOfSame(const FunctionKey &other) const {
    return block == other.block && function == other.function &&
           tensorParallel == other.tensorParallel;
  }
};
using FunctionRows = std::map<FunctionKey, std::vector<Spread>>;

struct ModelTimes {
  FunctionRows functions;
  /// By optimizer and elements.
  std::map<std::pair<std::string, uint64_t>, Spread> updates;
};

struct Measured {
  Machine machine;
  std::string chip;
  DeviceTimes rates;
  std::vector<LinkTime> messages, sums; // between the ranks; empty: only one
  std::vector<CollectiveTime> collectives; // of plans, as they ran
  CarryTime carried;      // on shared cores, by all ranks of all plans together
  uint64_t linkRanks = 0; // between so many, those that have cores
  /// By hash of the model and precision.
  std::map<std::pair<std::string, std::string>, ModelTimes> models;
};

/// The wire between two ranks, for a message.
runtime::profile::WireFit fitMessages(const Measured &measured);
/// For a step of a ring.
runtime::profile::WireFit fitRing(const Measured &measured);

/// Measures and writes a chip profile (docs/Profiles.md). Throws runtime::Error
/// for plans that cannot be measured here.
void measure(const MeasureOptions &options);

/// Whether a path is that of a model, not of a plan.
bool isModel(const std::string &path);

/// Plans that together call whatever a layout of the model would on the ranks
/// of this machine, written into `folder`. `measured`: rates and links.
std::vector<std::string> planCandidates(const std::string &model,
                                        const MeasureOptions &options,
                                        const Measured &measured,
                                        const std::string &folder);

/// One of the processes that measure side by side; started by `measure`.
int runWorker(int argc, char **argv);

void writeProfile(std::ostream &os, const Measured &measured);

} // namespace tombolo

#endif // TOMBOLO_TOOLS_TOMBOLO_PROFILE_MEASURING_H
