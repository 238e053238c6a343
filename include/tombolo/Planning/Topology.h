//===- Topology.h - sites, pools, chips and what joins them ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_TOPOLOGY_H
#define TOMBOLO_PLANNING_TOPOLOGY_H

#include "tombolo/Planning/Fault.h"
#include "tombolo/Planning/FunctionTimes.h"
#include "tombolo/Planning/LayerTimes.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::planning {

/// What a step costs beyond what peak rates foretell: constants of a chip with
/// the software that drives it (docs/Profiles.md).
struct Overheads {
  double launchUs = 0;     // of the host, to start an op on the chip
  double kernelUs = 0;     // of the chip, for each op
  double scoreBytes = 0;   // moved for each score of attention
  double transferUs = 0;   // of the chip, for each boundary tensor sent
  double stepMs = 0;       // once an inner step
  double exposedReduction = 1; // part of a gradient reduction not hidden
  /// Of the intra-node wire, what a step of a collective gets, where the chip
  /// sends, receives and adds at once: part of the rate, multiple of the
  /// latency.
  double ringRate = 1;
  double ringLatency = 1;
  /// Of a core, where the chip is one of its host's: so large a part of the
  /// time of a wire inside a node it is busy at either end of a message
  /// (loopback, sums and messages of two ranks: 0.53 to 0.8).
  double messagePart = 0.7;
  /// Blocks that were seen to take `ratio` of what all this says.
  struct Correction {
    uint64_t tensorParallel = 1;
    double gflops = 0;  // of the block's forward call on one chip
    double mbytes = 0;  // of what it hands on
    double ratio = 1;
    bool operator==(const Correction &) const = default;
  };
  std::vector<Correction> corrections;

  /// The figures but the corrections, in the order above, and back.
  static constexpr size_t kFigures = 9;
  std::vector<double> figures() const;
  void setFigures(const std::vector<double> &figures);

  /// The ratio for a block: the nearest corrections of that number of chips,
  /// falling off to 1 within about a quarter of either figure.
  double correction(uint64_t tensorParallel, double flops, double bytes) const;
  /// No block's ratio is less.
  double leastCorrection() const;
  bool operator==(const Overheads &) const = default;
};

/// A type of chip. Figures are those of the data sheet, in its units.
struct Chip {
  std::string name;
  std::optional<double> tflopsF32;  // peak, 1e12 FLOP/s
  std::optional<double> tflopsBF16; // peak, 1e12 FLOP/s
  double memoryGib = 0;
  double memoryGbytesPerSecond = 0;
  double matmulEfficiency = 1; // fraction of the peak that is reached
  double memoryEfficiency = 1;
  std::optional<double> pricePerHour;
  Overheads overheads = {};
  /// Measured on this type of chip with the model that is planned, if any.
  std::vector<LayerTimes> layerTimes = {};
  /// What was measured of single functions and updates (a chip profile), of
  /// whatever models.
  std::vector<FunctionTime> functionTimes = {};
  std::vector<UpdateTime> updateTimes = {};

  /// Peak FLOP/s at a precision; 0 when the chip does not state it.
  double peakFlops(Precision precision) const;
  /// What is reached: peak times efficiency.
  double flopsPerSecond(Precision precision) const;
  double bytesPerSecond() const;
  uint64_t memoryBytes() const;
  bool operator==(const Chip &) const = default;
};

/// A way between two ends: what one side can send, and how long the first byte
/// takes.
struct Wire {
  double gbitsPerSecond = 0;
  double latencyUs = 0;

  double bytesPerSecond() const { return gbitsPerSecond * 1e9 / 8; }
  double latencySeconds() const { return latencyUs * 1e-6; }
  bool operator==(const Wire &) const = default;
};

/// The like chips of one site. `interNode` (and a site's fabric) is given per
/// network card; the chips of a node share its cards equally. Chips may be
/// a processor's cores, or shares of them: chip i of a node computes on core i
/// mod `coresPerNode`, as `tombolo-run --pin` deals ranks.
struct Pool {
  std::string name;
  std::string chip;
  uint64_t nodes = 1;
  uint64_t chipsPerNode = 1;
  uint64_t nicsPerNode = 1;
  std::optional<uint64_t> coresPerNode; // absent: each chip has its own
  std::optional<Wire> intraNode; // needed when a node has several chips
  std::optional<Wire> interNode; // needed when there are several nodes

  uint64_t chips() const { return nodes * chipsPerNode; }
  /// Whether chips are cores of their hosts, or shares of them, which then also
  /// move the messages and do what else hosts do.
  bool onHostCores() const { return coresPerNode.has_value(); }
  /// The part of a network card's rate that one chip has.
  double nicsPerChip() const;
  bool operator==(const Pool &) const = default;
};

struct Hosts {
  uint64_t count = 1;
  double memoryGib = 0;
  std::optional<double> diskGbytesPerSecond;
  std::optional<std::string> address;
  bool operator==(const Hosts &) const = default;
};

/// The fabric between one pair of pools of a site, where it differs.
struct PairFabric {
  std::string first, second;
  Wire wire;
  bool operator==(const PairFabric &) const = default;
};

struct Site {
  std::string name;
  std::optional<Hosts> hosts;
  std::vector<Pool> pools;
  std::optional<Wire> fabric; // between any two pools, per network card
  std::vector<PairFabric> fabrics;
  bool operator==(const Site &) const = default;
};

/// A line between two sites: full duplex, the rate holds in each direction and
/// is shared by all flows.
struct Link {
  std::string first, second;
  double gbitsPerSecond = 0;
  double rttMs = 0;
  double loss = 0; // fraction of packets, in [0, 1)

  double bytesPerSecond() const { return gbitsPerSecond * 1e9 / 8; }
  /// What one TCP connection carries, in bytes per second, after Mathis et al.
  /// 1997: 1.22 MSS / (RTT sqrt(loss)), MSS 1460 bytes; infinite without loss.
  double connectionBytesPerSecond() const;
  /// Parallel connections that fill the line.
  uint64_t connectionsNeeded() const;
  /// What so many connections carry together, at most `kMaxConnections`.
  double usableBytesPerSecond() const;
  static constexpr uint64_t kMaxConnections = 1024;
  bool operator==(const Link &) const = default;
};

/// Where a model can run.
class Topology {
public:
  std::vector<Chip> chips;
  std::vector<Site> sites;
  std::vector<Link> links;

  /// Everything wrong with the figures and references, in the order of the
  /// file; paths are those of `sites.yaml`.
  Faults check() const;

  const Chip *findChip(const std::string &name) const;
  const Site *findSite(const std::string &name) const;
  /// Looks up `site/pool`.
  const Pool *findPool(const std::string &qualified) const;
  /// The chip of a pool that exists.
  const Chip &chipOf(const Pool &pool) const;
  uint64_t totalChips() const;

  /// The links from one site to another over the fewest links, ties broken by
  /// the order of `links`; empty when the sites are the same, nothing when
  /// there is no way.
  std::optional<std::vector<size_t>> route(const std::string &from,
                                           const std::string &to) const;

  /// The wire between two pools `site/pool` of one site as one chip sees it
  /// when all chips of its node use it (network cards shared), or nothing when
  /// the file gives none. The same pool twice gives the wire between nodes.
  std::optional<Wire> wireBetween(const std::string &from,
                                  const std::string &to) const;

  /// Whether two pools `site/pool` are one, or have a wire or a route between
  /// them.
  bool joined(const std::string &from, const std::string &to) const;

  /// The text whose SHA-256 is the plan's topology_hash: every figure in a
  /// fixed order and notation, independent of layout and comments of the file.
  std::string canonicalForm() const;

  bool operator==(const Topology &) const = default;
};

/// Splits `site/pool`; the second part is empty when there is no slash.
std::pair<std::string, std::string> splitPool(const std::string &qualified);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_TOPOLOGY_H
