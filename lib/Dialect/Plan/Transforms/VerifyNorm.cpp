//===- VerifyNorm.cpp - the norm that gradients are clipped by ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepOrder.h"
#include "VerifyUpdate.h"

#include <cmath>

using namespace mlir;

namespace tombolo::plan {

namespace {

/// A call that adds the squares of gradients [begin, end), on all replicas
/// together; each square counts `weight` times then.
struct Sum {
  CallOp call;
  int64_t begin = 0, end = 0;
  double weight = 0;
};

class NormVerifier {
public:
  NormVerifier(ProgramOp program, int64_t stage, int64_t tensorParallel,
               ArrayRef<int64_t> replicasOf, StringRef place,
               const SymbolTable &symbols)
      : program(program), replicas(replicasOf[stage]),
        tensorParallel(tensorParallel), replicasOf(replicasOf), place(place),
        symbols(symbols), order(program.getStep()) {
    for (RegionOp region : program.getOps<RegionOp>())
      if (region.getRegionName() == "gradients")
        gradients = region;
  }

  LogicalResult run() {
    std::optional<AddressAttr> address = program.getGradientSquares();
    if (!address)
      return success();
    squares = address->getOffset().getConstant();
    return success(succeeded(collect()) && succeeded(verifySums()) &&
                   succeeded(verifyWrites()) && succeeded(verifyReduction()));
  }

private:
  InFlightDiagnostic fault(Operation *op) {
    return op->emitError() << place << ": ";
  }

  static std::optional<ComputeOp> findSquareSum(SegmentOp segment) {
    for (auto compute : segment.getBody().getOps<ComputeOp>())
      if (compute.getOpcode() == "square_sum")
        return compute;
    return std::nullopt;
  }

  LogicalResult collect() {
    for (Operation *op : order.getInstructions()) {
      auto call = dyn_cast<CallOp>(op);
      if (!call)
        continue;
      auto segment = symbols.lookup<SegmentOp>(call.getSegment());
      SmallVector<AddressAttr> addresses =
          llvm::to_vector(call.getAddresses().getAsRange<AddressAttr>());
      if (std::optional<ComputeOp> sum = findSquareSum(segment)) {
        if (failed(collectSum(call, *sum, addresses)))
          return failure();
        continue;
      }
      for (auto [i, argument] : llvm::enumerate(addresses))
        if (argument.getOffset().getConstant() == squares &&
            segment.getAccess(i) == Access::Read)
          readers.push_back(call);
    }
    return success();
  }

  /// On how many ranks gradients are the same when they are summed.
  int64_t copiesOf(const Sum &sum) {
    for (Operation *op : order.getInstructions())
      if (auto collective = dyn_cast<CollectiveOp>(op)) {
        int64_t from = collective.getAddress().getOffset().getConstant();
        std::optional<ArrayRef<int64_t>> stages = collective.getStages();
        if (!stages || sum.begin < from ||
            sum.end > from + 4 * collective.getElements())
          continue;
        int64_t copies = 0;
        for (int64_t stage : *stages)
          copies += stage < static_cast<int64_t>(replicasOf.size())
                        ? replicasOf[stage]
                        : 0;
        return copies;
      }
    return replicas;
  }

  LogicalResult collectSum(CallOp call, ComputeOp sum,
                           ArrayRef<AddressAttr> addresses) {
    if (!isa<StepOp>(call->getParentOp()) || call.getGuard())
      return fault(call) << "sums the squares of gradients more or less often "
                            "than once a step";
    auto type = cast<MemRefType>(sum.getInputs()[0].getType());
    auto scale = sum.getSettings()
                     ? sum.getSettings()->getAs<FloatAttr>("scale")
                     : FloatAttr();
    if (addresses.size() != 2 || !scale ||
        addresses[1].getOffset() != ExprAttr::get(call.getContext(), squares))
      return fault(call) << "expected a sum of squares to where the program "
                            "says it stands";
    int64_t bytes = storageBytes(type), begin = 0, perReplica = 0;
    begin = addresses[0].getOffset().getConstant();
    for (const Term &term : addresses[0].getOffset().getTerms()) {
      if (term.coordinate != Coordinate::Replica || term.modulus != 0 ||
          term.offset != 0)
        return fault(call) << "sums squares at an address that is neither the "
                              "same on all replicas nor one part on each";
      perReplica += term.factor;
    }
    Sum one{call, begin, begin + bytes, scale.getValueAsDouble()};
    if (perReplica == 0)
      one.weight *= static_cast<double>(copiesOf(one));
    else if (perReplica == bytes)
      one.end = begin + bytes * replicas;
    else
      return fault(call) << "sums the squares of " << bytes << " bytes on each "
                         << "replica, whose parts are " << perReplica
                         << " bytes apart";
    // Every chip of a replica has what is not split.
    if (!isSplit(one))
      one.weight *= static_cast<double>(tensorParallel);
    sums.push_back(one);
    return success();
  }

  bool isSplit(const Sum &sum) {
    RegionOp parameters;
    for (RegionOp region : program.getOps<RegionOp>())
      if (region.getRegionName() == "parameters")
        parameters = region;
    if (!parameters || !gradients)
      return false;
    int64_t shift = gradients.getOffset() - parameters.getOffset();
    for (auto family : program.getOps<ParametersOp>()) {
      int64_t at = family.getAddress().getOffset().getConstant() + shift;
      if (family.getFrozen() || !family.getSlices() || at < sum.begin ||
          at >= sum.end)
        continue;
      for (auto slice : family.getSlices()->getAsRange<SliceAttr>())
        if (slice.getTensorStride() > 0)
          return true;
    }
    return false;
  }

  /// Every byte of the gradients counts once.
  LogicalResult verifySums() {
    llvm::sort(sums,
               [](const Sum &a, const Sum &b) { return a.begin < b.begin; });
    int64_t next = gradients ? gradients.getOffset() : 0;
    int64_t end = gradients ? next + gradients.getBytes() : 0;
    for (const Sum &sum : sums) {
      if (sum.begin != next || sum.end > end)
        return fault(sum.call)
               << "sums the squares of bytes " << sum.begin << " to " << sum.end
               << ", expected those from " << next << " on";
      // 1 / replicas is not always a number; its rounding is.
      if (std::abs(sum.weight - 1) > 1e-12)
        return fault(sum.call)
               << "counts the squares of gradients " << sum.weight << " times";
      next = sum.end;
    }
    if (next != end)
      return program.emitError() << place << ": the squares of gradients from "
                                 << "byte " << next << " on are not summed";
    return success();
  }

  /// Nothing writes gradients, or sets the sum to zero, once it has begun.
  LogicalResult verifyWrites() {
    for (Operation *op : order.getInstructions()) {
      auto call = dyn_cast<CallOp>(op);
      if (!call)
        continue;
      auto segment = symbols.lookup<SegmentOp>(call.getSegment());
      for (auto [i, argument] :
           llvm::enumerate(call.getAddresses().getAsRange<AddressAttr>())) {
        if (segment.getAccess(i) == Access::Read)
          continue;
        int64_t from = argument.getOffset().getConstant();
        int64_t bytes = storageBytes(
            cast<MemRefType>(segment.getBody().getArgument(i).getType()));
        bool writes = (gradients && from >= gradients.getOffset() &&
                       from < gradients.getOffset() + gradients.getBytes()) ||
                      (from <= squares && squares < from + bytes);
        for (const Sum &sum : sums)
          if (writes && !findSquareSum(segment) &&
              !order.isCompleteBefore(call, sum.call))
            return call.emitOpError()
                   << "may write gradients after the sum of their squares";
      }
    }
    return success();
  }

  /// Where the island has other ranks, one sum over them, between the squares
  /// and what reads them.
  LogicalResult verifyReduction() {
    CollectiveOp reduction;
    for (Operation *op : order.getInstructions()) {
      auto collective = dyn_cast<CollectiveOp>(op);
      if (!collective || collective.getGroup() != Group::Island)
        continue;
      int64_t from = collective.getAddress().getOffset().getConstant();
      if (squares < from || squares >= from + 4 * collective.getElements())
        continue;
      bool early = llvm::any_of(sums, [&](const Sum &sum) {
        return !order.isCompleteBefore(sum.call, collective);
      });
      if (reduction || !isa<StepOp>(collective->getParentOp()) || early ||
          collective.getKind() != "all_reduce_sum")
        return fault(collective) << "reduces the squares of gradients more "
                                    "than once, or before they are summed";
      reduction = collective;
    }
    bool isAlone =
        replicasOf.size() == 1 && replicas == 1 && tensorParallel == 1;
    if (!reduction && !isAlone)
      return program.emitError()
             << place
             << ": the squares of gradients are not summed over the island";
    for (CallOp reader : readers) {
      bool early = reduction && !order.isCompleteBefore(reduction, reader);
      for (const Sum &sum : sums)
        early |= !order.isCompleteBefore(sum.call, reader);
      if (early)
        return reader.emitOpError()
               << "may read the norm of gradients before it is complete";
    }
    return success();
  }

  ProgramOp program;
  int64_t replicas;
  int64_t tensorParallel;
  ArrayRef<int64_t> replicasOf;
  StringRef place;
  const SymbolTable &symbols;
  StepOrder order;
  RegionOp gradients;
  int64_t squares = 0;
  SmallVector<Sum> sums;
  SmallVector<CallOp> readers;
};

} // namespace

LogicalResult verifyNorm(ProgramOp program, int64_t stage,
                         int64_t tensorParallel, ArrayRef<int64_t> replicasOf,
                         StringRef place, const SymbolTable &symbols) {
  return NormVerifier(program, stage, tensorParallel, replicasOf, place,
                      symbols)
      .run();
}

} // namespace tombolo::plan
