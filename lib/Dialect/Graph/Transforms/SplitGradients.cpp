//===- SplitGradients.cpp - what is saved, what is carried ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Decides which values the backward functions get from the forward function
// and which the backward by weight gets from the backward by input, then
// builds the three functions as slices of one graph. Whatever a function is not
// given is computed in it, so the decision changes cost, never results.
//
// A view is never saved when its source will do: memory is row-major when it
// is saved, so a source serves when the view has strides over it. Attention's
// result [B, H, T, D] is read by its own gradient and, as [B, T, H D], by that
// of the next product; the latter is saved and the former is a view of it.
//
//===----------------------------------------------------------------------===//

#include "Differentiation.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/Dominance.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

using namespace mlir;

namespace tombolo::graph {

namespace {

/// The batch size at which views are tried: more than 1, so that no stride
/// fits by chance.
constexpr int64_t kProbeBatch = 2;

/// The row-major view of a whole tensor.
StridedView getWhole(Value value) {
  StridedView view;
  auto type =
      getStaticType(cast<RankedTensorType>(value.getType()), kProbeBatch);
  view.shape = llvm::to_vector(type.getShape());
  view.strides = getRowMajorStrides(view.shape);
  return view;
}

/// The value closest to its source whose memory `value` is a strided view of.
Value getViewRoot(Value value) {
  SmallVector<OpResult> chain;
  Value root = value;
  while (auto view = root.getDefiningOp<ViewOpInterface>()) {
    chain.push_back(cast<OpResult>(root));
    root = view->getOperand(0);
  }
  StridedView memory = getWhole(root);
  for (OpResult result : llvm::reverse(chain)) {
    auto view = cast<ViewOpInterface>(result.getOwner());
    FailureOr<StridedView> next =
        view.getView(result.getResultNumber(), memory);
    if (succeeded(next)) {
      memory = *next;
      continue;
    }
    root = result; // must be copied: a source of its own
    memory = getWhole(root);
  }
  return root;
}

class GradientSplitter {
public:
  GradientSplitter(GradientGraph &graph, StringRef name)
      : graph(graph), name(name), body(graph.work.getBody().front()) {}

  SplitFunctions run();

private:
  bool isForward(Operation *op) const { return graph.forwardOps.contains(op); }
  bool isRecomputed(Value value) const;
  Value resolve(Value value) const {
    Value alias = useAliases ? aliases.lookup(value) : Value();
    return alias ? alias : value;
  }
  llvm::SetVector<Operation *> getSlice(ArrayRef<Value> results,
                                        const llvm::DenseSet<Value> &given);
  void chooseSaved(const llvm::SetVector<Operation *> &gradientOps);
  void replaceByInverse();
  bool buildInverse(Value source, Value viewed);
  void chooseCarried(const llvm::SetVector<Operation *> &inputOps,
                     const llvm::SetVector<Operation *> &weightOps);
  void sort(llvm::SetVector<Value> &values);
  func::FuncOp build(StringRef suffix, ArrayRef<Value> arguments,
                     ArrayRef<Value> results);

  GradientGraph &graph;
  StringRef name;
  Block &body;
  llvm::SetVector<Value> saved, carried;
  /// Values that the backward functions have as views of saved ones.
  llvm::DenseMap<Value, Value> aliases;
  bool useAliases = false;
};

/// Constants and what is made of them alone by views and masks.
bool GradientSplitter::isRecomputed(Value value) const {
  Operation *op = value.getDefiningOp();
  while (op && isa<ViewOpInterface>(op)) {
    value = op->getOperand(0);
    op = value.getDefiningOp();
  }
  return op && op->getNumOperands() == 0;
}

/// The ops that compute `results` from what is given, in program order.
llvm::SetVector<Operation *>
GradientSplitter::getSlice(ArrayRef<Value> results,
                           const llvm::DenseSet<Value> &given) {
  llvm::DenseSet<Operation *> needed;
  SmallVector<Value> worklist(results);
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (given.contains(value))
      continue;
    value = resolve(value);
    Operation *op = value.getDefiningOp();
    if (op && !given.contains(value) && needed.insert(op).second)
      llvm::append_range(worklist, op->getOperands());
  }
  llvm::SetVector<Operation *> slice;
  for (Operation &op : body)
    if (needed.contains(&op))
      slice.insert(&op);
  return slice;
}

void GradientSplitter::sort(llvm::SetVector<Value> &values) {
  SmallVector<Value> sorted = values.takeVector();
  llvm::sort(sorted, [](Value a, Value b) {
    Operation *left = a.getDefiningOp(), *right = b.getDefiningOp();
    if (left != right)
      return left->isBeforeInBlock(right);
    return cast<OpResult>(a).getResultNumber() <
           cast<OpResult>(b).getResultNumber();
  });
  values.insert(sorted.begin(), sorted.end());
}

/// Saves what gradient ops read of the forward ops' results: the sources of
/// views rather than the views.
void GradientSplitter::chooseSaved(
    const llvm::SetVector<Operation *> &gradientOps) {
  auto save = [&](Value value) {
    if (isRecomputed(value))
      return;
    Value root = getViewRoot(value);
    if (root.getDefiningOp() && isForward(root.getDefiningOp()))
      saved.insert(root);
  };
  for (Operation *op : gradientOps)
    for (Value operand : op->getOperands())
      if (operand.getDefiningOp() && isForward(operand.getDefiningOp()))
        save(operand);
  for (Value gradient :
       llvm::concat<Value>(graph.dataGradients, graph.parameterGradients))
    if (gradient.getDefiningOp() && isForward(gradient.getDefiningOp()))
      save(gradient);
  sort(saved);
  replaceByInverse();
}

/// Gives `source` as a view of `viewed`, which was made of it by reshapes and
/// transposes; false when it is no strided view.
bool GradientSplitter::buildInverse(Value source, Value viewed) {
  SmallVector<Operation *> chain;
  for (Value value = viewed; value != source;
       value = value.getDefiningOp()->getOperand(0)) {
    Operation *op = value.getDefiningOp();
    if (!op || !isa<ReshapeOp, TransposeOp>(op))
      return false;
    chain.push_back(op);
  }
  // In front of all ops, since `viewed` is given where these are used.
  OpBuilder builder(&body, body.begin());
  Value value = viewed;
  SmallVector<Operation *> created;
  for (Operation *op : chain) {
    if (auto transpose = dyn_cast<TransposeOp>(op)) {
      SmallVector<int64_t> inverse(transpose.getPermutation().size());
      for (auto [index, from] : llvm::enumerate(transpose.getPermutation()))
        inverse[from] = index;
      value = builder.create<TransposeOp>(op->getLoc(), value, inverse);
    } else {
      value = builder.create<ReshapeOp>(op->getLoc(),
                                        op->getOperand(0).getType(), value);
    }
    created.push_back(value.getDefiningOp());
  }
  // Every step must be a view, or the detour costs a copy.
  StridedView memory = getWhole(viewed);
  for (Operation *op : created) {
    FailureOr<StridedView> next = cast<ViewOpInterface>(op).getView(0, memory);
    if (failed(next)) {
      for (Operation *dead : llvm::reverse(created))
        dead->erase();
      return false;
    }
    memory = *next;
  }
  aliases[source] = value;
  return true;
}

/// Of a value and a copy of it in another order, keeps the copy: the original
/// is a view of it.
void GradientSplitter::replaceByInverse() {
  for (Value viewed : llvm::to_vector(saved)) {
    Value source = viewed;
    while (isa_and_nonnull<ReshapeOp, TransposeOp>(source.getDefiningOp()))
      source = source.getDefiningOp()->getOperand(0);
    if (source != viewed && saved.contains(source) &&
        buildInverse(source, viewed))
      saved.remove(source);
  }
}

/// Carries what ops of the backward by weight read of the backward by input.
void GradientSplitter::chooseCarried(
    const llvm::SetVector<Operation *> &inputOps,
    const llvm::SetVector<Operation *> &weightOps) {
  auto carry = [&](Value value) {
    Operation *op = value.getDefiningOp();
    if (!op || isForward(op) || !inputOps.contains(op) || isRecomputed(value))
      return;
    Value root = getViewRoot(value);
    if (root.getDefiningOp() && !isForward(root.getDefiningOp()))
      carried.insert(root);
  };
  for (Operation *op : weightOps)
    if (!inputOps.contains(op))
      for (Value operand : op->getOperands())
        carry(operand);
  for (Value gradient : graph.parameterGradients)
    carry(gradient);
  sort(carried);
}

func::FuncOp GradientSplitter::build(StringRef suffix,
                                     ArrayRef<Value> arguments,
                                     ArrayRef<Value> results) {
  OpBuilder builder(graph.work);
  auto typesOf = [](ArrayRef<Value> values) {
    return llvm::map_to_vector(values, [](Value v) { return v.getType(); });
  };
  auto function = builder.create<func::FuncOp>(
      graph.work.getLoc(), (name + "." + suffix).str(),
      builder.getFunctionType(typesOf(arguments), typesOf(results)));
  function.setPrivate();
  Block *entry = function.addEntryBlock();
  IRMapping mapping;
  for (auto [index, value] : llvm::enumerate(arguments)) {
    mapping.map(value, entry->getArgument(index));
    // Data and parameters keep what they are called; gradients have nothing.
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || argument.getArgNumber() >= graph.work.getNumArguments())
      continue;
    for (StringRef attribute : {kInputAttr, kLabelAttr, kParameterAttr})
      if (Attribute found =
              graph.work.getArgAttr(argument.getArgNumber(), attribute))
        function.setArgAttr(index, attribute, found);
  }
  llvm::DenseSet<Value> given(arguments.begin(), arguments.end());
  builder.setInsertionPointToStart(entry);
  for (Operation *op : getSlice(results, given)) {
    for (Value operand : op->getOperands())
      if (Value source = resolve(operand);
          source != operand && !given.contains(operand))
        mapping.map(operand, mapping.lookup(source));
    // An op of which some results are given keeps those.
    SmallVector<std::pair<Value, Value>> keep;
    for (Value result : op->getResults())
      if (given.contains(result))
        keep.push_back({result, mapping.lookup(result)});
    builder.clone(*op, mapping);
    for (auto [result, argument] : keep)
      mapping.map(result, argument);
  }
  builder.create<func::ReturnOp>(
      graph.work.getLoc(), llvm::map_to_vector(results, [&](Value value) {
        return mapping.lookup(given.contains(value) ? value : resolve(value));
      }));
  IRRewriter rewriter(builder.getContext());
  DominanceInfo dominance(function);
  eliminateCommonSubExpressions(rewriter, dominance, function);
  return function;
}

SplitFunctions GradientSplitter::run() {
  llvm::DenseSet<Value> given(body.args_begin(), body.args_end());
  llvm::SetVector<Operation *> inputOps = getSlice(graph.dataGradients, given);
  llvm::SetVector<Operation *> weightOps =
      getSlice(graph.parameterGradients, given);
  llvm::SetVector<Operation *> gradientOps;
  for (Operation &op : body)
    if ((inputOps.contains(&op) || weightOps.contains(&op)) && !isForward(&op))
      gradientOps.insert(&op);
  chooseSaved(gradientOps);
  weightOps.remove_if([&](Operation *op) { return isForward(op); });
  chooseCarried(inputOps, weightOps);

  auto join = [](auto &&...lists) {
    SmallVector<Value> all;
    (llvm::append_range(all, lists), ...);
    return all;
  };
  SplitFunctions functions;
  functions.savedCount = saved.size();
  functions.carriedCount = carried.size();
  functions.forward = build("forward", join(graph.data, graph.parameters),
                            join(graph.results, saved.getArrayRef()));
  useAliases = true;
  functions.backwardInput =
      build("backward_input",
            join(graph.data, saved.getArrayRef(), graph.parameters,
                 graph.resultGradients),
            join(graph.dataGradients, carried.getArrayRef()));
  functions.backwardWeight =
      build("backward_weight",
            join(graph.data, saved.getArrayRef(), graph.parameters,
                 graph.resultGradients, carried.getArrayRef()),
            graph.parameterGradients);
  return functions;
}

} // namespace

SplitFunctions splitGradientGraph(GradientGraph &graph, StringRef name) {
  return GradientSplitter(graph, name).run();
}

} // namespace tombolo::graph
