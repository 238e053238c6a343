//===- StageLayout.cpp - where a stage's parameters lie -------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/Transforms/StageLayout.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/MathExtras.h"

#include <map>

using namespace mlir;

namespace tombolo::dist {

static constexpr int64_t kAlignment = 64;

FailureOr<ParameterSplit> readSplit(Attribute attribute, RankedTensorType whole,
                                    Location loc) {
  auto numbers = dyn_cast<DenseI64ArrayAttr>(attribute);
  ParameterSplit split;
  if (numbers && numbers.size() == 3) {
    split = {numbers[0], numbers[1], numbers[2]};
    if (split.dim >= 0 && split.dim < whole.getRank() && split.outer > 0 &&
        split.count > 0 && split.outer <= whole.getDimSize(split.dim) &&
        split.count <= whole.getDimSize(split.dim) &&
        whole.getDimSize(split.dim) % (split.outer * split.count) == 0)
      return split;
  }
  return FailureOr<ParameterSplit>(
      emitError(loc) << whole << " cannot be split by " << attribute
                     << ", expected [dimension, outer, count]");
}

RankedTensorType getLocalType(RankedTensorType whole,
                              const ParameterSplit &split) {
  SmallVector<int64_t> shape(whole.getShape());
  shape[split.dim] /= split.count;
  return RankedTensorType::get(shape, whole.getElementType());
}

namespace {

int64_t alignUp(int64_t bytes) { return llvm::alignTo(bytes, kAlignment); }

/// The blocks' parameters number `number` of one run, which have a place of
/// their own.
struct Member {
  size_t run = 0, number = 0;
  int64_t bytes = 0; // of one, on one chip
};

/// What a parameter is, for all its users.
struct Known {
  bool frozen = false;
  ParameterClass kind; // of a trainable one
  std::optional<ParameterSplit> split;
  size_t run = 0, number = 0; // its first user

  bool agreesWith(const Known &other) const {
    return frozen == other.frozen && kind == other.kind && split == other.split;
  }
};

class LayoutBuilder {
public:
  LayoutBuilder(StageOp stage, SymbolTable &symbols)
      : stage(stage), symbols(symbols),
        runs(llvm::to_vector(stage.getBody().getOps<RunOp>())) {}

  FailureOr<StageLayout> run() {
    findSharers();
    for (auto [number, run] : llvm::enumerate(runs))
      if (failed(classify(number, run)))
        return failure();
    int64_t replicas = 0;
    for (auto group : stage.getBody().getOps<ReplicasOp>())
      replicas += group.getCount();
    place(frozen, layout.frozenBytes);
    for (auto &[kind, members] : classes) {
      ParameterRange &range = layout.ranges.emplace_back();
      range.kind = kind;
      range.begin = layout.trainableBytes;
      place(members, layout.trainableBytes);
      range.bytes = layout.trainableBytes - range.begin;
      if (stage.getOptimizerSharding() && kind.stages.empty()) {
        range.parts = replicas;
        range.bytes = llvm::alignTo(range.bytes, kAlignment * replicas);
      }
      layout.trainableBytes = range.begin + range.bytes;
    }
    finish();
    return std::move(layout);
  }

private:
  func::FuncOp find(std::optional<StringRef> name) {
    return name ? symbols.lookup<func::FuncOp>(*name) : func::FuncOp();
  }

  /// The stages that use each of this stage's parameters which others use, too.
  void findSharers() {
    llvm::DenseSet<Attribute> mine;
    forEachUse(stage, [&](Attribute symbol) { mine.insert(symbol); });
    auto island = stage->getParentOfType<IslandOp>();
    for (auto [number, other] :
         llvm::enumerate(island.getBody().getOps<StageOp>())) {
      int64_t s = number;
      if (other == stage) {
        self = s;
        continue;
      }
      forEachUse(other, [&](Attribute symbol) {
        if (!mine.contains(symbol))
          return;
        std::vector<int64_t> &users = sharers[symbol];
        if (users.empty() || users.back() != s)
          users.push_back(s);
      });
    }
    for (auto &[symbol, users] : sharers)
      users.insert(llvm::lower_bound(users, self), self);
  }

  static void forEachUse(StageOp stage,
                         llvm::function_ref<void(Attribute)> visit) {
    for (RunOp run : stage.getBody().getOps<RunOp>())
      for (Attribute list : run.getParameters())
        for (Attribute symbol : cast<ArrayAttr>(list))
          visit(symbol);
  }

  LogicalResult classify(size_t number, RunOp run) {
    func::FuncOp forward = find(run.getForward());
    func::FuncOp backwardWeight = find(run.getBackwardWeight());
    size_t dataCount = run.getSources().size();
    size_t count = run.getParametersOf(0).size();
    if (forward && forward.getNumArguments() != dataCount + count)
      return forward.emitOpError()
             << "expected " << dataCount + count << " arguments, got "
             << forward.getNumArguments();
    RunLayout &mine = layout.runs.emplace_back();
    mine.offsets.resize(count);
    mine.strides.resize(count);
    unsigned trainable = 0;
    for (auto [k, attribute] : llvm::enumerate(run.getParametersOf(0))) {
      auto symbol = cast<FlatSymbolRefAttr>(attribute);
      auto parameter = symbols.lookup<graph::ParameterOp>(symbol.getAttr());
      if (!parameter)
        return run.emitOpError() << "unknown parameter " << symbol;
      auto type = cast<RankedTensorType>(parameter.getType());
      Known now;
      now.frozen = parameter.getFrozen();
      now.run = number;
      now.number = k;
      if (forward)
        if (Attribute split =
                forward.getArgAttr(dataCount + k, graph::kSplitAttr)) {
          FailureOr<ParameterSplit> read =
              readSplit(split, type, forward.getLoc());
          if (failed(read))
            return failure();
          now.split = *read;
        }
      if (!now.frozen) {
        bool partial =
            backwardWeight && trainable < backwardWeight.getNumResults() &&
            backwardWeight.getResultAttr(trainable, graph::kPartialAttr);
        ++trainable;
        if (partial && now.split)
          return backwardWeight.emitOpError() << "leaves a partial gradient of "
                                              << symbol << ", which is split";
        now.kind.section = partial     ? ParameterClass::Partial
                           : now.split ? ParameterClass::Split
                                       : ParameterClass::Whole;
        if (auto users = sharers.find(symbol); users != sharers.end())
          now.kind.stages = users->second;
        now.kind.undecayed = parameter->hasAttr(graph::kUndecayedAttr);
        if (failed(checkDecay(run, k, now.kind.undecayed)))
          return failure();
      }
      mine.frozen.push_back(now.frozen);
      auto [place, fresh] = known.try_emplace(symbol, now);
      if (!fresh && !place->second.agreesWith(now))
        return run.emitOpError()
               << "splits parameter " << symbol
               << ", or leaves its gradient, otherwise than another user of it";
      if (!fresh)
        continue;
      RankedTensorType local =
          now.split ? getLocalType(type, *now.split) : type;
      Member member{number, k, alignUp(graph::getNumBytes(local, 1))};
      (now.frozen ? frozen : classes[now.kind]).push_back(member);
    }
    return success();
  }

  /// Equal parameters of a run's blocks lie evenly: all decay, or none.
  LogicalResult checkDecay(RunOp run, size_t k, bool undecayed) {
    for (Attribute list : run.getParameters()) {
      auto other = symbols.lookup<graph::ParameterOp>(
          cast<FlatSymbolRefAttr>(cast<ArrayAttr>(list)[k]).getAttr());
      if (other && other->hasAttr(graph::kUndecayedAttr) != undecayed)
        return run.emitOpError()
               << "weight decay of " << run.getParametersOf(0)[k] << " and of "
               << FlatSymbolRefAttr::get(other.getSymNameAttr())
               << " differs, which must not be where they stand in equal "
                  "blocks; let the pattern match both or none";
    }
    return success();
  }

  /// Places members run by run, block by block, from `end` on.
  void place(ArrayRef<Member> members, int64_t &end) {
    while (!members.empty()) {
      size_t run = members.front().run;
      ArrayRef<Member> block = members.take_while(
          [&](const Member &member) { return member.run == run; });
      int64_t start = end;
      for (const Member &member : block) {
        layout.runs[run].offsets[member.number] = end;
        end += member.bytes;
      }
      int64_t stride = end - start;
      for (const Member &member : block)
        layout.runs[run].strides[member.number] = stride;
      end = start + stride * RunOp(runs[run]).getCount();
      members = members.drop_front(block.size());
    }
  }

  /// Families in the order of the runs; parameters that stand twice lie where
  /// they stand first.
  void finish() {
    for (auto [r, run] : llvm::enumerate(runs))
      for (auto [k, attribute] : llvm::enumerate(run.getParametersOf(0))) {
        RunLayout &mine = layout.runs[r];
        const Known &what = known.find(attribute)->second;
        if (what.run != r || what.number != k) {
          mine.offsets[k] = layout.runs[what.run].offsets[what.number];
          continue;
        }
        auto symbol = cast<FlatSymbolRefAttr>(attribute);
        auto parameter = symbols.lookup<graph::ParameterOp>(symbol.getAttr());
        ParameterFamily &family = layout.families.emplace_back();
        family.type = cast<RankedTensorType>(parameter.getType());
        family.split = what.split;
        family.frozen = what.frozen;
        auto users = sharers.find(attribute);
        family.owner = users == sharers.end() || users->second.front() == self;
        family.offset = mine.offsets[k];
        family.stride = mine.strides[k];
        for (int64_t block = 0; block < run.getCount(); ++block)
          family.parameters.push_back(
              cast<FlatSymbolRefAttr>(run.getParametersOf(block)[k]));
      }
  }

  StageOp stage;
  SymbolTable &symbols;
  SmallVector<RunOp> runs;
  int64_t self = 0; // the stage's number
  llvm::DenseMap<Attribute, std::vector<int64_t>> sharers;
  llvm::DenseMap<Attribute, Known> known;
  std::map<ParameterClass, SmallVector<Member>> classes;
  SmallVector<Member> frozen;
  StageLayout layout;
};

} // namespace

FailureOr<StageLayout> layOut(StageOp stage, SymbolTable &symbols) {
  return LayoutBuilder(stage, symbols).run();
}

} // namespace tombolo::dist
