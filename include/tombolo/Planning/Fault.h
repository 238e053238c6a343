//===- Fault.h - what is wrong and where ----------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_FAULT_H
#define TOMBOLO_PLANNING_FAULT_H

#include <string>
#include <utility>
#include <vector>

namespace tombolo::planning {

/// One thing that is wrong with what a person gave. `path` names the place in
/// the manner of YAML, e.g. `islands[0].stages[2].blocks`, so that whoever read
/// the file can point at its line; it may be empty.
struct Fault {
  std::string path;
  std::string message; // lower-case first letter, no full stop
};

using Faults = std::vector<Fault>;

/// Appends `[index]` to a path.
inline std::string at(const std::string &path, size_t index) {
  return path + "[" + std::to_string(index) + "]";
}

/// `path.key`, or `key` when the path is empty.
inline std::string in(const std::string &path, const std::string &key) {
  return path.empty() ? key : path + "." + key;
}

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_FAULT_H
