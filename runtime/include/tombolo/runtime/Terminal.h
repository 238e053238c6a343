//===- Terminal.h - the terminal somebody looks at --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TERMINAL_H
#define TOMBOLO_RUNTIME_TERMINAL_H

#include <cstddef>
#include <cstdio>

namespace tombolo::runtime {

/// How wide a terminal is, how high, and whether it is one that shows colours
/// and lines that are written over.
struct Terminal {
  explicit Terminal(std::FILE *stream);

  bool isTerminal = false;
  bool colour = false; ///< not where NO_COLOR is set
  std::size_t columns = 80, rows = 24;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_TERMINAL_H
