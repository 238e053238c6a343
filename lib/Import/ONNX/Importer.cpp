//===- Importer.cpp - from an ONNX file to the graph dialect --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Import/ONNX.h"

#include "NodeContext.h"
#include "OpTable.h"
#include "Parameters.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace tombolo;
using namespace tombolo::importer;

namespace {

/// Imports one model.
class Importer : private ValueTable {
public:
  Importer(StringRef path, const OnnxImportOptions &options,
           MLIRContext *context)
      : path(path), options(options), builder(context),
        loc(FileLineColLoc::get(context, path, 0, 0)) {}

  OwningOpRef<ModuleOp> run();

private:
  LogicalResult readBindings();
  LogicalResult findBatch();
  FailureOr<Shape> getInputShape(const onnx::ValueInfoProto &input);
  LogicalResult addInputs();
  LogicalResult addParameters();
  LogicalResult importNodes();
  LogicalResult addOutputs();
  void removeDead();

  Known *lookup(StringRef name) override;
  void define(StringRef name, Known known) override {
    known_[name] = std::move(known);
  }

  Location getFile() const override { return loc; }

  std::string path;
  const OnnxImportOptions &options;
  OpBuilder builder;
  Location loc;
  OwningOpRef<ModuleOp> module;
  func::FuncOp function;
  std::unique_ptr<OnnxModel> model;
  ParameterSet parameters;
  /// Bound dimensions, and whether an input has them.
  llvm::MapVector<StringRef, std::pair<int64_t, bool>> bindings;
  /// "" when the batch dimension has no name.
  std::string batchDim;
  llvm::StringMap<Known> known_;
};

} // namespace

/// Only used where nothing of the model can be meant.
static const onnx::NodeProto &getOutputNode() {
  static const onnx::NodeProto node = [] {
    onnx::NodeProto node;
    node.set_name("outputs");
    node.set_op_type("Identity");
    return node;
  }();
  return node;
}

LogicalResult Importer::readBindings() {
  for (StringRef binding : options.bindings) {
    auto [name, text] = binding.split('=');
    int64_t size;
    if (name.empty() || text.getAsInteger(10, size) || size < 1 ||
        size > std::numeric_limits<int32_t>::max())
      return emitError(loc) << "--bind '" << binding
                            << "', expected NAME=SIZE with a size from 1 to "
                            << std::numeric_limits<int32_t>::max();
    if (!bindings.insert({name, {size, false}}).second)
      return emitError(loc) << "--bind '" << name << "' is given twice";
  }
  return success();
}

/// The dimensions of an input's type, or null when it has none.
static const onnx::TensorShapeProto *
getDeclaredShape(const onnx::ValueInfoProto &input) {
  const onnx::TypeProto &type = input.type();
  return type.has_tensor_type() && type.tensor_type().has_shape()
             ? &type.tensor_type().shape()
             : nullptr;
}

/// How to export a model whose batch is free.
static std::string getExportHint(StringRef input, int dim = 0,
                                 StringRef name = "batch") {
  return ("export with dynamic_axes={'" + input + "': {" + Twine(dim) + ": '" +
          name + "'}}")
      .str();
}

LogicalResult Importer::findBatch() {
  SmallVector<std::string> names;
  const onnx::ValueInfoProto *first = nullptr;
  for (const onnx::ValueInfoProto *input : model->getInputs()) {
    const onnx::TensorShapeProto *shape = getDeclaredShape(*input);
    if (!shape)
      return emitError(loc)
             << "input '" << input->name() << "' is no tensor of known rank";
    if (!first && shape->dim_size())
      first = input;
    for (auto [i, dim] : llvm::enumerate(shape->dim())) {
      if (auto at = bindings.find(dim.dim_param()); at != bindings.end())
        at->second.second = true;
      else if (i == 0 && !dim.has_dim_value() &&
               !llvm::is_contained(names, dim.dim_param()))
        names.push_back(dim.dim_param());
    }
  }
  for (const auto &[name, binding] : bindings)
    if (!binding.second)
      return emitError(loc) << "--bind '" << name
                            << "': no input has a dimension of that name";
  if (options.noBatch) {
    if (!options.batchDim.empty() || !names.empty())
      return emitError(loc)
             << "has the free dimension '"
             << (names.empty() ? options.batchDim : names.front())
             << "', expected constant ones with --no-batch: give it a size "
                "with --bind NAME=SIZE";
    return success();
  }
  if (!options.batchDim.empty()) {
    batchDim = options.batchDim;
    if (bindings.contains(batchDim))
      return emitError(loc) << "'" << batchDim
                            << "' is the batch and stays free, but --bind "
                               "gives it a size";
    for (const onnx::ValueInfoProto *input : model->getInputs())
      for (const auto &dim : getDeclaredShape(*input)->dim())
        if (dim.dim_param() == batchDim)
          return success();
    return emitError(loc) << "--batch-dim '" << batchDim
                          << "': no input has a dimension of that name";
  }
  if (names.size() > 1) {
    InFlightDiagnostic error = emitError(loc)
                               << "inputs have different first dimensions ";
    llvm::interleaveComma(names, error,
                          [&](StringRef name) { error << "'" << name << "'"; });
    return error << ": say which is the batch with --batch-dim NAME, and give "
                    "the others a size with --bind NAME=SIZE";
  }
  if (names.empty()) {
    InFlightDiagnostic error = emitError(loc);
    if (!first)
      return error << "has no input with a batch dimension";
    const auto &dim = getDeclaredShape(*first)->dim(0);
    if (dim.has_dim_value())
      return error << "input '" << first->name()
                   << "' has the constant first dimension " << dim.dim_value()
                   << ", expected a symbolic one, the batch: "
                   << getExportHint(first->name());
    return error << "the first dimension '" << dim.dim_param() << "' of input '"
                 << first->name()
                 << "' is bound by --bind, expected it free as the batch";
  }
  batchDim = names.front();
  return success();
}

FailureOr<Shape> Importer::getInputShape(const onnx::ValueInfoProto &input) {
  Shape shape;
  for (auto [i, dim] : llvm::enumerate(getDeclaredShape(input)->dim())) {
    const std::string &name = dim.dim_param();
    if (dim.has_dim_value()) {
      if (dim.dim_value() < 1)
        return emitError(loc)
               << "dimension " << i << " of input '" << input.name() << "' is "
               << dim.dim_value() << ", expected at least 1";
      shape.push_back({dim.dim_value(), 0});
    } else if (auto at = bindings.find(name); at != bindings.end()) {
      shape.push_back({at->second.first, 0});
    } else if (name == batchDim && (i == 0 || !name.empty())) {
      shape.push_back({0, 1});
    } else if (name.empty()) {
      return emitError(loc) << "dimension " << i << " of input '"
                            << input.name() << "' has neither size nor name: "
                            << getExportHint(input.name(), i, "NAME");
    } else {
      return emitError(loc)
             << "dimension '" << name << "' of input '" << input.name()
             << "' has no size: give it one with --bind " << name << "=SIZE";
    }
  }
  if (llvm::count_if(shape, [](Affine size) { return size.batch; }) > 1)
    return emitError(loc) << "input '" << input.name()
                          << "' has the batch dimension '" << batchDim
                          << "' twice";
  return shape;
}

LogicalResult Importer::addInputs() {
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attributes;
  auto inputs = model->getInputs();
  for (const onnx::ValueInfoProto *input : inputs) {
    FailureOr<Shape> shape = getInputShape(*input);
    if (failed(shape))
      return failure();
    int onnxType = input->type().tensor_type().elem_type();
    std::optional<ElementType> element = getElementType(onnxType);
    Type elementType =
        element ? toMlirType(*element, builder.getContext()) : Type();
    if (!elementType)
      return emitError(loc)
             << "input '" << input->name()
             << "' has the unsupported element type number " << onnxType
             << ", expected float, int32, int64 or bool";
    RankedTensorType type = getTensorType(*shape, elementType);
    if (!type)
      return emitError(loc) << "input '" << input->name()
                            << "' is absurdly large: " << toString(*shape);
    types.push_back(type);
    attributes.push_back(builder.getDictionaryAttr(builder.getNamedAttr(
        graph::kInputAttr, builder.getStringAttr(input->name()))));
  }
  builder.setInsertionPointToEnd(module->getBody());
  function = builder.create<func::FuncOp>(loc, "main",
                                          builder.getFunctionType(types, {}));
  function.setAllArgAttrs(attributes);
  Block *body = function.addEntryBlock();
  for (auto [input, argument] : llvm::zip(inputs, body->getArguments())) {
    Known known;
    known.value = argument;
    define(input->name(), std::move(known));
  }
  return success();
}

LogicalResult Importer::addParameters() {
  builder.setInsertionPoint(function);
  for (const Parameter &parameter : parameters.parameters) {
    const Initializer &initializer =
        *model->findInitializer(parameter.initializer);
    if (parameter.name == "main")
      return emitError(loc) << "parameter 'main' has the name of the function";
    Shape shape;
    for (int64_t dim : initializer.proto->dims())
      shape.push_back({dim, 0});
    RankedTensorType type = getTensorType(shape, builder.getF32Type());
    if (!type)
      return emitError(loc)
             << "parameter '" << parameter.name
             << "' is empty or absurdly large: " << toString(shape);
    builder.create<graph::ParameterOp>(
        NameLoc::get(builder.getStringAttr(parameter.name)), parameter.name,
        type, parameter.initializer, parameter.frozen);
    Known known;
    known.parameter = parameter.name;
    known.initializer = parameter.initializer;
    known.type = type;
    define(parameter.name, std::move(known));
  }
  return success();
}

Known *Importer::lookup(StringRef name) {
  if (auto at = known_.find(name); at != known_.end())
    return &at->second;
  const Initializer *initializer = model->findInitializer(name);
  if (!initializer) {
    // Results that a node of a newer version sets and this reader does not.
    emitError(loc) << "value '" << name << "' is not computed";
    return nullptr;
  }
  FailureOr<onnx::TensorProto> tensor = model->readInitializer(*initializer);
  if (failed(tensor))
    return nullptr;
  Known known;
  known.symbolic = Symbolic::fromTensor(*tensor);
  if (!known.symbolic) {
    emitError(loc) << "initializer '" << name
                   << "' is no weight, but is too large to be folded or "
                      "damaged";
    return nullptr;
  }
  define(name, std::move(known));
  return &known_.find(name)->second;
}

LogicalResult Importer::importNodes() {
  builder.setInsertionPointToEnd(&function.getBody().front());
  for (const onnx::NodeProto *node : parameters.liveNodes) {
    NodeContext context(*node, model->getOpset(), *this, builder);
    const OpEntry *entry = findOp(*node);
    if (!context.load())
      return failure();
    if (entry->evaluate && entry->evaluate(context))
      continue;
    if (!entry->build)
      return context.emitError()
             << "is supported only where its result follows from the shapes of "
                "the inputs";
    if (failed(entry->build(context)))
      return failure();
  }
  return success();
}

LogicalResult Importer::addOutputs() {
  NodeContext context(getOutputNode(), model->getOpset(), *this, builder);
  SmallVector<Value> results;
  SmallVector<DictionaryAttr> attributes;
  llvm::StringSet<> names;
  for (const onnx::ValueInfoProto &output : model->getGraph().output()) {
    if (!names.insert(output.name()).second)
      return emitError(loc)
             << "has two outputs named '" << output.name() << "'";
    Known *known = lookup(output.name());
    Value value = known ? getOrMake(*known, context) : Value();
    if (!value)
      return failure();
    // Constants of other types are computed with as float or int64.
    if (int declared = output.type().tensor_type().elem_type()) {
      std::optional<ElementType> element = getElementType(declared);
      if (!element ||
          toMlirType(*element, builder.getContext()) !=
              cast<RankedTensorType>(value.getType()).getElementType())
        return emitError(loc)
               << "output '" << output.name()
               << "' is declared with the element type number " << declared
               << ", but computed as "
               << cast<RankedTensorType>(value.getType()).getElementType();
    }
    results.push_back(value);
    attributes.push_back(builder.getDictionaryAttr(builder.getNamedAttr(
        graph::kOutputAttr, builder.getStringAttr(output.name()))));
  }
  builder.create<func::ReturnOp>(loc, results);
  function.setType(builder.getFunctionType(function.getArgumentTypes(),
                                           ValueRange(results).getTypes()));
  function.setAllResultAttrs(attributes);
  return success();
}

void Importer::removeDead() {
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
  llvm::StringSet<> used;
  function.walk(
      [&](graph::GetParameterOp get) { used.insert(get.getParameter()); });
  for (auto parameter :
       llvm::make_early_inc_range(module->getOps<graph::ParameterOp>()))
    if (!used.contains(parameter.getSymName()))
      parameter.erase();
}

OwningOpRef<ModuleOp> Importer::run() {
  model = OnnxModel::read(path, loc);
  if (!model || failed(readBindings()) || failed(findBatch()))
    return nullptr;
  auto live = findLiveNodes(*model, loc);
  if (failed(live) || failed(runOnnxChecker(*model, loc)))
    return nullptr;
  auto found = findParameters(*model, std::move(*live), options.freeze, loc);
  if (failed(found))
    return nullptr;
  parameters = std::move(*found);

  builder.getContext()->loadDialect<func::FuncDialect, graph::GraphDialect>();
  FailureOr<std::string> hash = hashModel(path, loc);
  if (failed(hash))
    return nullptr;
  module = ModuleOp::create(loc);
  (*module)->setAttr(graph::kModelHashAttr, builder.getStringAttr(*hash));
  (*module)->setAttr(graph::kModelFileAttr, builder.getStringAttr(path));
  if (failed(addInputs()) || failed(addParameters()) || failed(importNodes()) ||
      failed(addOutputs()))
    return nullptr;
  removeDead();
  if (failed(verify(*module)))
    return nullptr;
  return std::move(module);
}

OwningOpRef<ModuleOp> tombolo::importOnnx(StringRef path,
                                          const OnnxImportOptions &options,
                                          MLIRContext *context) {
  return Importer(path, options, context).run();
}
