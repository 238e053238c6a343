//===- ReadYamlFiles.cpp - what the readers say of many files -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Reads `sites FILE` and `strategy FILE` line by line and answers each with one
// line: what is wrong with the file, faults joined by tabs, empty when nothing.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Strategy.h"
#include "tombolo/Import/Topology.h"

#include <algorithm>
#include <iostream>
#include <string>

int main() {
  std::string kind, file;
  while (std::cin >> kind >> file) {
    std::string errors;
    llvm::raw_string_ostream out(errors);
    bool isRead = kind == "sites"
                      ? tombolo::readTopologyFile(file, out).has_value()
                      : tombolo::readStrategyFile(file, out).has_value();
    if (isRead != errors.empty())
      errors += "and yet it was " + std::string(isRead ? "" : "not ") + "read";
    std::replace(errors.begin(), errors.end(), '\n', '\t');
    std::cout << errors << std::endl;
  }
  return 0;
}
