//===- Help.cpp - what --help prints --------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Help.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Terminal.h"

#include <algorithm>
#include <sstream>

using namespace tombolo::runtime;

namespace {

/// Lines are no longer than people like to read, and no narrower than words.
constexpr std::size_t kWidest = 100, kNarrowest = 24;
/// Where the meaning of an option begins: here, or at a third of the terminal.
constexpr std::size_t kColumn = 30;

std::string wrap(const std::string &text, std::size_t width, std::size_t indent,
                 std::size_t indentOfMore, const char *atEnd) {
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    std::size_t own = std::min(line.find_first_not_of(' '), line.size());
    std::string row(indent + own, ' ');
    std::size_t start = row.size();
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      bool isFirst = row.size() == start;
      if (!isFirst &&
          row.size() + 1 + word.size() + std::char_traits<char>::length(atEnd) >
              width) {
        result += row + atEnd + "\n";
        row = std::string(indent + own + indentOfMore, ' ');
        start = row.size();
        isFirst = true;
      }
      row += (isFirst ? "" : " ") + word;
    }
    result += row + "\n";
  }
  return result;
}

} // namespace

std::string tombolo::runtime::wrapped(const std::string &text,
                                      std::size_t width, std::size_t indent) {
  return wrap(text, width, indent, 0, "");
}

std::string tombolo::runtime::wrappedCommand(const std::string &command,
                                             std::size_t width,
                                             std::size_t indent) {
  // An option and its value stay together.
  constexpr char kGlue = '\1';
  std::string glued = command;
  for (std::size_t at = 0; (at = glued.find(" -", at)) != glued.npos;) {
    std::size_t end = glued.find(' ', ++at);
    if (end != glued.npos && glued[end + 1] != '-')
      glued[end] = kGlue;
  }
  std::string text = wrap(glued, width, indent, 4, " \\");
  std::replace(text.begin(), text.end(), kGlue, ' ');
  return text;
}

HelpFormatter::HelpFormatter(std::vector<std::string> examples)
    : examples(std::move(examples)),
      width(std::clamp(Terminal(stdout).columns, kNarrowest, kWidest)) {}

std::string HelpFormatter::make_help(const CLI::App *app, std::string name,
                                     CLI::AppFormatMode mode) const {
  std::string text = examples.size() == 1 ? "example:\n" : "examples:\n";
  for (const std::string &example : examples)
    text += wrappedCommand(example, width, 2);
  return text + "\n" + CLI::Formatter::make_help(app, std::move(name), mode);
}

std::string HelpFormatter::make_description(const CLI::App *app) const {
  return wrapped(app->get_description(), width, 0);
}

std::string HelpFormatter::make_option(const CLI::Option *option,
                                       bool isPositional) const {
  return entry(make_option_name(option, isPositional) +
                   make_option_opts(option),
               make_option_desc(option));
}

std::string HelpFormatter::make_subcommand(const CLI::App *command) const {
  return entry(command->get_name(), command->get_description());
}

std::string HelpFormatter::entry(const std::string &name,
                                 const std::string &help) const {
  std::size_t column = std::min(kColumn, width / 3);
  std::string left = wrap(name, width, 2, 4, "");
  std::string right = wrapped(help, width, column);
  // Beside each other where the name is short.
  if (left.size() - 1 + 2 <= column && !right.empty())
    return left.substr(0, left.size() - 1) + right.substr(left.size() - 1);
  return left + right;
}
