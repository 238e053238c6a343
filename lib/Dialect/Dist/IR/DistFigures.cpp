//===- DistFigures.cpp - what the search foretells, as attributes ---------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"

using namespace mlir;
using namespace tombolo;
using namespace tombolo::dist;

namespace {

/// A figure's name and where it is kept. One table for each struct serves both
/// directions.
template <typename T> struct Figure {
  StringLiteral name;
  double T::*field;
};

using planning::GroupPrediction;
using planning::IslandPrediction;
using planning::MemoryUse;
using planning::Prediction;

constexpr Figure<Prediction> kOfStrategy[] = {
    {"step_seconds", &Prediction::stepSeconds},
    {"tokens_per_second", &Prediction::tokensPerSecond},
    {"synchronisation_seconds", &Prediction::synchronisationSeconds},
    {"wan_bytes_per_round", &Prediction::wanBytesPerRound},
    {"connections", &Prediction::connections},
    {"bubble_fraction", &Prediction::bubbleFraction}};

constexpr Figure<IslandPrediction> kOfIsland[] = {
    {"step_seconds", &IslandPrediction::stepSeconds},
    {"bubble_fraction", &IslandPrediction::bubbleFraction},
    {"wan_bytes_per_step", &IslandPrediction::wanBytesPerStep}};

constexpr Figure<GroupPrediction> kOfGroup[] = {
    {"forward_seconds", &GroupPrediction::forwardSeconds},
    {"backward_seconds", &GroupPrediction::backwardSeconds},
    {"exchange_seconds", &GroupPrediction::exchangeSeconds},
    {"send_forward_seconds", &GroupPrediction::sendForwardSeconds},
    {"send_backward_seconds", &GroupPrediction::sendBackwardSeconds},
    {"all_reduce_seconds", &GroupPrediction::allReduceSeconds},
    {"update_seconds", &GroupPrediction::updateSeconds},
    {"available_bytes", &GroupPrediction::availableBytes}};

constexpr Figure<MemoryUse> kOfMemory[] = {
    {"parameter_bytes", &MemoryUse::parameters},
    {"gradient_bytes", &MemoryUse::gradients},
    {"optimizer_state_bytes", &MemoryUse::optimizerState},
    {"saved_bytes", &MemoryUse::saved},
    {"recomputed_bytes", &MemoryUse::recomputed},
    {"boundary_bytes", &MemoryUse::boundary},
    {"feed_bytes", &MemoryUse::feeds},
    {"scratch_bytes", &MemoryUse::scratch},
    {"host_bytes", &MemoryUse::host}};

constexpr StringLiteral kEquivalent = "equivalent_compute";
constexpr StringLiteral kEquivalentOfUsed = "equivalent_compute_of_used_chips";
constexpr StringLiteral kInFlight = "microbatches_in_flight";
constexpr StringLiteral kTimes = "times";
constexpr StringLiteral kIslands = "islands";
constexpr StringLiteral kStages = "stages";
constexpr StringLiteral kCandidates = "candidates";
constexpr StringLiteral kLowerBound = "lower_bound";
constexpr StringLiteral kOptimal = "optimal";
constexpr StringLiteral kSimulated = "simulated";
constexpr StringLiteral kAlternatives = "alternatives";
constexpr StringLiteral kStrategy = "strategy";

constexpr Figure<planning::Alternative> kOfAlternative[] = {
    {"step_seconds", &planning::Alternative::stepSeconds},
    {"tokens_per_second", &planning::Alternative::tokensPerSecond},
    {"peak_memory_bytes", &planning::Alternative::memoryBytes},
    {"memory_fraction", &planning::Alternative::memoryFraction},
    {"wan_bytes_per_round", &planning::Alternative::wanBytesPerRound},
    {"wan_bytes_per_second", &planning::Alternative::wanBytesPerSecond}};

using Attributes = SmallVector<NamedAttribute>;

template <typename T, size_t N>
void write(Builder &builder, const T &from, const Figure<T> (&figures)[N],
           Attributes &to) {
  for (const Figure<T> &figure : figures)
    to.push_back(builder.getNamedAttr(
        figure.name, builder.getF64FloatAttr(from.*figure.field)));
}

/// The real number of this name, or nothing.
std::optional<double> real(DictionaryAttr from, StringRef name) {
  auto value = from ? from.getAs<FloatAttr>(name) : FloatAttr();
  if (!value || !value.getType().isF64())
    return std::nullopt;
  return value.getValueAsDouble();
}

std::optional<uint64_t> whole(DictionaryAttr from, StringRef name) {
  auto value = from ? from.getAs<IntegerAttr>(name) : IntegerAttr();
  if (!value || !value.getType().isSignlessInteger(64))
    return std::nullopt;
  return value.getValue().getZExtValue();
}

template <typename T, size_t N>
bool read(DictionaryAttr from, const Figure<T> (&figures)[N], T &to) {
  for (const Figure<T> &figure : figures) {
    std::optional<double> value = real(from, figure.name);
    if (!value)
      return false;
    to.*figure.field = *value;
  }
  return true;
}

Attribute groupAttr(Builder &builder, const GroupPrediction &group) {
  Attributes values;
  write(builder, group, kOfGroup, values);
  write(builder, group.memory, kOfMemory, values);
  values.push_back(builder.getNamedAttr(
      kInFlight, builder.getI64IntegerAttr(group.microbatchesInFlight)));
  if (group.source != planning::TimeSource::Computed)
    values.push_back(builder.getNamedAttr(
        kTimes, builder.getStringAttr(planning::name(group.source))));
  return builder.getDictionaryAttr(values);
}

bool readGroup(Attribute from, GroupPrediction &to) {
  auto values = dyn_cast<DictionaryAttr>(from);
  std::optional<uint64_t> inFlight = whole(values, kInFlight);
  to.microbatchesInFlight = inFlight.value_or(0);
  if (auto times = values ? values.getAs<StringAttr>(kTimes) : StringAttr()) {
    auto source = planning::parseTimeSource(times.getValue().str());
    if (!source)
      return false;
    to.source = *source;
  }
  return inFlight && read(values, kOfGroup, to) &&
         read(values, kOfMemory, to.memory);
}

bool readIsland(Attribute from, IslandOp op, IslandPrediction &to) {
  auto values = dyn_cast<DictionaryAttr>(from);
  if (!values || !read(values, kOfIsland, to))
    return false;
  auto stages = values.getAs<ArrayAttr>(kStages);
  auto ops = op.getBody().getOps<StageOp>();
  if (!stages || stages.size() != size_t(llvm::range_size(ops)))
    return false;
  for (auto [attribute, stage] : llvm::zip(stages, ops)) {
    auto groups = dyn_cast<ArrayAttr>(attribute);
    auto replicas = stage.getBody().template getOps<ReplicasOp>();
    if (!groups || groups.size() != size_t(llvm::range_size(replicas)))
      return false;
    auto &row = to.stages.emplace_back();
    for (Attribute group : groups)
      if (!readGroup(group, row.emplace_back()))
        return false;
  }
  return true;
}

} // namespace

void dist::setFigures(StrategyOp op, const Prediction &prediction,
                      const planning::SearchResult &search) {
  Builder builder(op.getContext());
  Attributes values;
  write(builder, prediction, kOfStrategy, values);
  auto optional = [&](StringRef name, std::optional<double> value) {
    if (value)
      values.push_back(
          builder.getNamedAttr(name, builder.getF64FloatAttr(*value)));
  };
  optional(kEquivalent, prediction.equivalentCompute);
  optional(kEquivalentOfUsed, prediction.equivalentComputeOfUsedChips);
  SmallVector<Attribute> islands;
  for (const IslandPrediction &island : prediction.islands) {
    SmallVector<Attribute> stages;
    for (const auto &groups : island.stages) {
      SmallVector<Attribute> row;
      for (const GroupPrediction &group : groups)
        row.push_back(groupAttr(builder, group));
      stages.push_back(builder.getArrayAttr(row));
    }
    Attributes figures;
    write(builder, island, kOfIsland, figures);
    figures.push_back(
        builder.getNamedAttr(kStages, builder.getArrayAttr(stages)));
    islands.push_back(builder.getDictionaryAttr(figures));
  }
  values.push_back(
      builder.getNamedAttr(kIslands, builder.getArrayAttr(islands)));
  op.setPredictedAttr(builder.getDictionaryAttr(values));
  Attributes found = {
      builder.getNamedAttr(kCandidates,
                           builder.getI64IntegerAttr(search.candidates)),
      builder.getNamedAttr(kLowerBound,
                           builder.getF64FloatAttr(search.lowerBound)),
      builder.getNamedAttr(kOptimal, builder.getBoolAttr(search.optimal))};
  SmallVector<double> simulated;
  for (const planning::SimulatedStep &one : search.simulated)
    simulated.append({one.predictedSeconds, one.simulatedSeconds});
  if (!simulated.empty())
    found.push_back(builder.getNamedAttr(
        kSimulated, builder.getDenseF64ArrayAttr(simulated)));
  SmallVector<Attribute> alternatives;
  for (const planning::Alternative &one : search.alternatives) {
    Attributes figures = {
        builder.getNamedAttr(kStrategy, builder.getStringAttr(one.strategy))};
    write(builder, one, kOfAlternative, figures);
    alternatives.push_back(builder.getDictionaryAttr(figures));
  }
  if (!alternatives.empty())
    found.push_back(builder.getNamedAttr(kAlternatives,
                                         builder.getArrayAttr(alternatives)));
  op.setSearchAttr(builder.getDictionaryAttr(found));
}

std::optional<Prediction> dist::toPrediction(StrategyOp op) {
  DictionaryAttr values = op.getPredictedAttr();
  Prediction result;
  if (!values || !read(values, kOfStrategy, result))
    return std::nullopt;
  result.equivalentCompute = real(values, kEquivalent);
  result.equivalentComputeOfUsedChips = real(values, kEquivalentOfUsed);
  auto islands = values.getAs<ArrayAttr>(kIslands);
  auto ops = op.getBody().getOps<IslandOp>();
  if (!islands || islands.size() != size_t(llvm::range_size(ops)))
    return std::nullopt;
  for (auto [attribute, island] : llvm::zip(islands, ops))
    if (!readIsland(attribute, island, result.islands.emplace_back()))
      return std::nullopt;
  return result;
}

FailureOr<planning::SearchResult> dist::toSearchResult(ModuleOp module) {
  planning::SearchResult result;
  for (StrategyOp op : module.getOps<StrategyOp>()) {
    std::optional<Prediction> prediction = toPrediction(op);
    DictionaryAttr search = op.getSearchAttr();
    std::optional<uint64_t> candidates = whole(search, kCandidates);
    std::optional<double> bound = real(search, kLowerBound);
    auto optimal = search ? search.getAs<BoolAttr>(kOptimal) : BoolAttr();
    if (!prediction || !candidates || !bound || !optimal) {
      op.emitOpError("expected the figures of its search, run "
                     "dist-search-strategy");
      return failure();
    }
    result.strategies.push_back({toStrategy(op), std::move(*prediction)});
    result.simulated.clear();
    if (auto simulated = search.getAs<DenseF64ArrayAttr>(kSimulated))
      for (int64_t i = 0; i + 1 < simulated.size(); i += 2)
        result.simulated.push_back({simulated[i], simulated[i + 1]});
    result.alternatives.clear();
    if (auto alternatives = search.getAs<ArrayAttr>(kAlternatives))
      for (Attribute attribute : alternatives) {
        auto figures = dyn_cast<DictionaryAttr>(attribute);
        auto strategy =
            figures ? figures.getAs<StringAttr>(kStrategy) : StringAttr();
        planning::Alternative one;
        if (!strategy || !read(figures, kOfAlternative, one))
          continue;
        one.strategy = strategy.str();
        result.alternatives.push_back(std::move(one));
      }
    result.candidates = *candidates;
    result.lowerBound = *bound;
    result.optimal = optimal.getValue();
  }
  if (result.strategies.empty()) {
    module.emitError("expected a dist.strategy");
    return failure();
  }
  return result;
}
