//===- OnnxFuzz.cpp - libFuzzer target: the ONNX reader -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/Onnx.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

using namespace tombolo::runtime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data,
                                      std::size_t size) {
  // The reader takes a path: a file that lives in memory has one too.
  static int fd = ::memfd_create("onnx", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size))
    return 0;
  try {
    OnnxModel model(path);
    model.hash();
  } catch (const Error &) {
  }
  return 0;
}
