//===- PlanRuntime.cpp - what the runtime's library says of a plan --- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// The runtime's libraries throw; here exceptions become diagnostics.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Target/PlanExport.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/plan/Validate.h"

#include <deque>

using namespace mlir;

namespace tombolo {

LogicalResult checkPlan(const plan::v1::Plan &plan, Location loc,
                        bool progress) {
  try {
    runtime::validatePlan(plan);
    if (progress)
      runtime::checkProgress(plan);
  } catch (const std::exception &error) {
    return emitError(loc) << error.what();
  }
  return success();
}

FailureOr<std::string> serializePlan(const plan::v1::Plan &plan, Location loc) {
  try {
    return runtime::serializePlan(plan);
  } catch (const std::exception &error) {
    return FailureOr<std::string>(emitError(loc) << error.what());
  }
}

LogicalResult writeFile(StringRef path, StringRef data, Location loc) {
  return writeFiles({{path, data}}, loc);
}

LogicalResult writeFiles(ArrayRef<std::pair<StringRef, StringRef>> files,
                         Location loc) {
  try {
    std::deque<runtime::OutputFile> aside;
    for (auto [path, data] : files)
      aside.emplace_back(path.str())
          .write(std::string_view(data.data(), data.size()));
    for (runtime::OutputFile &file : aside)
      file.commit();
  } catch (const std::exception &error) {
    return emitError(loc) << error.what();
  }
  return success();
}

std::unique_ptr<plan::v1::Plan> readPlan(StringRef bytes, Location loc) {
  try {
    return std::make_unique<plan::v1::Plan>(runtime::parsePlan(
        std::string_view(bytes.data(), bytes.size()), "plan"));
  } catch (const std::exception &error) {
    emitError(loc) << error.what();
    return nullptr;
  }
}

FailureOr<std::string> printPlan(StringRef bytes, Location loc) {
  std::unique_ptr<plan::v1::Plan> plan = readPlan(bytes, loc);
  if (!plan)
    return failure();
  return plan->DebugString();
}

} // namespace tombolo
