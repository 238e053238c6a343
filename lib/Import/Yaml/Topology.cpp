//===- Topology.cpp - reading sites.yaml ----------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// The file is parsed into structs of its own shape, turned into the planner's,
// and checked by `planning::Topology::check`; every fault names a path in the
// file, from which its place follows.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Topology.h"
#include "ReadYaml.h"
#include "Schema.h"
#include "TopologyYaml.h"
#include "tombolo/Import/LayerTimes.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"

#include <map>

using namespace llvm;
using namespace tombolo;
using planning::Fault;
using planning::Faults;

namespace {

/// What a file beside the topology says of a chip: a chip profile, or with
/// `model` a table of measured layer times.
struct Measured {
  bool isRead = true; // or not asked for
  std::optional<yamlio::ChipProfile> profile;
  std::vector<planning::LayerTimes> layerTimes;
};

Measured readProfile(const yamlio::ChipEntry &chip, StringRef topology,
                     const std::string &path, Faults &faults,
                     raw_ostream &errors) {
  SmallString<128> file(chip.profile->file);
  if (sys::path::is_relative(file)) {
    file = sys::path::parent_path(topology);
    sys::path::append(file, chip.profile->file);
  }
  Measured measured;
  if (chip.profile->model) {
    auto rows =
        readLayerTimesFile(file, *chip.profile->model, chip.name, errors);
    measured.isRead = rows.has_value();
    if (rows)
      measured.layerTimes = std::move(*rows);
  } else if (sys::path::extension(file) == ".csv") {
    faults.push_back({path, "a table of layer times needs 'model', the name in "
                            "its first column"});
    return measured;
  } else {
    measured.profile = yamlio::readChipProfile(file, chip.name, errors);
    measured.isRead = measured.profile.has_value();
  }
  if (!measured.isRead)
    faults.push_back({path, "cannot use the profile of chip '" + chip.name +
                                "', see above"});
  return measured;
}

/// Figures of the file, and of its profile what the file leaves out.
planning::Chip toChip(const yamlio::ChipEntry &entry, const Measured &measured,
                      const std::string &path, Faults &faults) {
  const auto &profile = measured.profile;
  planning::Chip chip;
  chip.name = entry.name;
  chip.memoryGib = entry.memoryGib;
  chip.pricePerHour = entry.pricePerHour;
  yamlio::Efficiency efficiency = entry.efficiency.value_or(
      profile ? profile->efficiency : yamlio::Efficiency());
  chip.overheads = efficiency.overheads;
  chip.matmulEfficiency = efficiency.matmul;
  chip.memoryEfficiency = efficiency.memory;
  chip.layerTimes = measured.layerTimes;
  std::optional<yamlio::Peak> peak;
  if (profile) {
    chip.functionTimes = profile->functionTimes;
    chip.updateTimes = profile->updateTimes;
    peak = profile->peak;
  }
  auto missing = [&](const char *key) {
    faults.push_back({path, std::string("missing required key '") + key +
                                "'; only a profile with a 'peak' can stand in "
                                "for it"});
  };
  if (!entry.tflops && !peak && measured.isRead)
    missing("tflops");
  if (!entry.memoryGbytesPerSecond && !peak && measured.isRead)
    missing("memory_gbytes_per_second");
  yamlio::Tflops tflops =
      entry.tflops.value_or(peak ? peak->tflops : yamlio::Tflops());
  chip.tflopsF32 = tflops.f32;
  chip.tflopsBF16 = tflops.bf16;
  chip.memoryGbytesPerSecond = entry.memoryGbytesPerSecond.value_or(
      peak ? peak->memoryGbytesPerSecond : 0);
  // Fractions of the profile's peaks become fractions of the file's.
  if (peak && !entry.efficiency) {
    if (entry.tflops && tflops.f32 && peak->tflops.f32)
      chip.matmulEfficiency *= *peak->tflops.f32 / *tflops.f32;
    if (entry.memoryGbytesPerSecond)
      chip.memoryEfficiency *=
          peak->memoryGbytesPerSecond / *entry.memoryGbytesPerSecond;
  }
  return chip;
}

} // namespace

planning::Topology yamlio::toTopology(TopologyEntry &entry, StringRef name,
                                      Faults &faults, raw_ostream &errors) {
  planning::Topology topology;
  std::map<std::string, yamlio::ChipProfile> profiles;
  for (size_t i = 0; i < entry.chips.size(); ++i) {
    yamlio::ChipEntry &chip = entry.chips[i];
    std::string path = planning::at("chips", i);
    Measured measured;
    if (chip.profile)
      measured = readProfile(chip, name, planning::in(path, "profile"), faults,
                             errors);
    topology.chips.push_back(toChip(chip, measured, path, faults));
    if (measured.profile)
      profiles[chip.name] = *measured.profile;
  }
  for (yamlio::SiteEntry &site : entry.sites) {
    planning::Site result;
    result.name = std::move(site.name);
    result.hosts = std::move(site.hosts);
    result.pools = std::move(site.pools);
    // Wires that the file leaves out are those that were measured.
    for (planning::Pool &pool : result.pools)
      if (auto found = profiles.find(pool.chip); found != profiles.end()) {
        if (!pool.intraNode)
          pool.intraNode = found->second.intraNode;
        if (!pool.interNode)
          pool.interNode = found->second.interNode;
      }
    result.fabric = site.fabric;
    for (const yamlio::FabricEntry &fabric : site.fabrics)
      result.fabrics.push_back({fabric.pools[0], fabric.pools[1], fabric.wire});
    topology.sites.push_back(std::move(result));
  }
  for (const yamlio::LinkEntry &link : entry.links)
    topology.links.push_back({link.sites[0], link.sites[1], link.gbitsPerSecond,
                              link.rttMs, link.loss});
  return topology;
}

std::optional<TopologyFile> tombolo::readTopology(YamlFile file,
                                                  raw_ostream &errors) {
  yamlio::TopologyEntry entry;
  if (!yamlio::read(file, entry, errors))
    return std::nullopt;
  Faults faults;
  planning::Topology topology =
      yamlio::toTopology(entry, file.getName(), faults, errors);
  // What is of the wrong shape would only be found again.
  if (faults.empty())
    faults = topology.check();
  for (const Fault &fault : faults)
    file.report(errors, fault);
  if (!faults.empty())
    return std::nullopt;
  return TopologyFile{std::move(file), std::move(topology)};
}

std::optional<TopologyFile> tombolo::readTopologyFile(StringRef path,
                                                      raw_ostream &errors) {
  auto file = openYaml(path, errors);
  if (!file)
    return std::nullopt;
  return readTopology(std::move(*file), errors);
}

void tombolo::writeTopologySchema(raw_ostream &out) {
  yamlio::writeSchema<yamlio::TopologyEntry>(
      "Tombolo: sites.yaml",
      "Where a model can be trained: chips, the sites that have them, and the "
      "lines between sites.",
      out);
}
