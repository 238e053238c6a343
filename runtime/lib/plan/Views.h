//===- Views.h - how typed views of memory overlap --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_PLAN_VIEWS_H
#define TOMBOLO_RUNTIME_LIB_PLAN_VIEWS_H

#include "tombolo/schema/plan.pb.h"

namespace tombolo::runtime::detail {

/// The value's strides are not those of a row-major tensor.
bool isView(const plan::v1::Value &value);

/// The same elements in the same order.
bool identical(const plan::v1::Value &a, const plan::v1::Value &b);

/// False only when the two certainly share no byte. Interleaved views (the
/// parts of a fused q, k, v) are told apart by a common stride.
bool mayOverlap(const plan::v1::Value &a, const plan::v1::Value &b);

/// True if some element is reached by two indices.
bool overlapsItself(const plan::v1::Value &value);

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_PLAN_VIEWS_H
