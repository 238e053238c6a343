//===- PlanFile.h - reading and writing plan files --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_PLANFILE_H
#define TOMBOLO_RUNTIME_PLAN_PLANFILE_H

#include "tombolo/schema/plan.pb.h"

#include <string>
#include <string_view>

namespace tombolo::runtime {

using Plan = plan::v1::Plan;

constexpr std::uint32_t kPlanFormatVersion = 1;

/// The bytes of a plan file: the message, deterministically serialised, with
/// the checksum of docs/PlanFormat.md behind it. `plan.checksum` is ignored.
/// Throws Error when the message is over 2 GiB.
std::string serializePlan(const Plan &plan);

/// The inverse: checks checksum, version and everything `validatePlan` checks.
/// `name` stands in the messages. Throws Error; a returned plan can be trusted.
Plan parsePlan(std::string_view bytes, const std::string &name);

/// Checksum, version and protobuf only, without `validatePlan`.
Plan parsePlanUnchecked(std::string_view bytes, const std::string &name);

Plan readPlan(const std::string &path);

/// Validates nothing; writes aside, syncs and renames, so that `path` is either
/// the whole plan or what it was before. Throws Error.
void writePlan(const Plan &plan, const std::string &path);

/// The hash of the file's content as it stands in `Plan.checksum`.
std::string planChecksum(std::string_view serializedWithoutChecksum);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_PLANFILE_H
