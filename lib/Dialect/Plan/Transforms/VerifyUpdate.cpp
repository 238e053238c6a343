//===- VerifyUpdate.cpp - from gradients to parameters --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Everything is told by byte ranges of the regions "gradients" and
// "parameters". A call's argument is where its address begins in the first
// iteration of the loops around it: a call never leaves a region.
//
//===----------------------------------------------------------------------===//

#include "VerifyUpdate.h"

#include "StepOrder.h"

using namespace mlir;

namespace tombolo::plan {

namespace {

/// What a collective over replicas, or over all replicas of `stages`, moves.
/// With parts, replica r has part r.
struct Exchanged {
  CollectiveOp op;
  int64_t begin = 0, end = 0; // arena bytes
  bool scattered = false;     // one sum in each part, instead of all
  int64_t partBytes = 0;
  SmallVector<int64_t> stages; // empty: only this one
};

/// An argument of a call that lies in a region.
struct Use {
  CallOp call;
  bool writes = false;
  int64_t begin = 0, bytes = 0;
  int64_t perReplica = 0; // bytes from one replica's to the next one's
};

class UpdateVerifier {
public:
  UpdateVerifier(ProgramOp program, int64_t replicas, StringRef place,
                 ArrayRef<SharedBytes> shared, const SymbolTable &symbols)
      : program(program), replicas(replicas), place(place), shared(shared),
        symbols(symbols), order(program.getStep()) {
    for (RegionOp region : program.getOps<RegionOp>()) {
      if (region.getRegionName() == "gradients")
        gradients = region;
      if (region.getRegionName() == "parameters")
        parameters = region;
    }
  }

  LogicalResult run() {
    if (failed(collect()))
      return failure();
    bool overReplicas = llvm::any_of(
        sums, [](const Exchanged &sum) { return sum.stages.empty(); });
    if (replicas == 1 && (overReplicas || !gathers.empty()))
      return program.emitError()
             << place << ": reduces gradients of a single replica";
    return success(succeeded(verifySums()) && succeeded(verifyShared()) &&
                   succeeded(verifyReads()) && succeeded(verifyGathers()) &&
                   succeeded(verifyStates()));
  }

private:
  static bool contains(RegionOp region, int64_t byte) {
    return region && byte >= region.getOffset() &&
           byte < region.getOffset() + region.getBytes();
  }

  LogicalResult collect() {
    WalkResult result = program.getStep().walk([&](CollectiveOp collective) {
      return (collective.getGroup() == Group::Replicas ||
              collective.getGroup() == Group::Stages) &&
                     failed(collect(collective))
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    });
    return failure(result.wasInterrupted());
  }

  LogicalResult collect(CollectiveOp collective) {
    bool gather = collective.getKind() == "all_gather";
    ExprAttr offset = collective.getAddress().getOffset();
    if (!isa<StepOp>(collective->getParentOp()) || !offset.isConstant() ||
        collective.getGuard())
      return collective.emitOpError()
             << (gather ? "gathers parameters" : "reduces gradients")
             << " more or less often than once a step";
    bool scattered = collective.getKind() == "reduce_scatter_sum";
    if ((!gather && !scattered && collective.getKind() != "all_reduce_sum") ||
        !collective.getType().isF32())
      return collective.emitOpError()
             << (gather ? "gathers parameters" : "reduces gradients") << " by "
             << collective.getKind() << " of " << collective.getType()
             << " instead of all_reduce_sum or reduce_scatter_sum of f32, and "
                "all_gather of f32 for parameters";
    Exchanged one{collective, offset.getConstant(), 0, scattered, 0, {}};
    if (auto stages = collective.getStages())
      one.stages.assign(stages->begin(), stages->end());
    one.end = one.begin + 4 * collective.getElements();
    if (gather || scattered) {
      if (collective.getElements() % replicas != 0)
        return collective.emitOpError()
               << "moves " << collective.getElements() << " elements in "
               << replicas << " equal parts";
      one.partBytes = (one.end - one.begin) / replicas;
    }
    (gather ? gathers : sums).push_back(one);
    return success();
  }

  /// The arguments of calls in the region, in program order.
  SmallVector<Use> usesOf(RegionOp region) const {
    SmallVector<Use> uses;
    for (Operation *op : order.getInstructions()) {
      auto call = dyn_cast<CallOp>(op);
      if (!call)
        continue;
      auto segment = symbols.lookup<SegmentOp>(call.getSegment());
      for (auto [i, address] :
           llvm::enumerate(call.getAddresses().getAsRange<AddressAttr>())) {
        ExprAttr offset = address.getOffset();
        if (!contains(region, offset.getConstant()))
          continue;
        Use use{call, segment.getAccess(i) != Access::Read,
                offset.getConstant(),
                storageBytes(cast<MemRefType>(
                    segment.getBody().getArgument(i).getType())),
                0};
        for (const Term &term : offset.getTerms())
          if (term.coordinate == Coordinate::Replica)
            use.perReplica += term.factor;
        uses.push_back(use);
      }
    }
    return uses;
  }

  /// Every byte of the gradients is summed once.
  LogicalResult verifySums() {
    llvm::sort(sums, [](const Exchanged &a, const Exchanged &b) {
      return a.begin < b.begin;
    });
    int64_t begin = gradients ? gradients.getOffset() : 0;
    int64_t end = gradients ? begin + gradients.getBytes() : 0;
    int64_t next = begin;
    for (const Exchanged &sum : sums) {
      if (sum.begin < next)
        return program.emitError() << place << ": gradient byte "
                                   << sum.begin - begin << " is reduced twice";
      if (sum.begin > next && replicas > 1)
        break;
      next = sum.end;
    }
    if (next > end || (next != end && replicas > 1))
      return program.emitError() << place << ": gradient byte " << next - begin
                                 << " is not reduced";
    return success();
  }

  /// A sum over stages is of what these stages share, and of nothing else.
  LogicalResult verifyShared() {
    if (!gradients || !parameters)
      return success();
    int64_t shift = gradients.getOffset() - parameters.getOffset();
    auto holds = [&](const Exchanged &sum, int64_t begin, int64_t end) {
      return sum.begin <= begin + shift && end + shift <= sum.end;
    };
    for (const SharedBytes &one : shared)
      if (llvm::none_of(sums, [&](const Exchanged &sum) {
            return sum.stages == one.stages && holds(sum, one.begin, one.end);
          }))
        return program.emitError()
               << place << ": gradients from byte "
               << one.begin - parameters.getOffset()
               << " on, of a parameter that other stages have, too, are not "
                  "summed over these";
    for (auto family : program.getOps<ParametersOp>()) {
      if (family.getFrozen())
        continue;
      int64_t begin = family.getAddress().getOffset().getConstant();
      int64_t bytes = 4 * family.getLocalElements();
      for (int64_t k = 0; k < family.getCount();
           ++k, begin += family.getStride())
        for (const Exchanged &sum : sums)
          if (!sum.stages.empty() && begin + shift < sum.end &&
              sum.begin < begin + bytes + shift &&
              llvm::none_of(shared, [&](const SharedBytes &one) {
                return one.begin == begin && one.stages == sum.stages;
              }))
            return CollectiveOp(sum.op).emitOpError()
                   << "sums gradients over stages that do not have the "
                      "parameter";
    }
    return success();
  }

  /// Calls that write gradients are complete before their sum starts, and it is
  /// complete before calls that only read them start; these read what is there.
  LogicalResult verifyReads() {
    if (!gradients)
      return success();
    llvm::DenseSet<Operation *> writers;
    SmallVector<Use> uses = usesOf(gradients);
    for (const Use &use : uses)
      if (use.writes)
        writers.insert(use.call);
    for (Use use : uses)
      for (const Exchanged &sum : sums) {
        bool writes = writers.contains(use.call);
        if (writes && !order.isCompleteBefore(use.call, sum.op))
          return use.call.emitOpError()
                 << "may write gradients after their reduction has started";
        if (writes)
          continue;
        if (isa<LoopOp>(use.call->getParentOp()) ||
            !order.isCompleteBefore(sum.op, use.call))
          return use.call.emitOpError()
                 << "may read gradients before their reduction is complete";
        if (sum.scattered && use.begin >= sum.begin && use.begin < sum.end &&
            !isOwn(use, sum))
          return use.call.emitOpError()
                 << "reads gradients whose sum another replica has";
      }
    return success();
  }

  /// Whether each replica uses nothing but its own part.
  static bool isOwn(const Use &use, const Exchanged &exchanged) {
    return use.perReplica == exchanged.partBytes &&
           use.begin >= exchanged.begin &&
           use.begin + use.bytes <= exchanged.begin + exchanged.partBytes;
  }

  /// Parameters whose gradients are scattered are updated by one replica and
  /// then gathered; others by all replicas alike, and not gathered.
  LogicalResult verifyGathers() {
    SmallVector<Use> uses;
    if (parameters)
      uses = usesOf(parameters);
    for (const Exchanged &sum : sums) {
      if (!sum.scattered)
        continue;
      int64_t shift = parameters.getOffset() - gradients.getOffset();
      if (llvm::none_of(gathers, [&](const Exchanged &gather) {
            return gather.begin == sum.begin + shift &&
                   gather.end == sum.end + shift;
          }))
        return CollectiveOp(sum.op).emitOpError()
               << "scatters gradients over replicas that do not gather the "
                  "parameters";
    }
    for (const Exchanged &gather : gathers)
      if (failed(verifyGather(gather, uses)))
        return failure();
    for (const Use &use : uses)
      for (Operation *other : order.getInstructions())
        if (use.writes && isa<PushOp, ApplyOp>(other) &&
            !order.isCompleteBefore(use.call, other))
          return other->emitOpError()
                 << "may run before the parameters are updated";
    for (const Use &use : uses)
      if (use.writes && use.perReplica != 0 &&
          llvm::none_of(gathers, [&](const Exchanged &gather) {
            return isOwn(use, gather);
          }))
        return CallOp(use.call).emitOpError()
               << "updates a part of the parameters that the other replicas do "
                  "not get";
    return success();
  }

  LogicalResult verifyGather(const Exchanged &gather, ArrayRef<Use> uses) {
    CollectiveOp op = gather.op;
    int64_t updated = 0;
    for (Use use : uses) {
      if (use.begin >= gather.end || use.begin + use.bytes <= gather.begin)
        continue;
      if (!order.isCompleteBefore(use.call, op))
        return use.call.emitOpError()
               << "may touch parameters while they are gathered";
      if (!use.writes)
        continue;
      if (!isOwn(use, gather))
        return use.call.emitOpError()
               << "updates parameters that another replica updates";
      updated += use.bytes;
    }
    if (updated != gather.partBytes)
      return op.emitOpError()
             << "gathers parts of " << gather.partBytes << " bytes, of which "
             << updated << " are updated";
    for (Operation *other : order.getInstructions())
      if (isa<PushOp, ApplyOp>(other) && !order.isCompleteBefore(op, other))
        return other->emitOpError()
               << "may run before the parameters are gathered";
    return success();
  }

  /// The state of what a replica updates is there, and no more.
  LogicalResult verifyStates() {
    for (StateOp state : program.getOps<StateOp>()) {
      int64_t part = 0;
      for (const Exchanged &gather : gathers)
        if (gather.begin == parameters.getOffset() + state.getBegin() &&
            (gathers.size() == 1 ||
             gather.end - gather.begin == state.getBytes()))
          part = gather.partBytes;
      if (state.getPartBytes() != part)
        return state.emitOpError()
               << "is the state of parts of " << state.getPartBytes()
               << " bytes, a replica updates parts of " << part;
    }
    return success();
  }

  ProgramOp program;
  int64_t replicas;
  StringRef place;
  ArrayRef<SharedBytes> shared;
  const SymbolTable &symbols;
  StepOrder order;
  RegionOp gradients, parameters;
  SmallVector<Exchanged> sums, gathers;
};

} // namespace

/// The i-th name of a family.
static std::string nameAt(Attribute names, int64_t i) {
  auto pattern = dyn_cast<NamesAttr>(names);
  if (!pattern)
    return cast<StringAttr>(cast<ArrayAttr>(names)[i]).str();
  return pattern.getPrefix().str() +
         std::to_string(pattern.getFirst() + i * pattern.getStep()) +
         pattern.getSuffix().str();
}

static void forEachTrainable(
    ProgramOp program,
    llvm::function_ref<void(const std::string &, int64_t, int64_t)> body) {
  for (auto family : program.getOps<ParametersOp>()) {
    if (family.getFrozen())
      continue;
    int64_t begin = family.getAddress().getOffset().getConstant();
    int64_t bytes = 4 * family.getLocalElements();
    for (int64_t k = 0; k < family.getCount(); ++k, begin += family.getStride())
      body(nameAt(family.getNames(), k), begin, begin + bytes);
  }
}

std::vector<SmallVector<SharedBytes>> findShared(ArrayRef<ProgramOp> programs,
                                                 ArrayRef<int64_t> stages) {
  llvm::StringMap<SmallVector<int64_t>> usersOf; // by name
  for (auto [program, stage] : llvm::zip(programs, stages))
    forEachTrainable(
        program, [&, stage = stage](const std::string &name, int64_t, int64_t) {
          SmallVector<int64_t> &users = usersOf[name];
          if (users.empty() || users.back() != stage)
            users.push_back(stage);
        });
  std::vector<SmallVector<SharedBytes>> shared(programs.size());
  for (auto [number, program] : llvm::enumerate(programs))
    forEachTrainable(program, [&, number = number](const std::string &name,
                                                   int64_t begin, int64_t end) {
      const SmallVector<int64_t> &users = usersOf[name];
      if (users.size() > 1)
        shared[number].push_back({begin, end, users});
    });
  return shared;
}

LogicalResult verifyUpdate(ProgramOp program, int64_t replicas, StringRef place,
                           ArrayRef<SharedBytes> shared,
                           const SymbolTable &symbols) {
  return UpdateVerifier(program, replicas, place, shared, symbols).run();
}

} // namespace tombolo::plan
