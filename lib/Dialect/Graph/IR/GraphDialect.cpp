//===- GraphDialect.cpp - the graph dialect -------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace tombolo::graph;

#include "tombolo/Dialect/Graph/IR/GraphDialect.cpp.inc"
#include "tombolo/Dialect/Graph/IR/GraphInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "tombolo/Dialect/Graph/IR/GraphAttrs.cpp.inc"

void GraphDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "tombolo/Dialect/Graph/IR/GraphOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "tombolo/Dialect/Graph/IR/GraphAttrs.cpp.inc"
      >();
}

Operation *GraphDialect::materializeConstant(OpBuilder &builder,
                                             Attribute value, Type type,
                                             Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements || elements.getType() != type)
    return nullptr;
  return builder.create<ConstantOp>(loc, elements);
}

LogicalResult
BatchAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError,
                  int64_t multiple) {
  if (multiple < 2)
    return emitError() << "multiple of the batch must be at least 2, got "
                       << multiple << " (1 is written without an encoding)";
  return success();
}
