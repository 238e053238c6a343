//===- Parameters.cpp - a program's parameters, one by one ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Parameters.h"

#include "tombolo/runtime/plan/Layout.h"

namespace tombolo::runtime {

using namespace plan::v1;

std::vector<LocalParameter> expandParameters(const Program &program) {
  std::vector<LocalParameter> all;
  for (const ParameterFamily &family : program.parameters()) {
    LocalParameter parameter;
    parameter.dims.assign(family.dims().begin(), family.dims().end());
    parameter.elements = 1;
    for (std::uint64_t dim : parameter.dims)
      parameter.elements *= dim;
    parameter.dtype = family.dtype();
    parameter.ranges.assign(family.slices().begin(), family.slices().end());
    if (parameter.ranges.empty()) {
      Slice whole;
      whole.set_length(parameter.elements);
      whole.set_count(1);
      whole.set_stride(parameter.elements);
      parameter.ranges.push_back(whole);
    }
    for (const Slice &slice : parameter.ranges)
      parameter.localElements += slice.length() * slice.count();
    parameter.trainable = family.trainable();
    parameter.fragment = family.fragment();
    parameter.owner = family.owner();
    for (std::uint64_t i = 0; i < family.count(); ++i) {
      parameter.name = nameAt(family.names(), i);
      parameter.initializer = nameAt(family.initializers(), i);
      parameter.address = family.address() + i * family.stride();
      all.push_back(parameter);
    }
  }
  return all;
}

std::uint64_t stateAddress(const Program &program, const StateRegion &state,
                           const LocalParameter &parameter) {
  for (const Region &region : program.regions())
    if (region.name() == "parameters")
      return state.offset() + (parameter.address - region.offset());
  return state.offset() + parameter.address;
}

} // namespace tombolo::runtime
