//===- StageProgram.h - builds the program of one stage ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEPROGRAM_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEPROGRAM_H

#include "ProgramBuilder.h"

#include "tombolo/Dialect/Dist/Transforms/StageLayout.h"

#include "llvm/ADT/MapVector.h"

namespace tombolo::plan {

/// The number of a block in a stage: base, or base + sign * loop variable.
struct BlockNumber {
  int64_t base = 0;
  int64_t sign = 0;
  int64_t variable = -1;
};

/// Bytes from the statistics' start to the sum of the squares of the gradients,
/// behind the sums of losses and weights.
constexpr int64_t kSquaresOffset = 8;

/// Consecutive blocks of one run that one loop can call.
struct Piece {
  const RunBlocks *run;
  int64_t first;
  int64_t count;
};

/// A tensor that crosses from a stage to the next one, or its gradient back.
struct BoundaryValue {
  int64_t result; // of the stage's last block
  mlir::RankedTensorType type;
  mlir::Attribute split; // null: all chips of a replica have it
};

/// How a tensor crosses between replicas of these degrees.
struct Crossing {
  int64_t pieces = 0; // 0: each chip's part as it is
  int64_t pieceBytes = 0;
  int64_t bytes = 0; // of the buffer
};
Crossing getCrossing(const BoundaryValue &value, int64_t degree,
                     int64_t otherDegree);

class ProgramBuilder {
public:
  ProgramBuilder(mlir::OpBuilder &builder, const StageTask &task,
                 mlir::SymbolTable &symbols)
      : builder(builder), context(builder.getContext()), task(task),
        symbols(symbols), runs(task.stages[task.stage]),
        loc(dist::StageOp(task.op).getLoc()) {}

  mlir::FailureOr<ProgramOp> build();

private:
  // Memory.
  void defineBuffers();
  void definePositions();
  mlir::FlatSymbolRefAttr define(const llvm::Twine &name,
                                 llvm::StringRef region, int64_t slots,
                                 int64_t slotBytes);
  void defineParameters();
  mlir::ArrayAttr slicesOf(const dist::ParameterFamily &family);
  AddressAttr at(mlir::FlatSymbolRefAttr buffer, ExprAttr slot,
                 ExprAttr offset);
  AddressAttr at(mlir::FlatSymbolRefAttr buffer, int64_t offset = 0);
  ExprAttr constant(int64_t value) { return ExprAttr::get(context, value); }
  ExprAttr affine(BlockNumber block, int64_t from, int64_t stride,
                  int64_t offset);

  AddressAttr activation(BlockNumber block, int64_t ahead, int64_t result,
                         ExprAttr microbatch);
  AddressAttr gradient(BlockNumber block, int64_t ahead, int64_t result,
                       ExprAttr microbatch);
  AddressAttr statistic(int64_t offset);
  AddressAttr parameter(const RunBlocks &run, BlockNumber block, size_t number,
                        bool ofGradient);

  // Instructions.
  void definePieces();
  void loop(int64_t count, llvm::function_ref<void(int64_t variable)> body);
  void forEachBlock(const Piece &piece, bool reversed,
                    llvm::function_ref<void(BlockNumber)> body);
  void call(mlir::FlatSymbolRefAttr function,
            llvm::ArrayRef<mlir::Attribute> addresses, llvm::StringRef pass);
  void zero(mlir::FlatSymbolRefAttr buffer, int64_t elements);
  /// Those of the island, and behind them what other chips add up for themselves.
  void zeroStats(int64_t count) {
    zero(stats,
         isLast() && task.tensorParallel > 1 ? statsBytes() / 4 : count);
  }
  /// Sums of losses and weights, and of squares of gradients.
  int64_t statCount() const { return task.clipsGradients ? 3 : 2; }
  void step();
  void finish();
  void evaluate();
  void writeStamp(const RunBlocks &run, BlockNumber block, ExprAttr microbatch);
  void forwardMicrobatch(ExprAttr microbatch);
  void backwardMicrobatch(ExprAttr microbatch);
  void forwardBlock(const RunBlocks &run, BlockNumber block,
                    ExprAttr microbatch, bool again);
  void backwardBlock(const RunBlocks &run, BlockNumber block,
                     ExprAttr microbatch);
  void dataAndSaved(const RunBlocks &run, BlockNumber block,
                    ExprAttr microbatch, bool withSaved,
                    llvm::SmallVectorImpl<mlir::Attribute> &addresses);
  int64_t degreeOf(int64_t stage) const;
  llvm::SmallVector<BoundaryValue> valuesBehind(int64_t stage,
                                                bool forward) const;
  void transfer(bool send, bool forward, ExprAttr microbatch);
  // Behind the loops.
  void reduceAndUpdate();
  void collective(llvm::StringRef kind, Group group,
                  mlir::FlatSymbolRefAttr buffer, int64_t offset,
                  int64_t elements, llvm::ArrayRef<int64_t> stages = {});
  int64_t copiesOf(const dist::ParameterRange &range) const;
  ExprAttr ownPart(const dist::ParameterRange &range);
  void sumGradients();
  void addSquares(ExprAttr offset, int64_t elements, int64_t copies);
  void update();
  AddressAttr stateAddress(size_t state, size_t range);
  void exchange(bool guarded);

  ExprAttr microbatchExpr(int64_t first, int64_t variable) {
    return ExprAttr::get(context, first, {Term{variable, 1, 0, 0}});
  }
  size_t runIndex(const RunBlocks &run) const { return &run - runs.data(); }
  bool isFirst() const { return task.stage == 0; }
  bool isLast() const {
    return task.stage + 1 == static_cast<int64_t>(task.stages.size());
  }
  const RunBlocks &producerOf(int64_t position) const;
  /// Whether a parameter of the stages before `stage` is trained, so that
  /// gradients go to them.
  bool trainsBefore(int64_t stage) const {
    for (const std::vector<RunBlocks> &before : task.stages.take_front(stage))
      for (const RunBlocks &run : before)
        if (!run.trainable.empty())
          return true;
    return false;
  }
  /// Whether each replica has the optimizer state of its part of the parameters
  /// only.
  bool shardsOptimizer() const {
    return llvm::any_of(layout.ranges, [](const dist::ParameterRange &range) {
      return range.parts > 1;
    });
  }
  /// All chips of a replica compute the loss. Chip i adds it to place i of the
  /// statistics, and place 0 is what is summed over the island and read: so it
  /// counts once.
  int64_t statsBytes() const {
    return isLast() ? task.tensorParallel * alignment : alignment;
  }
  bool recomputes() const {
    return dist::StageOp(task.op).getRecompute() == "full";
  }

  mlir::OpBuilder &builder;
  mlir::MLIRContext *context;
  const StageTask &task;
  mlir::SymbolTable &symbols;
  llvm::ArrayRef<RunBlocks> runs;
  mlir::Location loc;
  ProgramOp program;
  planning::StageSchedule schedule;
  dist::StageLayout layout;
  llvm::SmallVector<dist::UpdateOp> updateOps; // one for each range
  int64_t blockCount = 0;
  int64_t variables = 0;

  llvm::SmallVector<Piece> pieces;
  llvm::MapVector<mlir::StringAttr, mlir::FlatSymbolRefAttr> inputs;
  // By state; of all ranges, or with a sharded optimizer one for each.
  llvm::SmallVector<llvm::SmallVector<mlir::FlatSymbolRefAttr>> stateBuffers;
  mlir::FlatSymbolRefAttr parameters, frozen, gradients, stats, updates, stamp;
  mlir::FlatSymbolRefAttr activations, saved, carried, innerGradients, again;
  // Boundary buffers, by number of the result that crosses.
  llvm::MapVector<int64_t, mlir::FlatSymbolRefAttr> receiveForward, sendForward,
      receiveBackward, sendBackward;
  llvm::SmallVector<int64_t> positionOffsets; // of inner positions, in a slot
  llvm::SmallVector<int64_t>
      savedOffsets;          // of each run's first block, in a slot
  int64_t gradientBytes = 0; // of one of the two inner gradients
};

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEPROGRAM_H
