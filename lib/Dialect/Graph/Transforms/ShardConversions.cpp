//===- ShardConversions.cpp - from one state of a value to another --------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Collectives work on a leading dimension of parts. A tensor that is split at
// (dimension, outer) is, in row-major order, [before, count, behind] with
// before the product of the dimensions in front times outer; its parts come to
// the front by one transpose, or by none where before is 1.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"

#include "mlir/IR/TypeUtilities.h"

using namespace mlir;

namespace tombolo::graph {

namespace {

/// [before, count, behind] of a split tensor.
struct Parts {
  Dim before, behind;
};
Parts getParts(RankedTensorType type, ShardingState state, int64_t count) {
  Dims dims = getDims(type);
  ArrayRef<Dim> all = dims;
  Parts parts{getNumElements(all.take_front(state.dimension)),
              getNumElements(all.drop_front(state.dimension + 1))};
  Dim size = dims[state.dimension];
  parts.before.size *= state.outer;
  parts.behind.size *= size.size / (state.outer * count);
  parts.behind.batch |= size.batch;
  return parts;
}

class Converter {
public:
  Converter(OpBuilder &builder, Location loc, RankedTensorType type,
            const ShardContext &context)
      : builder(builder), loc(loc), type(type), context(context) {}

  /// A whole value, or one that is the sum's part on this chip, with the parts
  /// of `state` in front.
  Value partsToFront(Value whole, ShardingState state) {
    auto [before, behind] = getParts(type, state, context.count);
    Value parts = reshape(whole, {before, Dim{context.count}, behind});
    if (!before.isOne())
      return transpose(parts, {1, 0, 2});
    return reshape(parts, {Dim{context.count}, before, behind});
  }
  Value shard(Value whole, ShardingState state) {
    Value part = builder.create<ShardOp>(loc, partsToFront(whole, state),
                                         context.getTensorIndex());
    return toLocal(part, state);
  }
  Value reduceScatter(Value partial, ShardingState state) {
    Value part =
        builder.create<ReduceScatterOp>(loc, partsToFront(partial, state));
    return toLocal(part, state);
  }
  Value allGather(Value local, ShardingState state) {
    auto [before, behind] = getParts(type, state, context.count);
    Value gathered =
        builder.create<AllGatherOp>(loc, reshape(local, {before, behind}),
                                    builder.getI64IntegerAttr(context.count));
    if (!before.isOne())
      gathered = transpose(gathered, {1, 0, 2});
    return reshape(gathered, getDims(type));
  }
  /// Dimension d of `from` is whole on no chip, e of `to` is; chip i sends to
  /// chip j what i has of part j of e.
  Value allToAll(Value local, ShardingState from, ShardingState to) {
    RankedTensorType localType = getLocalType(type, from, context.count);
    // Part j of e in front.
    auto toFront = Converter(builder, loc, localType, context);
    Value parts = toFront.partsToFront(local, to);
    Value received = builder.create<AllToAllOp>(loc, parts);
    // Now the parts in front are those of d, of the local type of `to`.
    RankedTensorType resultType = getLocalType(type, to, context.count);
    auto [before, behind] = getParts(resultType, from, context.count);
    received = reshape(received, {Dim{context.count}, before, behind});
    if (!before.isOne())
      received = transpose(received, {1, 0, 2});
    return reshape(received, getDims(resultType));
  }

private:
  Value reshape(Value value, ArrayRef<Dim> dims) {
    return buildReshape(builder, loc, value,
                        getTensorType(dims, type.getElementType()));
  }
  Value transpose(Value value, ArrayRef<int64_t> permutation) {
    return builder.create<TransposeOp>(
        loc, value, builder.getDenseI64ArrayAttr(permutation));
  }
  Value toLocal(Value part, ShardingState state) {
    return reshape(part, getDims(getLocalType(type, state, context.count)));
  }

  OpBuilder &builder;
  Location loc;
  RankedTensorType type;
  const ShardContext &context;
};

} // namespace

Value buildConversion(OpBuilder &builder, Location loc, Value value,
                      RankedTensorType type, ShardingState from,
                      ShardingState to, const ShardContext &context) {
  Converter convert(builder, loc, type, context);
  if (from == to)
    return value;
  if (to.isWhole())
    return from.isPartial() ? builder.create<AllReduceOp>(loc, value)
                            : convert.allGather(value, from);
  if (from.isWhole())
    return convert.shard(value, to);
  if (from.isPartial())
    return convert.reduceScatter(value, to);
  return convert.allToAll(value, from, to);
}

//===----------------------------------------------------------------------===//
// Several as one
//===----------------------------------------------------------------------===//

namespace {

/// Above this a copy into one tensor costs more than a further start of a
/// collective.
constexpr int64_t kMaxCombinedBytes = 1 << 20;

/// A collective that can be done with others of its kind: every part as one
/// row.
struct Combinable {
  Operation *op;
  /// Whether operand, result have a leading dimension of parts.
  bool partsIn, partsOut;
};

std::optional<Combinable> getCombinable(Operation &op) {
  if (isa<AllReduceOp>(op))
    return Combinable{&op, false, false};
  if (isa<AllGatherOp>(op))
    return Combinable{&op, false, true};
  if (isa<ReduceScatterOp>(op))
    return Combinable{&op, true, false};
  if (isa<AllToAllOp>(op))
    return Combinable{&op, true, true};
  return std::nullopt;
}

/// Dimensions of a value as one row, or as one row for each part.
Dims getRows(Value value, bool parts) {
  Dims dims = getDims(value);
  if (!parts)
    return {getNumElements(ArrayRef<Dim>(dims))};
  return {dims[0], getNumElements(ArrayRef<Dim>(dims).drop_front())};
}

void combine(ArrayRef<Operation *> group, const Combinable &kind,
             Operation *before) {
  OpBuilder builder(before);
  Location loc = group.front()->getLoc();
  SmallVector<Value> rows;
  SmallVector<int64_t> sizes;
  for (Operation *op : group) {
    Dims dims = getRows(op->getOperand(0), kind.partsIn);
    sizes.push_back(dims.back().size);
    rows.push_back(buildReshape(
        builder, loc, op->getOperand(0),
        getTensorType(dims, getElementTypeOrSelf(op->getOperand(0)))));
  }
  Value all = builder.create<ConcatOp>(
      loc, rows, builder.getI64IntegerAttr(kind.partsIn ? 1 : 0));
  OperationState state(loc, group.front()->getName().getStringRef(), all, {},
                       group.front()->getAttrs());
  auto type = cast<RankedTensorType>(all.getType());
  Dims dims = getDims(type);
  if (kind.partsIn && !kind.partsOut)
    dims.erase(dims.begin());
  if (!kind.partsIn && kind.partsOut)
    dims.insert(dims.begin(), getDims(group.front()->getResult(0))[0]);
  state.addTypes(getTensorType(dims, type.getElementType()));
  Value result = builder.create(state)->getResult(0);
  int64_t offset = 0;
  for (auto [op, size] : llvm::zip(group, sizes)) {
    Value part = builder.create<SliceOp>(
        loc, result, builder.getI64IntegerAttr(kind.partsOut ? 1 : 0),
        builder.getI64IntegerAttr(offset), builder.getI64IntegerAttr(size),
        builder.getI64IntegerAttr(1));
    offset += size;
    op->getResult(0).replaceAllUsesWith(
        buildReshape(builder, loc, part,
                     cast<RankedTensorType>(op->getResult(0).getType())));
  }
  for (Operation *op : group)
    op->erase();
}

Operation *getFirstUser(Operation *op) {
  Operation *first = nullptr;
  for (Operation *user : op->getUsers())
    if (!first || user->isBeforeInBlock(first))
      first = user;
  return first;
}

} // namespace

void combineCollectives(func::FuncOp function) {
  Block &body = function.getBody().front();
  for (Operation *op = &body.front(); op;) {
    Operation *next = op->getNextNode();
    auto kind = getCombinable(*op);
    auto isSmall = [](Operation *op) {
      auto type = cast<RankedTensorType>(op->getOperand(0).getType());
      return type.hasStaticShape() && getNumBytes(type, 1) <= kMaxCombinedBytes;
    };
    if (!kind || !isSmall(op)) {
      op = next;
      continue;
    }
    // Together they stand where the first result of any of them is read, so
    // every operand has to be there by then.
    SmallVector<Operation *> group = {op};
    Operation *place = getFirstUser(op);
    for (Operation *other = next; place && other;
         other = other->getNextNode()) {
      if (other->getName() != op->getName() || !isSmall(other) ||
          getElementTypeOrSelf(other->getOperand(0)) !=
              getElementTypeOrSelf(op->getOperand(0)))
        continue;
      Operation *user = getFirstUser(other);
      if (!user)
        continue;
      Operation *earlier = user->isBeforeInBlock(place) ? user : place;
      auto isThere = [&](Operation *member) {
        Operation *source = member->getOperand(0).getDefiningOp();
        return !source || source->isBeforeInBlock(earlier);
      };
      if (!isThere(other) || !llvm::all_of(group, isThere))
        continue;
      place = earlier;
      group.push_back(other);
    }
    if (group.size() > 1) {
      while (next && llvm::is_contained(group, next))
        next = next->getNextNode();
      combine(group, *kind, place);
    }
    op = next;
  }
}

} // namespace tombolo::graph
