//===- Numerics.h - which op makes what is not finite -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_NUMERICS_H
#define TOMBOLO_LIB_DEVICE_CPU_NUMERICS_H

#include "Kernel.h"

#include <string>

namespace tombolo::runtime::cpu {

/// What is not finite in some tensors.
struct NonFinite {
  bool nan = false;
  bool infinite = false;
};

/// Watches one op: `before` and `after` it runs. It is to blame when its
/// outputs hold a NaN and its inputs none, or an infinity and its inputs
/// neither; a fill is not, whose value the plan states.
class NumericsWatch {
public:
  /// Takes the operands' names for messages from `segment`.
  NumericsWatch(const OpContext &context, const plan::v1::Segment &segment);

  void before(std::byte *const *bases);
  /// The description of what the op made, or nothing.
  std::optional<std::string> after(std::byte *const *bases) const;

private:
  std::string where;
  std::vector<Tensor> inputs, outputs;
  std::vector<std::string> names; // of the outputs
  bool states = false;            // a fill
  NonFinite given;
};

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_NUMERICS_H
