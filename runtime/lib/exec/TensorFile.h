//===- TensorFile.h - samples from safetensors files ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_TENSORFILE_H
#define TOMBOLO_RUNTIME_LIB_EXEC_TENSORFILE_H

#include "tombolo/runtime/Dataset.h"

namespace tombolo::runtime::detail {

/// A safetensors file with a tensor [samples, ...] for each input of the model
/// and for its label, named like them; other tensors are not read. Sample k is
/// row k modulo the number of samples. Integers may be of 32 or 64 bits,
/// whichever the model has.
std::unique_ptr<SampleSource> openTensorFile(const DatasetOptions &options,
                                             const plan::v1::Model &model);

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_TENSORFILE_H
