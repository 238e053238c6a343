//===- ChipProfile.cpp - reading chip profiles ----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ChipProfile.h"

#include "llvm/ADT/StringExtras.h"

#include <cmath>

using namespace llvm;
using namespace tombolo;

namespace tombolo::yamlio {

/// Version 1 had nothing that was measured.
static constexpr uint64_t kOldestVersion = 1, kProfileVersion = 2;

// What a profile says of how it came about; only read to be told.

struct FitNote {
  std::string precision;
  uint64_t runs = 0, shapes = 0;
  double error = 0;
  std::optional<double> heldOut;
};
struct MachineNote {
  std::string processor, system, device;
  uint64_t cores = 0, ranks = 0, threads = 0;
  double memoryGib = 0;
};

/// Microseconds of something that was done several times.
struct TimeEntry {
  double us = 0;
  std::vector<double> quartiles; // of people's interest only
  uint64_t runs = 0;
};
struct LinkEntryUs {
  uint64_t bytes = 0;
  TimeEntry time;
};
struct LinksEntry {
  std::vector<LinkEntryUs> messages, allReduces;
};
struct FunctionEntry {
  std::string block, function;
  uint64_t microbatch = 0, tensorParallel = 0;
  std::vector<TimeEntry> parts;
};
struct UpdateEntry {
  std::string optimizer;
  uint64_t parameters = 0;
  TimeEntry time;
};
struct ModelEntryUs {
  std::string hash, precision;
  std::vector<FunctionEntry> functions;
  std::vector<UpdateEntry> updates;
};

struct ProfileEntry {
  uint64_t version = 0;
  ChipProfile profile;
  std::optional<FitNote> fit;
  std::optional<MachineNote> machine;
  std::optional<LinksEntry> links;
  std::vector<ModelEntryUs> models;
};

} // namespace tombolo::yamlio

LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::planning::Overheads::Correction)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::TimeEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::LinkEntryUs)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::FunctionEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::UpdateEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::ModelEntryUs)

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
  io.mapOptional("ring_rate", over.ringRate);
  io.mapOptional("ring_latency", over.ringLatency);
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

template <> struct MappingTraits<MachineNote> {
  static void mapping(IO &io, MachineNote &machine) {
    need(io, "processor", machine.processor);
    required(io, "cores", machine.cores);
    need(io, "memory_gib", machine.memoryGib);
    need(io, "system", machine.system);
    need(io, "device", machine.device);
    required(io, "ranks", machine.ranks);
    required(io, "threads", machine.threads);
  }
};

void MappingTraits<Tflops>::mapping(IO &io, Tflops &tflops) {
  io.mapOptional("f32", tflops.f32);
  io.mapOptional("bf16", tflops.bf16);
}

template <> struct MappingTraits<Peak> {
  static void mapping(IO &io, Peak &peak) {
    need(io, "tflops", peak.tflops);
    need(io, "memory_gbytes_per_second", peak.memoryGbytesPerSecond);
  }
};

static void mapTime(IO &io, TimeEntry &time) {
  need(io, "us", time.us);
  need(io, "quartiles_us", time.quartiles);
  required(io, "runs", time.runs);
}
template <> struct MappingTraits<TimeEntry> {
  static void mapping(IO &io, TimeEntry &time) { mapTime(io, time); }
};

template <> struct MappingTraits<LinkEntryUs> {
  static void mapping(IO &io, LinkEntryUs &link) {
    required(io, "bytes", link.bytes);
    mapTime(io, link.time);
  }
};

template <> struct MappingTraits<LinksEntry> {
  static void mapping(IO &io, LinksEntry &links) {
    need(io, "messages", links.messages);
    need(io, "all_reduces", links.allReduces);
  }
};

template <> struct MappingTraits<FunctionEntry> {
  static void mapping(IO &io, FunctionEntry &function) {
    need(io, "block", function.block);
    need(io, "function", function.function);
    required(io, "microbatch", function.microbatch);
    required(io, "tensor_parallel", function.tensorParallel);
    need(io, "parts", function.parts);
  }
};

template <> struct MappingTraits<UpdateEntry> {
  static void mapping(IO &io, UpdateEntry &update) {
    need(io, "optimizer", update.optimizer);
    required(io, "parameters", update.parameters);
    mapTime(io, update.time);
  }
};

template <> struct MappingTraits<ModelEntryUs> {
  static void mapping(IO &io, ModelEntryUs &model) {
    need(io, "hash", model.hash);
    need(io, "precision", model.precision);
    need(io, "functions", model.functions);
    io.mapOptional("updates", model.updates);
  }
};

template <> struct MappingTraits<ProfileEntry> {
  static void mapping(IO &io, ProfileEntry &entry) {
    required(io, "tombolo_profile", entry.version);
    need(io, "chip", entry.profile.chip);
    io.mapOptional("fit", entry.fit);
    io.mapOptional("machine", entry.machine);
    io.mapOptional("peak", entry.profile.peak);
    need(io, "efficiency", entry.profile.efficiency);
    io.mapOptional("intra_node", entry.profile.intraNode);
    io.mapOptional("inter_node", entry.profile.interNode);
    io.mapOptional("links", entry.links);
    io.mapOptional("models", entry.models);
  }
};

} // namespace llvm::yaml

namespace {

/// Turns what was measured into the planner's rows, and finds what is wrong
/// with it.
class Measurements {
public:
  explicit Measurements(yamlio::ProfileEntry &entry) : entry(entry) {}

  planning::Faults run() {
    if (const auto &peak = entry.profile.peak) {
      for (const std::optional<double> &rate :
           {peak->tflops.f32, peak->tflops.bf16,
            std::optional<double>(peak->memoryGbytesPerSecond)})
        if (rate && !(*rate > 0 && std::isfinite(*rate)))
          fault("peak", "expected positive rates");
    }
    if (entry.links) {
      links("links.messages", entry.links->messages);
      links("links.all_reduces", entry.links->allReduces);
    }
    for (size_t m = 0; m < entry.models.size(); ++m)
      model(planning::at("models", m), entry.models[m]);
    auto add = [&](planning::Faults more) {
      faults.insert(faults.end(), more.begin(), more.end());
    };
    add(planning::checkFunctionTimes(entry.profile.functionTimes,
                                     [&](size_t r) { return functions[r]; }));
    add(planning::checkUpdateTimes(entry.profile.updateTimes,
                                   [&](size_t r) { return updates[r]; }));
    return std::move(faults);
  }

private:
  yamlio::ProfileEntry &entry;
  std::vector<std::string> functions, updates; // paths of the planner's rows
  planning::Faults faults;

  void fault(const std::string &path, std::string message) {
    faults.push_back({path, std::move(message)});
  }

  void links(const std::string &path,
             const std::vector<yamlio::LinkEntryUs> &rows) {
    for (size_t i = 0; i < rows.size(); ++i) {
      std::string place = planning::at(path, i);
      if (!(rows[i].time.us > 0 && std::isfinite(rows[i].time.us)))
        fault(planning::in(place, "us"), "expected a time above 0 us");
      else if (i > 0 && rows[i].bytes <= rows[i - 1].bytes)
        fault(planning::in(place, "bytes"), "expected ascending bytes");
      // Small ones are told apart no better.
      else if (i > 0 && rows[i].time.us < 0.8 * rows[i - 1].time.us)
        fault(
            planning::in(place, "us"),
            "times must grow with the bytes: " + std::to_string(rows[i].bytes) +
                " bytes take " + std::to_string(rows[i].time.us) + " us, " +
                std::to_string(rows[i - 1].bytes) + " take " +
                std::to_string(rows[i - 1].time.us) + " us");
    }
  }

  void model(const std::string &path, const yamlio::ModelEntryUs &model) {
    if (model.hash.size() != 64 || !all_of(model.hash, isHexDigit))
      fault(planning::in(path, "hash"),
            "expected 64 hexadecimal digits, the model's hash");
    if (model.precision != "f32" && model.precision != "bf16")
      fault(planning::in(path, "precision"),
            "expected f32 or bf16, got '" + model.precision + "'");
    for (size_t f = 0; f < model.functions.size(); ++f) {
      const yamlio::FunctionEntry &from = model.functions[f];
      std::string place = planning::at(planning::in(path, "functions"), f);
      auto function = planning::parseBlockFunction(from.function);
      if (!function) {
        fault(planning::in(place, "function"),
              "expected forward, backward_input or backward_weight, got '" +
                  from.function + "'");
        continue;
      }
      planning::FunctionTime row;
      row.call = {model.hash,
                  model.precision == "bf16" ? planning::Precision::BF16
                                            : planning::Precision::F32,
                  from.block,
                  *function,
                  from.tensorParallel,
                  from.microbatch};
      for (const yamlio::TimeEntry &part : from.parts)
        row.partSeconds.push_back(part.us * 1e-6);
      entry.profile.functionTimes.push_back(std::move(row));
      functions.push_back(place);
    }
    for (size_t u = 0; u < model.updates.size(); ++u) {
      const yamlio::UpdateEntry &from = model.updates[u];
      std::string place = planning::at(planning::in(path, "updates"), u);
      uint64_t stateBytes = from.optimizer == "adamw"      ? 8
                            : from.optimizer == "momentum" ? 4
                                                           : 0;
      if (stateBytes == 0 && from.optimizer != "sgd")
        fault(planning::in(place, "optimizer"),
              "expected adamw, sgd or momentum, got '" + from.optimizer + "'");
      entry.profile.updateTimes.push_back(
          {stateBytes, from.parameters, from.time.us * 1e-6});
      updates.push_back(place);
    }
  }
};

} // namespace

std::optional<yamlio::ChipProfile>
yamlio::readChipProfile(StringRef path, StringRef chip, raw_ostream &errors) {
  auto file = openYaml(path, errors);
  ProfileEntry entry;
  if (!file || !read(*file, entry, errors))
    return std::nullopt;
  planning::Faults faults;
  if (entry.version < kOldestVersion || entry.version > kProfileVersion)
    faults.push_back({"tombolo_profile",
                      "expected version " + std::to_string(kOldestVersion) +
                          " or " + std::to_string(kProfileVersion) + ", got " +
                          std::to_string(entry.version)});
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
  planning::Faults measured = Measurements(entry).run();
  faults.insert(faults.end(), measured.begin(), measured.end());
  for (const planning::Fault &fault : faults)
    file->report(errors, fault);
  if (!faults.empty())
    return std::nullopt;
  return entry.profile;
}
