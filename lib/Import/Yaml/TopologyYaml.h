//===- TopologyYaml.h - the shape of a topology in YAML -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_TOPOLOGYYAML_H
#define TOMBOLO_LIB_IMPORT_YAML_TOPOLOGYYAML_H

#include "ChipProfile.h"
#include "ReadYaml.h"

#include "tombolo/Planning/Topology.h"

namespace tombolo::yamlio {

struct Profile {
  std::string file;
  std::optional<std::string> model; // of a table of layer times
};
struct ChipEntry {
  std::string name;
  // Without a profile that has them both are needed.
  std::optional<Tflops> tflops;
  std::optional<double> memoryGbytesPerSecond;
  double memoryGib = 0;
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

template <> struct MappingTraits<Profile> {
  static void mapping(IO &io, Profile &profile) {
    need(io, "file", profile.file);
    io.mapOptional("model", profile.model);
  }
};

template <> struct MappingTraits<ChipEntry> {
  static void mapping(IO &io, ChipEntry &chip) {
    need(io, "name", chip.name);
    io.mapOptional("tflops", chip.tflops);
    need(io, "memory_gib", chip.memoryGib);
    io.mapOptional("memory_gbytes_per_second", chip.memoryGbytesPerSecond);
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

namespace tombolo::yamlio {

/// The planner's topology of a parsed one, unchecked. Measured layer times are
/// read from beside `file`; what is wrong with them is written to `errors`.
planning::Topology toTopology(TopologyEntry &entry, llvm::StringRef file,
                              planning::Faults &faults,
                              llvm::raw_ostream &errors);

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_TOPOLOGYYAML_H
