//===- NumericsLog.h - where a run first left the finite numbers ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_NUMERICSLOG_H
#define TOMBOLO_RUNTIME_LIB_EXEC_NUMERICSLOG_H

#include "tombolo/runtime/Device.h"
#include "tombolo/schema/plan.pb.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace tombolo::runtime::detail {

/// The first op of each step that made a NaN or an infinity of finite
/// operands. Not every one is a fault (an infinity may be masked later), so
/// it is told only when the loss is not finite. An update may spoil the next
/// step's loss: then it is the step before that has a first op.
class NumericsLog {
public:
  explicit NumericsLog(const plan::v1::Program &program);

  void beginStep(Device &device, std::uint64_t step);

  /// After a call of the program.
  void look(Device &device, const plan::v1::Instruction &call,
            std::span<const std::int64_t> variables);

  /// The first op of the last step that has one, in words; empty: none has.
  std::string cause() const { return text; }

private:
  using Body = google::protobuf::RepeatedPtrField<plan::v1::Instruction>;
  void collect(const Body &body, const plan::v1::Expr *microbatch);

  /// Of each call, the number of what the rank loads, or exchanges with other
  /// stages, before it.
  std::map<const plan::v1::Instruction *, const plan::v1::Expr *> microbatches;
  std::uint64_t step = 0;
  bool found = false; // in this step
  std::string text;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_NUMERICSLOG_H
