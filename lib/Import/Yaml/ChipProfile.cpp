//===- ChipProfile.cpp - reading chip profiles ----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ChipProfile.h"
#include "ReadYaml.h"

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
struct CollectiveEntryUs {
  uint64_t messages = 0, bytes = 0, calls = 0;
  TimeEntry time;
};
struct LinksEntry {
  std::vector<LinkEntryUs> messages, allReduces;
  std::vector<CollectiveEntryUs> inTraining;
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

template <typename Fields> void fields(Fields &io, FitNote &fit) {
  io.required("precision", fit.precision, "of the iterations");
  io.required("runs", fit.runs, "iterations");
  io.required("shapes", fit.shapes, "different blocks");
  io.required("error_percent", fit.error, "mean");
  io.optional("held_out_error_percent", fit.heldOut, "mean of the others");
}

template <typename Fields> void fields(Fields &io, MachineNote &machine) {
  io.required("processor", machine.processor, "its name");
  io.required("cores", machine.cores, "of the machine");
  io.required("memory_gib", machine.memoryGib, "of the machine");
  io.required("system", machine.system, "its name");
  io.required("device", machine.device, "the runtime's");
  io.required("ranks", machine.ranks, "that ran together");
  io.required("threads", machine.threads, "of each rank");
}

template <typename Fields> void fields(Fields &io, Peak &peak) {
  io.required("tflops", peak.tflops, "1e12 FLOP/s");
  io.required("memory_gbytes_per_second", peak.memoryGbytesPerSecond,
              planning::kAbove0, "of its memory");
}

template <typename Fields> void fields(Fields &io, TimeEntry &time) {
  io.required("us", time.us, "median");
  io.required("quartiles_us", time.quartiles, "how the times spread");
  io.required("runs", time.runs, "how often");
}

template <typename Fields> void fields(Fields &io, LinkEntryUs &link) {
  io.required("bytes", link.bytes, "sent");
  fields(io, link.time);
}

template <typename Fields> void fields(Fields &io, CollectiveEntryUs &entry) {
  io.required("messages", entry.messages, "of its ring, one after the other");
  io.required("bytes", entry.bytes, "that a rank sends");
  io.required("calls", entry.calls, "in a step");
  fields(io, entry.time);
}

template <typename Fields> void fields(Fields &io, LinksEntry &links) {
  io.required("messages", links.messages, "from rank to rank");
  io.required("all_reduces", links.allReduces, "of all ranks");
  io.optional("in_training", links.inTraining, "collectives of plans");
}

template <typename Fields> void fields(Fields &io, FunctionEntry &function) {
  io.required("block", function.block, "its name");
  io.required("function", function.function, "of the block");
  io.required("microbatch", function.microbatch, "samples");
  io.required("tensor_parallel", function.tensorParallel, "chips");
  io.required("parts", function.parts, "between collectives");
}

template <typename Fields> void fields(Fields &io, UpdateEntry &update) {
  io.required("optimizer", update.optimizer, "its name");
  io.required("parameters", update.parameters, "elements");
  fields(io, update.time);
}

template <typename Fields> void fields(Fields &io, ModelEntryUs &model) {
  io.required("hash", model.hash, "of graph, names and shapes");
  io.required("precision", model.precision, "f32 or bf16");
  io.required("functions", model.functions, "of its blocks");
  io.optional("updates", model.updates, "of its parameters");
}

template <typename Fields> void fields(Fields &io, ProfileEntry &entry) {
  io.required("tombolo_profile", entry.version, "of the format");
  io.required("chip", entry.profile.chip, "its name");
  io.optional("fit", entry.fit, "how constants were fitted");
  io.optional("machine", entry.machine, "what was measured on");
  io.optional("peak", entry.profile.peak, "rates of the chip");
  io.required("efficiency", entry.profile.efficiency, "parts of them");
  io.optional("intra_node", entry.profile.intraNode, "between its chips");
  io.optional("inter_node", entry.profile.interNode, "between its nodes");
  io.optional("links", entry.links, "what was measured of wires");
  io.optional("models", entry.models, "what was measured of models");
}

} // namespace tombolo::yamlio

namespace {

/// Turns what was measured into the planner's rows, and finds what is wrong
/// with it.
class Measurements {
public:
  explicit Measurements(yamlio::ProfileEntry &entry) : entry(entry) {}

  planning::Faults run() {
    if (entry.links) {
      links("links.messages", entry.links->messages);
      links("links.all_reduces", entry.links->allReduces);
      for (size_t i = 0; i < entry.links->inTraining.size(); ++i)
        collective(planning::at("links.in_training", i),
                   entry.links->inTraining[i]);
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

  void collective(const std::string &path,
                  const yamlio::CollectiveEntryUs &row) {
    if (!(row.time.us > 0 && std::isfinite(row.time.us)))
      fault(planning::in(path, "us"), "expected a time above 0 us");
    if (row.messages == 0)
      fault(planning::in(path, "messages"),
            "expected 1 or more, as many as a ring sends one after the other");
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
  planning::Faults measured = Measurements(entry).run();
  faults.insert(faults.end(), measured.begin(), measured.end());
  for (const planning::Fault &fault : faults)
    file->report(errors, fault);
  if (!faults.empty())
    return std::nullopt;
  return entry.profile;
}
