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
#include "ChipProfile.h"
#include "ReadYaml.h"
#include "tombolo/Import/LayerTimes.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"

#include <map>

using namespace llvm;
using namespace tombolo;
using planning::Fault;
using planning::Faults;

namespace tombolo::yamlio {

struct Tflops {
  std::optional<double> f32, bf16;
};
struct Profile {
  std::string file;
  std::optional<std::string> model; // of a table of layer times
};
struct ChipEntry {
  std::string name;
  Tflops tflops;
  double memoryGib = 0, memoryGbytesPerSecond = 0;
  std::optional<Efficiency> efficiency;
  std::optional<Profile> profile;
  std::optional<double> pricePerHour;
};
struct FabricEntry {
  std::vector<std::string> pools;
  planning::Wire wire;
};
struct SiteEntry {
  std::string name;
  std::optional<planning::Hosts> hosts;
  std::vector<planning::Pool> pools;
  std::optional<planning::Wire> fabric;
  std::vector<FabricEntry> fabrics;
};
struct LinkEntry {
  std::vector<std::string> sites;
  double gbitsPerSecond = 0, rttMs = 0, loss = 0;
};
struct TopologyEntry {
  std::vector<ChipEntry> chips;
  std::vector<SiteEntry> sites;
  std::vector<LinkEntry> links;
};

} // namespace tombolo::yamlio

LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::ChipEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::FabricEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::SiteEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::LinkEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::planning::Pool)

namespace llvm::yaml {

using namespace tombolo::yamlio;

template <> struct MappingTraits<Tflops> {
  static void mapping(IO &io, Tflops &tflops) {
    io.mapOptional("f32", tflops.f32);
    io.mapOptional("bf16", tflops.bf16);
  }
};

template <> struct MappingTraits<Profile> {
  static void mapping(IO &io, Profile &profile) {
    need(io, "file", profile.file);
    io.mapOptional("model", profile.model);
  }
};

template <> struct MappingTraits<ChipEntry> {
  static void mapping(IO &io, ChipEntry &chip) {
    need(io, "name", chip.name);
    need(io, "tflops", chip.tflops);
    need(io, "memory_gib", chip.memoryGib);
    need(io, "memory_gbytes_per_second", chip.memoryGbytesPerSecond);
    io.mapOptional("efficiency", chip.efficiency);
    io.mapOptional("profile", chip.profile);
    io.mapOptional("price_per_hour", chip.pricePerHour);
  }
};

template <> struct MappingTraits<tombolo::planning::Pool> {
  static void mapping(IO &io, tombolo::planning::Pool &pool) {
    need(io, "name", pool.name);
    need(io, "chip", pool.chip);
    required(io, "nodes", pool.nodes);
    required(io, "chips_per_node", pool.chipsPerNode);
    std::optional<uint64_t> nics;
    optional(io, "nics_per_node", nics);
    pool.nicsPerNode = nics.value_or(1);
    io.mapOptional("intra_node", pool.intraNode);
    io.mapOptional("inter_node", pool.interNode);
  }
};

template <> struct MappingTraits<tombolo::planning::Hosts> {
  static void mapping(IO &io, tombolo::planning::Hosts &hosts) {
    required(io, "count", hosts.count);
    need(io, "memory_gib", hosts.memoryGib);
    io.mapOptional("disk_gbytes_per_second", hosts.diskGbytesPerSecond);
    io.mapOptional("address", hosts.address);
  }
};

template <> struct MappingTraits<FabricEntry> {
  static void mapping(IO &io, FabricEntry &fabric) {
    need(io, "pools", fabric.pools);
    need(io, "gbits_per_second", fabric.wire.gbitsPerSecond);
    need(io, "latency_us", fabric.wire.latencyUs);
  }
};

template <> struct MappingTraits<SiteEntry> {
  static void mapping(IO &io, SiteEntry &site) {
    need(io, "name", site.name);
    io.mapOptional("hosts", site.hosts);
    need(io, "pools", site.pools);
    io.mapOptional("fabric", site.fabric);
    io.mapOptional("fabrics", site.fabrics);
  }
};

template <> struct MappingTraits<LinkEntry> {
  static void mapping(IO &io, LinkEntry &link) {
    need(io, "sites", link.sites);
    need(io, "gbits_per_second", link.gbitsPerSecond);
    need(io, "rtt_ms", link.rttMs);
    io.mapOptional("loss", link.loss);
  }
};

template <> struct MappingTraits<TopologyEntry> {
  static void mapping(IO &io, TopologyEntry &topology) {
    need(io, "chips", topology.chips);
    need(io, "sites", topology.sites);
    io.mapOptional("links", topology.links);
  }
};

} // namespace llvm::yaml

namespace {

/// The two names of a fabric or link; a fault when there are not two.
std::pair<std::string, std::string>
twoNames(const std::vector<std::string> &names, const std::string &path,
         const char *what, Faults &faults) {
  if (names.size() == 2)
    return {names[0], names[1]};
  faults.push_back({path, std::string("expected two ") + what + ", got " +
                              std::to_string(names.size())});
  return {};
}

/// What a file beside the topology says of a chip: a chip profile, or with
/// `model` a table of measured layer times.
struct Measured {
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
  bool isRead = false;
  if (chip.profile->model) {
    auto rows =
        readLayerTimesFile(file, *chip.profile->model, chip.name, errors);
    isRead = rows.has_value();
    if (rows)
      measured.layerTimes = std::move(*rows);
  } else if (sys::path::extension(file) == ".csv") {
    faults.push_back({path, "a table of layer times needs 'model', the name in "
                            "its first column"});
    return measured;
  } else {
    measured.profile = yamlio::readChipProfile(file, chip.name, errors);
    isRead = measured.profile.has_value();
  }
  if (!isRead)
    faults.push_back({path, "cannot use the profile of chip '" + chip.name +
                                "', see above"});
  return measured;
}

planning::Topology convert(yamlio::TopologyEntry &entry, StringRef name,
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
    else if (!chip.efficiency)
      faults.push_back({path, "chip '" + chip.name +
                                  "' needs 'efficiency: {matmul, memory}' or "
                                  "'profile: {file, model}'"});
    yamlio::Efficiency efficiency = chip.efficiency.value_or(
        measured.profile ? measured.profile->efficiency : yamlio::Efficiency());
    topology.chips.push_back({chip.name, chip.tflops.f32, chip.tflops.bf16,
                              chip.memoryGib, chip.memoryGbytesPerSecond,
                              efficiency.matmul, efficiency.memory,
                              chip.pricePerHour, efficiency.overheads,
                              std::move(measured.layerTimes)});
    if (measured.profile)
      profiles[chip.name] = *measured.profile;
  }
  for (size_t i = 0; i < entry.sites.size(); ++i) {
    yamlio::SiteEntry &site = entry.sites[i];
    std::string path = planning::at("sites", i);
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
    for (size_t f = 0; f < site.fabrics.size(); ++f) {
      auto [first, second] =
          twoNames(site.fabrics[f].pools,
                   planning::at(planning::in(path, "fabrics"), f) + ".pools",
                   "pools", faults);
      result.fabrics.push_back({first, second, site.fabrics[f].wire});
    }
    topology.sites.push_back(std::move(result));
  }
  for (size_t i = 0; i < entry.links.size(); ++i) {
    yamlio::LinkEntry &link = entry.links[i];
    auto [first, second] = twoNames(
        link.sites, planning::at("links", i) + ".sites", "sites", faults);
    topology.links.push_back(
        {first, second, link.gbitsPerSecond, link.rttMs, link.loss});
  }
  return topology;
}

} // namespace

std::optional<TopologyFile> tombolo::readTopology(YamlFile file,
                                                  raw_ostream &errors) {
  yamlio::TopologyEntry entry;
  if (!yamlio::read(file, entry, errors))
    return std::nullopt;
  Faults faults;
  planning::Topology topology = convert(entry, file.getName(), faults, errors);
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
