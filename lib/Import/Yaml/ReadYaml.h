//===- ReadYaml.h - reading a file into structs ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_READYAML_H
#define TOMBOLO_LIB_IMPORT_YAML_READYAML_H

#include "Fields.h"
#include "YamlNode.h"

#include "llvm/ADT/STLExtras.h"

namespace tombolo::yamlio {

/// What is wrong with a file, in the order in which it was found.
class Findings {
public:
  void add(YamlFile::Place place, std::string message) {
    list.emplace_back(place, std::move(message));
  }
  void expected(const YamlNode &node, const std::string &what) {
    add(node.place, "expected " + what + ", got " + node.describe());
  }
  /// Writes them, and returns whether there are none.
  bool report(const YamlFile &file, llvm::raw_ostream &errors) const;

private:
  std::vector<std::pair<YamlFile::Place, std::string>> list;
};

// The sorts of values. `key` is whose value it is, for messages.

void readValue(const YamlNode &, const char *key, const Form &, std::string &,
               Findings &);
void readValue(const YamlNode &, const char *key, const Range &, double &,
               Findings &);
void readValue(const YamlNode &, const char *key, const Range &, uint64_t &,
               Findings &);
void readValue(const YamlNode &, const char *key, const Items &, bool &,
               Findings &);
/// The place of a word among those that may stand there; nothing, and said so.
std::optional<size_t> readWord(const YamlNode &,
                               std::span<const char *const> words, Findings &);

template <IsWord T>
void readValue(const YamlNode &node, const char *, const Items &, T &field,
               Findings &findings) {
  if (auto word = readWord(node, words(field), findings))
    field = static_cast<T>(*word);
}

/// Says so and returns false when a list or mapping has a wrong number of
/// entries.
bool holdsEnough(const YamlNode &, const char *key, const Items &, Findings &);
/// Likewise when a name is not of its form.
bool isOfForm(const std::string &text, const char *key, const Form &,
              YamlFile::Place place, Findings &);

template <typename T>
concept IsMapping = requires(T value, class FieldReader &io) {
  fields(io, value);
};

template <IsMapping T>
void readValue(const YamlNode &, const char *key, const Items &, T &,
               Findings &);
template <typename T>
void readValue(const YamlNode &, const char *key, const Items &,
               std::vector<T> &, Findings &);
template <typename T>
void readValue(const YamlNode &, const char *key, const Items &, Named<T> &,
               Findings &);

template <typename T, typename Rule>
void readValue(const YamlNode &node, const char *key, const Rule &rule,
               std::optional<T> &field, Findings &findings) {
  readValue(node, key, rule, field.emplace(), findings);
}

/// Reads the keys of one mapping (Fields.h).
class FieldReader {
public:
  FieldReader(const YamlNode &node, Findings &findings)
      : node(node), findings(findings) {}
  /// Reports the keys that are not known; only when there are none those that
  /// are missing, since a misspelt key should be named as such and not as the
  /// one it stands for.
  ~FieldReader();

  template <typename T>
  void required(const char *key, T &field, const char *help) {
    required(key, field, DefaultForm<T>::value, help);
  }
  template <typename T, typename Rule>
  void required(const char *key, T &field, const Rule &rule, const char *help) {
    if (!node.find(key))
      missing.push_back(std::string("missing required key '") + key + "'");
    optional(key, field, rule, help);
  }

  template <typename T>
  void optional(const char *key, T &field, const char *help) {
    optional(key, field, DefaultForm<T>::value, help);
  }
  template <typename T, typename Rule>
  void optional(const char *key, T &field, const Rule &rule, const char *) {
    known.push_back(key);
    if (const YamlNode *value = node.find(key))
      readValue(*value, key, rule, field, findings);
  }

  // What keys say of each other. `what` is the mapping, for messages.

  void atLeastOne(const char *what, std::initializer_list<const char *> keys);
  void excludes(const char *key, std::initializer_list<const char *> others);
  void needs(const char *key, const char *other);

private:
  const YamlNode &node;
  Findings &findings;
  std::vector<llvm::StringRef> known;
  std::vector<std::string> missing;
};

template <IsMapping T>
void readValue(const YamlNode &node, const char *, const Items &, T &field,
               Findings &findings) {
  if (node.kind != YamlNode::Mapping)
    return findings.expected(node, "a mapping");
  FieldReader io(node, findings);
  fields(io, field);
}

template <typename T>
void readValue(const YamlNode &node, const char *key, const Items &items,
               std::vector<T> &field, Findings &findings) {
  if (node.kind != YamlNode::List)
    return findings.expected(node, "a list");
  if (!holdsEnough(node, key, items, findings))
    return;
  field.clear();
  for (const YamlNode &child : node.children) {
    T &element = field.emplace_back();
    if constexpr (std::is_same_v<T, std::string>)
      readValue(child, key, items.form, element, findings);
    else
      readValue(child, key, DefaultForm<T>::value, element, findings);
  }
  if constexpr (std::is_same_v<T, std::string>)
    for (size_t i = 0; items.areUnique && i < field.size(); ++i)
      if (llvm::is_contained(llvm::ArrayRef(field).take_front(i), field[i]))
        findings.add(node.children[i].place, std::string("'") + key +
                                                 "' names '" + field[i] +
                                                 "' twice");
}

template <typename T>
void readValue(const YamlNode &node, const char *key, const Items &items,
               Named<T> &field, Findings &findings) {
  if (node.kind != YamlNode::Mapping)
    return findings.expected(node, "a mapping");
  if (!holdsEnough(node, key, items, findings))
    return;
  for (const YamlNode &child : node.children)
    if (isOfForm(child.key, key, items.form, child.keyPlace, findings))
      readValue(child, child.key.c_str(), DefaultForm<T>::value,
                field.emplace_back(child.key, T()).second, findings);
}

/// Reads the file's one document into `value`, reports all that is wrong with
/// it, and returns whether there is nothing.
template <typename T>
bool read(YamlFile &file, T &value, llvm::raw_ostream &errors) {
  auto root = file.parse(errors);
  if (!root)
    return false;
  Findings findings;
  readValue(*root, "", Items(), value, findings);
  return findings.report(file, errors);
}

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_READYAML_H
