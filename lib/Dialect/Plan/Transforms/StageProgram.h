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
#include "llvm/ADT/StringMap.h"

namespace tombolo::plan {

/// The number of a block in a chunk: base, or base + sign * loop variable.
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

/// A tensor that crosses from a chunk to the next one, or its gradient back.
struct BoundaryValue {
  int64_t result; // of the chunk's last block
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

/// A chunk of the stage's blocks and the memory of what it computes.
struct Chunk {
  int64_t place = 0; // in the order of the model
  llvm::ArrayRef<RunBlocks> runs;
  int64_t firstRun = 0;   // number in the stage
  int64_t firstBlock = 0; // number in the model
  int64_t blockCount = 0;
  int64_t recomputed = 0; // of the first blocks, that run forward again
  planning::ChunkSlots slots;
  llvm::SmallVector<Piece> pieces;

  llvm::MapVector<mlir::StringAttr, mlir::FlatSymbolRefAttr> inputs;
  mlir::FlatSymbolRefAttr activations, saved, savedAgain, outputsAgain, carried,
      innerGradients;
  /// Where forward leaves what it saves of blocks that run again.
  mlir::FlatSymbolRefAttr unread;
  // Boundary buffers, by number of the result that crosses.
  using Boundary = llvm::MapVector<int64_t, mlir::FlatSymbolRefAttr>;
  Boundary receiveForward, sendForward, receiveBackward, sendBackward;
  // In a slot: of inner positions, their gradients, and what each run's first
  // block saves, saves where it runs again, and hands from half to half.
  llvm::SmallVector<int64_t> positionOffsets, gradientOffsets;
  llvm::SmallVector<int64_t> savedOffsets, savedAgainOffsets, carriedOffsets;
  int64_t gradientBytes = 0; // of one of two inner gradients used in turn

  /// Whether the halves of a backward pass each go over all blocks, so that
  /// what passes between them is kept for every block.
  bool hasHalvesApart() const { return slots.handedOn > 0; }
  size_t indexOf(const RunBlocks &run) const { return &run - runs.data(); }
};

class ProgramBuilder {
public:
  ProgramBuilder(mlir::OpBuilder &builder, const StageTask &task,
                 mlir::SymbolTable &symbols)
      : builder(builder), context(builder.getContext()), task(task),
        symbols(symbols), loc(dist::StageOp(task.op).getLoc()) {}

  mlir::FailureOr<ProgramOp> build();

private:
  // Memory.
  void defineChunks();
  void defineBuffers();
  void defineActivations(Chunk &chunk);
  void defineSaved(Chunk &chunk);
  void defineBoundary(Chunk &chunk);
  /// A name of a buffer of a chunk: the first chunk's have none added.
  std::string nameIn(const Chunk &chunk, const llvm::Twine &name) const;
  mlir::FlatSymbolRefAttr define(const llvm::Twine &name,
                                 llvm::StringRef region, int64_t slots,
                                 int64_t slotBytes);
  /// A place that all chunks use, which run one after the other and leave
  /// nothing there.
  mlir::FlatSymbolRefAttr defineScratch(llvm::StringRef name,
                                        llvm::StringRef region, int64_t bytes);
  void defineParameters();
  mlir::ArrayAttr slicesOf(const dist::ParameterFamily &family);
  mlir::DenseI64ArrayAttr fragmentsOf(const dist::ParameterFamily &family);
  AddressAttr at(mlir::FlatSymbolRefAttr buffer, ExprAttr slot,
                 ExprAttr offset);
  AddressAttr at(mlir::FlatSymbolRefAttr buffer, int64_t offset = 0);
  ExprAttr constant(int64_t value) { return ExprAttr::get(context, value); }
  ExprAttr affine(BlockNumber block, int64_t from, int64_t stride,
                  int64_t offset);

  AddressAttr activation(const Chunk &chunk, BlockNumber block, int64_t ahead,
                         int64_t result, ExprAttr microbatch);
  AddressAttr gradient(const Chunk &chunk, BlockNumber block, int64_t ahead,
                       int64_t result, ExprAttr microbatch);
  AddressAttr savedValue(const Chunk &chunk, const RunBlocks &run,
                         BlockNumber block, int64_t offset,
                         ExprAttr microbatch);
  AddressAttr carriedValue(const Chunk &chunk, const RunBlocks &run,
                           BlockNumber block, int64_t offset,
                           ExprAttr microbatch);
  AddressAttr statistic(int64_t offset);
  AddressAttr parameter(const Chunk &chunk, const RunBlocks &run,
                        BlockNumber block, size_t number, bool ofGradient);

  // Instructions.
  void definePieces(Chunk &chunk);
  void loop(int64_t count, llvm::function_ref<void(int64_t variable)> body,
            ExprAttr first = {});
  void forEachBlock(const Piece &piece, bool reversed,
                    llvm::function_ref<void(BlockNumber)> body);
  void call(mlir::FlatSymbolRefAttr function,
            llvm::ArrayRef<mlir::Attribute> addresses, llvm::StringRef pass);
  void zero(mlir::FlatSymbolRefAttr buffer, int64_t elements);
  /// Those of the island, and behind them what other chips add up for
  /// themselves.
  void zeroStats(int64_t count) {
    zero(stats, isLast() && task.tensorParallel > 1 ? statsBytes() / 4 : count);
  }
  /// Sums of losses and weights, and of squares of gradients.
  int64_t statCount() const { return task.clipsGradients ? 3 : 2; }
  void step();
  void finish();
  void evaluate();
  void run(llvm::ArrayRef<planning::Phase> phases);
  bool isNeeded(const planning::ChunkCall &call) const;
  void runChunk(const planning::ChunkCall &call, ExprAttr microbatch);
  void writeStamp(const Chunk &chunk, const RunBlocks &run, BlockNumber block,
                  ExprAttr microbatch);
  void forwardBlock(const Chunk &chunk, const RunBlocks &run, BlockNumber block,
                    ExprAttr microbatch, bool again);
  void backwardBlock(const Chunk &chunk, const RunBlocks &run,
                     BlockNumber block, ExprAttr microbatch,
                     planning::Pass pass);
  void dataAndSaved(const Chunk &chunk, const RunBlocks &run, BlockNumber block,
                    ExprAttr microbatch, bool withSaved,
                    llvm::SmallVectorImpl<mlir::Attribute> &addresses);
  int64_t degreeOf(int64_t place) const;
  llvm::SmallVector<BoundaryValue> valuesBehind(int64_t place,
                                                bool forward) const;
  void transfer(const Chunk &chunk, bool send, bool forward,
                ExprAttr microbatch);
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
  int64_t placeCount() const { return task.places.size(); }
  static bool isFirst(const Chunk &chunk) { return chunk.place == 0; }
  bool isLast(const Chunk &chunk) const {
    return chunk.place + 1 == placeCount();
  }
  /// Whether the stage computes the loss.
  bool isLast() const { return task.stage + 1 == task.stages; }
  const RunBlocks &producerOf(const Chunk &chunk, int64_t position) const;
  /// Whether a parameter of the places before `place` is trained, so that
  /// gradients go to them.
  bool trainsBefore(int64_t place) const {
    for (const std::vector<RunBlocks> &before : task.places.take_front(place))
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

  mlir::OpBuilder &builder;
  mlir::MLIRContext *context;
  const StageTask &task;
  mlir::SymbolTable &symbols;
  mlir::Location loc;
  ProgramOp program;
  planning::StageSchedule schedule;
  dist::StageLayout layout;
  llvm::SmallVector<dist::UpdateOp> updateOps; // one for each range
  int64_t variables = 0;

  std::vector<Chunk> chunks;
  // By state; of all ranges, or with a sharded optimizer one for each.
  llvm::SmallVector<llvm::SmallVector<mlir::FlatSymbolRefAttr>> stateBuffers;
  llvm::StringMap<BufferOp> scratch;
  mlir::FlatSymbolRefAttr parameters, frozen, gradients, stats, updates, stamp;
};

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEPROGRAM_H
