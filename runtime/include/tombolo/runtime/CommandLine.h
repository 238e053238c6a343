//===- CommandLine.h - the command line of a program ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_COMMANDLINE_H
#define TOMBOLO_RUNTIME_COMMANDLINE_H

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// Of Tombolo: "0.1.0".
const char *version();

/// The command line of a program, or of a command of one (`tombolo-run local`).
class CommandLine : public CLI::App {
public:
  /// `--help` opens with the examples, which tests try.
  CommandLine(std::string description, std::string name,
              std::vector<std::string> examples);

  /// Reads the arguments. True: go on; false: `status` is what to return: help
  /// has been printed, or an error, status 2. `--describe-options` as the only
  /// argument prints describe(), of which completions and manual pages are made
  /// (tools/command-files.py).
  bool parseArguments(int argc, char **argv, int &status);

  /// Examples, options and commands; without what is hidden.
  nlohmann::ordered_json describe() const;

private:
  std::vector<std::string> examples;
};

/// `text` in lines of at most `width` characters, where its words are not
/// longer, each with `indent` spaces before it. Lines of its own stay.
std::string wrapped(const std::string &text, std::size_t width,
                    std::size_t indent);

/// The same of a shell's command, with a backslash at the ends of lines.
std::string wrappedCommand(const std::string &command, std::size_t width,
                           std::size_t indent);

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
