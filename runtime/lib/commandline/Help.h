//===- Help.h - what --help prints ------------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_COMMANDLINE_HELP_H
#define TOMBOLO_RUNTIME_COMMANDLINE_HELP_H

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace tombolo::runtime {

/// CLI11's, behind examples, in lines as long as the terminal's: 80 in a pipe.
class HelpFormatter : public CLI::Formatter {
public:
  explicit HelpFormatter(std::vector<std::string> examples);

  std::string make_help(const CLI::App *app, std::string name,
                        CLI::AppFormatMode mode) const override;
  std::string make_description(const CLI::App *app) const override;
  std::string make_option(const CLI::Option *option,
                          bool isPositional) const override;
  std::string make_subcommand(const CLI::App *command) const override;

private:
  /// A name and what it means, beside it or below.
  std::string entry(const std::string &name, const std::string &help) const;

  std::vector<std::string> examples;
  std::size_t width;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_COMMANDLINE_HELP_H
