//===- TopologyYaml.h - the shape of a topology in YAML -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_TOPOLOGYYAML_H
#define TOMBOLO_LIB_IMPORT_YAML_TOPOLOGYYAML_H

#include "ChipProfile.h"
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

template <typename Fields> void fields(Fields &io, Profile &profile) {
  io.required("file", profile.file, "the profile, beside this file");
  io.optional("model", profile.model,
              "of a table of layer times: the name in its first column");
}

template <typename Fields> void fields(Fields &io, ChipEntry &chip) {
  io.required("name", chip.name, kName, "what pools call this type of chip");
  io.optional("tflops", chip.tflops, "peak rates, 1e12 FLOP/s");
  io.required("memory_gib", chip.memoryGib, planning::kAbove0,
              "memory of one chip");
  io.optional("memory_gbytes_per_second", chip.memoryGbytesPerSecond,
              planning::kAbove0, "peak rate of its memory");
  io.optional("efficiency", chip.efficiency, "parts of the peaks reached");
  io.optional("profile", chip.profile, "what was measured of it");
  io.optional("price_per_hour", chip.pricePerHour, planning::kAbove0,
              "of one chip, for tombolo-plan --objective cost");
  // Figures of a profile stand in for those that are left out.
  io.atLeastOne("a chip", {"efficiency", "profile"});
  io.atLeastOne("a chip", {"tflops", "profile"});
  io.atLeastOne("a chip", {"memory_gbytes_per_second", "profile"});
}

template <typename Fields> void fields(Fields &io, planning::Pool &pool) {
  io.required("name", pool.name, kName, "what stages call it, as SITE/NAME");
  io.required("chip", pool.chip, kName, "its type of chip");
  io.required("nodes", pool.nodes, planning::kCounts, "number of nodes");
  io.required("chips_per_node", pool.chipsPerNode, planning::kCounts,
              "chips in each node");
  io.optional("nics_per_node", pool.nicsPerNode, planning::kCounts,
              "network cards of each node, shared by its chips");
  io.optional("cores_per_node", pool.coresPerNode, planning::kCounts,
              "where chips are a processor's cores or shares of them, at most "
              "chips_per_node: chip i of a node computes on core i mod "
              "cores_per_node, as tombolo-run --pin deals ranks, and shares it "
              "with other chips, messages and exchanges; left out: each has "
              "its own, and nothing else runs there");
  io.optional("intra_node", pool.intraNode,
              "between chips of a node, per chip and direction; needed when a "
              "node has several");
  io.optional("inter_node", pool.interNode,
              "between nodes, per network card and direction; needed when "
              "there are several");
}

template <typename Fields> void fields(Fields &io, planning::Hosts &hosts) {
  io.required("count", hosts.count, planning::kCounts, "number of hosts");
  io.required("memory_gib", hosts.memoryGib, planning::kAbove0,
              "memory of one host");
  io.optional("disk_gbytes_per_second", hosts.diskGbytesPerSecond,
              planning::kAbove0, "rate of one host's disk");
  io.optional("address", hosts.address, kAddress,
              "HOST:PORT where other sites reach this one");
}

template <typename Fields> void fields(Fields &io, FabricEntry &fabric) {
  io.required("pools", fabric.pools, kTwo, "two pools of this site");
  fields(io, fabric.wire);
}

template <typename Fields> void fields(Fields &io, SiteEntry &site) {
  io.required("name", site.name, kName, "what links and islands call it");
  io.optional("hosts", site.hosts,
              "machines without chips, where servers and gateway may live");
  io.required("pools", site.pools, kSome, "its chips, like with like");
  io.optional("fabric", site.fabric,
              "between pools, per network card and direction");
  io.optional("fabrics", site.fabrics, "pairs of pools where that differs");
}

template <typename Fields> void fields(Fields &io, LinkEntry &link) {
  io.required("sites", link.sites, kTwo, "the two sites that it joins");
  io.required("gbits_per_second", link.gbitsPerSecond, planning::kAbove0,
              "each direction, shared by all flows between the two");
  io.required("rtt_ms", link.rttMs, planning::kFrom0, "there and back");
  io.optional("loss", link.loss, planning::kFrom0Below1,
              "part of the packets that is lost");
}

template <typename Fields> void fields(Fields &io, TopologyEntry &topology) {
  io.required("chips", topology.chips, kSome, "the types of chip");
  io.required("sites", topology.sites, kSome, "the data centres");
  io.optional("links", topology.links, "the lines between sites");
}

/// The planner's topology of a parsed one, unchecked. Measured layer times are
/// read from beside `file`; what is wrong with them is written to `errors`.
planning::Topology toTopology(TopologyEntry &entry, llvm::StringRef file,
                              planning::Faults &faults,
                              llvm::raw_ostream &errors);

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_TOPOLOGYYAML_H
