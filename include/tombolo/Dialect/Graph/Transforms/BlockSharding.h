//===- BlockSharding.h - a block on tensor-parallel chips -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What every op of a block's three functions does on the chips of a
// tensor-parallel replica: the states and conversions that follow from it
// (analysis), how it is found from seeds (decision), and the functions of one
// chip (rewrite). docs/Dialects/RationaleDist.md has the reasons.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_TRANSFORMS_BLOCKSHARDING_H
#define TOMBOLO_DIALECT_GRAPH_TRANSFORMS_BLOCKSHARDING_H

#include "tombolo/Dialect/Graph/IR/GraphSharding.h"
#include "tombolo/Dialect/Graph/Transforms/Specialize.h"

#include "llvm/ADT/BitVector.h"

#include <array>

namespace tombolo::graph {

/// What an op does: splits a factor of its rule; or computes the whole on every
/// chip; or, with `linear`, partial sums from operands that are partial sums:
/// those of that set of its rule's `linear`.
struct OpSharding {
  ShardingChoice choice;
  int linear = -1;

  /// The factor, -1 for whole, or -2 - the number of the linear set.
  int64_t getCode() const { return linear >= 0 ? -2 - linear : choice.factor; }
  static OpSharding fromCode(int64_t code, int64_t outer = 1) {
    OpSharding sharding;
    if (code <= -2)
      sharding.linear = -2 - code;
    else
      sharding.choice = {static_cast<int>(code), code < 0 ? 1 : outer};
    return sharding;
  }
  bool operator==(const OpSharding &other) const {
    return choice == other.choice && linear == other.linear;
  }
};

/// A block's functions in the order they run.
enum BlockFunction : unsigned { kForward, kBackwardInput, kBackwardWeight };
inline constexpr unsigned kBlockFunctions = 3;

/// What is said from outside: whole or split states of the block's data
/// arguments, parameters and results in order (the rest whole), and what single
/// ops do, by their place in the function's body from 0.
struct ShardingSeeds {
  llvm::SmallVector<ShardingState> data, parameters, outputs;
  struct Op {
    BlockFunction function;
    unsigned op;
    OpSharding sharding;
  };
  llvm::SmallVector<Op> ops;
};

/// States at the block's boundary and what each op does, for the ops of each
/// function in order, all but the terminator.
struct BlockSharding {
  llvm::SmallVector<ShardingState> data, parameters, outputs;
  std::array<llvm::SmallVector<OpSharding>, kBlockFunctions> ops;
};

/// Bytes that one chip sends, in parts of 1 / count^2, so that sums are exact;
/// compared in this order.
struct ShardingCost {
  /// Of parameters and their gradients, per microbatch.
  int64_t parameters = 0;
  /// Of everything else, per microbatch.
  int64_t activations = 0;
  /// Collectives per microbatch.
  int64_t starts = 0;
  /// Of gradients that are summed over the chips once per step.
  int64_t step = 0;
  /// Operations and results of one chip, per microbatch; in parts of 1 / count.
  int64_t work = 0;

  ShardingCost &operator+=(const ShardingCost &other) {
    parameters += other.parameters;
    activations += other.activations;
    starts += other.starts;
    step += other.step;
    work += other.work;
    return *this;
  }
  ShardingCost &operator-=(const ShardingCost &other) {
    parameters -= other.parameters;
    activations -= other.activations;
    starts -= other.starts;
    step -= other.step;
    work -= other.work;
    return *this;
  }

  bool operator<(const ShardingCost &other) const {
    return std::tie(parameters, activations, starts, step, work) <
           std::tie(other.parameters, other.activations, other.starts,
                    other.step, other.work);
  }
};

/// How a value is converted to the states that its users in a function want.
/// Each is made once.
struct Conversions {
  /// First to whole, of which the split ones are parts.
  bool throughWhole = false;
  /// The wanted states other than the value's own.
  llvm::SmallVector<ShardingState, 2> wanted;
  int64_t cost = 0, starts = 0; // as in ShardingCost
};
/// `bytes`: of the whole value.
Conversions planConversions(int64_t bytes, ShardingState from,
                            llvm::ArrayRef<ShardingState> wanted,
                            int64_t count);

/// The values and ops of a block's three functions, with what connects them.
class BlockGraph {
public:
  struct Node {
    mlir::Operation *op;
    std::optional<ShardingRule> rule;
    llvm::SmallVector<unsigned> operands, results; // values
    int64_t work = 0;
  };
  struct Function {
    mlir::func::FuncOp function;
    std::vector<Node> nodes;
    llvm::SmallVector<unsigned> arguments, returned; // values
  };
  /// What an argument or result of a function stands for.
  enum class Role { Data, Parameter, Saved, Output, Carried };
  struct Port {
    Role role;
    unsigned index;
    bool gradient = false;
  };

  /// `gradientOutputs`: the results of the block whose gradients the backward
  /// functions take, in order; by default those of floating type, matched by
  /// type where there are more of them.
  static mlir::FailureOr<BlockGraph>
  get(BlockFunctions functions, int64_t count, int64_t batch = 1,
      std::optional<llvm::SmallVector<unsigned>> gradientOutputs = {});

  int64_t getCount() const { return count; }
  int64_t getBatch() const { return batch; }
  llvm::ArrayRef<Function> getFunctions() const { return functions; }
  mlir::Value getValue(unsigned value) const { return values[value]; }
  mlir::RankedTensorType getType(unsigned value) const {
    return llvm::cast<mlir::RankedTensorType>(values[value].getType());
  }
  /// Of the whole value, with the batch.
  int64_t getBytes(unsigned value) const { return bytes[value]; }
  llvm::ArrayRef<Port> getArguments(unsigned function) const {
    return arguments[function];
  }
  llvm::ArrayRef<Port> getResults(unsigned function) const {
    return results[function];
  }
  unsigned getDataCount() const { return dataCount; }
  unsigned getParameterCount() const { return parameterCount; }
  unsigned getOutputCount() const { return outputCount; }
  unsigned getCarriedCount() const { return carriedCount; }
  unsigned getNumValues() const { return values.size(); }
  bool isParameter(unsigned value) const { return parameterLike[value]; }
  /// The ops that read a value, each once, in order; places in its function.
  llvm::ArrayRef<unsigned> getReaders(unsigned value) const {
    return readers[value];
  }
  /// The results of its function that a value is.
  llvm::ArrayRef<unsigned> getReturns(unsigned value) const {
    return returns[value];
  }
  /// The arguments of later functions that a saved or carried result is.
  struct Argument {
    unsigned function, value;
  };
  llvm::ArrayRef<Argument> getPassed(unsigned function, unsigned result) const {
    return passed[function][result];
  }

private:
  mlir::LogicalResult addPorts(BlockFunctions functions,
                               llvm::ArrayRef<unsigned> gradientOutputs);
  void addUses();

  int64_t count = 1, batch = 1;
  unsigned dataCount = 0, parameterCount = 0, outputCount = 0, carriedCount = 0;
  llvm::SmallVector<Function> functions;
  std::vector<mlir::Value> values;
  std::vector<int64_t> bytes; // by value
  std::vector<bool> parameterLike;
  std::array<llvm::SmallVector<Port>, kBlockFunctions> arguments, results;
  std::vector<llvm::SmallVector<unsigned, 2>> readers, returns; // by value
  std::array<std::vector<llvm::SmallVector<Argument, 2>>, kBlockFunctions>
      passed;
};

/// What follows from a sharding of a block: the state of each value where it is
/// made, the states its users want, and what that costs.
///
/// A saved or carried value is passed on in the state it was made in; one that
/// is partial is passed on as what its function converts it to: whole, else the
/// first split that is wanted, else partial. Gradients of data and results are
/// in the states of these; that of a split parameter is split like it, that of
/// a whole one may be partial.
class BlockStates {
public:
  /// Ops with a linear set whose operands are not partial compute the whole.
  BlockStates(const BlockGraph &graph, const BlockSharding &sharding);

  /// Follows a change of what one op does in the sharding; takes as long as
  /// there are values and ops that it changes.
  void update(unsigned function, unsigned node);

  ShardingState getState(unsigned value) const { return states[value]; }
  llvm::ArrayRef<ShardingState> getWanted(unsigned value) const {
    return wanted[value];
  }
  Conversions getConversions(unsigned value) const;
  /// The state that a result of a function is returned in.
  ShardingState getReturned(unsigned function, unsigned result) const {
    return returned[function][result];
  }
  /// What an op does, after the rule above.
  OpSharding getSharding(unsigned function, unsigned node) const {
    return effective[function][node];
  }
  /// What an op wants operand `index` to be.
  ShardingState getOperandState(unsigned function, unsigned node,
                                unsigned index) const;
  const ShardingCost &getCost() const { return cost; }

private:
  void follow();
  void followNode(unsigned function, unsigned node);
  void followValue(unsigned function, unsigned value);
  void setState(unsigned function, unsigned value, ShardingState state);
  ShardingState stateOfReturned(unsigned function, unsigned result) const;
  ShardingCost costOfNode(unsigned function, unsigned node) const;
  ShardingCost costOfValue(unsigned function, unsigned value) const;

  const BlockGraph &graph;
  const BlockSharding &sharding;
  std::vector<ShardingState> states;
  std::vector<llvm::SmallVector<ShardingState, 2>> wanted;
  std::array<std::vector<OpSharding>, kBlockFunctions> effective;
  std::array<llvm::SmallVector<ShardingState>, kBlockFunctions> returned;
  ShardingCost cost;
  std::vector<ShardingCost> paid; // by value, part of the cost

  /// What is still to be followed, in order.
  std::array<llvm::BitVector, kBlockFunctions> openNodes, openValues;
  bool isFirst = true; // everything is
};

/// Finds what every op does from the seeds. Seeded ops do what is said; for the
/// others the cheapest by ShardingCost that a walk in program order and then
/// changes of single ops find. Deterministic. Fails with a diagnostic when a
/// seed does not fit its value or op.
mlir::FailureOr<BlockSharding> propagateShardings(const BlockGraph &graph,
                                                  const ShardingSeeds &seeds);

/// Rewrites the three functions to what one chip computes: types become local,
/// values are converted where a user wants another state, and results carry
/// `graph.split` and `graph.partial`. `partialGradients`: the parameters, by
/// number, whose whole gradients are to be partial sums although every chip
/// computes them whole (a tied parameter whose other gradients are partial).
mlir::LogicalResult
shardFunctions(const BlockGraph &graph, const BlockSharding &sharding,
               llvm::ArrayRef<unsigned> partialGradients = {});

/// The local value in state `to` of one in state `from`; `type` is that of the
/// whole. Nothing else is said of how: collectives and views.
mlir::Value buildConversion(mlir::OpBuilder &builder, mlir::Location loc,
                            mlir::Value value, mlir::RankedTensorType type,
                            ShardingState from, ShardingState to,
                            const ShardContext &context);

/// Makes one of several collectives of a kind that can be done together: those
/// whose operands are there before the first one's result is read.
void combineCollectives(mlir::func::FuncOp function);

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_TRANSFORMS_BLOCKSHARDING_H
