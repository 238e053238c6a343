//===- ValidateSegment.cpp - values and storage of a segment --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ValidateParts.h"

namespace tombolo::runtime {

using namespace plan::v1;
using namespace detail;

namespace {

void validateValue(const Segment &segment, const Value &value,
                   const std::string &place) {
  std::uint64_t size = elementBytes(value.dtype());
  if (size == 0)
    throw Error(place, ": unknown dtype ", static_cast<int>(value.dtype()));
  std::uint64_t count = elementCount(value.dims(), place);
  std::uint64_t last = count - 1;
  if (value.strides_size() > 0) {
    if (value.strides_size() != value.dims_size())
      throw Error(place, ": expected ", value.dims_size(), " strides, got ",
                  value.strides_size());
    last = 0;
    for (int i = 0; i < value.dims_size(); ++i) {
      last += times(value.dims(i) - 1, value.strides(i), place);
      if (last > kMaxBytes)
        throw Error(place, ": the strides reach too far");
    }
  }
  std::uint64_t bytes = times(last + 1, size, place);
  if (value.storage_case() == Value::kConstant) {
    if (value.strides_size() > 0 || value.byte_offset() != 0)
      throw Error(place, ": a constant has neither strides nor an offset");
    if (value.constant().size() != bytes)
      throw Error(place, ": expected ", bytes, " bytes of constant, got ",
                  value.constant().size());
    return;
  }
  std::uint64_t room;
  if (value.storage_case() == Value::kArgument) {
    if (value.argument() >= static_cast<unsigned>(segment.arguments_size()))
      throw Error(place, ": argument ", value.argument(),
                  " does not exist, there are ", segment.arguments_size());
    room = segment.arguments(static_cast<int>(value.argument())).bytes();
  } else if (value.storage_case() == Value::kWorkspace && value.workspace()) {
    room = segment.workspace_bytes();
  } else {
    throw Error(place, ": has no storage");
  }
  if (value.byte_offset() > room || bytes > room - value.byte_offset())
    throw Error(place, ": bytes ", value.byte_offset(), " to ",
                value.byte_offset() + bytes, " lie outside its storage of ",
                room, " bytes");
  if (value.byte_offset() % size != 0)
    throw Error(place, ": offset ", value.byte_offset(),
                " is no multiple of its element size ", size);
}

/// Follows which arguments hold something, so that what the caller's memory
/// held before is never read through a write-only argument.
class AccessCheck {
public:
  AccessCheck(const Segment &segment)
      : segment(segment),
        written(static_cast<std::size_t>(segment.arguments_size())) {}

  void read(const Value &value, const std::string &place) {
    if (value.storage_case() != Value::kArgument)
      return;
    const Argument &argument = at(value);
    if (argument.access() == ACCESS_WRITE && !written[value.argument()])
      throw Error(place, ": reads argument '", argument.name(),
                  "', which is write-only and not yet written");
  }
  void write(const Value &value, const std::string &place) {
    if (value.storage_case() == Value::kConstant)
      throw Error(place, ": writes a constant");
    if (value.storage_case() != Value::kArgument)
      return;
    const Argument &argument = at(value);
    if (argument.access() == ACCESS_READ)
      throw Error(place, ": writes argument '", argument.name(),
                  "', which is read-only");
    written[value.argument()] = true;
  }
  void finish(const std::string &place) {
    for (std::size_t i = 0; i < written.size(); ++i)
      if (segment.arguments(static_cast<int>(i)).access() == ACCESS_WRITE &&
          !written[i])
        throw Error(place, ": argument '",
                    segment.arguments(static_cast<int>(i)).name(),
                    "' is write-only and never written");
  }

private:
  const Argument &at(const Value &value) const {
    return segment.arguments(static_cast<int>(value.argument()));
  }
  const Segment &segment;
  std::vector<bool> written;
};

} // namespace

void validateSegment(const Segment &segment, const std::string &place) {
  if (segment.workspace_bytes() > kMaxBytes)
    throw Error(place, ": workspace of ", segment.workspace_bytes(),
                " bytes is too large");
  for (int i = 0; i < segment.arguments_size(); ++i) {
    const Argument &argument = segment.arguments(i);
    if (argument.bytes() == 0 || argument.bytes() > kMaxBytes)
      throw Error(place, ": argument ", i, ": unusable size ",
                  argument.bytes());
    if (argument.access() != ACCESS_READ && argument.access() != ACCESS_WRITE &&
        argument.access() != ACCESS_READ_WRITE)
      throw Error(place, ": argument ", i, ": unknown access ",
                  static_cast<int>(argument.access()));
  }
  for (int i = 0; i < segment.values_size(); ++i)
    validateValue(segment, segment.values(i),
                  place + ": value " + std::to_string(i));
  AccessCheck access(segment);
  for (int i = 0; i < segment.ops_size(); ++i) {
    const Op &op = segment.ops(i);
    std::string at = place + ": op " + std::to_string(i);
    auto exists = [&](std::uint32_t value) {
      if (value >= static_cast<unsigned>(segment.values_size()))
        throw Error(at, ": value ", value, " does not exist, there are ",
                    segment.values_size());
    };
    for (std::uint32_t value : op.inputs())
      exists(value);
    for (std::uint32_t value : op.outputs())
      exists(value);
    checkOp(segment, op, at);
    for (std::uint32_t value : op.inputs())
      access.read(segment.values(static_cast<int>(value)), at);
    for (int k = 0; k < op.outputs_size(); ++k) {
      const Value &out = segment.values(static_cast<int>(op.outputs(k)));
      // These accumulate into loss and weights, never into lse.
      bool isLse = (op.opcode() == OPCODE_CROSS_ENTROPY ||
                    op.opcode() == OPCODE_CROSS_ENTROPY_MERGE) &&
                   k == 2;
      bool adds = op.accumulate() && !isLse;
      if (adds)
        access.read(out, at);
      access.write(out, at);
    }
  }
  access.finish(place);
}

} // namespace tombolo::runtime
