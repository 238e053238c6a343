//===- ChipProfile.cpp - reading chip profiles ----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ChipProfile.h"

#include <cmath>

using namespace llvm;
using namespace tombolo;

namespace tombolo::yamlio {

static constexpr uint64_t kProfileVersion = 1;

/// What a profile says of how it came about; only read to be told.
struct FitNote {
  std::string precision;
  uint64_t runs = 0, shapes = 0;
  double error = 0;
  std::optional<double> heldOut;
};

struct ProfileEntry {
  uint64_t version = 0;
  ChipProfile profile;
  std::optional<FitNote> fit;
};

} // namespace tombolo::yamlio

LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::planning::Overheads::Correction)

namespace llvm::yaml {

using namespace tombolo::yamlio;

template <> struct MappingTraits<tombolo::planning::Overheads::Correction> {
  static void mapping(IO &io,
                      tombolo::planning::Overheads::Correction &correction) {
    required(io, "tensor_parallel", correction.tensorParallel);
    need(io, "gflops", correction.gflops);
    need(io, "mbytes", correction.mbytes);
    need(io, "ratio", correction.ratio);
  }
};

void MappingTraits<Efficiency>::mapping(IO &io, Efficiency &efficiency) {
  need(io, "matmul", efficiency.matmul);
  need(io, "memory", efficiency.memory);
  tombolo::planning::Overheads &over = efficiency.overheads;
  io.mapOptional("launch_us", over.launchUs);
  io.mapOptional("kernel_us", over.kernelUs);
  io.mapOptional("score_bytes", over.scoreBytes);
  io.mapOptional("transfer_us", over.transferUs);
  io.mapOptional("step_ms", over.stepMs);
  io.mapOptional("exposed_reduction", over.exposedReduction);
  io.mapOptional("corrections", over.corrections);
}

void MappingTraits<tombolo::planning::Wire>::mapping(
    IO &io, tombolo::planning::Wire &wire) {
  need(io, "gbits_per_second", wire.gbitsPerSecond);
  need(io, "latency_us", wire.latencyUs);
}

template <> struct MappingTraits<FitNote> {
  static void mapping(IO &io, FitNote &fit) {
    need(io, "precision", fit.precision);
    required(io, "runs", fit.runs);
    required(io, "shapes", fit.shapes);
    need(io, "error_percent", fit.error);
    io.mapOptional("held_out_error_percent", fit.heldOut);
  }
};

template <> struct MappingTraits<ProfileEntry> {
  static void mapping(IO &io, ProfileEntry &entry) {
    required(io, "tombolo_profile", entry.version);
    need(io, "chip", entry.profile.chip);
    io.mapOptional("fit", entry.fit);
    need(io, "efficiency", entry.profile.efficiency);
    io.mapOptional("intra_node", entry.profile.intraNode);
    io.mapOptional("inter_node", entry.profile.interNode);
  }
};

} // namespace llvm::yaml

std::optional<yamlio::ChipProfile>
yamlio::readChipProfile(StringRef path, StringRef chip, raw_ostream &errors) {
  auto file = openYaml(path, errors);
  ProfileEntry entry;
  if (!file || !read(*file, entry, errors))
    return std::nullopt;
  planning::Faults faults;
  if (entry.version != kProfileVersion)
    faults.push_back({"tombolo_profile",
                      "expected version " + std::to_string(kProfileVersion) +
                          ", got " + std::to_string(entry.version)});
  if (entry.profile.chip != chip)
    faults.push_back({"chip", "the profile is of chip '" + entry.profile.chip +
                                  "', expected '" + chip.str() + "'"});
  auto wire = [&](const char *name, const std::optional<planning::Wire> &wire) {
    if (wire && !(wire->gbitsPerSecond > 0 && wire->latencyUs >= 0 &&
                  std::isfinite(wire->gbitsPerSecond) &&
                  std::isfinite(wire->latencyUs)))
      faults.push_back({name, "expected a positive rate and a latency that is "
                              "not negative"});
  };
  wire("intra_node", entry.profile.intraNode);
  wire("inter_node", entry.profile.interNode);
  for (const planning::Fault &fault : faults)
    file->report(errors, fault);
  if (!faults.empty())
    return std::nullopt;
  return entry.profile;
}
