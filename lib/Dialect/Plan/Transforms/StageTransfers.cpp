//===- StageTransfers.cpp - what crosses from stage to stage --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tensor that is split over the chips of a replica alike on both sides goes
// from each chip to the one with its number. One that all chips have goes over
// once: its elements in a row are cut into *pieces*, as many as the smallest
// common multiple of the two degrees, so that each chip of either side has
// equally many consecutive ones. Chip i sends its pieces, each to the chip
// whose piece it is, and the receiving chips gather the whole. Where the pieces
// do not divide the elements the last ones are filled up with what lies behind
// the tensor in its buffer.
//
//===----------------------------------------------------------------------===//

#include "StageProgram.h"

#include <numeric>

using namespace mlir;

namespace tombolo::plan {

Crossing getCrossing(const BoundaryValue &value, int64_t degree,
                     int64_t otherDegree) {
  Crossing crossing;
  if (value.split || (degree == 1 && otherDegree == 1)) {
    crossing.bytes = storageBytes(value.type);
    return crossing;
  }
  crossing.pieces = std::lcm(degree, otherDegree);
  int64_t bytes = elementBytes(value.type.getElementType());
  int64_t elements =
      llvm::divideCeil(value.type.getNumElements(), crossing.pieces);
  // Addresses of pieces are multiples of any element's size.
  constexpr int64_t kPieceAlignment = 8;
  crossing.pieceBytes = llvm::alignTo(elements * bytes, kPieceAlignment);
  crossing.bytes = crossing.pieces * crossing.pieceBytes;
  return crossing;
}

int64_t ProgramBuilder::degreeOf(int64_t place) const {
  dist::RunOp run = task.places[place].front().op;
  auto parent = cast<dist::StageOp>(run->getParentOp());
  return (*parent.getBody().getOps<dist::ReplicasOp>().begin())
      .getTensorParallel();
}

/// What crosses the boundary between a chunk and the next one.
SmallVector<BoundaryValue> ProgramBuilder::valuesBehind(int64_t place,
                                                        bool forward) const {
  const RunBlocks &before = task.places[place].back();
  const RunBlocks &next = task.places[place + 1].front();
  SmallVector<BoundaryValue> values;
  if (forward) {
    for (const DataArgument &data : next.data)
      if (data.source >= 0)
        values.push_back({data.source, before.outputs.types[data.source],
                          before.splits[data.source]});
  } else {
    for (auto [k, result] : llvm::enumerate(before.gradientResults))
      values.push_back(
          {result, before.outputGradients.types[k], before.splits[result]});
  }
  llvm::sort(values, [](const BoundaryValue &a, const BoundaryValue &b) {
    return a.result < b.result;
  });
  return values;
}

/// Sends or receives what crosses one of the chunk's boundaries.
void ProgramBuilder::transfer(const Chunk &chunk, bool send, bool forward,
                              ExprAttr microbatch) {
  const Chunk::Boundary &buffers =
      forward ? (send ? chunk.sendForward : chunk.receiveForward)
              : (send ? chunk.sendBackward : chunk.receiveBackward);
  // Forward goes to the next chunk, backward comes from there: to the last
  // stage's the first stage's are the next ones.
  int64_t other = chunk.place + (send == forward ? 1 : -1);
  if (other < 0 || other >= placeCount())
    return; // the model's ends
  int64_t degree = task.tensorParallel, otherDegree = degreeOf(other);
  Lane lane = forward ? (send ? Lane::SendForward : Lane::ReceiveForward)
                      : (send ? Lane::SendBackward : Lane::ReceiveBackward);
  for (const BoundaryValue &value :
       valuesBehind(std::min(chunk.place, other), forward)) {
    FlatSymbolRefAttr buffer = buffers.lookup(value.result);
    Crossing crossing = getCrossing(value, degree, otherDegree);
    auto move = [&](ExprAttr offset, int64_t bytes, ExprAttr tensorIndex) {
      AddressAttr address = at(buffer, microbatch, offset);
      auto create = [&]<typename OpT>(OpT) {
        builder.create<OpT>(loc, builder.getI64IntegerAttr(other % task.stages),
                            address, builder.getI64IntegerAttr(bytes),
                            microbatch, tensorIndex,
                            LaneAttr::get(context, lane), ArrayAttr(),
                            ArrayAttr(), GuardAttr());
      };
      send ? create(SendOp()) : create(ReceiveOp());
    };
    if (crossing.pieces == 0) {
      move(constant(0), crossing.bytes, ExprAttr());
      continue;
    }
    int64_t own = crossing.pieces / degree;
    for (int64_t t = 0; t < own; ++t) {
      // Piece tensor_index * own + t, which is the other side's chip's with
      // the number piece * otherDegree / pieces.
      auto piece = [&](int64_t factor, int64_t divisor) {
        SmallVector<Term> terms;
        if (degree > 1)
          terms.push_back(Term{0, own * factor, 0, 0, Coordinate::TensorIndex});
        return ExprAttr::get(context, t * factor, terms, divisor);
      };
      ExprAttr tensorIndex;
      if (otherDegree == 1)
        tensorIndex = constant(0);
      else if (degree == 1)
        tensorIndex = constant(t * otherDegree / crossing.pieces);
      else if (otherDegree != degree)
        tensorIndex = piece(otherDegree, crossing.pieces);
      move(piece(crossing.pieceBytes, 1), crossing.pieceBytes, tensorIndex);
    }
    if (send || degree == 1)
      continue;
    int64_t bytes = elementBytes(value.type.getElementType());
    auto gather = builder.create<CollectiveOp>(
        loc, builder.getStringAttr("all_gather"),
        GroupAttr::get(context, Group::Tensor),
        at(buffer, microbatch, constant(0)),
        builder.getI64IntegerAttr(crossing.bytes / bytes),
        TypeAttr::get(value.type.getElementType()), DenseI64ArrayAttr(),
        LaneAttr::get(context, Lane::Collective), ArrayAttr(), ArrayAttr(),
        GuardAttr());
    gather->setAttr(kPassAttr, builder.getStringAttr(forward ? kForwardPass
                                                             : kBackwardPass));
  }
}

} // namespace tombolo::plan
