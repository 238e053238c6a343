//===- Translate.cpp - topo ops to and from the planner's struct ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Topo/IR/Topo.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/SHA256.h"

using namespace mlir;
using namespace tombolo;
using namespace tombolo::topo;

TopologyOp topo::findTopology(ModuleOp module) {
  auto ops = module.getOps<TopologyOp>();
  return ops.empty() ? TopologyOp() : *ops.begin();
}

static std::optional<double> number(std::optional<llvm::APFloat> value) {
  if (!value)
    return std::nullopt;
  return value->convertToDouble();
}

static std::optional<planning::Wire> wire(std::optional<llvm::APFloat> rate,
                                          std::optional<llvm::APFloat> delay) {
  if (!rate || !delay)
    return std::nullopt;
  return planning::Wire{rate->convertToDouble(), delay->convertToDouble()};
}

static planning::Site toSite(SiteOp op) {
  planning::Site site;
  site.name = op.getSymName().str();
  for (Operation &inner : op.getBody().front()) {
    if (auto hosts = dyn_cast<HostsOp>(inner)) {
      site.hosts.emplace();
      site.hosts->count = hosts.getCount();
      site.hosts->memoryGib = hosts.getMemoryGib().convertToDouble();
      site.hosts->diskGbytesPerSecond = number(hosts.getDiskGbytesPerSecond());
      if (auto address = hosts.getAddress())
        site.hosts->address = address->str();
    } else if (auto pool = dyn_cast<PoolOp>(inner)) {
      planning::Pool plain;
      plain.name = pool.getSymName().str();
      plain.chip = pool.getChip().str();
      plain.nodes = pool.getNodes();
      plain.chipsPerNode = pool.getChipsPerNode();
      plain.nicsPerNode = pool.getNicsPerNode();
      plain.coresPerNode = pool.getCoresPerNode();
      plain.intraNode =
          wire(pool.getIntraGbitsPerSecond(), pool.getIntraLatencyUs());
      plain.interNode =
          wire(pool.getInterGbitsPerSecond(), pool.getInterLatencyUs());
      site.pools.push_back(std::move(plain));
    } else if (auto fabric = dyn_cast<FabricOp>(inner)) {
      planning::Wire plain{fabric.getGbitsPerSecond().convertToDouble(),
                           fabric.getLatencyUs().convertToDouble()};
      if (fabric.getFirst())
        site.fabrics.push_back(
            {fabric.getFirst()->str(), fabric.getSecond()->str(), plain});
      else
        site.fabric = plain;
    }
  }
  return site;
}

planning::Topology topo::toTopology(TopologyOp op) {
  planning::Topology topology;
  // By chip.
  llvm::StringMap<std::vector<planning::LayerTimes>> measured;
  llvm::StringMap<std::vector<planning::FunctionTime>> functions;
  llvm::StringMap<std::vector<planning::UpdateTime>> updates;
  for (Operation &inner : op.getBody().front()) {
    if (auto chip = dyn_cast<ChipOp>(inner)) {
      planning::Chip plain;
      plain.name = chip.getSymName().str();
      plain.tflopsF32 = number(chip.getTflopsF32());
      plain.tflopsBF16 = number(chip.getTflopsBf16());
      plain.memoryGib = chip.getMemoryGib().convertToDouble();
      plain.memoryGbytesPerSecond =
          chip.getMemoryGbytesPerSecond().convertToDouble();
      plain.matmulEfficiency = chip.getMatmulEfficiency().convertToDouble();
      plain.memoryEfficiency = chip.getMemoryEfficiency().convertToDouble();
      plain.pricePerHour = number(chip.getPricePerHour());
      if (auto figures = chip.getOverheads())
        plain.overheads.setFigures({figures->begin(), figures->end()});
      ArrayRef<double> seen =
          chip.getCorrections().value_or(ArrayRef<double>());
      for (; seen.size() >= 4; seen = seen.drop_front(4))
        plain.overheads.corrections.push_back(
            {static_cast<uint64_t>(seen[0]), seen[1], seen[2], seen[3]});
      topology.chips.push_back(std::move(plain));
    } else if (auto times = dyn_cast<LayerTimesOp>(inner)) {
      planning::LayerTimes row;
      row.firstBlock = times.getFirstBlock();
      row.lastBlock = times.getLastBlock();
      row.time.microbatch = times.getMicrobatch();
      row.time.tensorParallel = times.getTensorParallel();
      row.time.seconds = {number(times.getForwardSeconds()).value_or(0),
                          number(times.getBackwardSeconds()).value_or(0),
                          number(times.getUpdateSeconds()).value_or(0)};
      measured[times.getChip()].push_back(row);
    } else if (auto time = dyn_cast<FunctionTimeOp>(inner)) {
      planning::FunctionTime row;
      row.call = {time.getModel().str(),
                  time.getPrecision() == "bf16" ? planning::Precision::BF16
                                                : planning::Precision::F32,
                  time.getBlock().str(),
                  *planning::parseBlockFunction(time.getFunction().str()),
                  time.getTensorParallel(),
                  time.getMicrobatch()};
      row.partSeconds.assign(time.getSeconds().begin(),
                             time.getSeconds().end());
      functions[time.getChip()].push_back(std::move(row));
    } else if (auto time = dyn_cast<UpdateTimeOp>(inner)) {
      updates[time.getChip()].push_back({time.getStateBytes(),
                                         time.getParameters(),
                                         time.getSeconds().convertToDouble()});
    } else if (auto site = dyn_cast<SiteOp>(inner)) {
      topology.sites.push_back(toSite(site));
    } else if (auto link = dyn_cast<LinkOp>(inner)) {
      topology.links.push_back({link.getFirst().str(), link.getSecond().str(),
                                link.getGbitsPerSecond().convertToDouble(),
                                link.getRttMs().convertToDouble(),
                                link.getLoss().convertToDouble()});
    }
  }
  for (planning::Chip &chip : topology.chips) {
    chip.layerTimes = measured.lookup(chip.name);
    chip.functionTimes = functions.lookup(chip.name);
    chip.updateTimes = updates.lookup(chip.name);
  }
  return topology;
}

static FloatAttr optional(OpBuilder &builder, std::optional<double> value) {
  return value ? builder.getF64FloatAttr(*value) : FloatAttr();
}

TopologyOp topo::buildTopology(OpBuilder &builder, PlaceOf placeOf,
                               const planning::Topology &topology) {
  OpBuilder::InsertionGuard guard(builder);
  auto f64 = [&](double value) { return builder.getF64FloatAttr(value); };
  auto symbol = [&](const std::string &name) {
    return FlatSymbolRefAttr::get(builder.getContext(), name);
  };
  auto result = builder.create<TopologyOp>(placeOf(""));
  builder.setInsertionPointToEnd(&result.getBody().front());
  for (auto [c, chip] : llvm::enumerate(topology.chips)) {
    DenseF64ArrayAttr overheads, corrections;
    if (!(chip.overheads == planning::Overheads()))
      overheads = builder.getDenseF64ArrayAttr(chip.overheads.figures());
    SmallVector<double> seen;
    for (const planning::Overheads::Correction &one :
         chip.overheads.corrections)
      seen.append({static_cast<double>(one.tensorParallel), one.gflops,
                   one.mbytes, one.ratio});
    if (!seen.empty())
      corrections = builder.getDenseF64ArrayAttr(seen);
    builder.create<ChipOp>(
        placeWithKeys(placeOf, planning::at("chips", c),
                      {"name", "tflops", "memory_gib",
                       "memory_gbytes_per_second", "efficiency"}),
        builder.getStringAttr(chip.name), optional(builder, chip.tflopsF32),
        optional(builder, chip.tflopsBF16), f64(chip.memoryGib),
        f64(chip.memoryGbytesPerSecond), f64(chip.matmulEfficiency),
        f64(chip.memoryEfficiency), optional(builder, chip.pricePerHour),
        overheads, corrections);
  }
  for (auto [c, chip] : llvm::enumerate(topology.chips)) {
    Location loc = placeOf(planning::in(planning::at("chips", c), "profile"));
    for (const planning::FunctionTime &row : chip.functionTimes)
      builder.create<FunctionTimeOp>(
          loc, symbol(chip.name), builder.getStringAttr(row.call.block),
          builder.getStringAttr(planning::name(row.call.function)),
          builder.getI64IntegerAttr(row.call.microbatch),
          builder.getI64IntegerAttr(row.call.tensorParallel),
          builder.getDenseF64ArrayAttr(row.partSeconds),
          builder.getStringAttr(row.call.model),
          builder.getStringAttr(planning::name(row.call.precision)));
    for (const planning::UpdateTime &row : chip.updateTimes)
      builder.create<UpdateTimeOp>(
          loc, symbol(chip.name), builder.getI64IntegerAttr(row.parameters),
          builder.getI64IntegerAttr(row.stateBytes), f64(row.seconds));
    auto seconds = [&](const planning::LayerTimes &row, planning::Timed what) {
      double value = row.time.seconds[static_cast<size_t>(what)];
      return value > 0 ? f64(value) : FloatAttr();
    };
    for (const planning::LayerTimes &row : chip.layerTimes)
      builder.create<LayerTimesOp>(
          loc, symbol(chip.name), builder.getI64IntegerAttr(row.firstBlock),
          builder.getI64IntegerAttr(row.lastBlock),
          builder.getI64IntegerAttr(row.time.microbatch),
          builder.getI64IntegerAttr(row.time.tensorParallel),
          seconds(row, planning::Timed::Forward),
          seconds(row, planning::Timed::Backward),
          seconds(row, planning::Timed::Update));
  }
  for (auto [s, site] : llvm::enumerate(topology.sites)) {
    std::string path = planning::at("sites", s);
    auto siteOp = builder.create<SiteOp>(
        placeWithKeys(placeOf, path, {"name", "hosts", "pools"}), site.name);
    OpBuilder::InsertionGuard inner(builder);
    builder.setInsertionPointToEnd(&siteOp.getBody().front());
    if (site.hosts)
      builder.create<HostsOp>(
          placeOf(planning::in(path, "hosts")),
          builder.getI64IntegerAttr(site.hosts->count),
          f64(site.hosts->memoryGib),
          optional(builder, site.hosts->diskGbytesPerSecond),
          site.hosts->address ? builder.getStringAttr(*site.hosts->address)
                              : StringAttr());
    for (auto [p, pool] : llvm::enumerate(site.pools)) {
      auto rate = [&](const std::optional<planning::Wire> &wire) {
        return wire ? f64(wire->gbitsPerSecond) : FloatAttr();
      };
      auto delay = [&](const std::optional<planning::Wire> &wire) {
        return wire ? f64(wire->latencyUs) : FloatAttr();
      };
      builder.create<PoolOp>(
          placeWithKeys(placeOf, planning::at(planning::in(path, "pools"), p),
                        {"name", "chip", "nodes", "chips_per_node",
                         "nics_per_node", "cores_per_node", "intra_node",
                         "inter_node"}),
          builder.getStringAttr(pool.name), symbol(pool.chip),
          builder.getI64IntegerAttr(pool.nodes),
          builder.getI64IntegerAttr(pool.chipsPerNode),
          builder.getI64IntegerAttr(pool.nicsPerNode),
          pool.coresPerNode ? builder.getI64IntegerAttr(*pool.coresPerNode)
                            : IntegerAttr(),
          rate(pool.intraNode), delay(pool.intraNode), rate(pool.interNode),
          delay(pool.interNode));
    }
    if (site.fabric)
      builder.create<FabricOp>(placeOf(planning::in(path, "fabric")),
                               FlatSymbolRefAttr(), FlatSymbolRefAttr(),
                               f64(site.fabric->gbitsPerSecond),
                               f64(site.fabric->latencyUs));
    for (auto [f, fabric] : llvm::enumerate(site.fabrics))
      builder.create<FabricOp>(
          placeOf(planning::at(planning::in(path, "fabrics"), f)),
          symbol(fabric.first), symbol(fabric.second),
          f64(fabric.wire.gbitsPerSecond), f64(fabric.wire.latencyUs));
  }
  for (auto [l, link] : llvm::enumerate(topology.links))
    builder.create<LinkOp>(
        placeWithKeys(placeOf, planning::at("links", l),
                      {"sites", "gbits_per_second", "rtt_ms", "loss"}),
        symbol(link.first), symbol(link.second), f64(link.gbitsPerSecond),
        f64(link.rttMs), f64(link.loss));
  return result;
}

/// What a step of a path leads to inside a site; null: a key of its own.
static Operation *insideSite(SiteOp site, StringRef key, uint64_t index) {
  Region &body = site.getBody();
  if (key == "pools")
    return nthOp<PoolOp>(body, index);
  if (key == "hosts")
    return nthOp<HostsOp>(body, 0);
  // Those of named pairs are `fabrics`, the one of all others is `fabric`.
  for (FabricOp fabric : body.getOps<FabricOp>()) {
    if (key == "fabrics" && fabric.getFirst() && index-- == 0)
      return fabric;
    if (key == "fabric" && !fabric.getFirst())
      return fabric;
  }
  return nullptr;
}

Location topo::locate(TopologyOp op, StringRef path) {
  return locatePath(
      op, path,
      [](Operation *op, StringRef key, uint64_t index) -> Operation * {
        if (auto site = dyn_cast<SiteOp>(op))
          return insideSite(site, key, index);
        if (auto chip = dyn_cast<ChipOp>(op)) {
          auto topology = cast<TopologyOp>(chip->getParentOp());
          for (auto times : topology.getBody().getOps<LayerTimesOp>())
            if (key == "profile" && times.getChip() == chip.getSymName() &&
                index-- == 0)
              return times;
          return nullptr;
        }
        if (!isa<TopologyOp>(op))
          return nullptr;
        Region &body = op->getRegion(0);
        return key == "chips"   ? nthOp<ChipOp>(body, index)
               : key == "sites" ? nthOp<SiteOp>(body, index)
               : key == "links" ? nthOp<LinkOp>(body, index)
                                : nullptr;
      });
}

std::string topo::topologyHash(const planning::Topology &topology) {
  auto digest =
      llvm::SHA256::hash(llvm::arrayRefFromStringRef(topology.canonicalForm()));
  return std::string(digest.begin(), digest.end());
}
