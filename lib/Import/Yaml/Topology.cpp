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
#include "TopologyYaml.h"
#include "tombolo/Import/LayerTimes.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace tombolo;
using planning::Fault;
using planning::Faults;

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

/// A chip's measured layer times. Its file lies beside the topology.
std::vector<planning::LayerTimes>
readProfile(const yamlio::ChipEntry &chip, StringRef topology,
            const std::string &path, Faults &faults, raw_ostream &errors) {
  SmallString<128> file(chip.profile->file);
  if (sys::path::is_relative(file)) {
    file = sys::path::parent_path(topology);
    sys::path::append(file, chip.profile->file);
  }
  auto rows = readLayerTimesFile(file, chip.profile->model, chip.name, errors);
  if (rows)
    return std::move(*rows);
  faults.push_back(
      {path, "cannot use the profile of chip '" + chip.name + "', see above"});
  return {};
}

} // namespace

planning::Topology yamlio::toTopology(TopologyEntry &entry, StringRef name,
                                      Faults &faults, raw_ostream &errors) {
  planning::Topology topology;
  for (size_t i = 0; i < entry.chips.size(); ++i) {
    yamlio::ChipEntry &chip = entry.chips[i];
    std::string path = planning::at("chips", i);
    std::vector<planning::LayerTimes> layerTimes;
    if (chip.profile)
      layerTimes = readProfile(chip, name, planning::in(path, "profile"),
                               faults, errors);
    else if (!chip.efficiency)
      faults.push_back({path, "chip '" + chip.name +
                                  "' needs 'efficiency: {matmul, memory}' or "
                                  "'profile: {file, model}'"});
    yamlio::Efficiency efficiency =
        chip.efficiency.value_or(yamlio::Efficiency{1, 1});
    topology.chips.push_back({chip.name, chip.tflops.f32, chip.tflops.bf16,
                              chip.memoryGib, chip.memoryGbytesPerSecond,
                              efficiency.matmul, efficiency.memory,
                              chip.pricePerHour, std::move(layerTimes)});
  }
  for (size_t i = 0; i < entry.sites.size(); ++i) {
    yamlio::SiteEntry &site = entry.sites[i];
    std::string path = planning::at("sites", i);
    planning::Site result;
    result.name = std::move(site.name);
    result.hosts = std::move(site.hosts);
    result.pools = std::move(site.pools);
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
