//===- Options.h - the command line of tombolo-plan --------*- C++ -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLO_PLAN_OPTIONS_H
#define TOMBOLO_TOOLS_TOMBOLO_PLAN_OPTIONS_H

#include "tombolo/Import/ONNX.h"
#include "tombolo/Pipelines/Pipelines.h"

#include <cstdint>
#include <optional>
#include <string>

namespace tombolo {

/// Where to stop and print.
enum class Emit { File, Graph, Topo, Dist, Plan };

struct PlanOptions {
  std::string model;
  std::string topology;
  std::string problem; // a saved one, in place of model and topology
  std::string printSchema; // of which file, in place of planning
  std::string output;
  std::string json;
  std::string dumpPhasesTo;
  Emit emit = Emit::File;
  OnnxImportOptions import;
  GraphPipelineOptions graph;
  StrategyPipelineOptions search;
  LoweringPipelineOptions lowering;
};

/// Parses the command line. Without a value the program ends with `status`: 0
/// after --help, 2 after wrong usage, 1 when it asks for what is not there yet.
std::optional<PlanOptions> parseOptions(int argc, char **argv, int &status);

} // namespace tombolo

#endif // TOMBOLO_TOOLS_TOMBOLO_PLAN_OPTIONS_H
