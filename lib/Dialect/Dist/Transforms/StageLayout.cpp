//===- StageLayout.cpp - where a stage's parameters lie -------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/Transforms/StageLayout.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/MathExtras.h"

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

/// A part of a region that is filled in the order of runs and blocks.
enum Section { Partial, Whole, Split, Frozen, SectionCount };

/// Where a parameter lies, counted from the start of its section.
struct Place {
  Section section;
  int64_t offset;
  std::optional<ParameterSplit> split;
};

class Layouter {
public:
  Layouter(StageOp stage, SymbolTable &symbols)
      : stage(stage), symbols(symbols) {}

  FailureOr<StageLayout> run() {
    for (RunOp run : stage.getBody().getOps<RunOp>())
      if (failed(place(run)))
        return failure();
    layout.partialBytes = bytes[Partial];
    layout.wholeBytes = layout.partialBytes + bytes[Whole];
    layout.trainableBytes = layout.wholeBytes + bytes[Split];
    layout.frozenBytes = bytes[Frozen];
    // From sections to regions.
    const int64_t starts[] = {0, layout.partialBytes, layout.wholeBytes, 0};
    for (auto [run, sections] : llvm::zip(layout.runs, sectionsOfRuns))
      for (auto [offset, section] : llvm::zip(run.offsets, sections))
        offset += starts[section];
    for (auto [family, section] :
         llvm::zip(layout.families, sectionsOfFamilies))
      family.offset += starts[section];
    if (stage.getOptimizerSharding()) {
      layout.parts = 0;
      for (auto group : stage.getBody().getOps<ReplicasOp>())
        layout.parts += group.getCount();
      layout.trainableBytes =
          llvm::alignTo(layout.trainableBytes, kAlignment * layout.parts);
    }
    return std::move(layout);
  }

private:
  func::FuncOp find(std::optional<StringRef> name) {
    return name ? symbols.lookup<func::FuncOp>(*name) : func::FuncOp();
  }

  LogicalResult place(RunOp run) {
    func::FuncOp forward = find(run.getForward());
    func::FuncOp backwardWeight = find(run.getBackwardWeight());
    size_t dataCount = run.getSources().size();
    size_t count = run.getParametersOf(0).size();
    if (forward && forward.getNumArguments() != dataCount + count)
      return forward.emitOpError()
             << "expected " << dataCount + count << " arguments, got "
             << forward.getNumArguments();
    RunLayout &mine = layout.runs.emplace_back();
    SmallVector<Section> &sections = sectionsOfRuns.emplace_back();
    size_t firstFamily = layout.families.size();
    std::array<int64_t, SectionCount> before = bytes;
    unsigned trainable = 0;
    for (auto [k, attribute] : llvm::enumerate(run.getParametersOf(0))) {
      auto symbol = cast<FlatSymbolRefAttr>(attribute);
      auto parameter = symbols.lookup<graph::ParameterOp>(symbol.getAttr());
      if (!parameter)
        return run.emitOpError() << "unknown parameter " << symbol;
      auto type = cast<RankedTensorType>(parameter.getType());
      Place now{parameter.getFrozen() ? Frozen : Whole, 0, std::nullopt};
      if (forward)
        if (Attribute split =
                forward.getArgAttr(dataCount + k, graph::kSplitAttr)) {
          FailureOr<ParameterSplit> read =
              readSplit(split, type, forward.getLoc());
          if (failed(read))
            return failure();
          now.split = *read;
        }
      if (now.section != Frozen) {
        bool partial =
            backwardWeight && trainable < backwardWeight.getNumResults() &&
            backwardWeight.getResultAttr(trainable, graph::kPartialAttr);
        ++trainable;
        if (partial && now.split)
          return backwardWeight.emitOpError() << "leaves a partial gradient of "
                                              << symbol << ", which is split";
        now.section = partial ? Partial : now.split ? Split : Whole;
      }
      auto [known, fresh] = placed.try_emplace(symbol.getAttr(), now);
      if (!fresh && (known->second.split != now.split ||
                     known->second.section != now.section))
        return run.emitOpError()
               << "splits parameter " << symbol
               << ", or leaves its gradient, otherwise than another user of it";
      Place &where = known->second;
      if (fresh) {
        where.offset = bytes[where.section];
        RankedTensorType local =
            where.split ? getLocalType(type, *where.split) : type;
        bytes[where.section] +=
            llvm::alignTo(graph::getNumBytes(local, 1), kAlignment);
        ParameterFamily &family = layout.families.emplace_back();
        sectionsOfFamilies.push_back(where.section);
        family.type = type;
        family.split = where.split;
        family.frozen = where.section == Frozen;
        family.offset = where.offset;
        for (int64_t block = 0; block < run.getCount(); ++block)
          family.parameters.push_back(
              cast<FlatSymbolRefAttr>(run.getParametersOf(block)[k]));
      }
      mine.offsets.push_back(where.offset);
      mine.frozen.push_back(where.section == Frozen);
      sections.push_back(where.section);
    }
    // The next blocks of the run lie behind this one, section by section.
    std::array<int64_t, SectionCount> strides;
    for (int i = 0; i < SectionCount; ++i) {
      strides[i] = bytes[i] - before[i];
      bytes[i] = before[i] + strides[i] * run.getCount();
    }
    for (Section section : sections)
      mine.strides.push_back(strides[section]);
    for (size_t i = firstFamily; i < layout.families.size(); ++i)
      layout.families[i].stride = strides[sectionsOfFamilies[i]];
    return success();
  }

  StageOp stage;
  SymbolTable &symbols;
  StageLayout layout;
  std::array<int64_t, SectionCount> bytes = {};
  std::vector<SmallVector<Section>> sectionsOfRuns;
  SmallVector<Section> sectionsOfFamilies;
  llvm::DenseMap<StringAttr, Place> placed;
};

} // namespace

FailureOr<StageLayout> layOut(StageOp stage, SymbolTable &symbols) {
  return Layouter(stage, symbols).run();
}

} // namespace tombolo::dist
