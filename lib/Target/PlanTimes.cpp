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
#include "tombolo/runtime/plan/SegmentName.h"

#include <cmath>
#include <set>

using namespace mlir;

namespace tombolo {

/// The name without the number of a part.
static StringRef wholeOf(plan::SegmentOp segment) {
  StringRef name = segment.getSymName();
  auto [whole, part] = name.rsplit('.');
  return part.starts_with("part") ? whole : name;
}

/// The attribute of a group; nothing where it has none.
static FailureOr<std::optional<planning::CallSeconds>>
callSecondsOf(plan::ReplicasOp group) {
  DictionaryAttr attr = group.getCallSecondsAttr();
  if (!attr)
    return std::optional<planning::CallSeconds>();
  auto functions = attr.getAs<DictionaryAttr>("functions");
  auto update = attr.getAs<FloatAttr>("update");
  auto isTime = [](double seconds) {
    return std::isfinite(seconds) && seconds >= 0;
  };
  planning::CallSeconds calls;
  bool isWhole = functions && update && isTime(update.getValueAsDouble());
  if (isWhole)
    for (NamedAttribute block : functions) {
      auto seconds = dyn_cast<DenseF64ArrayAttr>(block.getValue());
      isWhole &= seconds && seconds.size() == planning::kBlockFunctions &&
                 llvm::all_of(seconds.asArrayRef(), isTime);
      if (isWhole)
        llvm::copy(seconds.asArrayRef(),
                   calls.functions[block.getName().str()].begin());
    }
  if (!isWhole)
    return FailureOr<std::optional<planning::CallSeconds>>(
        group.emitOpError("expected 'call_seconds' with 'functions', three "
                          "times of at least 0 s for each block, and "
                          "'update', a time"));
  calls.update = update.getValueAsDouble();
  return std::optional(calls);
}

/// Elements of the parameters that a program's optimizer updates.
static double updatedElements(plan::ProgramOp program) {
  double elements = 0;
  for (auto family : program.getOps<plan::ParametersOp>())
    if (!family.getFrozen())
      elements += static_cast<double>(family.getLocalElements()) *
                  static_cast<double>(family.getCount());
  return elements;
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
  SymbolTable symbols(module);
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
    auto calls = callSecondsOf(group);
    if (failed(calls))
      return WalkResult::interrupt();
    const planning::Chip &type = *times.topology->findChip(chip.str());
    bool hasTimes = !type.layerTimes.empty() ||
                    !type.overheads.corrections.empty() ||
                    planning::measures(type, times.modelHash, times.precision);
    if (!*calls && hasTimes) {
      group.emitOpError() << "expected 'call_seconds', since chip '" << chip
                          << "' has measured times or corrections: search the "
                             "strategy again, which writes them";
      return WalkResult::interrupt();
    }
    if (!*calls)
      return WalkResult::advance();
    if (auto program = symbols.lookup<plan::ProgramOp>(group.getProgram())) {
      double elements = updatedElements(program);
      (*calls)->update = elements > 0 ? (*calls)->update / elements : 0;
    }
    times.calls.try_emplace({group.getProgram().str(), chip.str()}, **calls);
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
                           const planning::CallSeconds *calls) const {
  plan::SegmentOp segment = segments[number].first;
  if (auto name = runtime::parseSegmentName(segment.getSymName())) {
    auto function = *planning::parseBlockFunction(name->function);
    if (!calls)
      return std::nullopt;
    auto times = calls->functions.find(name->block);
    if (times == calls->functions.end())
      return std::nullopt;
    double whole = times->second[static_cast<size_t>(function)];
    auto parts = planning::measuredParts(
        chip, {modelHash,
               name->precision == "bf16" ? planning::Precision::BF16
                                         : planning::Precision::F32,
               name->block, function, name->tensorParallel, name->microbatch});
    const SmallVector<size_t> &all = partsOf.at(wholeOf(segment).str());
    if (parts && parts->size() == all.size() && name->part < parts->size())
      return whole * (*parts)[name->part];
    // Not measured, or sharded otherwise than what was: as it is computed.
    double computed = 0;
    for (size_t part : all)
      computed += computedSeconds(chip, part);
    return computed > 0 ? whole * computedSeconds(chip, number) / computed : 0;
  }
  // An update: weight and count, then parameters, gradients and states alike.
  auto ops = segment.getBody().getOps<plan::ComputeOp>();
  for (plan::ComputeOp op : ops) {
    if (op.getOpcode() != "adamw" && op.getOpcode() != "sgd")
      continue;
    auto type = cast<MemRefType>(op.getOutputs().front().getType());
    uint64_t states = op.getOutputs().size() - 1;
    double elements = static_cast<double>(type.getNumElements());
    if (calls && !chip.layerTimes.empty())
      return elements * calls->update;
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
  auto known = calls.find({program.getSymName().str(), name.str()});
  const planning::CallSeconds *ofThese =
      known == calls.end() ? nullptr : &known->second;
  std::set<uint32_t> called;
  for (const auto *body : {&to.step(), &to.finish(), &to.evaluate()})
    collectCalls(*body, called);
  for (uint32_t segment : called) {
    plan::v1::SegmentSeconds &one = *to.add_segment_seconds();
    one.set_segment(segment);
    one.set_seconds(measuredSeconds(chip, segment, ofThese)
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
