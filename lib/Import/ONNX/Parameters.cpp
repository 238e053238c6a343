//===- Parameters.cpp - which initializers are trained --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Parameters.h"
#include "OpTable.h"

#include "llvm/Support/Regex.h"

using namespace mlir;

namespace tombolo::importer {

FailureOr<std::vector<const onnx::NodeProto *>>
findLiveNodes(const OnnxModel &model, Location loc) {
  llvm::StringSet<> needed;
  for (const onnx::ValueInfoProto &output : model.getGraph().output())
    needed.insert(output.name());
  std::vector<const onnx::NodeProto *> live;
  for (const onnx::NodeProto *node : llvm::reverse(model.getNodes())) {
    if (llvm::none_of(node->output(), [&](const std::string &result) {
          return needed.contains(result);
        }))
      continue;
    live.push_back(node);
    for (const std::string &operand : node->input())
      if (!operand.empty())
        needed.insert(operand);
  }
  std::reverse(live.begin(), live.end());

  std::string unsupported;
  size_t count = 0;
  for (const onnx::NodeProto *node : live)
    if (!findOp(*node)) {
      unsupported += (count ? ", " : "") + describe(*node);
      ++count;
    }
  if (count)
    return emitError(loc) << "has " << count << " unsupported operator"
                          << (count > 1 ? "s" : "") << ": " << unsupported;
  for (const onnx::NodeProto *node : live) {
    const OpEntry *entry = findOp(*node);
    size_t operands = node->input_size();
    if (operands < entry->minOperands || operands > entry->maxOperands)
      return emitError(loc) << describe(*node) << ": has " << operands
                            << " operands, expected " << entry->minOperands
                            << " to " << entry->maxOperands;
    for (unsigned i = 0; i < entry->minOperands; ++i)
      if (node->input(i).empty())
        return emitError(loc)
               << describe(*node) << ": operand " << i << " is missing";
  }
  return live;
}

/// Whether a node passes gradients from its results to operand `i`.
static bool passesGradient(const onnx::NodeProto &node, int i) {
  const OpEntry *entry = findOp(node);
  if (i < 32 && entry->noGradient >> i & 1)
    return false;
  if (node.op_type() == "Cast")
    for (const onnx::AttributeProto &attribute : node.attribute())
      if (attribute.name() == "to") {
        auto to = getElementType(static_cast<int>(attribute.i()));
        return to && isFloat(*to);
      }
  return true;
}

/// "'a', 'b' and 3 more"
static std::string listNames(ArrayRef<std::string> names) {
  constexpr size_t most = 8;
  std::string text;
  for (const std::string &name : names.take_front(most))
    text += (text.empty() ? "'" : ", '") + name + "'";
  if (names.size() > most)
    text += " and " + std::to_string(names.size() - most) + " more";
  return text;
}

/// Says which parameters keep their values: those that are frozen, and float
/// initializers that no output needs.
static void reportUntrained(const OnnxModel &model,
                            ArrayRef<const onnx::NodeProto *> liveNodes,
                            const ParameterSet &set, Location loc) {
  std::vector<std::string> frozen, unused;
  for (const Parameter &parameter : set.parameters)
    if (parameter.frozen)
      frozen.push_back(parameter.name);
  llvm::StringSet<> read;
  for (const onnx::NodeProto *node : liveNodes)
    for (const std::string &operand : node->input())
      read.insert(operand);
  for (const onnx::ValueInfoProto &output : model.getGraph().output())
    read.insert(output.name());
  for (const onnx::TensorProto &tensor : model.getGraph().initializer())
    if (auto type = getElementType(tensor.data_type());
        type && isFloat(*type) && !read.contains(tensor.name()))
      unused.push_back(tensor.name());
  if (!frozen.empty())
    emitRemark(loc) << frozen.size() << " of " << set.parameters.size()
                    << " parameters frozen: " << listNames(frozen);
  if (!unused.empty())
    emitRemark(loc) << unused.size() << " initializer"
                    << (unused.size() > 1 ? "s" : "")
                    << " not trained, as no output needs "
                    << (unused.size() > 1 ? "them: " : "it: ")
                    << listNames(unused);
}

FailureOr<ParameterSet>
findParameters(const OnnxModel &model,
               std::vector<const onnx::NodeProto *> liveNodes,
               ArrayRef<std::string> freeze, Location loc) {
  // The initializer behind each Identity, perhaps through others.
  llvm::StringMap<std::string> behindIdentity;
  for (const onnx::NodeProto *node : liveNodes) {
    if (node->op_type() != "Identity" || !findOp(*node))
      continue;
    const std::string &operand = node->input(0);
    if (model.findInitializer(operand))
      behindIdentity[node->output(0)] = operand;
    else if (auto at = behindIdentity.find(operand); at != behindIdentity.end())
      behindIdentity[node->output(0)] = std::string(at->second);
  }

  llvm::StringSet<> reached;
  for (const onnx::ValueInfoProto &output : model.getGraph().output())
    if (auto type = getElementType(output.type().tensor_type().elem_type());
        type && isFloat(*type))
      reached.insert(output.name());
  for (const onnx::NodeProto *node : llvm::reverse(liveNodes)) {
    if (llvm::none_of(node->output(), [&](const std::string &result) {
          return reached.contains(result);
        }))
      continue;
    if (node->output_size() && behindIdentity.contains(node->output(0)))
      continue;
    for (int i = 0; i < node->input_size(); ++i)
      if (!node->input(i).empty() && passesGradient(*node, i))
        reached.insert(node->input(i));
  }

  ParameterSet set;
  auto isTrainable = [&](const std::string &name, const Initializer &from) {
    auto type = getElementType(from.proto->data_type());
    return type && isFloat(*type) && reached.contains(name);
  };
  for (const onnx::TensorProto &tensor : model.getGraph().initializer())
    if (isTrainable(tensor.name(), *model.findInitializer(tensor.name())))
      set.parameters.push_back({tensor.name(), tensor.name()});
  for (const onnx::NodeProto *node : liveNodes) {
    auto at = node->output_size() ? behindIdentity.find(node->output(0))
                                  : behindIdentity.end();
    if (at == behindIdentity.end() ||
        !isTrainable(node->output(0), *model.findInitializer(at->second))) {
      set.liveNodes.push_back(node);
      continue;
    }
    set.parameters.push_back({node->output(0), at->second});
  }

  for (const Parameter &parameter : set.parameters) {
    const onnx::TensorProto &tensor =
        *model.findInitializer(parameter.initializer)->proto;
    if (tensor.data_type() != onnx::TensorProto::FLOAT)
      return emitError(loc)
             << "parameter '" << parameter.name << "' is of type "
             << onnx::TensorProto::DataType_Name(
                    static_cast<onnx::TensorProto::DataType>(
                        tensor.data_type()))
             << ", expected FLOAT: export the model in 32-bit floats";
  }
  for (const std::string &expression : freeze) {
    llvm::Regex regex(expression);
    std::string fault;
    if (!regex.isValid(fault))
      return emitError(loc) << "--freeze '" << expression
                            << "' is no regular expression: " << fault;
    bool used = false;
    for (Parameter &parameter : set.parameters)
      if (regex.match(parameter.name))
        used = parameter.frozen = true;
    if (!used)
      emitWarning(loc) << "--freeze '" << expression << "' matches none of the "
                       << set.parameters.size() << " parameters";
  }
  reportUntrained(model, liveNodes, set, loc);
  return set;
}

} // namespace tombolo::importer
