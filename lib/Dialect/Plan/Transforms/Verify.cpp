//===- Verify.cpp - proves that the plan can run --------------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "StepOrder.h"

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/schema/plan.pb.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANVERIFY
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

/// A stage of an island with the program of its first (in this version only)
/// replica group.
struct Place {
  int64_t island, stage;
  ReplicasOp group;
  ProgramOp program;

  std::string text() const {
    return "islands[" + std::to_string(island) + "].stages[" +
           std::to_string(stage) + "]";
  }
};

class Verify : public impl::PlanVerifyBase<Verify> {
public:
  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  LogicalResult run() {
    ModuleOp module = getOperation();
    // The plan's own soundness first: the rest relies on it.
    FailureOr<std::unique_ptr<v1::Plan>> message = exportPlan(module);
    if (failed(message) || failed(checkPlan(**message, module.getLoc())))
      return failure();
    SymbolTable symbols(module);
    SmallVector<SmallVector<Place>> islands;
    for (auto [i, island] : llvm::enumerate(module.getOps<IslandOp>())) {
      SmallVector<Place> &places = islands.emplace_back();
      for (auto [s, stage] :
           llvm::enumerate(island.getBody().getOps<StageOp>()))
        for (ReplicasOp group : stage.getBody().getOps<ReplicasOp>())
          places.push_back({static_cast<int64_t>(i), static_cast<int64_t>(s),
                            group,
                            symbols.lookup<ProgramOp>(group.getProgram())});
    }
    planning::Topology topology;
    if (auto op = topo::findTopology(module))
      topology = topo::toTopology(op);
    else
      return module.emitError("expected a topology");
    bool ok = true;
    for (ArrayRef<Place> places : islands) {
      for (const Place &place : places)
        ok = succeeded(verifyMemory(place, topology)) &&
             succeeded(verifyGradients(place, symbols)) && ok;
      ok = succeeded(verifyRoutes(places, topology)) && ok;
    }
    return success(ok && succeeded(verifyServer(module, topology)));
  }

  LogicalResult verifyMemory(const Place &place,
                             const planning::Topology &topology) {
    ReplicasOp group = place.group;
    ProgramOp program = place.program;
    std::string pool = group.getSite().str() + "/" + group.getPool().str();
    const planning::Pool *known = topology.findPool(pool);
    if (!known)
      return group.emitOpError()
             << place.text() << ": pool " << pool << " is not in the topology";
    uint64_t available = topology.chipOf(*known).memoryBytes();
    uint64_t needed = *program.getArenaBytes();
    if (needed <= available)
      return success();
    InFlightDiagnostic error = program.emitError()
                               << place.text() << " needs " << needed
                               << " bytes on each chip of pool " << pool
                               << ", which have " << available;
    Diagnostic &note = error.attachNote(program.getLoc());
    note << "of these:";
    for (RegionOp region : program.getOps<RegionOp>())
      note << " " << region.getRegionName() << " " << region.getBytes();
    return error;
  }

  /// With several replicas, every byte of the gradients goes through exactly
  /// one sum of f32 over the replicas, when all that is added to it is there
  /// and before anything reads it; with one, through none.
  LogicalResult verifyGradients(const Place &place, SymbolTable &symbols) {
    ReplicasOp group = place.group;
    ProgramOp program = place.program;
    RegionOp gradients;
    for (RegionOp region : program.getOps<RegionOp>())
      if (region.getRegionName() == "gradients")
        gradients = region;
    SmallVector<std::pair<int64_t, int64_t>> reduced; // begin, end
    SmallVector<CollectiveOp> reductions;
    WalkResult result = program.getStep().walk([&](CollectiveOp collective) {
      if (collective.getGroup() != Group::Replicas)
        return WalkResult::advance();
      ExprAttr offset = collective.getAddress().getOffset();
      if (!isa<StepOp>(collective->getParentOp()) || !offset.isConstant() ||
          collective.getGuard()) {
        collective.emitOpError()
            << "reduces gradients more or less often than once a step";
        return WalkResult::interrupt();
      }
      if (collective.getKind() != "all_reduce_sum" ||
          !collective.getType().isF32()) {
        collective.emitOpError()
            << "reduces gradients by " << collective.getKind() << " of "
            << collective.getType() << " instead of all_reduce_sum of f32";
        return WalkResult::interrupt();
      }
      reductions.push_back(collective);
      int64_t begin = offset.getConstant();
      reduced.push_back({begin, begin + 4 * collective.getElements()});
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return failure();
    llvm::sort(reduced);
    int64_t begin = gradients ? gradients.getOffset() : 0;
    int64_t end = gradients ? begin + gradients.getBytes() : 0;
    if (group.getCount() == 1) {
      if (!reduced.empty())
        return program.emitError()
               << place.text() << ": reduces gradients of a single replica";
      return success();
    }
    int64_t next = begin;
    for (auto [from, to] : reduced) {
      if (from < next)
        return program.emitError() << place.text() << ": gradient byte "
                                   << from - begin << " is reduced twice";
      if (from > next)
        break;
      next = to;
    }
    if (next != end)
      return program.emitError() << place.text() << ": gradient byte "
                                 << next - begin << " is not reduced";
    if (!gradients)
      return success();
    return verifyOrder(program, gradients, reductions, symbols);
  }

  /// Calls that write gradients are complete before their reduction starts,
  /// and it is complete before calls that only read them start.
  LogicalResult verifyOrder(ProgramOp program, RegionOp gradients,
                            ArrayRef<CollectiveOp> reductions,
                            SymbolTable &symbols) {
    int64_t begin = gradients.getOffset(), end = begin + gradients.getBytes();
    StepOrder order(program.getStep());
    for (Operation *op : order.getInstructions()) {
      auto call = dyn_cast<CallOp>(op);
      if (!call)
        continue;
      auto segment = symbols.lookup<SegmentOp>(call.getSegment());
      bool writes = false, reads = false;
      for (auto [i, address] : llvm::enumerate(
               call.getAddresses().getAsRange<AddressAttr>())) {
        // Where a loop starts: a call never leaves the region.
        int64_t from = address.getOffset().getConstant();
        if (from >= begin && from < end)
          (segment.getAccess(i) == Access::Read ? reads : writes) = true;
      }
      for (CollectiveOp reduction : reductions) {
        if (writes && !order.isCompleteBefore(call, reduction))
          return call.emitOpError()
                 << "may write gradients after their reduction has started";
        if (!writes && reads &&
            (isa<LoopOp>(call->getParentOp()) ||
             !order.isCompleteBefore(reduction, call)))
          return call.emitOpError()
                 << "may read gradients before their reduction is complete";
      }
    }
    return success();
  }

  /// Neighbouring stages need a way between their pools.
  LogicalResult verifyRoutes(ArrayRef<Place> places,
                             const planning::Topology &topology) {
    for (size_t i = 1; i < places.size(); ++i) {
      ReplicasOp from = places[i - 1].group, to = places[i].group;
      if (!topology.route(from.getSite().str(), to.getSite().str()))
        return to.emitOpError()
               << places[i].text() << ": there is no way from site "
               << from.getSite() << " to site " << to.getSite();
      if (from.getSite() != to.getSite() || from.getPool() == to.getPool())
        continue;
      std::string a = (from.getSite() + "/" + from.getPool()).str();
      std::string b = (to.getSite() + "/" + to.getPool()).str();
      if (!topology.wireBetween(a, b))
        return to.emitOpError()
               << places[i].text() << ": there is no fabric between pools " << a
               << " and " << b << "; give the site a fabric";
    }
    return success();
  }

  /// Each site of an island reaches each fragment's primary.
  LogicalResult verifyServer(ModuleOp module,
                             const planning::Topology &topology) {
    for (ServerOp server : module.getOps<ServerOp>())
      for (Attribute primary : server.getPrimaries()) {
        StringRef site = cast<StringAttr>(primary).getValue();
        if (!topology.findSite(site.str()))
          return server.emitOpError() << "places a fragment at site " << site
                                      << ", which is not in the topology";
        for (IslandOp island : module.getOps<IslandOp>())
          for (Attribute from : island.getSites())
            if (!topology.route(cast<StringAttr>(from).str(), site.str()))
              return server.emitOpError() << "there is no way from site "
                                          << cast<StringAttr>(from).getValue()
                                          << " to the server at site " << site;
      }
    return success();
  }
};

} // namespace
} // namespace tombolo::plan
