//===- Parameters.cpp - a program's parameters, one by one ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Parameters.h"

#include "tombolo/runtime/plan/Layout.h"

#include <algorithm>

namespace tombolo::runtime {

using namespace plan::v1;

std::vector<LocalParameter> expandParameters(const Program &program,
                                             std::uint64_t tensorIndex) {
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
    for (Slice &slice : parameter.ranges) {
      parameter.localElements += slice.length() * slice.count();
      parameter.split |= slice.tensor_stride() != 0;
      slice.set_begin(slice.begin() + tensorIndex * slice.tensor_stride());
      slice.clear_tensor_stride();
    }
    parameter.trainable = family.trainable();
    parameter.owner = family.owner();
    // Members of the families' fragments that are still to come.
    auto fragment = family.fragments().begin();
    std::uint64_t left = family.fragments_size() ? fragment->count() : 0;
    for (std::uint64_t i = 0; i < family.count(); ++i) {
      parameter.name = nameAt(family.names(), i);
      parameter.initializer = nameAt(family.initializers(), i);
      while (left == 0 && fragment != family.fragments().end())
        left = ++fragment == family.fragments().end() ? 0 : fragment->count();
      if (left > 0) {
        parameter.fragment = fragment->fragment();
        --left;
      }
      parameter.address = family.address() + i * family.stride();
      all.push_back(parameter);
    }
  }
  return all;
}

bool ownsParameter(const LocalParameter &parameter, std::uint64_t replica,
                   std::uint64_t tensorIndex) {
  return parameter.owner && replica == 0 &&
         (parameter.split || tensorIndex == 0);
}

std::vector<Slice> cutRanges(const LocalParameter &parameter,
                             std::uint64_t begin, std::uint64_t count) {
  std::vector<Slice> cut;
  auto add = [&](std::uint64_t from, std::uint64_t length, std::uint64_t runs,
                 std::uint64_t stride) {
    if (length == 0 || runs == 0)
      return;
    Slice &slice = cut.emplace_back();
    slice.set_begin(from);
    slice.set_length(length);
    slice.set_count(runs);
    slice.set_stride(stride);
  };
  std::uint64_t local = 0, end = begin + count;
  for (const Slice &slice : parameter.ranges) {
    std::uint64_t length = slice.length(), elements = length * slice.count();
    // Of this slice's elements, those wanted; then a piece of a run, whole
    // runs, and a piece of another.
    std::uint64_t from = std::max(begin, local) - local;
    std::uint64_t to = std::min(std::max(end, local) - local, elements);
    local += elements;
    if (from >= to)
      continue;
    auto runAt = [&](std::uint64_t run) {
      return slice.begin() + run * slice.stride();
    };
    std::uint64_t first = from / length, last = to / length;
    if (first == last) {
      add(runAt(first) + from % length, to - from, 1, to - from);
      continue;
    }
    if (from % length) {
      add(runAt(first) + from % length, length - from % length, 1,
          length - from % length);
      ++first;
    }
    add(runAt(first), length, last - first, slice.stride());
    add(runAt(last), to % length, 1, to % length);
  }
  return cut;
}

ParameterPart statePart(const Program &program, const StateRegion &state,
                        const LocalParameter &parameter,
                        std::uint64_t replica) {
  std::uint64_t region = 0;
  for (const Region &each : program.regions())
    if (each.name() == "parameters")
      region = each.offset();
  ParameterPart part{parameter, 0};
  std::uint64_t at = parameter.address - region; // bytes into the region
  if (at < state.begin() ||
      (state.bytes() != 0 && at >= state.begin() + state.bytes())) {
    part.parameter.ranges.clear(); // the state of other parameters
    part.parameter.localElements = 0;
    return part;
  }
  at -= state.begin();
  if (state.part_bytes() == 0) {
    part.address = state.offset() + at;
    return part;
  }
  std::uint64_t begin = replica * state.part_bytes();
  std::uint64_t end = begin + state.part_bytes();
  std::uint64_t from = std::max(at, begin);
  std::uint64_t to =
      std::max(from, std::min(at + parameter.localElements * 4, end));
  part.parameter.ranges =
      cutRanges(parameter, (from - at) / 4, (to - from) / 4);
  part.parameter.localElements = (to - from) / 4;
  part.address = state.offset() + (from - begin);
  return part;
}

} // namespace tombolo::runtime
