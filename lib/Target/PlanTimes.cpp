//===- PlanTimes.cpp - what a simulator needs of a plan -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Times come from the cost model, so that planner and simulator can differ in
// what happens when, never in what a kernel takes.
//
//===----------------------------------------------------------------------===//

#include "PlanTimes.h"

#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Planning/CostModel.h"
#include "tombolo/Planning/Transfers.h"
#include "tombolo/runtime/plan/SegmentName.h"

#include <set>

using namespace mlir;

namespace tombolo {

/// The name without the number of a part.
static StringRef wholeOf(plan::SegmentOp segment) {
  StringRef name = segment.getSymName();
  auto [whole, part] = name.rsplit('.');
  return part.starts_with("part") ? whole : name;
}

FailureOr<PlanTimes> PlanTimes::create(ModuleOp module) {
  PlanTimes times;
  topo::TopologyOp op = topo::findTopology(module);
  if (!op)
    return times;
  times.topology = topo::toTopology(op);
  for (auto training : module.getOps<plan::TrainingOp>())
    if (training.getPrecision() == "bf16")
      times.precision = planning::Precision::BF16;
  for (auto model : module.getOps<plan::ModelOp>())
    times.modelHash = model.getModelHash().str();
  for (auto segment : module.getOps<plan::SegmentOp>()) {
    times.partsOf[wholeOf(segment).str()].push_back(times.segments.size());
    times.segments.emplace_back(segment, workOf(segment));
  }
  WalkResult result = module.walk([&](plan::ReplicasOp group) {
    StringRef chip = times.chipOf(group);
    if (chip.empty()) {
      group.emitOpError() << "expected a pool of the topology, got '"
                          << group.getSite() << "/" << group.getPool() << "'";
      return WalkResult::interrupt();
    }
    auto &known = times.chips[group.getProgramAttr().getAttr()];
    if (!llvm::is_contained(known, chip))
      known.push_back(chip);
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return failure();
  return times;
}

StringRef PlanTimes::chipOf(plan::ReplicasOp group) const {
  if (!topology)
    return "";
  const planning::Pool *pool =
      topology->findPool((group.getSite() + "/" + group.getPool()).str());
  // A name that lives as long as the module does not move with this object.
  return pool ? StringAttr::get(group.getContext(), pool->chip).getValue()
              : StringRef();
}

SmallVector<StringRef> PlanTimes::chipsOf(plan::ProgramOp program) const {
  auto known = chips.find(program.getSymNameAttr());
  return known == chips.end() ? SmallVector<StringRef>{""} : known->second;
}

planning::Work PlanTimes::workOf(plan::SegmentOp segment) {
  planning::Work work;
  if (plan::WorkAttr known = segment.getWorkAttr()) {
    plan::WorkFigures figures = known.getFigures();
    work.flops.constant = figures.flops;
    work.bytes.constant = figures.bytes;
    work.streamed.constant = figures.streamed;
    work.scores.constant = figures.scores;
    work.ops = figures.ops;
    return work;
  }
  for (BlockArgument argument : segment.getBody().getArguments()) {
    bool both =
        segment.getAccess(argument.getArgNumber()) == plan::Access::ReadWrite;
    work.streamed.constant +=
        (both ? 2.0 : 1.0) * static_cast<double>(plan::storageBytes(
                                 cast<MemRefType>(argument.getType())));
  }
  return work;
}

double PlanTimes::computedSeconds(const planning::Chip &chip,
                                  size_t number) const {
  return planning::functionSeconds(chip, precision, segments[number].second, 1,
                                   /*exchangeSeconds=*/0);
}

std::optional<double>
PlanTimes::measuredSeconds(const planning::Chip &chip, size_t number,
                           const std::optional<LayerSeconds> &layers) const {
  plan::SegmentOp segment = segments[number].first;
  // The whole function, as its parts are computed.
  auto partOf = [&](double whole) {
    double computed = 0;
    for (size_t part : partsOf.at(wholeOf(segment).str()))
      computed += computedSeconds(chip, part);
    return computed > 0 ? whole * computedSeconds(chip, number) / computed : 0;
  };
  if (auto name = runtime::parseSegmentName(segment.getSymName())) {
    auto function = *planning::parseBlockFunction(name->function);
    if (layers)
      if (auto times = layers->functions.find(name->block);
          times != layers->functions.end())
        return partOf(times->second[static_cast<size_t>(function)]);
    auto parts = planning::measuredParts(
        chip, {modelHash,
               name->precision == "bf16" ? planning::Precision::BF16
                                         : planning::Precision::F32,
               name->block, function, name->tensorParallel, name->microbatch});
    if (!parts)
      return std::nullopt;
    const SmallVector<size_t> &all = partsOf.at(wholeOf(segment).str());
    if (parts->size() == all.size())
      return (*parts)[name->part];
    // Sharded otherwise than what was measured.
    double whole = 0;
    for (double part : *parts)
      whole += part;
    return partOf(whole);
  }
  // An update: weight and count, then parameters, gradients and states alike.
  auto ops = segment.getBody().getOps<plan::ComputeOp>();
  for (plan::ComputeOp op : ops) {
    if (op.getOpcode() != "adamw" && op.getOpcode() != "sgd")
      continue;
    auto type = cast<MemRefType>(op.getOutputs().front().getType());
    uint64_t states = op.getOutputs().size() - 1;
    double elements = static_cast<double>(type.getNumElements());
    if (layers)
      return elements * layers->updatePerElement;
    return planning::measuredUpdate(chip, 4 * states, elements);
  }
  return std::nullopt;
}

static void collectCalls(
    const google::protobuf::RepeatedPtrField<plan::v1::Instruction> &body,
    std::set<uint32_t> &segments) {
  for (const plan::v1::Instruction &instruction : body)
    if (instruction.has_loop())
      collectCalls(instruction.loop().body(), segments);
    else if (instruction.has_call())
      segments.insert(instruction.call().segment());
}

void PlanTimes::exportSeconds(StringRef name, plan::ProgramOp program,
                              plan::v1::Program &to) const {
  if (!topology || name.empty())
    return;
  const planning::Chip &chip = *topology->findChip(name.str());
  std::optional<LayerSeconds> layers;
  if (!chip.layerTimes.empty())
    layers = layerSeconds(program, *topology, chip, precision, segments);
  std::set<uint32_t> called;
  for (const auto *body : {&to.step(), &to.finish(), &to.evaluate()})
    collectCalls(*body, called);
  for (uint32_t segment : called) {
    plan::v1::SegmentSeconds &one = *to.add_segment_seconds();
    one.set_segment(segment);
    one.set_seconds(measuredSeconds(chip, segment, layers)
                        .value_or(computedSeconds(chip, segment)));
  }
}

static void toWire(const std::optional<planning::Wire> &wire,
                   llvm::function_ref<plan::v1::Topology::Wire *()> to) {
  if (!wire)
    return;
  plan::v1::Topology::Wire &message = *to();
  message.set_bytes_per_second(wire->bytesPerSecond());
  message.set_latency_seconds(wire->latencySeconds());
}

void PlanTimes::exportTopology(plan::v1::Plan &plan) const {
  if (!topology)
    return;
  plan::v1::Topology &to = *plan.mutable_topology();
  for (const planning::Chip &chip : topology->chips) {
    auto &one = *to.add_chips();
    one.set_name(chip.name);
    one.set_memory_bytes(chip.memoryBytes());
    one.set_step_seconds(chip.overheads.stepMs * 1e-3);
  }
  auto chipIndex = [&](const std::string &name) {
    return topology->findChip(name) - topology->chips.data();
  };
  const planning::Bounds bounds;
  bool onHostCores = llvm::any_of(topology->sites, [](const auto &site) {
    return llvm::any_of(site.pools, [](const planning::Pool &pool) {
      return pool.onHostCores();
    });
  });
  if (onHostCores) {
    auto &work = *to.mutable_host_work();
    work.set_seconds_per_byte(planning::kWireSecondsPerByte);
    work.set_rank_seconds_per_element(2 * 4 / bounds.codecBytesPerSecond);
    work.set_server_seconds_per_element(4 / bounds.serverBytesPerSecond);
  }
  for (const planning::Site &site : topology->sites) {
    auto &toSite = *to.add_sites();
    toSite.set_name(site.name);
    if (site.hosts)
      toSite.set_server_bytes_per_second(
          bounds.serverBytesPerSecond * static_cast<double>(site.hosts->count));
    for (const planning::Pool &pool : site.pools) {
      auto &one = *toSite.add_pools();
      one.set_name(pool.name);
      one.set_chip(chipIndex(pool.chip));
      one.set_nodes(pool.nodes);
      one.set_chips_per_node(pool.chipsPerNode);
      one.set_cards_per_node(pool.nicsPerNode);
      if (pool.coresPerNode)
        one.set_cores_per_node(*pool.coresPerNode);
      if (pool.onHostCores())
        one.set_message_part(topology->chipOf(pool).overheads.messagePart);
      toWire(pool.intraNode, [&] { return one.mutable_intra_node(); });
      const planning::Overheads &over = topology->chipOf(pool).overheads;
      if (pool.intraNode && (over.ringRate != 1 || over.ringLatency != 1))
        toWire(planning::Wire{pool.intraNode->gbitsPerSecond * over.ringRate,
                              pool.intraNode->latencyUs * over.ringLatency},
               [&] { return one.mutable_intra_node_ring(); });
      toWire(pool.interNode, [&] { return one.mutable_inter_node(); });
    }
    toWire(site.fabric, [&] { return toSite.mutable_fabric(); });
    auto poolIndex = [&](const std::string &name) {
      return llvm::find_if(site.pools, [&](const planning::Pool &pool) {
               return pool.name == name;
             }) -
             site.pools.begin();
    };
    for (const planning::PairFabric &pair : site.fabrics) {
      auto &one = *toSite.add_fabrics();
      one.set_first(poolIndex(pair.first));
      one.set_second(poolIndex(pair.second));
      toWire(pair.wire, [&] { return one.mutable_wire(); });
    }
  }
  auto siteIndex = [&](const std::string &name) {
    return topology->findSite(name) - topology->sites.data();
  };
  for (const planning::Link &link : topology->links) {
    auto &one = *to.add_lines();
    one.set_first(siteIndex(link.first));
    one.set_second(siteIndex(link.second));
    one.set_bytes_per_second(link.bytesPerSecond());
    one.set_rtt_seconds(link.rttMs * 1e-3);
    one.set_loss(link.loss);
  }
}

} // namespace tombolo
