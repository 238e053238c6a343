//===- Verify.cpp - proves that the plan can run --------------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "VerifyUpdate.h"

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/schema/plan.pb.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

#include <set>

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANVERIFY
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

/// A group of replicas of a stage of an island, with their program.
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
  using PlanVerifyBase::PlanVerifyBase;

  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  LogicalResult run() {
    ModuleOp module = getOperation();
    // The plan's own soundness first: the rest relies on it.
    if (message) {
      FailureOr<ExportedPlan> exported = exportPlan(module);
      if (failed(exported) || failed(checkPlan(**exported, module.getLoc())))
        return failure();
    }
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
      SmallVector<ProgramOp> programs;
      SmallVector<int64_t> stages, replicasOf(places.back().stage + 1, 0);
      for (const Place &place : places) {
        programs.push_back(place.program);
        stages.push_back(place.stage);
        replicasOf[place.stage] += ReplicasOp(place.group).getCount();
      }
      std::vector<SmallVector<SharedBytes>> shared =
          findShared(programs, stages);
      for (auto [number, place] : llvm::enumerate(places)) {
        ok = succeeded(verifyMemory(place, topology)) &&
             succeeded(verifyUpdate(place.program, replicasOf[place.stage],
                                    place.text(), shared[number], symbols)) &&
             succeeded(verifyNorm(place.program, place.stage,
                                  ReplicasOp(place.group).getTensorParallel(),
                                  replicasOf, place.text(), symbols)) &&
             ok;
      }
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

  /// Neighbouring stages need a way between their pools, and so do the groups
  /// of one stage, and with several chunks the last stage and the first.
  LogicalResult verifyRoutes(ArrayRef<Place> places,
                             const planning::Topology &topology) {
    std::set<std::pair<int64_t, int64_t>> neighbours;
    for (const Place &place : places) {
      neighbours.insert({place.stage, place.stage});
      ProgramOp program = place.program;
      int64_t stage = place.stage;
      program.getStep().walk([&](SendOp send) {
        neighbours.insert({stage, send.getStage()});
      });
    }
    for (const Place &from : places)
      for (const Place &to : places)
        if (neighbours.count({from.stage, to.stage}) &&
            failed(verifyRoute(from.group, to, topology)))
          return failure();
    return success();
  }

  LogicalResult verifyRoute(ReplicasOp from, const Place &place,
                            const planning::Topology &topology) {
    ReplicasOp to = place.group;
    if (!topology.route(from.getSite().str(), to.getSite().str()))
      return to.emitOpError() << place.text() << ": there is no way from site "
                              << from.getSite() << " to site " << to.getSite();
    if (from.getSite() != to.getSite() || from.getPool() == to.getPool())
      return success();
    std::string a = (from.getSite() + "/" + from.getPool()).str();
    std::string b = (to.getSite() + "/" + to.getPool()).str();
    if (!topology.wireBetween(a, b))
      return to.emitOpError()
             << place.text() << ": there is no fabric between pools " << a
             << " and " << b << "; give the site a fabric";
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
