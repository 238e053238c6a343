//===- DistSharding.cpp - dist.sharding and the planner's struct ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"

using namespace mlir;
using namespace tombolo;
using namespace tombolo::dist;

LogicalResult ShardingOp::verify() {
  if (static_cast<int64_t>(getBlock()) < 0)
    return emitOpError("expected the number of a block, got ")
           << static_cast<int64_t>(getBlock());
  if (static_cast<int64_t>(getTensorParallel()) < 2)
    return emitOpError("expected 'tensor_parallel' of at least 2, got ")
           << static_cast<int64_t>(getTensorParallel());
  auto check = [&](Attribute attribute, const Twine &where) -> LogicalResult {
    auto state = dyn_cast<DenseI64ArrayAttr>(attribute);
    if (state && (state.empty() ||
                  (state.size() == 2 && state[0] >= 0 && state[1] >= 1)))
      return success();
    return emitOpError("expected ")
           << where << " to be [] or [dim, outer] with dim from 0 and outer "
           << "from 1, got " << attribute;
  };
  for (NamedAttribute parameter : getParameters())
    if (failed(check(parameter.getValue(),
                     "parameter \"" + parameter.getName().getValue() + "\"")))
      return failure();
  for (auto [name, states] :
       {std::pair("inputs", getInputs()), {"outputs", getOutputs()}})
    for (auto [i, state] : llvm::enumerate(states))
      if (failed(check(state, Twine(name) + "[" + Twine(i) + "]")))
        return failure();
  for (auto [i, attribute] : llvm::enumerate(getOps())) {
    auto seed = cast<DenseI64ArrayAttr>(attribute);
    if (seed.size() != 4 || seed[0] < 0 || seed[0] > 2 || seed[1] < 0 ||
        seed[3] < 1)
      return emitOpError("expected ops[")
             << i << "] to be [function, op, choice, outer] with a function "
             << "from 0 to 2, an op from 0 and an outer from 1, got "
             << attribute;
  }
  return success();
}

LogicalResult dist::verifyShardings(StrategyOp op) {
  llvm::SmallDenseMap<std::pair<int64_t, int64_t>, ShardingOp> seen;
  for (ShardingOp sharding : op.getBody().getOps<ShardingOp>()) {
    auto [entry, fresh] = seen.try_emplace(
        {sharding.getBlock(), sharding.getTensorParallel()}, sharding);
    if (fresh)
      continue;
    InFlightDiagnostic error = sharding.emitOpError("block ")
                               << sharding.getBlock()
                               << " has a second sharding for tensor_parallel "
                               << sharding.getTensorParallel();
    error.attachNote(entry->second.getLoc()) << "the first";
    return error;
  }
  return success();
}

static planning::ShardingState toState(Attribute attribute) {
  auto state = cast<DenseI64ArrayAttr>(attribute);
  if (state.empty())
    return {};
  return {static_cast<uint64_t>(state[0]), static_cast<uint64_t>(state[1])};
}

planning::Sharding dist::toSharding(ShardingOp op) {
  planning::Sharding sharding;
  sharding.block = op.getBlock();
  sharding.tensorParallel = op.getTensorParallel();
  for (NamedAttribute parameter : op.getParameters())
    sharding.parameters[parameter.getName().str()] =
        toState(parameter.getValue());
  for (Attribute state : op.getInputs())
    sharding.inputs.push_back(toState(state));
  for (Attribute state : op.getOutputs())
    sharding.outputs.push_back(toState(state));
  for (Attribute attribute : op.getOps()) {
    auto seed = cast<DenseI64ArrayAttr>(attribute);
    sharding.ops.push_back({static_cast<planning::OpSeed::Function>(seed[0]),
                            static_cast<uint64_t>(seed[1]), seed[2],
                            static_cast<uint64_t>(seed[3])});
  }
  return sharding;
}

ShardingOp dist::buildSharding(OpBuilder &builder, PlaceOf placeOf,
                               const std::string &path,
                               const planning::Sharding &sharding) {
  std::vector<std::string> keys = {"block",  "tensor_parallel", "parameters",
                                   "inputs", "outputs",         "ops"};
  auto stateAttr = [&](const planning::ShardingState &state) -> Attribute {
    SmallVector<int64_t> values;
    if (state.dim)
      values = {static_cast<int64_t>(*state.dim),
                static_cast<int64_t>(state.outer)};
    return builder.getDenseI64ArrayAttr(values);
  };
  auto list = [&](const char *key, const auto &entries, auto attributeOf) {
    SmallVector<Attribute> attributes;
    for (const auto &entry : entries) {
      keys.push_back(planning::at(key, attributes.size()));
      attributes.push_back(attributeOf(entry));
    }
    return builder.getArrayAttr(attributes);
  };
  SmallVector<NamedAttribute> parameters;
  for (const auto &[name, state] : sharding.parameters) {
    parameters.push_back(builder.getNamedAttr(name, stateAttr(state)));
    keys.push_back(planning::in("parameters", name));
  }
  ArrayAttr inputs = list("inputs", sharding.inputs, stateAttr);
  ArrayAttr outputs = list("outputs", sharding.outputs, stateAttr);
  ArrayAttr ops =
      list("ops", sharding.ops, [&](const planning::OpSeed &seed) -> Attribute {
        return builder.getDenseI64ArrayAttr(
            {static_cast<int64_t>(seed.function), static_cast<int64_t>(seed.op),
             seed.choice, static_cast<int64_t>(seed.outer)});
      });
  auto i64 = [&](uint64_t value) {
    return builder.getI64IntegerAttr(static_cast<int64_t>(value));
  };
  SmallVector<StringRef> places(keys.begin(), keys.end());
  return builder.create<ShardingOp>(
      placeWithKeys(placeOf, path, places), i64(sharding.block),
      i64(sharding.tensorParallel), builder.getDictionaryAttr(parameters),
      inputs, outputs, ops);
}

Location dist::locate(ShardingOp op, StringRef key) {
  Location place = placeOfKey(op.getLoc(), key);
  if (place != op.getLoc())
    return place;
  return placeOfKey(
      op.getLoc(), key.take_until([](char c) { return c == '.' || c == '['; }));
}
