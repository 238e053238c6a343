//===- Weights.h - where the weights of a written model go ------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_MODELS_WEIGHTS_H
#define TOMBOLO_MODELS_WEIGHTS_H

#include <cstdint>

namespace tombolo::models {

/// Where the weights go.
enum class Weights {
  Auto,     ///< into the file below `maxInlineBytes`, else beside it
  External, ///< into PATH.data beside it
  None,     ///< nowhere: a skeleton, external data whose file does not exist
};

/// Above this a protobuf message comes near its limit of 2 GiB.
inline constexpr uint64_t maxInlineBytes = 1'500'000'000;

} // namespace tombolo::models

#endif // TOMBOLO_MODELS_WEIGHTS_H
