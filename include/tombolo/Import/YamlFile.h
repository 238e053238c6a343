//===- YamlFile.h - a YAML file and the places in it ----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_YAMLFILE_H
#define TOMBOLO_IMPORT_YAMLFILE_H

#include "tombolo/Planning/Fault.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tombolo {

struct YamlNode;

/// The text of a YAML file with the line and column of everything in it, so
/// that a fault found long after parsing still points at its place.
class YamlFile {
public:
  YamlFile(llvm::StringRef name, llvm::StringRef text);

  const std::string &getName() const { return name; }
  llvm::StringRef getText() const { return text; }

  struct Place {
    unsigned line = 1;
    unsigned column = 1;
  };

  /// The place of a path such as `sites[0].pools[1].nodes`. Parts that the file
  /// does not have are passed over: the place is that of the nearest thing
  /// around them.
  Place locate(llvm::StringRef path) const;
  Place placeOf(const char *pointer) const;

  /// Writes `sites.yaml:12:7: error: message`.
  void report(llvm::raw_ostream &errors, Place place,
              const llvm::Twine &message) const;
  void report(llvm::raw_ostream &errors, const planning::Fault &fault) const;

  /// The file's one document. What is no YAML, or YAML that no file here needs
  /// (aliases, several documents), is reported; then there is nothing. From now
  /// on `locate` knows every place.
  std::optional<YamlNode> parse(llvm::raw_ostream &errors);

private:
  /// Refuses texts that would exhaust the parser (too large, nested too
  /// deeply) or have nothing to parse, and reports why.
  bool isSane(llvm::raw_ostream &errors) const;
  bool isEmpty() const;

  std::string name;
  std::string text;
  std::vector<size_t> lines;                        // where each begins
  std::map<std::string, Place, std::less<>> places; // by path
};

/// Reads a whole file; says why it cannot (`FILE: error: ...`).
std::optional<YamlFile> openYaml(llvm::StringRef path,
                                 llvm::raw_ostream &errors);

} // namespace tombolo

#endif // TOMBOLO_IMPORT_YAMLFILE_H
