//===- NodeContext.h - what the import of one node works on -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_ONNX_NODECONTEXT_H
#define TOMBOLO_LIB_IMPORT_ONNX_NODECONTEXT_H

#include "OnnxModel.h"
#include "Symbolic.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/Builders.h"

namespace tombolo::importer {

/// What is known of a value of the model: its elements, or only its type.
struct Known {
  std::optional<Symbolic> symbolic;
  /// Null for a symbolic value until something needs its elements at run time.
  mlir::Value value;
  /// The parameter that it is, "" for others, and the initializer that holds
  /// the parameter's values. The value is made at the first use.
  std::string parameter, initializer;
  mlir::RankedTensorType type; ///< of a parameter
};

/// Converts between the importer's and the dialect's views of a dimension.
std::optional<graph::Dim> toDim(Affine size);
Affine toAffine(graph::Dim dim);
Shape getShape(mlir::RankedTensorType type);
/// Null when the shape has two batch dimensions or one that is neither a
/// constant nor a multiple of the batch, or when it is absurdly large.
mlir::RankedTensorType getTensorType(llvm::ArrayRef<Affine> shape,
                                     mlir::Type elementType);
/// Null for the types that the dialect has not.
mlir::Type toMlirType(ElementType type, mlir::MLIRContext *context);
std::optional<ElementType> fromMlirType(mlir::Type type);
/// "[batch, 128]"
std::string toString(llvm::ArrayRef<Affine> shape);

/// Values of the model by name. Looking one up may read an initializer that
/// is no weight.
class ValueTable {
public:
  virtual ~ValueTable() = default;
  /// Null after an error.
  virtual Known *lookup(llvm::StringRef name) = 0;
  virtual void define(llvm::StringRef name, Known known) = 0;
  /// Where errors are reported: the file.
  virtual mlir::Location getFile() const = 0;
};

/// The type of a value, which is always a ranked tensor.
inline mlir::RankedTensorType getType(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType());
}

/// One node: its operands, attributes and results. Operands that do not exist
/// are answered as absent, so that the functions of the table need no checks
/// of their own; the number of operands is checked by the table.
class NodeContext {
public:
  NodeContext(const onnx::NodeProto &node, int64_t opset, ValueTable &values,
              mlir::OpBuilder &builder);

  const onnx::NodeProto &getNode() const { return node; }
  int64_t getOpset() const { return opset; }
  mlir::OpBuilder &getBuilder() { return builder; }
  mlir::Location getLoc() const { return loc; }

  /// Looks all operands up; false after an error.
  bool load();

  //===--- Operands -------------------------------------------------------===//
  size_t getNumOperands() const { return operands.size(); }
  bool hasOperand(size_t i) const { return i < operands.size() && operands[i]; }
  /// Null when the operand is absent or not known at import.
  const Symbolic *getSymbolic(size_t i) const;
  bool allSymbolic() const;
  Shape getOperandShape(size_t i) const;
  /// The operand as a value; makes a constant of a symbolic one. Null after an
  /// error.
  mlir::Value getValue(size_t i);
  /// As getValue, but a splat becomes a scalar: for operands that are
  /// broadcast anyway.
  mlir::Value getBroadcastableValue(size_t i, llvm::ArrayRef<Affine> result);
  /// Elements of an operand of integers; an error when they are not known.
  mlir::FailureOr<llvm::SmallVector<Affine>> getIntegers(size_t i,
                                                         const char *what);
  /// As getIntegers; also an error when they depend on the batch size.
  mlir::FailureOr<llvm::SmallVector<int64_t>> getConstants(size_t i,
                                                           const char *what);

  //===--- Attributes -----------------------------------------------------===//
  bool hasAttribute(llvm::StringRef name) const { return find(name); }
  int64_t getInt(llvm::StringRef name, int64_t otherwise) const;
  double getFloat(llvm::StringRef name, double otherwise) const;
  std::string getString(llvm::StringRef name, llvm::StringRef otherwise) const;
  std::optional<llvm::SmallVector<int64_t>> getInts(llvm::StringRef name) const;
  const onnx::AttributeProto *find(llvm::StringRef name) const;
  /// The axis in [0, rank); an error otherwise.
  mlir::FailureOr<int64_t> normalizeAxis(int64_t axis, size_t rank);
  /// Axes given by an attribute, or since some opset by an operand; nullopt
  /// when there are none.
  mlir::FailureOr<std::optional<llvm::SmallVector<int64_t>>>
  getAxes(size_t operand, size_t rank);

  //===--- Results --------------------------------------------------------===//
  size_t getNumResults() const { return node.output_size(); }
  bool wantsResult(size_t i) const {
    return i < getNumResults() && !node.output(i).empty();
  }
  /// Both return success.
  mlir::LogicalResult setResult(size_t i, Symbolic value);
  mlir::LogicalResult setResult(size_t i, mlir::Value value);
  /// Result 0 is operand 0, whatever that is.
  mlir::LogicalResult forwardOperand();

  //===--- Building -------------------------------------------------------===//
  /// Starts with "node 'NAME' (TYPE): ".
  mlir::InFlightDiagnostic emitError() const;

  /// Builds an op whose types are inferred, its properties set by `fill`. An
  /// error of the inference becomes one of the node, and null.
  template <typename Op, typename Fill>
  Op create(mlir::ValueRange operands, Fill fill) {
    mlir::OperationState state(loc, Op::getOperationName());
    auto &properties = state.getOrAddProperties<typename Op::Properties>();
    fill(properties);
    return finish<Op>(state, operands, mlir::OpaqueProperties(&properties));
  }
  /// The same for an op without properties.
  template <typename Op> Op create(mlir::ValueRange operands) {
    mlir::OperationState state(loc, Op::getOperationName());
    return finish<Op>(state, operands, mlir::OpaqueProperties(nullptr));
  }
  /// As create, for the first result.
  template <typename Op, typename... Fill>
  mlir::Value make(mlir::ValueRange operands, Fill... fill) {
    Op op = create<Op>(operands, fill...);
    return op ? op->getResult(0) : mlir::Value();
  }

  /// An error for a value of integers or bools.
  mlir::LogicalResult requireFloat(mlir::Value value) const;
  mlir::Value makeScalar(double value, mlir::Type type);
  /// Null after an error.
  mlir::Value makeReshape(mlir::Value value, llvm::ArrayRef<Affine> to);
  mlir::Value makeBroadcast(mlir::Value value, llvm::ArrayRef<Affine> to);
  mlir::Value makeTranspose(mlir::Value value,
                            llvm::ArrayRef<int64_t> permutation);
  mlir::Value makeCast(mlir::Value value, mlir::Type elementType);
  mlir::Value makeMatmul(mlir::Value lhs, mlir::Value rhs, mlir::Value bias,
                         bool transposeA, bool transposeB);
  /// A symbolic tensor as ops; null after an error.
  mlir::Value materialize(const Symbolic &symbolic);

private:
  template <typename Op>
  Op finish(mlir::OperationState &state, mlir::ValueRange operands,
            mlir::OpaqueProperties properties) {
    state.addOperands(operands);
    llvm::SmallVector<mlir::Type> types;
    if (mlir::failed(inferTypes([&](mlir::Location at) {
          return Op::inferReturnTypes(builder.getContext(), at, operands,
                                      mlir::DictionaryAttr(), properties, {},
                                      types);
        })))
      return nullptr;
    state.addTypes(types);
    return llvm::cast<Op>(builder.create(state));
  }
  mlir::LogicalResult inferTypes(
      llvm::function_ref<mlir::LogicalResult(mlir::Location)> infer) const;
  mlir::Value makeConstant(ElementType type, llvm::ArrayRef<Affine> shape,
                           llvm::ArrayRef<Scalar> elements);

  const onnx::NodeProto &node;
  int64_t opset;
  ValueTable &values;
  mlir::OpBuilder &builder;
  mlir::Location loc;
  llvm::SmallVector<Known *, 4> operands;
};

/// A value is needed at run time: that of a parameter, or of a symbolic value.
mlir::Value getOrMake(Known &known, NodeContext &context);

} // namespace tombolo::importer

#endif // TOMBOLO_LIB_IMPORT_ONNX_NODECONTEXT_H
