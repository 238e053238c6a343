//===- ShardingBuilder.h - the sharding problem of a model's blocks -------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_SHARDINGBUILDER_H
#define TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_SHARDINGBUILDER_H

#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"
#include "tombolo/Planning/Sharding.h"
#include "tombolo/Planning/ShardingDemand.h"

#include "mlir/IR/BuiltinOps.h"

namespace tombolo {

/// A kind of block and its place in the chain.
struct ChainKind {
  mlir::func::FuncOp block;
  graph::BlockFunctions functions;
  uint64_t first = 0; // number of the first block of the kind
  uint64_t count = 0;
  bool isLast = false;
  llvm::SmallVector<unsigned> gradientOutputs;
  /// By parameter argument: names in the first block, and how many different
  /// parameters the blocks have there; 0 where they are counted elsewhere.
  llvm::SmallVector<llvm::StringRef> parameters;
  llvm::SmallVector<uint64_t> parameterCounts;
  /// By data argument and by result: what is the same tensor in neighbouring
  /// blocks has the same number, over all kinds; -1: nobody's.
  llvm::SmallVector<int> inputTensors, outputTensors;
  /// By parameter argument: equal where kinds share one.
  llvm::SmallVector<int> parameterTensors;
};

/// The chain of blocks in @main, by kinds, in the order of their first blocks.
mlir::FailureOr<std::vector<ChainKind>> readChain(mlir::ModuleOp module);

/// The sharding problem of all kinds of block on some chips: forward and both
/// backward functions of every kind, and boundary tensors and parameters with
/// one state each.
class ShardingBuilder {
public:
  ShardingBuilder(llvm::ArrayRef<ChainKind> kinds,
                  const planning::ShardingDemand &demand)
      : kinds(kinds), demand(demand) {}

  /// Fails with a diagnostic when the functions of a block do not fit together;
  /// `faults`: a pin that does not fit (its path in `strategy.yaml`), or, with
  /// no path, that no dimension of the model can be split.
  mlir::LogicalResult build(llvm::ArrayRef<planning::Sharding> pins,
                            planning::Faults &faults);

  const planning::ShardingProblem &getProblem() const { return problem; }
  const graph::BlockGraph &getGraph(size_t kind) const { return graphs[kind]; }

  /// A solution as what the ops of each kind do.
  std::vector<graph::BlockSharding>
  getShardings(llvm::ArrayRef<size_t> chosen) const;

  /// The same the other way; nullopt when an op does what is no option.
  std::optional<std::vector<size_t>>
  getChosen(llvm::ArrayRef<graph::BlockSharding> shardings) const;

private:
  /// Values whose states are numbered alike.
  struct StateClass {
    std::vector<graph::ShardingState> states; // whole, partial, splits
    /// What a boundary tensor or parameter is pinned to.
    std::optional<graph::ShardingState> pinned;
  };
  using OpChoices = std::vector<graph::OpSharding>;
  struct Kind {
    std::vector<size_t> values; // of the problem, by value of the graph
    std::array<std::vector<OpChoices>, graph::kBlockFunctions> choices;
    std::array<std::vector<size_t>, graph::kBlockFunctions> ops;
    /// Ops that hand saved and carried values on, by function and result; the
    /// same for gradients of parameters.
    std::array<llvm::SmallVector<size_t>, graph::kBlockFunctions> returned;
  };

  llvm::ArrayRef<ChainKind> kinds;
  planning::ShardingDemand demand;
  std::vector<graph::BlockGraph> graphs;
  planning::ShardingProblem problem;
  std::vector<Kind> found;
  std::vector<mlir::RankedTensorType> types; // by value of the problem
  std::vector<size_t> classOf;               // by value of the problem
  std::vector<StateClass> classes;
  /// By number of the tensor or parameter: a value of its class, and the op
  /// that chooses its state.
  std::map<int, size_t> tensorValues, parameterValues;
  std::map<int, size_t> tensorOps, parameterOps;

  size_t addValue(mlir::RankedTensorType type, size_t stateClass,
                  std::string name);
  size_t addClass();
  void addValues(size_t kind);
  bool addState(size_t value, graph::ShardingState state);
  void findChoices();
  bool growChoices(size_t kind, unsigned function, unsigned node);
  void mergeClasses(size_t a, size_t b);
  using Pins = llvm::ArrayRef<planning::Sharding>;
  /// Calls `visit(kind, pin, its path)`.
  void forEachPin(Pins pins,
                  llvm::function_ref<void(size_t, const planning::Sharding &,
                                          const std::string &)>
                      visit) const;
  void pinStates(Pins pins, planning::Faults &faults);
  void pinOps(Pins pins, planning::Faults &faults);
  void checkSplits(planning::Faults &faults);
  void setConversions();
  void addOps(size_t kind);
  void addReturned(size_t kind);
  void addTensorOps();
  void addParameterOps();
  void addGradient(size_t kind, unsigned result, unsigned parameter);
  planning::ShardingProblem::Option getOption(size_t kind, unsigned function,
                                              unsigned node,
                                              const graph::OpSharding &does);
  planning::ShardingProblem::Use use(size_t kind, unsigned function,
                                     unsigned value) const;
  uint8_t numberOf(size_t value, graph::ShardingState state) const;
  double bytesOf(size_t value, uint8_t state) const;
};

/// What one chip computes and moves in an op, of the whole op's cost.
graph::OpCost getLocalCost(const graph::BlockGraph::Node &node,
                           const graph::OpSharding &does, int64_t count,
                           int64_t batch);

/// The collective that changes a state; nullopt: a local slice, or nothing.
std::optional<planning::Collective> getCollective(graph::ShardingState from,
                                                  graph::ShardingState to);

} // namespace tombolo

#endif // TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_SHARDINGBUILDER_H
