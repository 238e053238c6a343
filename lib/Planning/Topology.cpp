//===- Topology.cpp - checks, routes and rates of a topology --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Topology.h"
#include "tombolo/Planning/Range.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <deque>
#include <limits>
#include <set>

namespace tombolo::planning {

const char *name(Precision precision) {
  return precision == Precision::F32 ? "f32" : "bf16";
}

double Chip::peakFlops(Precision precision) const {
  const auto &tflops = precision == Precision::F32 ? tflopsF32 : tflopsBF16;
  return tflops.value_or(0) * 1e12;
}

double Chip::flopsPerSecond(Precision precision) const {
  return peakFlops(precision) * matmulEfficiency;
}

double Chip::bytesPerSecond() const {
  return memoryGbytesPerSecond * 1e9 * memoryEfficiency;
}

uint64_t Chip::memoryBytes() const {
  // Saturates: 2^63 bytes are more than anybody has.
  double bytes = memoryGib * 1073741824.0;
  return bytes >= 9.2e18 ? uint64_t(1) << 63 : static_cast<uint64_t>(bytes);
}

double Pool::nicsPerChip() const {
  return static_cast<double>(nicsPerNode) / static_cast<double>(chipsPerNode);
}

double Link::connectionBytesPerSecond() const {
  if (loss <= 0 || rttMs <= 0)
    return std::numeric_limits<double>::infinity();
  return 1.22 * 1460 / (rttMs * 1e-3 * std::sqrt(loss));
}

uint64_t Link::connectionsNeeded() const {
  double needed = std::ceil(bytesPerSecond() / connectionBytesPerSecond());
  return static_cast<uint64_t>(std::clamp(needed, 1.0, 1e9));
}

double Link::usableBytesPerSecond() const {
  return std::min(bytesPerSecond(), static_cast<double>(kMaxConnections) *
                                        connectionBytesPerSecond());
}

std::pair<std::string, std::string> splitPool(const std::string &qualified) {
  size_t slash = qualified.find('/');
  if (slash == std::string::npos)
    return {qualified, ""};
  return {qualified.substr(0, slash), qualified.substr(slash + 1)};
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

namespace {

/// Of all pools together: the search looks at every number of replicas.
constexpr uint64_t kMaxChips = 1u << 18;

class Checker {
public:
  Faults faults;

  void fault(const std::string &path, const std::string &message) {
    faults.push_back({path, message});
  }
  void figure(const std::string &path, const std::string &key, double value,
              const Range &range) {
    if (auto wrong = range.fault(key, value))
      fault(in(path, key), *wrong);
  }
  void positive(const std::string &path, const std::string &key, double value) {
    figure(path, key, value, kAbove0);
  }
  void count(const std::string &path, const std::string &key, uint64_t value) {
    figure(path, key, static_cast<double>(value), kCounts);
  }
  void latency(const std::string &path, const std::string &key, double value) {
    figure(path, key, value, kFrom0);
  }
  void overheads(const std::string &path, const Overheads &over) {
    latency(path, "launch_us", over.launchUs);
    latency(path, "kernel_us", over.kernelUs);
    latency(path, "score_bytes", over.scoreBytes);
    latency(path, "transfer_us", over.transferUs);
    latency(path, "step_ms", over.stepMs);
    figure(path, "exposed_reduction", over.exposedReduction, kFrom0To1);
    positive(path, "ring_rate", over.ringRate);
    positive(path, "ring_latency", over.ringLatency);
    figure(path, "message_part", over.messagePart, kMessageParts);
    for (size_t i = 0; i < over.corrections.size(); ++i) {
      const Overheads::Correction &seen = over.corrections[i];
      std::string place = at(in(path, "corrections"), i);
      positive(place, "gflops", seen.gflops);
      positive(place, "mbytes", seen.mbytes);
      figure(place, "ratio", seen.ratio, kCorrections);
    }
  }
  void wire(const std::string &path, const Wire &wire) {
    positive(path, "gbits_per_second", wire.gbitsPerSecond);
    latency(path, "latency_us", wire.latencyUs);
  }
  /// HOST:PORT, as the runtime opens it.
  void address(const std::string &path, const std::string &address) {
    size_t colon = address.rfind(':');
    std::string_view port;
    if (colon != std::string::npos && colon > 0)
      port = std::string_view(address).substr(colon + 1);
    unsigned number = 0;
    auto [end, error] =
        std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() ||
        number == 0 || number > 65535)
      fault(in(path, "address"),
            "'address' must be HOST:PORT with a port from 1 to 65535, got '" +
                address + "'");
  }
  void name(const std::string &path, const char *what, const std::string &name,
            std::set<std::string> &seen) {
    if (name.empty())
      fault(in(path, "name"), std::string(what) + " has an empty name");
    else if (name.find('/') != std::string::npos)
      fault(in(path, "name"),
            std::string(what) + " name '" + name + "' must not contain '/'");
    else if (!seen.insert(name).second)
      fault(in(path, "name"),
            "duplicate " + std::string(what) + " name '" + name + "'");
  }
};

} // namespace

static void checkSite(const Topology &topology, const Site &site,
                      const std::string &path, Checker &checker) {
  if (site.hosts) {
    std::string hosts = in(path, "hosts");
    checker.count(hosts, "count", site.hosts->count);
    checker.positive(hosts, "memory_gib", site.hosts->memoryGib);
    if (site.hosts->diskGbytesPerSecond)
      checker.positive(hosts, "disk_gbytes_per_second",
                       *site.hosts->diskGbytesPerSecond);
    if (site.hosts->address)
      checker.address(hosts, *site.hosts->address);
  }
  if (site.pools.empty())
    checker.fault(in(path, "pools"), "site '" + site.name + "' has no pools");
  std::set<std::string> names;
  for (size_t i = 0; i < site.pools.size(); ++i) {
    const Pool &pool = site.pools[i];
    std::string place = at(in(path, "pools"), i);
    checker.name(place, "pool", pool.name, names);
    if (!topology.findChip(pool.chip))
      checker.fault(in(place, "chip"),
                    "chip '" + pool.chip + "' is not defined under 'chips'");
    checker.count(place, "nodes", pool.nodes);
    checker.count(place, "chips_per_node", pool.chipsPerNode);
    checker.count(place, "nics_per_node", pool.nicsPerNode);
    if (pool.coresPerNode) {
      checker.count(place, "cores_per_node", *pool.coresPerNode);
      if (*pool.coresPerNode > pool.chipsPerNode)
        checker.fault(
            in(place, "cores_per_node"),
            "'cores_per_node' is " + std::to_string(*pool.coresPerNode) +
                ", more than the " + std::to_string(pool.chipsPerNode) +
                " chips of a node; leave it out where each chip "
                "computes by itself");
    }
    if (pool.intraNode)
      checker.wire(in(place, "intra_node"), *pool.intraNode);
    else if (pool.chipsPerNode > 1)
      checker.fault(place, "pool '" + pool.name +
                               "' has several chips in a node and needs "
                               "'intra_node'");
    if (pool.interNode)
      checker.wire(in(place, "inter_node"), *pool.interNode);
    else if (pool.nodes > 1)
      checker.fault(place, "pool '" + pool.name +
                               "' has several nodes and needs 'inter_node'");
  }
  if (site.fabric)
    checker.wire(in(path, "fabric"), *site.fabric);
  std::set<std::pair<std::string, std::string>> pairs;
  for (size_t i = 0; i < site.fabrics.size(); ++i) {
    const PairFabric &fabric = site.fabrics[i];
    std::string place = at(in(path, "fabrics"), i);
    for (const std::string *end : {&fabric.first, &fabric.second})
      if (!names.count(*end))
        checker.fault(in(place, "pools"),
                      "site '" + site.name + "' has no pool '" + *end + "'");
    if (fabric.first == fabric.second)
      checker.fault(in(place, "pools"), "a fabric joins two different pools, "
                                        "got '" +
                                            fabric.first + "' twice");
    if (!pairs.insert(std::minmax(fabric.first, fabric.second)).second)
      checker.fault(in(place, "pools"), "duplicate fabric between '" +
                                            fabric.first + "' and '" +
                                            fabric.second + "'");
    checker.wire(place, fabric.wire);
  }
}

Faults Topology::check() const {
  Checker checker;
  if (chips.empty())
    checker.fault("chips", "no chips are defined");
  if (sites.empty())
    checker.fault("sites", "no sites are defined");
  std::set<std::string> chipNames, siteNames;
  for (size_t i = 0; i < chips.size(); ++i) {
    const Chip &chip = chips[i];
    std::string path = at("chips", i);
    checker.name(path, "chip", chip.name, chipNames);
    if (!chip.tflopsF32 && !chip.tflopsBF16)
      checker.fault(in(path, "tflops"),
                    "chip '" + chip.name +
                        "' states no 'tflops', expected f32, bf16 or both");
    if (chip.tflopsF32)
      checker.positive(in(path, "tflops"), "f32", *chip.tflopsF32);
    if (chip.tflopsBF16)
      checker.positive(in(path, "tflops"), "bf16", *chip.tflopsBF16);
    checker.positive(path, "memory_gib", chip.memoryGib);
    checker.positive(path, "memory_gbytes_per_second",
                     chip.memoryGbytesPerSecond);
    std::string efficiency = in(path, "efficiency");
    checker.figure(efficiency, "matmul", chip.matmulEfficiency, kAbove0To1);
    checker.figure(efficiency, "memory", chip.memoryEfficiency, kAbove0To1);
    checker.overheads(efficiency, chip.overheads);
    if (chip.pricePerHour)
      checker.positive(path, "price_per_hour", *chip.pricePerHour);
    for (Fault &fault : checkLayerTimes(chip.layerTimes, in(path, "profile")))
      checker.faults.push_back(std::move(fault));
    auto profile = [&](size_t) { return in(path, "profile"); };
    for (const Faults &faults :
         {checkFunctionTimes(chip.functionTimes, profile),
          checkUpdateTimes(chip.updateTimes, profile)})
      checker.faults.insert(checker.faults.end(), faults.begin(), faults.end());
  }
  for (size_t i = 0; i < sites.size(); ++i) {
    std::string path = at("sites", i);
    checker.name(path, "site", sites[i].name, siteNames);
    if (findChip(sites[i].name)) // one table of symbols has both
      checker.fault(in(path, "name"), "a chip is named '" + sites[i].name +
                                          "', too: rename one of them");
    checkSite(*this, sites[i], path, checker);
  }
  // Each product is below 2^48, so that the sum of some pools cannot overflow.
  uint64_t chipCount = 0;
  for (size_t i = 0; i < sites.size() && checker.faults.empty(); ++i)
    for (size_t p = 0; p < sites[i].pools.size(); ++p) {
      chipCount += sites[i].pools[p].chips();
      if (chipCount > kMaxChips) {
        checker.fault(in(at(in(at("sites", i), "pools"), p), "nodes"),
                      "expected at most " + std::to_string(kMaxChips) +
                          " chips in all pools, got " +
                          std::to_string(chipCount) + " up to here");
        break;
      }
    }
  std::set<std::pair<std::string, std::string>> pairs;
  for (size_t i = 0; i < links.size(); ++i) {
    const Link &link = links[i];
    std::string path = at("links", i);
    for (const std::string *end : {&link.first, &link.second})
      if (!siteNames.count(*end))
        checker.fault(in(path, "sites"),
                      "link to a site '" + *end + "' that is not defined");
    if (link.first == link.second)
      checker.fault(in(path, "sites"), "a link joins two different sites, got "
                                       "'" +
                                           link.first + "' twice");
    if (!pairs.insert(std::minmax(link.first, link.second)).second)
      checker.fault(in(path, "sites"), "duplicate link between '" + link.first +
                                           "' and '" + link.second + "'");
    checker.positive(path, "gbits_per_second", link.gbitsPerSecond);
    checker.latency(path, "rtt_ms", link.rttMs);
    checker.figure(path, "loss", link.loss, kFrom0Below1);
  }
  return std::move(checker.faults);
}

//===----------------------------------------------------------------------===//
// Look-up and routes
//===----------------------------------------------------------------------===//

const Chip *Topology::findChip(const std::string &name) const {
  for (const Chip &chip : chips)
    if (chip.name == name)
      return &chip;
  return nullptr;
}

const Site *Topology::findSite(const std::string &name) const {
  for (const Site &site : sites)
    if (site.name == name)
      return &site;
  return nullptr;
}

const Pool *Topology::findPool(const std::string &qualified) const {
  auto [siteName, poolName] = splitPool(qualified);
  if (const Site *site = findSite(siteName))
    for (const Pool &pool : site->pools)
      if (pool.name == poolName)
        return &pool;
  return nullptr;
}

const Chip &Topology::chipOf(const Pool &pool) const {
  return *findChip(pool.chip);
}

uint64_t Topology::totalChips() const {
  uint64_t total = 0;
  for (const Site &site : sites)
    for (const Pool &pool : site.pools)
      total += pool.chips();
  return total;
}

std::optional<std::vector<size_t>>
Topology::route(const std::string &from, const std::string &to) const {
  if (from == to)
    return std::vector<size_t>();
  // Breadth first; `cameBy` is the link over which a site was first reached.
  std::map<std::string, size_t> cameBy;
  std::deque<std::string> frontier = {from};
  while (!frontier.empty() && !cameBy.count(to)) {
    std::string here = frontier.front();
    frontier.pop_front();
    for (size_t i = 0; i < links.size(); ++i) {
      const Link &link = links[i];
      if (link.first != here && link.second != here)
        continue;
      const std::string &there = link.first == here ? link.second : link.first;
      if (there == from || !cameBy.emplace(there, i).second)
        continue;
      frontier.push_back(there);
    }
  }
  if (!cameBy.count(to))
    return std::nullopt;
  std::vector<size_t> way;
  for (std::string here = to; here != from;) {
    const Link &link = links[cameBy[here]];
    way.push_back(cameBy[here]);
    here = link.first == here ? link.second : link.first;
  }
  std::reverse(way.begin(), way.end());
  return way;
}

std::optional<Wire> Topology::wireBetween(const std::string &from,
                                          const std::string &to) const {
  auto [siteName, fromName] = splitPool(from);
  auto [toSite, toName] = splitPool(to);
  const Pool *first = findPool(from), *second = findPool(to);
  if (siteName != toSite || !first || !second)
    return std::nullopt;
  std::optional<Wire> wire;
  if (first == second) {
    wire = first->interNode;
  } else {
    const Site *site = findSite(siteName);
    wire = site->fabric;
    for (const PairFabric &fabric : site->fabrics)
      if (std::minmax(fabric.first, fabric.second) ==
          std::minmax(fromName, toName))
        wire = fabric.wire;
  }
  if (wire)
    wire->gbitsPerSecond *=
        std::min(first->nicsPerChip(), second->nicsPerChip());
  return wire;
}

bool Topology::joined(const std::string &from, const std::string &to) const {
  std::string fromSite = splitPool(from).first, toSite = splitPool(to).first;
  return from == to ||
         (fromSite == toSite ? wireBetween(from, to).has_value()
                             : route(fromSite, toSite).has_value());
}

//===----------------------------------------------------------------------===//
// Canonical form
//===----------------------------------------------------------------------===//

namespace {

/// Writes `key=value` lines; strings are preceded by their length, so that no
/// two topologies have one text.
class Canonical {
public:
  std::string out = "tombolo-topology 1\n";

  Canonical &key(const char *key) {
    out += key;
    out += ' ';
    return *this;
  }
  Canonical &add(const std::string &value) {
    out += std::to_string(value.size()) + ":" + value + " ";
    return *this;
  }
  Canonical &add(uint64_t value) {
    out += std::to_string(value) + " ";
    return *this;
  }
  Canonical &add(double value) {
    char buffer[40]; // shortest would do; %a is exact and the same everywhere
    std::snprintf(buffer, sizeof(buffer), "%a ", value);
    out += buffer;
    return *this;
  }
  Canonical &add(const std::optional<double> &value) {
    return value ? add(*value) : key("-");
  }
  Canonical &add(const Wire &wire) {
    return add(wire.gbitsPerSecond).add(wire.latencyUs);
  }
  Canonical &add(const std::optional<Wire> &wire) {
    return wire ? add(*wire) : key("-");
  }
  void end() { out += '\n'; }
};

} // namespace

std::string Topology::canonicalForm() const {
  Canonical form;
  for (const Chip &chip : chips) {
    form.key("chip")
        .add(chip.name)
        .add(chip.tflopsF32)
        .add(chip.tflopsBF16)
        .add(chip.memoryGib)
        .add(chip.memoryGbytesPerSecond)
        .add(chip.matmulEfficiency)
        .add(chip.memoryEfficiency)
        .add(chip.pricePerHour)
        .end();
    if (!(chip.overheads == Overheads())) {
      form.key("overheads");
      for (double figure : chip.overheads.figures())
        form.add(figure);
      for (const Overheads::Correction &seen : chip.overheads.corrections)
        form.add(seen.tensorParallel)
            .add(seen.gflops)
            .add(seen.mbytes)
            .add(seen.ratio);
      form.end();
    }
    for (const LayerTimes &row : chip.layerTimes) {
      form.key("times")
          .add(row.firstBlock)
          .add(row.lastBlock)
          .add(row.time.tensorParallel)
          .add(row.time.microbatch);
      for (double seconds : row.time.seconds)
        form.add(seconds);
      form.end();
    }
    for (const FunctionTime &row : chip.functionTimes) {
      form.key("function")
          .add(row.call.model)
          .add(std::string(tombolo::planning::name(row.call.precision)))
          .add(row.call.block)
          .add(std::string(tombolo::planning::name(row.call.function)))
          .add(row.call.tensorParallel)
          .add(row.call.microbatch);
      for (double seconds : row.partSeconds)
        form.add(seconds);
      form.end();
    }
    for (const UpdateTime &row : chip.updateTimes)
      form.key("update")
          .add(row.stateBytes)
          .add(row.parameters)
          .add(row.seconds)
          .end();
  }
  for (const Site &site : sites) {
    form.key("site").add(site.name).add(site.fabric).end();
    if (site.hosts)
      form.key("hosts")
          .add(site.hosts->count)
          .add(site.hosts->memoryGib)
          .add(site.hosts->diskGbytesPerSecond)
          .add(site.hosts->address.value_or(""))
          .end();
    for (const Pool &pool : site.pools) {
      form.key("pool")
          .add(pool.name)
          .add(pool.chip)
          .add(pool.nodes)
          .add(pool.chipsPerNode)
          .add(pool.nicsPerNode)
          .add(pool.intraNode)
          .add(pool.interNode)
          .end();
      if (pool.coresPerNode)
        form.key("cores").add(*pool.coresPerNode).end();
    }
    for (const PairFabric &fabric : site.fabrics)
      form.key("fabric")
          .add(fabric.first)
          .add(fabric.second)
          .add(fabric.wire)
          .end();
  }
  for (const Link &link : links)
    form.key("link")
        .add(link.first)
        .add(link.second)
        .add(link.gbitsPerSecond)
        .add(link.rttMs)
        .add(link.loss)
        .end();
  return std::move(form.out);
}

} // namespace tombolo::planning
