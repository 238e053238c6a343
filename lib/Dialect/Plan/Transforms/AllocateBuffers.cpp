//===- AllocateBuffers.cpp - one arena for each program -------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANALLOCATEBUFFERS
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

/// The arena's parts in the order in which they lie; others follow by name of
/// appearance. What is kept from step to step comes first.
const StringRef regionOrder[] = {
    "parameters",      "frozen",  "gradients", "exp_avg",      "exp_avg_sq",
    "momentum_buffer", "updates", "stats",     "tensor_index", "inputs",
    "boundary",        "saved",   "workspace"};

class ProgramAllocation {
public:
  /// `server` is null when there is none.
  ProgramAllocation(ProgramOp program, ServerOp server)
      : program(program), server(server), context(program.getContext()) {}

  LogicalResult run() {
    if (failed(place()))
      return failure();
    program.setStatsAttr(rewrite(program.getStats()));
    program.setUpdatesAttr(rewrite(program.getUpdates()));
    if (auto address = program.getTensorIndex())
      program.setTensorIndexAttr(rewrite(*address));
    if (auto squares = program.getGradientSquares())
      program.setGradientSquaresAttr(rewrite(*squares));
    WalkResult result = program.walk([&](Operation *op) {
      if (isa<ProgramOp>(op))
        return WalkResult::advance();
      return failed(rewrite(op)) ? WalkResult::interrupt()
                                 : WalkResult::advance();
    });
    if (result.wasInterrupted())
      return failure();
    for (BufferOp buffer :
         llvm::make_early_inc_range(program.getOps<BufferOp>()))
      buffer.erase();
    return planHost();
  }

private:
  struct Place {
    int64_t offset, slots, slotBytes;
  };

  LogicalResult place() {
    llvm::MapVector<StringRef, SmallVector<BufferOp>> regions;
    for (StringRef name : regionOrder)
      regions[name];
    for (BufferOp buffer : program.getOps<BufferOp>())
      regions[buffer.getRegionName()].push_back(buffer);
    OpBuilder builder(&program.getBody().front(),
                      program.getBody().front().begin());
    int64_t end = 0;
    for (auto &[name, buffers] : regions) {
      int64_t begin = end;
      for (BufferOp buffer : buffers) {
        int64_t bytes;
        if (__builtin_mul_overflow(buffer.getSlots(), buffer.getSlotBytes(),
                                   &bytes) ||
            __builtin_add_overflow(end, bytes, &end) || end > maxArenaBytes)
          return buffer.emitOpError("makes the arena larger than 2^56 bytes");
        places[buffer.getSymNameAttr()] = {end - bytes, buffer.getSlots(),
                                           buffer.getSlotBytes()};
      }
      if (end > begin)
        builder.create<RegionOp>(program.getLoc(), builder.getStringAttr(name),
                                 builder.getI64IntegerAttr(begin),
                                 builder.getI64IntegerAttr(end - begin));
    }
    program.setArenaBytes(end);
    return success();
  }

  /// With a server a rank keeps on the host, f32 for each element: the base of
  /// its next push, and what that sends or its answer brings; the parameters as
  /// they were, where training goes on meanwhile; and of what it owns what
  /// compressing has lost, now and before the push.
  LogicalResult planHost() {
    int64_t host = 0;
    bool trainsOn =
        server &&
        (server.getOverlapSteps() > 0 ||
         server.getQuorum() <
             static_cast<int64_t>(llvm::range_size(
                 program->getParentOfType<ModuleOp>().getOps<IslandOp>())));
    if (server)
      for (ParametersOp family : program.getOps<ParametersOp>()) {
        if (family.getFrozen())
          continue;
        bool compressed = server.getCompression() != "none";
        int64_t each =
            8 + (trainsOn ? 4 : 0) + (family.getOwner() && compressed ? 8 : 0);
        int64_t bytes;
        if (__builtin_mul_overflow(family.getLocalElements() * each,
                                   family.getCount(), &bytes) ||
            __builtin_add_overflow(host, bytes, &host) || host > maxArenaBytes)
          return family.emitOpError("needs more than 2^56 bytes on the host");
      }
    program.setHostBytes(host);
    return success();
  }

  /// base + (slot mod slots) * slot_bytes + offset; null when the slot is no
  /// expression that mod can be taken of.
  AddressAttr rewrite(AddressAttr address) {
    if (!address.getBuffer())
      return address;
    // Calls of a block, forward and backward, share most of theirs.
    auto [known, isNew] = rewritten.try_emplace(address);
    if (isNew)
      known->second = placed(address);
    return known->second;
  }

  AddressAttr placed(AddressAttr address) const {
    const Place &place = places.find(address.getBuffer().getAttr())->second;
    FailureOr<ExprAttr> slot = address.getSlot().mod(place.slots);
    if (failed(slot))
      return {};
    return AddressAttr::get(address.getOffset()
                                .plus(slot->scaledBy(place.slotBytes))
                                .plus(place.offset));
  }

  LogicalResult rewrite(Operation *op) {
    // One by one: a dictionary of them would be made anew for each op.
    for (StringAttr name : op->getName().getAttributeNames()) {
      Attribute value = op->getInherentAttr(name).value_or(Attribute());
      Attribute result;
      if (!value)
        continue;
      if (auto address = dyn_cast<AddressAttr>(value)) {
        result = rewrite(address);
      } else if (isa<CallOp>(op) && isa<ArrayAttr>(value) &&
                 name == "addresses") {
        SmallVector<Attribute> all;
        for (auto address : cast<ArrayAttr>(value).getAsRange<AddressAttr>()) {
          AddressAttr inArena = rewrite(address);
          if (!inArena)
            return op->emitOpError() << "has a slot that is no microbatch";
          all.push_back(inArena);
        }
        result = ArrayAttr::get(context, all);
      } else {
        continue;
      }
      if (!result)
        return op->emitOpError() << "has a slot that is no microbatch";
      op->setInherentAttr(name, result);
    }
    return success();
  }

  static constexpr int64_t maxArenaBytes = int64_t{1} << 56;
  ProgramOp program;
  ServerOp server;
  MLIRContext *context;
  llvm::DenseMap<StringAttr, Place> places;
  llvm::DenseMap<AddressAttr, AddressAttr> rewritten;
};

class AllocateBuffers : public impl::PlanAllocateBuffersBase<AllocateBuffers> {
public:
  void runOnOperation() override {
    auto servers = getOperation().getOps<ServerOp>();
    ServerOp server = servers.empty() ? ServerOp() : *servers.begin();
    for (ProgramOp program : getOperation().getOps<ProgramOp>())
      if (failed(ProgramAllocation(program, server).run()))
        return signalPassFailure();
  }
};

} // namespace
} // namespace tombolo::plan
