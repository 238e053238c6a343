//===- YamlNode.h - what a YAML file says ---------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_YAMLNODE_H
#define TOMBOLO_LIB_IMPORT_YAML_YAMLNODE_H

#include "tombolo/Import/YamlFile.h"

namespace tombolo {

/// A value in a file, with its place.
struct YamlNode {
  enum Kind { Nothing, Scalar, List, Mapping };
  Kind kind = Nothing;
  YamlFile::Place place;
  /// Of a scalar. Quoted ones are texts, whatever stands in them.
  std::string text;
  bool isQuoted = false;
  /// Of a list or a mapping, in the order of the file.
  std::vector<YamlNode> children;
  /// Of a mapping's child.
  std::string key;
  YamlFile::Place keyPlace;

  const YamlNode *find(llvm::StringRef key) const {
    for (const YamlNode &child : children)
      if (child.key == key)
        return &child;
    return nullptr;
  }

  // What a scalar is beside a text: by YAML 1.2's core schema, which editors
  // and JSON Schema go by.

  std::optional<double> asNumber() const;
  std::optional<bool> asBoolean() const;
  /// `null`, `~`, or nothing at all.
  bool isNull() const;

  /// For `expected a number, got ...`.
  std::string describe() const;
};

} // namespace tombolo

#endif // TOMBOLO_LIB_IMPORT_YAML_YAMLNODE_H
