//===- Contract.h - what the sites of a run agree on ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sites and servers of a run need not have the same plan file, but plans with
// the same *contract*: the model's parameters, what all islands train, the
// settings of the server, and of each island its sites, batch and inner steps.
// How an island is laid out on its chips is its own business, so a site may
// come back with another strategy.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_CONTRACT_H
#define TOMBOLO_RUNTIME_PLAN_CONTRACT_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tombolo::runtime {

/// Lines "what: value", the same for the same contract.
class Contract {
public:
  Contract() = default;
  explicit Contract(std::string text);

  const std::string &text() const { return lines; }
  /// SHA-256 of the text.
  const std::string &digest() const { return hash; }

  /// In what another one's text differs, for people: "quorum: expected '2', got
  /// '1'"; empty where it does not. `other` may be anything.
  std::string difference(std::string_view other) const;

private:
  std::string lines, hash;
};

/// Of a valid plan with a server. Throws Error when its islands do not hold the
/// same parameters.
Contract contractOf(const Plan &plan);

/// A parameter that is trained, the same on all islands.
struct SharedParameter {
  std::string name;
  std::vector<std::uint64_t> dims;
  std::uint64_t elements = 0;
  std::uint32_t fragment = 0;

  bool operator==(const SharedParameter &) const = default;
};

/// By name. Throws Error as `contractOf` does, and for one that is not f32.
std::vector<SharedParameter> sharedParameters(const Plan &plan);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_CONTRACT_H
