//===- CommandLine.h - checks of options ------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_COMMANDLINE_H
#define TOMBOLO_RUNTIME_COMMANDLINE_H

#include <CLI/CLI.hpp>

#include <cmath>
#include <string>

namespace tombolo::runtime {

/// A finite number above 0, or with `zero` not below it. CLI11's own checks
/// name the largest double in full, all 309 digits, as what they expect.
inline CLI::Validator positiveNumber(bool zero = false) {
  return CLI::Validator(
      [zero](std::string &text) {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && std::isfinite(value) &&
            (zero ? value >= 0 : value > 0))
          return std::string();
        return std::string(zero ? "expected a number of at least 0"
                                : "expected a number above 0") +
               ", got '" + text + "'";
      },
      zero ? "NUMBER >= 0" : "NUMBER > 0");
}

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_COMMANDLINE_H
