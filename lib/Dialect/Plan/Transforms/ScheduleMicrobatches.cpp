//===- ScheduleMicrobatches.cpp - a program for every stage ---------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ProgramBuilder.h"

#include "tombolo/Conversion/GraphToPlan.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Plan/IR/AttributeNames.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANSCHEDULEMICROBATCHES
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

/// The largest token number that the model can take, plus one.
class VocabularyReader {
public:
  explicit VocabularyReader(ModuleOp module) {
    module.walk([&](func::FuncOp block) {
      if (block->hasAttr(graph::kBlockAttr))
        visit(block);
    });
  }

  /// The fewest rows of a table that the token input looks up, and the classes
  /// of the loss. The token input is the one that labels are drawn from: one
  /// number for each label. Others may look like it (the types of tokens), but
  /// a vocabulary is the largest of their tables. 0 when there is none.
  int64_t read(ArrayRef<std::pair<StringAttr, RankedTensorType>> inputs,
               RankedTensorType label) const {
    int64_t rows = 0;
    for (auto &[name, type] : inputs)
      if (type.getShape() == label.getShape())
        rows = std::max(rows, rowsOf.lookup(name));
    return rows > 0 && classes > 0 ? std::min(rows, classes) : rows;
  }

private:
  static void bound(int64_t &size, int64_t by) {
    size = size == 0 ? by : std::min(size, by);
  }

  void visit(func::FuncOp block) {
    block.walk([&](Operation *op) {
      if (auto gather = dyn_cast<graph::GatherOp>(op)) {
        StringAttr input = inputOf(block, gather.getIndices());
        if (input && gather.getAxis() == 0)
          bound(rowsOf[input], gather.getTable().getType().getDimSize(0));
      } else if (auto loss = dyn_cast<graph::CrossEntropyOp>(op)) {
        bound(classes, loss.getLogits().getType().getShape().back());
      }
    });
  }

  /// The input of the model that the value is, perhaps reshaped or cast; null
  /// when it is none.
  static StringAttr inputOf(func::FuncOp block, Value value) {
    while (Operation *op = value.getDefiningOp()) {
      if (!isa<graph::ReshapeOp, graph::CastOp>(op))
        return {};
      value = op->getOperand(0);
    }
    return block.getArgAttrOfType<StringAttr>(
        cast<BlockArgument>(value).getArgNumber(), graph::kInputAttr);
  }

  llvm::DenseMap<StringAttr, int64_t> rowsOf; // by input
  int64_t classes = 0;
};

class ScheduleMicrobatches
    : public impl::PlanScheduleMicrobatchesBase<ScheduleMicrobatches> {
public:
  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
  }

private:
  LogicalResult run() {
    ModuleOp module = getOperation();
    auto strategies = module.getOps<dist::StrategyOp>();
    auto optimizers = module.getOps<dist::OptimizerOp>();
    if (!llvm::hasSingleElement(strategies) ||
        !llvm::hasSingleElement(optimizers))
      return module.emitError("expected one dist.strategy and one "
                              "dist.optimizer, run the dist passes first");
    dist::StrategyOp strategy = *strategies.begin();
    dist::OptimizerOp optimizer = *optimizers.begin();
    SymbolTable symbols(module);
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    if (failed(writeModel(builder, symbols)))
      return failure();
    auto precision = module->getAttrOfType<StringAttr>(dist::kPrecisionAttr);
    builder.create<TrainingOp>(
        optimizer.getLoc(), optimizer.getKindAttr(),
        optimizer.getLearningRateAttr(),
        builder.getI64IntegerAttr(strategy.getGlobalBatch()),
        precision ? precision : builder.getStringAttr("f32"),
        optimizer.getSettings());

    clipsGradients = optimizer.getSettings().contains("clip_gradient_norm");
    dist::ServerOp server;
    for (dist::ServerOp op : strategy.getBody().getOps<dist::ServerOp>()) {
      server = op;
      if (failed(writeServer(builder, server)))
        return failure();
    }
    for (auto [i, island] :
         llvm::enumerate(strategy.getBody().getOps<dist::IslandOp>())) {
      std::optional<Synchronisation> synchronisation;
      if (server) {
        auto fragmentOf =
            dist::assignFragments(island, server.getFragments(), symbols);
        if (failed(fragmentOf))
          return failure();
        synchronisation = {static_cast<int64_t>(island.getInnerSteps().value_or(
                               server.getInnerSteps())),
                           static_cast<int64_t>(server.getFragments()),
                           static_cast<int64_t>(server.getOverlapSteps()),
                           std::move(*fragmentOf)};
      }
      if (failed(writeIsland(builder, island, i,
                             synchronisation ? &*synchronisation : nullptr,
                             symbols)))
        return failure();
    }
    cleanUp(strategy, optimizer);
    return success();
  }

  LogicalResult writeModel(OpBuilder &builder, SymbolTable &symbols) {
    ModuleOp module = getOperation();
    auto main = symbols.lookup<func::FuncOp>("main");
    if (!main)
      return module.emitError("expected a function @main");
    topo::TopologyOp topology = topo::findTopology(module);
    if (!topology)
      return module.emitError("expected a topology");
    auto hash = module->getAttrOfType<StringAttr>(graph::kModelHashAttr);
    if (!hash)
      return module.emitError("expected an attribute graph.model_hash");
    // A token model's label has one value per token.
    int64_t tokens = 1;
    SmallVector<std::pair<StringAttr, RankedTensorType>> inputs, labels;
    for (unsigned i = 0; i < main.getNumArguments(); ++i) {
      if (main.getArgAttr(i, graph::kStampAttr))
        continue;
      auto type = dyn_cast<RankedTensorType>(main.getArgumentTypes()[i]);
      auto input = main.getArgAttrOfType<StringAttr>(i, graph::kInputAttr);
      auto label = main.getArgAttrOfType<StringAttr>(i, graph::kLabelAttr);
      if (!type || type.getRank() < 1 || !type.isDynamicDim(0) ||
          type.getEncoding() || type.getNumDynamicDims() != 1 ||
          (!input && !label))
        return main.emitError() << "argument " << i
                                << " of @main: expected an input whose first "
                                   "dimension is the batch, got "
                                << main.getArgumentTypes()[i];
      auto sample = RankedTensorType::get(type.getShape().drop_front(),
                                          type.getElementType());
      if (label) {
        labels.push_back({label, sample});
        if (sample.getElementType().isInteger())
          tokens = sample.getNumElements();
      } else {
        inputs.push_back({input, sample});
      }
    }
    if (labels.size() > 1)
      return main.emitError()
             << "expected at most one label, got " << labels.size();
    int64_t vocabulary =
        labels.empty() || labels[0].second.getRank() == 0
            ? 0
            : VocabularyReader(module).read(inputs, labels[0].second);
    auto model = builder.create<ModelOp>(
        main.getLoc(), hash,
        builder.getStringAttr(
            llvm::toHex(topo::topologyHash(topo::toTopology(topology)), true)),
        builder.getI64IntegerAttr(std::max<int64_t>(1, tokens)),
        builder.getI64IntegerAttr(vocabulary));
    OpBuilder::InsertionGuard guard(builder);
    builder.createBlock(&model.getBody());
    for (auto &[name, type] : inputs)
      builder.create<InputOp>(main.getLoc(), name, TypeAttr::get(type),
                              UnitAttr());
    for (auto &[name, type] : labels)
      builder.create<InputOp>(main.getLoc(), name, TypeAttr::get(type),
                              builder.getUnitAttr());
    return success();
  }

  LogicalResult writeServer(OpBuilder &builder, dist::ServerOp server) {
    SmallVector<StringRef> primaries(server.getFragments());
    SmallVector<StringRef> backups(server.getFragments());
    for (auto fragment : server.getBody().getOps<dist::FragmentOp>()) {
      primaries[fragment.getIndex()] = fragment.getPrimary();
      if (auto backup = fragment.getBackup())
        backups[fragment.getIndex()] = *backup;
    }
    if (llvm::any_of(primaries, [](StringRef site) { return site.empty(); }))
      return server.emitOpError(
          "has a fragment without a place, run dist-place-servers first");
    auto i64 = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
    builder.create<ServerOp>(
        server.getLoc(), i64(server.getInnerSteps()),
        i64(server.getOverlapSteps()), i64(server.getFragments()),
        server.getCompressionAttr(), server.getOuterOptimizerAttr(),
        server.getOuterLearningRateAttr(), server.getOuterMomentumAttr(),
        server.getOuterBeta2Attr(), server.getOuterEpsilonAttr(),
        server.getOuterWeightDecayAttr(), i64(server.getQuorum()),
        server.getDeadlineSecondsAttr(), builder.getStrArrayAttr(primaries),
        builder.getStrArrayAttr(backups),
        builder.getStringAttr(server.getWitness().value_or("")));
    return success();
  }

  static int64_t sumOver(dist::StageOp stage,
                         llvm::function_ref<int64_t(dist::ReplicasOp)> figure) {
    int64_t sum = 0;
    for (auto group : stage.getBody().getOps<dist::ReplicasOp>())
      sum += figure(group);
    return sum;
  }

  LogicalResult writeIsland(OpBuilder &builder, dist::IslandOp island,
                            size_t number,
                            const Synchronisation *synchronisation,
                            SymbolTable &symbols) {
    FailureOr<std::vector<std::vector<RunBlocks>>> places =
        readIsland(island, symbols);
    if (failed(places))
      return failure();
    markAccumulation(places->back().back(), *places);
    auto stages = llvm::to_vector(island.getBody().getOps<dist::StageOp>());
    StageTask common;
    common.places = *places;
    common.stages = stages.size();
    common.ranks = 0;
    for (dist::StageOp stage : stages) {
      common.replicasOf.push_back(sumOver(stage, [](dist::ReplicasOp group) {
        return static_cast<int64_t>(group.getCount());
      }));
      common.ranks += sumOver(stage, [](dist::ReplicasOp group) {
        return static_cast<int64_t>(group.getCount() *
                                    group.getTensorParallel());
      });
    }
    common.schedule = *planning::parseSchedule(island.getSchedule().str());
    common.synchronisation = synchronisation;
    common.clipsGradients = clipsGradients;

    // What is the server's is not said again.
    IntegerAttr ownSteps =
        synchronisation && island.getInnerSteps()
            ? builder.getI64IntegerAttr(synchronisation->innerSteps)
            : IntegerAttr();
    auto islandOp = builder.create<IslandOp>(
        island.getLoc(), island.getSites(),
        builder.getI64IntegerAttr(island.getBatch()),
        builder.getI64IntegerAttr(island.getMicrobatch()), ownSteps,
        island.getScheduleAttr());
    builder.createBlock(&islandOp.getBody());
    OpBuilder inIsland = OpBuilder::atBlockEnd(&islandOp.getBody().front());
    builder.setInsertionPointAfter(islandOp);
    for (auto [s, stage] : llvm::enumerate(stages)) {
      StageTask task = common;
      task.op = stage;
      task.stage = s;
      task.replicas = common.replicasOf[s];
      auto stageOp = inIsland.create<StageOp>(
          stage.getLoc(), blocksOf(builder, *places, s, stages.size()),
          builder.getI64IntegerAttr(stage.getRecomputedBlocks()),
          stage.getOptimizerShardingAttr());
      OpBuilder::InsertionGuard guard(inIsland);
      inIsland.createBlock(&stageOp.getBody());
      if (failed(writeGroups(builder, inIsland, task,
                             "islands[" + std::to_string(number) + "].stages[" +
                                 std::to_string(s) + "]",
                             "island" + std::to_string(number) + ".stage" +
                                 std::to_string(s),
                             symbols)))
        return failure();
    }
    return success();
  }

  /// The blocks of a stage, by chunk.
  static ArrayAttr blocksOf(Builder &builder,
                            ArrayRef<std::vector<RunBlocks>> places,
                            size_t stage, size_t stages) {
    SmallVector<Attribute> chunks;
    for (size_t place = stage; place < places.size(); place += stages) {
      SmallVector<Attribute> runs;
      for (const RunBlocks &run : places[place])
        runs.push_back(BlocksAttr::get(
            builder.getContext(),
            builder.getStringAttr(dist::RunOp(run.op).getBlock()), run.count));
      chunks.push_back(builder.getArrayAttr(runs));
    }
    return builder.getArrayAttr(chunks);
  }

  /// A program for each group of a stage's replicas.
  LogicalResult writeGroups(OpBuilder &builder, OpBuilder &inStage,
                            StageTask task, StringRef path,
                            const std::string &name, SymbolTable &symbols) {
    dist::StageOp stage = task.op;
    auto island = stage->getParentOfType<dist::IslandOp>();
    int64_t turn = sumOver(stage, [](dist::ReplicasOp group) {
      return static_cast<int64_t>(group.getCount() * group.getShare());
    });
    int64_t perTurn = island.getMicrobatch() * turn;
    if (island.getBatch() % perTurn != 0)
      return stage.emitError()
             << path << ": batch " << static_cast<int64_t>(island.getBatch())
             << " cannot be split into microbatches of "
             << static_cast<int64_t>(island.getMicrobatch())
             << " for a turn of " << turn << " of the replicas; make it a "
             << "multiple of " << perTurn;
    auto groups = llvm::to_vector(stage.getBody().getOps<dist::ReplicasOp>());
    for (auto [g, group] : llvm::enumerate(groups)) {
      task.name =
          groups.size() == 1 ? name : name + ".group" + std::to_string(g);
      task.tensorParallel = group.getTensorParallel();
      task.microbatches = island.getBatch() / perTurn * group.getShare();
      FailureOr<ProgramOp> program = buildProgram(builder, task, symbols);
      if (failed(program))
        return failure();
      auto [site, pool] = group.getPool().split('/');
      inStage.create<ReplicasOp>(
          group.getLoc(), builder.getStringAttr(site),
          builder.getStringAttr(pool),
          builder.getI64IntegerAttr(group.getCount()),
          builder.getI64IntegerAttr(group.getTensorParallel()),
          builder.getI64IntegerAttr(group.getShare()),
          FlatSymbolRefAttr::get(program->getSymNameAttr()),
          group.getCallSecondsAttr());
    }
    return success();
  }

  /// Weight gradients, and the sums of the loss block, are added to what is in
  /// memory: the results say so.
  void markAccumulation(RunBlocks &loss,
                        std::vector<std::vector<RunBlocks>> &stages) {
    auto mark = [&](func::FuncOp function, size_t count) {
      for (size_t i = 0; i < count; ++i)
        function.setResultAttr(i, kAccumulateAttr,
                               UnitAttr::get(&getContext()));
    };
    mark(loss.forward, loss.outputs.types.size());
    for (std::vector<RunBlocks> &runs : stages)
      for (RunBlocks &run : runs)
        mark(run.backwardWeight, run.trainable.size());
  }

  /// Removes the levels above: nothing of them is needed any more.
  void cleanUp(dist::StrategyOp strategy, dist::OptimizerOp optimizer) {
    ModuleOp module = getOperation();
    strategy.erase();
    optimizer.erase();
    module->removeAttr(dist::kPrecisionAttr);
    llvm::StringSet<> called;
    module.walk([&](CallOp call) { called.insert(call.getSegment()); });
    for (auto function :
         llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (!called.contains(function.getSymName()))
        function.erase();
  }

  bool clipsGradients = false;
};

} // namespace
} // namespace tombolo::plan
