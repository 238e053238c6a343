//===- CommandLine.cpp - the command line of a program --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/CommandLine.h"

#include "Help.h"

#include <iostream>
#include <memory>

using namespace tombolo::runtime;
using Json = nlohmann::ordered_json;

CommandLine::CommandLine(std::string description, std::string name,
                         std::vector<std::string> examples)
    : CLI::App(std::move(description), std::move(name)),
      examples(std::move(examples)) {
  formatter(std::make_shared<HelpFormatter>(this->examples));
}

const char *tombolo::runtime::version() { return TOMBOLO_VERSION; }

bool CommandLine::parseArguments(int argc, char **argv, int &status) {
  set_version_flag("--version", get_name() + " " + runtime::version(),
                   "print the version and exit");
  if (argc == 2 && std::string(argv[1]) == "--describe-options") {
    std::cout << describe().dump(2) << "\n";
    status = 0;
    return false;
  }
  try {
    parse(argc, argv);
    return true;
  } catch (const CLI::ParseError &error) {
    status = exit(error) == 0 ? 0 : 2;
    return false;
  }
}

namespace {

Json describeOption(const CLI::Option &option) {
  Json names = Json::array();
  for (const std::string &name : option.get_snames())
    names.push_back("-" + name);
  for (const std::string &name : option.get_lnames())
    names.push_back("--" + name);
  Json excludes = Json::array();
  for (const CLI::Option *other : option.get_excludes())
    excludes.push_back(other->get_name());
  bool takesValue = option.get_type_size() != 0;
  return {{"names", names},
          {"positional", option.get_positional() ? option.get_name(true) : ""},
          {"value", takesValue ? option.get_type_name() : ""},
          {"default", option.get_default_str()},
          {"required", option.get_required()},
          {"repeats", takesValue && option.get_items_expected_max() > 1},
          {"excludes", excludes},
          {"help", option.get_description()}};
}

} // namespace

Json CommandLine::describe() const {
  Json options = Json::array(), commands = Json::array();
  for (const CLI::Option *option : get_options())
    if (!option->get_group().empty())
      options.push_back(describeOption(*option));
  for (const CLI::App *command :
       get_subcommands([](const CLI::App *) { return true; }))
    commands.push_back({{"name", command->get_name()},
                        {"description", command->get_description()}});
  return {{"name", get_name()},
          {"description", get_description()},
          {"examples", examples},
          {"options", options},
          {"commands", commands}};
}
