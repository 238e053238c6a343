//===- Strategy.h - reading strategy.yaml ---------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_STRATEGY_H
#define TOMBOLO_IMPORT_STRATEGY_H

#include "tombolo/Import/YamlFile.h"
#include "tombolo/Planning/Strategy.h"

namespace tombolo {

struct StrategyFile {
  YamlFile file; // report(errors, fault) points at faults found later
  planning::StrategyPins pins;
};

/// Reads a strategy, whole or in part, in its short or long form. Faults of
/// form are written to `errors` with their places; those that need model and
/// topology come from `Problem::verify` and `search`.
std::optional<StrategyFile> readStrategy(YamlFile file,
                                         llvm::raw_ostream &errors);
std::optional<StrategyFile> readStrategyFile(llvm::StringRef path,
                                             llvm::raw_ostream &errors);

/// The JSON Schema of such files, from what the reader goes by: it accepts and
/// refuses the same, but for what only several places of the file, or other
/// files, tell together.
void writeStrategySchema(llvm::raw_ostream &out);

} // namespace tombolo

#endif // TOMBOLO_IMPORT_STRATEGY_H
