//===- InstantiateOptimizer.cpp - the optimizer of each stage -------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/OptimizerState.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Dist/Transforms/StageLayout.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Plan/IR/AttributeNames.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/Support/Regex.h"

#include <cmath>
#include <numeric>
#include <optional>

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTINSTANTIATEOPTIMIZER
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

class InstantiateOptimizer
    : public impl::DistInstantiateOptimizerBase<InstantiateOptimizer> {
public:
  using Base = impl::DistInstantiateOptimizerBase<InstantiateOptimizer>;
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (failed(checkOptions()))
      return signalPassFailure();
    for (OptimizerOp old :
         llvm::make_early_inc_range(module.getOps<OptimizerOp>()))
      old.erase();
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    SmallVector<NamedAttribute> settings;
    auto set = [&](StringRef name, double value) {
      settings.push_back(
          builder.getNamedAttr(name, builder.getF64FloatAttr(value)));
    };
    if (optimizer == "adamw") {
      set("beta1", beta1);
      set("beta2", beta2);
      set("epsilon", epsilon);
    } else {
      set("momentum", momentum);
    }
    states = optimizerStates(optimizer, momentum);
    set("weight_decay", weightDecay);
    if (isScheduled()) {
      settings.push_back(
          builder.getNamedAttr("schedule", builder.getStringAttr(schedule)));
      settings.push_back(builder.getNamedAttr(
          "warmup_steps", builder.getI64IntegerAttr(warmupSteps)));
      if (schedule != "constant")
        settings.push_back(builder.getNamedAttr(
            "decay_steps", builder.getI64IntegerAttr(decaySteps)));
    }
    if (clipGradientNorm > 0)
      set("clip_gradient_norm", clipGradientNorm);
    builder.create<OptimizerOp>(module.getLoc(),
                                builder.getStringAttr(optimizer),
                                builder.getF64FloatAttr(learningRate),
                                builder.getDictionaryAttr(settings));
    if (failed(markUndecayed()))
      return signalPassFailure();
    SymbolTable symbols(module);
    WalkResult result = module.walk([&](StageOp stage) {
      return failed(instantiate(stage, symbols)) ? WalkResult::interrupt()
                                                 : WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }

private:
  LogicalResult checkOptions() {
    auto wrong = [&](StringRef name, double value, const Twine &expected) {
      return getOperation().emitError()
             << name << ": expected " << expected << ", got " << value;
    };
    if (optimizer != "sgd" && optimizer != "adamw")
      return getOperation().emitError()
             << "expected optimizer sgd or adamw, got '" << optimizer << "'";
    const std::pair<const char *, double> notNegative[] = {
        {"lr", learningRate},
        {"eps", epsilon},
        {"weight-decay", weightDecay},
        {"clip-grad-norm", clipGradientNorm},
        {"momentum", momentum}};
    for (auto [name, value] : notNegative)
      if (!std::isfinite(value) || value < 0)
        return wrong(name, value, "a number that is not negative");
    const std::pair<const char *, double> betas[] = {{"beta1", beta1},
                                                     {"beta2", beta2}};
    for (auto [name, value] : betas)
      if (!(value >= 0 && value < 1))
        return wrong(name, value, "a number in [0, 1)");
    return checkSchedule();
  }

  LogicalResult checkSchedule() {
    if (schedule != "constant" && schedule != "cosine" && schedule != "linear")
      return getOperation().emitError()
             << "expected schedule constant, cosine or linear, got '"
             << schedule << "'";
    if (warmupSteps < 0)
      return getOperation().emitError()
             << "warmup-steps: expected a number that is not negative, got "
             << warmupSteps.getValue();
    if (schedule == "constant" && decaySteps != 0)
      return getOperation().emitError()
             << "decay-steps: a constant learning rate does not decay; choose "
                "schedule cosine or linear";
    if (schedule != "constant" && decaySteps <= warmupSteps)
      return getOperation().emitError()
             << "decay-steps: expected more than the " << warmupSteps.getValue()
             << " warm-up steps, got " << decaySteps.getValue();
    return success();
  }

  /// Marks the trainable parameters that do not decay.
  LogicalResult markUndecayed() {
    ModuleOp module = getOperation();
    for (const std::string &what : weightDecayExclude) {
      llvm::Regex pattern(what);
      std::string error;
      if (!pattern.isValid(error))
        return module.emitError() << "weight-decay-exclude: '" << what
                                  << "' is no regular expression: " << error;
      bool any = false;
      for (auto parameter : module.getOps<graph::ParameterOp>()) {
        bool excluded =
            what == "vectors"
                ? cast<RankedTensorType>(parameter.getType()).getRank() < 2
                : pattern.match(parameter.getSymName());
        if (!excluded || parameter.getFrozen())
          continue;
        parameter->setAttr(graph::kUndecayedAttr, UnitAttr::get(&getContext()));
        any = true;
      }
      if (!any)
        module.emitWarning() << "weight-decay-exclude: '" << what
                             << "' matches no trained parameter";
    }
    return success();
  }

  /// Whether the learning rate depends on the number of updates.
  bool isScheduled() const {
    return schedule != "constant" || warmupSteps != 0;
  }

  /// The schedule in an island's own inner steps: it runs over the job's
  /// progress, so that at the end of a round the rate is the same on all.
  LogicalResult paceOf(StageOp stage) {
    ownWarmupSteps = warmupSteps;
    ownDecaySteps = decaySteps;
    innerSteps.reset();
    auto island = stage->getParentOfType<IslandOp>();
    auto servers =
        island->getParentOfType<StrategyOp>().getBody().getOps<ServerOp>();
    if (servers.empty() || !island.getInnerSteps())
      return success();
    int64_t own = *island.getInnerSteps();
    int64_t all = (*servers.begin()).getInnerSteps();
    if (own == all || !isScheduled())
      return success();
    innerSteps = own;
    int64_t unit = all / std::gcd(own, all);
    auto scale = [&](StringRef name, int64_t &steps) -> LogicalResult {
      if (steps % unit != 0)
        return getOperation().emitError()
               << name << ": expected a multiple of " << unit
               << ", which are whole inner steps of an island that has " << own
               << " where the server has " << all << ", got " << steps;
      steps = steps / unit * (own / (all / unit));
      return success();
    };
    return success(succeeded(scale("warmup-steps", ownWarmupSteps)) &&
                   succeeded(scale("decay-steps", ownDecaySteps)));
  }

  LogicalResult instantiate(StageOp stage, SymbolTable &symbols) {
    if (failed(paceOf(stage)))
      return failure();
    for (UpdateOp old :
         llvm::make_early_inc_range(stage.getBody().getOps<UpdateOp>()))
      old.erase();
    FailureOr<StageLayout> layout = layOut(stage, symbols);
    if (failed(layout))
      return failure();
    OpBuilder builder = OpBuilder::atBlockEnd(&stage.getBody().front());
    auto create = [&](FlatSymbolRefAttr function, int64_t elements,
                      ArrayRef<StringRef> names) {
      builder.create<UpdateOp>(stage.getLoc(), function,
                               builder.getI64IntegerAttr(elements),
                               builder.getStrArrayAttr(names));
    };
    if (layout->ranges.empty()) // nothing has a state
      create(function(0, /*advances=*/true, weightDecay, symbols), 0, {});
    for (const ParameterRange &range : layout->ranges) {
      int64_t elements = range.partBytes() / 4;
      bool advances = &range == &layout->ranges.front();
      double decay = range.kind.undecayed ? 0.0 : weightDecay.getValue();
      create(function(elements, advances, decay, symbols), elements, states);
    }
    return success();
  }

  /// The function for a range of this size; with no parameters it only counts
  /// updates.
  FlatSymbolRefAttr function(int64_t elements, bool advances, double decay,
                             SymbolTable &symbols) {
    MLIRContext *context = &getContext();
    std::string text = optimizer + "." + std::to_string(elements);
    if (decay != weightDecay)
      text += ".undecayed";
    if (!advances)
      text += ".next";
    if (innerSteps && elements > 0)
      text += ".inner" + std::to_string(*innerSteps);
    auto name = StringAttr::get(context, text);
    if (symbols.lookup(name))
      return FlatSymbolRefAttr::get(name);
    ModuleOp module = getOperation();
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    Type f32 = builder.getF32Type();
    Type vector = RankedTensorType::get({elements}, f32);
    Type weight = RankedTensorType::get({}, f32);
    Type updates = RankedTensorType::get({}, builder.getI64Type());
    SmallVector<Type> inputs{weight, updates};
    SmallVector<Type> results;
    // Result i is written where argument inPlace[i] lies.
    SmallVector<int64_t> inPlace;
    if (advances) {
      results.push_back(updates);
      inPlace.push_back(1);
    }
    if (elements > 0) {
      if (clipGradientNorm > 0)
        inputs.push_back(weight); // the sum of squares
      inPlace.push_back(inputs.size());
      inputs.append({vector, vector});
      results.push_back(vector);
      for (size_t i = 0; i < states.size(); ++i) {
        inPlace.push_back(inputs.size());
        inputs.push_back(vector);
        results.push_back(vector);
      }
    }
    Location loc = module.getLoc();
    auto func = builder.create<func::FuncOp>(
        loc, name, builder.getFunctionType(inputs, results));
    func.setPrivate();
    for (auto [i, argument] : llvm::enumerate(inPlace))
      func.setResultAttr(i, plan::kInPlaceAttr,
                         builder.getI64IntegerAttr(argument));
    Block *body = func.addEntryBlock();
    builder.setInsertionPointToStart(body);
    Value advanced = body->getArgument(1);
    SmallVector<Value> values;
    if (advances) {
      advanced = builder.create<graph::OptimizerAdvanceOp>(
          loc, updates, body->getArgument(0), advanced);
      values.push_back(advanced);
    }
    if (elements > 0) {
      unsigned next = 2;
      Value divisor = body->getArgument(0);
      if (clipGradientNorm > 0)
        divisor = builder.create<graph::ClipWeightOp>(
            loc, weight, body->getArgument(next++), divisor,
            builder.getF64FloatAttr(clipGradientNorm));
      Value parameter = body->getArgument(next++);
      Value gradient = body->getArgument(next++);
      auto f64 = [&](double value) { return builder.getF64FloatAttr(value); };
      StringAttr how;
      IntegerAttr warmup, end;
      if (isScheduled()) {
        how = builder.getStringAttr(schedule);
        warmup = builder.getI64IntegerAttr(ownWarmupSteps);
        if (schedule != "constant")
          end = builder.getI64IntegerAttr(ownDecaySteps);
      }
      if (optimizer == "adamw") {
        auto op = builder.create<graph::AdamwOp>(
            loc, vector, vector, vector, parameter, gradient, divisor, advanced,
            body->getArgument(next), body->getArgument(next + 1),
            f64(learningRate), f64(beta1), f64(beta2), f64(epsilon), f64(decay),
            how, warmup, end);
        llvm::append_range(values, op->getResults());
      } else {
        Value buffer = states.empty() ? Value() : body->getArgument(next);
        auto op = builder.create<graph::SgdOp>(
            loc, vector, buffer ? Type(vector) : Type(), parameter, gradient,
            divisor, advanced, buffer, f64(learningRate), f64(momentum),
            f64(decay), how, warmup, end);
        values.push_back(op.getResult());
        if (buffer)
          values.push_back(op.getNewMomentumBuffer());
      }
    }
    builder.create<func::ReturnOp>(loc, values);
    symbols.insert(func);
    return FlatSymbolRefAttr::get(name);
  }

  SmallVector<StringRef> states;
  // Of the island of a stage.
  int64_t ownWarmupSteps = 0, ownDecaySteps = 0;
  std::optional<int64_t> innerSteps; // where they change these
};

} // namespace
} // namespace tombolo::dist
