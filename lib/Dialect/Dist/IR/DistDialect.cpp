//===- DistDialect.cpp - ops of the dist dialect and their verifiers ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"

#include "llvm/ADT/StringSet.h"

#include <cmath>

using namespace mlir;
using namespace tombolo;
using namespace tombolo::dist;

#include "tombolo/Dialect/Dist/IR/DistDialect.cpp.inc"

void DistDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "tombolo/Dialect/Dist/IR/DistOps.cpp.inc"
      >();
}

static LogicalResult positive(Operation *op, StringRef what, uint64_t value) {
  if (static_cast<int64_t>(value) > 0)
    return success();
  return op->emitOpError("expected a positive '")
         << what << "', got " << static_cast<int64_t>(value);
}

/// That a container holds at least `least` ops of the named kinds, and nothing
/// else.
template <typename... Allowed>
static LogicalResult holdsOnly(Operation *op, Region &body, StringRef words) {
  for (Operation &inner : body.front())
    if (!isa<Allowed...>(inner)) {
      InFlightDiagnostic error = op->emitOpError("holds only ")
                                 << words << ", got '" << inner.getName()
                                 << "'";
      error.attachNote(inner.getLoc()) << "here";
      return error;
    }
  return success();
}

/// That every island takes part in the server's rounds, and in one order
/// (docs/Server.md).
static LogicalResult verifyInnerSteps(StrategyOp strategy) {
  auto servers = strategy.getBody().getOps<ServerOp>();
  auto islands = strategy.getBody().getOps<IslandOp>();
  if (servers.empty())
    return success();
  ServerOp server = *servers.begin();
  auto stepsOf = [&](IslandOp island) {
    return island.getInnerSteps().value_or(server.getInnerSteps());
  };
  bool areOwn = llvm::any_of(islands, [&](IslandOp island) {
    return stepsOf(island) != server.getInnerSteps();
  });
  for (IslandOp island : islands) {
    auto fail = [&](StringRef what, uint64_t got) {
      InFlightDiagnostic error = island.emitOpError("expected inner_steps ")
                                 << what << " " << got << ", got "
                                 << stepsOf(island);
      error.attachNote(server.getLoc()) << "of this server";
      return error;
    };
    if (server.getOverlapSteps() >= stepsOf(island))
      return fail("above overlap_steps", server.getOverlapSteps());
    if (areOwn && server.getFragments() > stepsOf(island))
      return fail("of at least the number of fragments, as an island has its "
                  "own,",
                  server.getFragments());
  }
  return success();
}

LogicalResult StrategyOp::verifyRegions() {
  if (failed(holdsOnly<IslandOp, ServerOp, ShardingOp>(
          *this, getBody(), "islands, a server and shardings")) ||
      failed(positive(*this, "global_batch", getGlobalBatch())))
    return failure();
  auto islands = getBody().getOps<IslandOp>();
  if (islands.empty())
    return emitOpError("expected at least one island");
  if (getPredicted() && !toPrediction(*this))
    return emitOpError("expected 'predicted' to have every figure of every "
                       "island, stage and group");
  if (llvm::range_size(getBody().getOps<ServerOp>()) > 1)
    return emitOpError("has more than one server");
  if (failed(verifyShardings(*this)))
    return failure();
  uint64_t sum = 0;
  for (IslandOp island : islands) {
    if (island.getBatch() > getGlobalBatch())
      return emitOpError("the batch of an island exceeds global_batch ")
             << getGlobalBatch() << ", got " << island.getBatch();
    sum += island.getBatch();
  }
  if (sum != getGlobalBatch())
    return emitOpError("the islands' batches must add up to global_batch ")
           << getGlobalBatch() << ", got " << sum;
  return verifyInnerSteps(*this);
}

LogicalResult IslandOp::verify() {
  if (getSites().empty())
    return emitOpError("expected at least one site");
  if (!planning::parseSchedule(getSchedule().str()))
    return emitOpError("expected schedule gpipe, 1f1b, interleaved or "
                       "zero-bubble, got \"")
           << getSchedule() << "\"";
  if (failed(positive(*this, "batch", getBatch())) ||
      failed(positive(*this, "microbatch", getMicrobatch())) ||
      failed(positive(*this, "chunks", getChunks())))
    return failure();
  if (auto steps = getInnerSteps())
    return positive(*this, "inner_steps", *steps);
  return success();
}

LogicalResult IslandOp::verifyRegions() {
  if (failed(holdsOnly<StageOp>(*this, getBody(), "stages")))
    return failure();
  if (getBody().front().empty())
    return emitOpError("expected at least one stage");
  return success();
}

/// Reads `none`, `full` or a number of blocks.
static FailureOr<planning::Recompute> readRecompute(StringRef text) {
  if (text == "none")
    return planning::Recompute{planning::Recompute::None, 0};
  if (text == "full")
    return planning::Recompute{planning::Recompute::Full, 0};
  uint64_t blocks = 0;
  if (text.getAsInteger(10, blocks))
    return failure();
  return planning::Recompute{planning::Recompute::Blocks, blocks};
}

LogicalResult StageOp::verify() {
  if (failed(readRecompute(getRecompute())))
    return emitOpError("expected recompute none, full or a number of blocks, "
                       "got \"")
           << getRecompute() << "\"";
  return positive(*this, "blocks", getBlocks());
}

LogicalResult StageOp::verifyRegions() {
  // Later passes add what the stage holds.
  for (Operation &inner : getBody().front())
    if (inner.getDialect() != (*this)->getDialect())
      return emitOpError("holds only ops of the dist dialect, got '")
             << inner.getName() << "'";
  if (getBody().getOps<ReplicasOp>().empty())
    return emitOpError("expected at least one dist.replicas");
  return success();
}

int64_t StageOp::getRecomputedBlocks() {
  return readRecompute(getRecompute())->of(getBlocks());
}

int64_t StageOp::getTensorParallel() {
  return (*getBody().getOps<ReplicasOp>().begin()).getTensorParallel();
}

LogicalResult ReplicasOp::verify() {
  auto [site, pool] = getPool().split('/');
  if (site.empty() || pool.empty())
    return emitOpError("expected a pool as \"site/pool\", got \"")
           << getPool() << "\"";
  if (failed(positive(*this, "count", getCount())) ||
      failed(positive(*this, "tensor_parallel", getTensorParallel())))
    return failure();
  return positive(*this, "share", getShare());
}

LogicalResult ServerOp::verify() {
  if (!planning::parseCompression(getCompression().str()))
    return emitOpError("expected compression none, bf16, int8 or int4, got \"")
           << getCompression() << "\"";
  if (!planning::parseOuterOptimizer(getOuterOptimizer().str()))
    return emitOpError(
               "expected outer optimizer sgd, nesterov or adamw, got \"")
           << getOuterOptimizer() << "\"";
  bool isAdamW = getOuterOptimizer() == "adamw";
  for (const std::optional<APFloat> &own :
       {getOuterBeta2(), getOuterEpsilon(), getOuterWeightDecay()})
    if (own.has_value() != isAdamW)
      return emitOpError("expected beta2, epsilon and weight_decay with outer "
                         "optimizer adamw and with no other, got \"")
             << getOuterOptimizer() << "\"";
  if (failed(positive(*this, "inner_steps", getInnerSteps())) ||
      failed(positive(*this, "fragments", getFragments())) ||
      failed(positive(*this, "quorum", getQuorum())))
    return failure();
  constexpr uint64_t kMaxFragments = 1u << 16; // Problem.cpp's bound
  if (static_cast<uint64_t>(getFragments()) > kMaxFragments)
    return emitOpError("expected at most ")
           << kMaxFragments << " fragments, got " << getFragments();
  if (getOverlapSteps() >= getInnerSteps())
    return emitOpError("expected overlap_steps below inner_steps ")
           << getInnerSteps() << ", got "
           << static_cast<int64_t>(getOverlapSteps());
  double deadline = getDeadlineSeconds().convertToDouble();
  if (!(std::isfinite(deadline) && deadline > 0))
    return emitOpError("expected a positive 'deadline_seconds', got ")
           << deadline;
  return success();
}

LogicalResult ServerOp::verifyRegions() {
  if (failed(holdsOnly<FragmentOp>(*this, getBody(), "fragments")))
    return failure();
  llvm::SmallDenseSet<uint64_t> seen;
  for (FragmentOp fragment : getBody().getOps<FragmentOp>()) {
    if (fragment.getIndex() >= getFragments())
      return fragment.emitOpError("expected an index below ")
             << getFragments() << ", got "
             << static_cast<int64_t>(fragment.getIndex());
    if (!seen.insert(fragment.getIndex()).second)
      return fragment.emitOpError("places fragment ")
             << fragment.getIndex() << " a second time";
  }
  return success();
}

LogicalResult FragmentOp::verify() {
  if (getBackup() && *getBackup() == getPrimary())
    return emitOpError("primary and backup are the same site \"")
           << getPrimary() << "\"";
  return success();
}

//===----------------------------------------------------------------------===//
// To and from the planner's struct
//===----------------------------------------------------------------------===//

static planning::Island toIsland(IslandOp op) {
  planning::Island island;
  for (Attribute site : op.getSites())
    island.sites.push_back(cast<StringAttr>(site).str());
  island.batch = op.getBatch();
  island.microbatch = op.getMicrobatch();
  island.schedule = *planning::parseSchedule(op.getSchedule().str());
  island.chunks = op.getChunks();
  island.innerSteps = op.getInnerSteps();
  for (StageOp stageOp : op.getBody().getOps<StageOp>()) {
    planning::Stage stage;
    stage.blocks = stageOp.getBlocks();
    stage.recompute = *readRecompute(stageOp.getRecompute());
    stage.optimizerSharding = stageOp.getOptimizerSharding();
    for (ReplicasOp group : stageOp.getBody().getOps<ReplicasOp>())
      stage.replicas.push_back({group.getPool().str(), group.getCount(),
                                group.getTensorParallel(), group.getShare()});
    island.stages.push_back(std::move(stage));
  }
  return island;
}

planning::Strategy dist::toStrategy(StrategyOp op) {
  planning::Strategy strategy;
  for (IslandOp island : op.getBody().getOps<IslandOp>())
    strategy.islands.push_back(toIsland(island));
  for (ServerOp serverOp : op.getBody().getOps<ServerOp>()) {
    planning::Server server;
    server.innerSteps = serverOp.getInnerSteps();
    server.fragments = serverOp.getFragments();
    server.overlapSteps = serverOp.getOverlapSteps();
    server.compression =
        *planning::parseCompression(serverOp.getCompression().str());
    server.outer =
        *planning::parseOuterOptimizer(serverOp.getOuterOptimizer().str());
    server.outerLearningRate =
        serverOp.getOuterLearningRate().convertToDouble();
    server.outerMomentum = serverOp.getOuterMomentum().convertToDouble();
    if (server.outer == planning::OuterOptimizer::AdamW) {
      server.outerBeta2 = serverOp.getOuterBeta2()->convertToDouble();
      server.outerEpsilon = serverOp.getOuterEpsilon()->convertToDouble();
      server.outerWeightDecay =
          serverOp.getOuterWeightDecay()->convertToDouble();
    }
    server.quorum = serverOp.getQuorum();
    server.deadlineSeconds = serverOp.getDeadlineSeconds().convertToDouble();
    if (auto witness = serverOp.getWitness())
      server.witness = witness->str();
    for (FragmentOp fragment : serverOp.getBody().getOps<FragmentOp>())
      server.placement[fragment.getIndex()] = {
          fragment.getPrimary().str(),
          fragment.getBackup() ? fragment.getBackup()->str() : std::string()};
    strategy.server = std::move(server);
  }
  for (ShardingOp sharding : op.getBody().getOps<ShardingOp>())
    strategy.shardings.push_back(toSharding(sharding));
  return strategy;
}

StrategyOp dist::buildStrategy(OpBuilder &builder, PlaceOf placeOf,
                               const planning::Strategy &strategy,
                               uint64_t globalBatch) {
  OpBuilder::InsertionGuard guard(builder);
  auto i64 = [&](uint64_t value) {
    return builder.getI64IntegerAttr(static_cast<int64_t>(value));
  };
  auto f64 = [&](double value) { return builder.getF64FloatAttr(value); };
  auto text = [&](const std::string &value) {
    return value.empty() ? StringAttr() : builder.getStringAttr(value);
  };
  auto enter = [&](Region &region) {
    builder.setInsertionPointToEnd(&region.emplaceBlock());
  };
  auto result = builder.create<StrategyOp>(placeOf(""), i64(globalBatch),
                                           DictionaryAttr(), DictionaryAttr());
  enter(result.getBody());
  for (auto [i, island] : llvm::enumerate(strategy.islands)) {
    OpBuilder::InsertionGuard inIsland(builder);
    std::string path = planning::at("islands", i);
    SmallVector<StringRef> sites(island.sites.begin(), island.sites.end());
    auto islandOp = builder.create<IslandOp>(
        placeWithKeys(placeOf, path,
                      {"sites", "batch", "microbatch", "schedule", "chunks",
                       "inner_steps", "stages"}),
        builder.getStrArrayAttr(sites), i64(island.batch),
        i64(island.microbatch), builder.getStringAttr(name(island.schedule)),
        i64(island.chunks),
        island.innerSteps ? i64(*island.innerSteps) : IntegerAttr());
    enter(islandOp.getBody());
    for (auto [s, stage] : llvm::enumerate(island.stages)) {
      OpBuilder::InsertionGuard inStage(builder);
      std::string inner = planning::at(planning::in(path, "stages"), s);
      auto stageOp = builder.create<StageOp>(
          placeWithKeys(
              placeOf, inner,
              {"blocks", "recompute", "optimizer_sharding", "replicas"}),
          i64(stage.blocks), builder.getStringAttr(stage.recompute.text()),
          stage.optimizerSharding ? builder.getUnitAttr() : UnitAttr());
      enter(stageOp.getBody());
      for (auto [g, group] : llvm::enumerate(stage.replicas))
        builder.create<ReplicasOp>(
            placeWithKeys(placeOf,
                          planning::at(planning::in(inner, "replicas"), g),
                          {"pool", "count", "tensor_parallel", "share"}),
            text(group.pool), i64(group.count), i64(group.tensorParallel),
            i64(group.share), DictionaryAttr());
    }
  }
  if (const auto &server = strategy.server) {
    OpBuilder::InsertionGuard inServer(builder);
    Location place = placeWithKeys(
        placeOf, "server",
        {"inner_steps", "fragments", "overlap_steps", "compression", "outer",
         "quorum", "deadline_seconds", "placement", "witness"});
    auto ofAdamW = [&](double value) {
      return server->outer == planning::OuterOptimizer::AdamW ? f64(value)
                                                              : FloatAttr();
    };
    auto serverOp = builder.create<ServerOp>(
        place, i64(server->innerSteps), i64(server->fragments),
        i64(server->overlapSteps),
        builder.getStringAttr(name(server->compression)),
        builder.getStringAttr(name(server->outer)),
        f64(server->outerLearningRate), f64(server->outerMomentum),
        ofAdamW(server->outerBeta2), ofAdamW(server->outerEpsilon),
        ofAdamW(server->outerWeightDecay), i64(server->quorum),
        f64(server->deadlineSeconds), text(server->witness));
    enter(serverOp.getBody());
    for (const auto &[index, where] : server->placement)
      builder.create<FragmentOp>(placeOfKey(place, "placement"), i64(index),
                                 text(where.primary), text(where.backup));
  }
  for (auto [i, sharding] : llvm::enumerate(strategy.shardings))
    buildSharding(builder, placeOf, planning::at("sharding", i), sharding);
  return result;
}

Location dist::locate(StrategyOp op, StringRef path) {
  return locatePath(
      op, path,
      [](Operation *op, StringRef key, uint64_t index) -> Operation * {
        if (key == "server" && isa<StrategyOp>(op))
          return nthOp<ServerOp>(op->getRegion(0), 0);
        if (key == "sharding" && isa<StrategyOp>(op))
          return nthOp<ShardingOp>(op->getRegion(0), index);
        if (key == "islands" && isa<StrategyOp>(op))
          return nthOp<IslandOp>(op->getRegion(0), index);
        if (key == "stages" && isa<IslandOp>(op))
          return nthOp<StageOp>(op->getRegion(0), index);
        if (key == "replicas" && isa<StageOp>(op))
          return nthOp<ReplicasOp>(op->getRegion(0), index);
        return nullptr;
      });
}

#define GET_OP_CLASSES
#include "tombolo/Dialect/Dist/IR/DistOps.cpp.inc"
