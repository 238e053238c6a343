//===- LlvmHelp.h - help of programs whose options are LLVM's ---*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_LLVMHELP_H
#define TOMBOLO_TOOLS_LLVMHELP_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tombolo {

/// What runtime::CommandLine is for programs of CLI11: `--help` opens with
/// examples, `--describe-options` tells the options. Made first in main: the
/// hundreds of options that LLVM has registered by then are no part of it.
class LlvmHelp {
public:
  LlvmHelp(std::string name, std::string description,
           std::vector<std::string> examples)
      : name(std::move(name)), description(std::move(description)),
        examples(std::move(examples)) {
    for (const auto &entry : llvm::cl::getRegisteredOptions())
      before.insert(entry.getKey());
    llvm::cl::SetVersionPrinter([own = this->name](llvm::raw_ostream &os) {
      os << own << " " << TOMBOLO_VERSION << "\n";
    });
  }

  /// Before LLVM reads the arguments, and prints its part of the help.
  void open(int argc, char **argv) const {
    const char *asking[] = {"--help", "-help", "-h", "--help-hidden"};
    bool asked = std::any_of(argv + 1, argv + argc, [&](llvm::StringRef word) {
      return llvm::is_contained(asking, word);
    });
    if (!asked)
      return;
    llvm::outs() << (examples.size() == 1 ? "example:\n" : "examples:\n");
    for (const std::string &example : examples)
      llvm::outs() << "  " << example << "\n";
    llvm::outs() << "\n" << description << "\n\n";
    llvm::outs().flush();
  }

  bool describes(int argc, char **argv) const {
    return argc == 2 && llvm::StringRef(argv[1]) == "--describe-options";
  }

  /// What runtime::CommandLine::describe() has. `helpOf`: of options that are
  /// values of one, like passes; empty: as the option says.
  void describe(llvm::function_ref<std::string(llvm::StringRef)> helpOf) const {
    llvm::json::Array options;
    std::vector<std::string> names;
    for (const auto &entry : llvm::cl::getRegisteredOptions())
      if (!before.contains(entry.getKey()) &&
          entry.getValue()->getOptionHiddenFlag() == llvm::cl::NotHidden)
        names.push_back(entry.getKey().str());
    std::sort(names.begin(), names.end());
    for (const std::string &option : names) {
      const llvm::cl::Option &of =
          *llvm::cl::getRegisteredOptions().lookup(option);
      std::string help = helpOf(option);
      bool takesValue =
          help.empty() && of.getValueExpectedFlag() == llvm::cl::ValueRequired;
      std::string value = of.ValueStr.empty() ? "value" : of.ValueStr.str();
      options.push_back(llvm::json::Object{
          {"names",
           llvm::json::Array{(option.size() == 1 ? "-" : "--") + option}},
          {"positional", ""},
          {"value", takesValue ? value : ""},
          {"default", ""},
          {"required", false},
          {"repeats", false},
          {"excludes", llvm::json::Array()},
          {"help", help.empty() ? of.HelpStr.str() : help}});
    }
    llvm::json::Object root{{"name", name},
                            {"description", description},
                            {"examples", llvm::json::Array(examples)},
                            {"options", std::move(options)},
                            {"commands", llvm::json::Array()}};
    llvm::outs() << llvm::json::Value(std::move(root)) << "\n";
  }

private:
  std::string name, description;
  std::vector<std::string> examples;
  llvm::StringSet<> before;
};

} // namespace tombolo

#endif // TOMBOLO_TOOLS_LLVMHELP_H
