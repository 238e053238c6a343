//===- LayerTimes.h - reading measured layer times ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_LAYERTIMES_H
#define TOMBOLO_IMPORT_LAYERTIMES_H

#include "tombolo/Planning/LayerTimes.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>
#include <vector>

namespace tombolo {

/// The rows of one model and chip in a CSV file of measured layer times, its
/// first line
///
///   model,chip,microbatch,tensor_parallel,first_layer,last_layer,
///   forward_seconds,backward_seconds,update_seconds
///
/// (on one line; columns in any order, others are passed over). A time that is
/// empty or 0 was not measured. Every row is checked, also those of other
/// models. Faults are written as `times.csv:12:7: error: ...`; then, and when
/// there is no row of the model and chip, there is nothing. A warning is
/// written where times fall with the microbatch, as noise of a measurement
/// makes them.
std::optional<std::vector<planning::LayerTimes>>
readLayerTimes(llvm::StringRef path, llvm::StringRef text,
               llvm::StringRef model, llvm::StringRef chip,
               llvm::raw_ostream &errors);

/// The same of a file; says why it cannot be read.
std::optional<std::vector<planning::LayerTimes>>
readLayerTimesFile(llvm::StringRef path, llvm::StringRef model,
                   llvm::StringRef chip, llvm::raw_ostream &errors);

} // namespace tombolo

#endif // TOMBOLO_IMPORT_LAYERTIMES_H
