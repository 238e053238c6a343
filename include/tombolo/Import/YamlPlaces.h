//===- YamlPlaces.h - places of a YAML file as locations -------*- C++ -*-===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_YAMLPLACES_H
#define TOMBOLO_IMPORT_YAMLPLACES_H

#include "tombolo/Import/YamlFile.h"

#include "mlir/IR/Location.h"

namespace tombolo {

/// `FILE:LINE:COLUMN` of what a path names, or of the nearest around it.
inline mlir::Location placeIn(const YamlFile &file, llvm::StringRef path,
                              mlir::MLIRContext *context) {
  YamlFile::Place at = file.locate(path);
  return mlir::FileLineColLoc::get(context, file.getName(), at.line, at.column);
}

} // namespace tombolo

#endif // TOMBOLO_IMPORT_YAMLPLACES_H
