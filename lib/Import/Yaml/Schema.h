//===- Schema.h - the JSON Schema of a file -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_SCHEMA_H
#define TOMBOLO_LIB_IMPORT_YAML_SCHEMA_H

#include "Fields.h"

#include "llvm/Support/JSON.h"

#include <initializer_list>

namespace tombolo::yamlio {

// Of the sorts of values, as `readValue` takes them.

llvm::json::Object schemaOf(const std::string &, const Form &);
llvm::json::Object schemaOf(double, const Range &);
llvm::json::Object schemaOf(uint64_t, const Range &);
llvm::json::Object schemaOf(bool, const Items &);
llvm::json::Object schemaOf(std::span<const char *const> words);

/// Adds how many entries there may be.
void limit(llvm::json::Object &schema, const char *what, const Items &items);

template <IsWord T> llvm::json::Object schemaOf(T value, const Items &) {
  return schemaOf(words(value));
}

template <typename T>
concept HasSchema = requires(T value, class SchemaWriter &io) {
  fields(io, value);
};

template <HasSchema T> llvm::json::Object schemaOf(T value, const Items &);

template <typename T>
llvm::json::Object schemaOf(const std::vector<T> &, const Items &items);
template <typename T>
llvm::json::Object schemaOf(const Named<T> &, const Items &items);

template <typename T, typename Rule>
llvm::json::Object schemaOf(const std::optional<T> &, const Rule &rule) {
  return schemaOf(T(), rule);
}

/// Collects what the keys of one mapping may be (Fields.h).
class SchemaWriter {
public:
  template <typename T>
  void required(const char *key, T &field, const char *help) {
    required(key, field, DefaultForm<T>::value, help);
  }
  template <typename T, typename Rule>
  void required(const char *key, T &field, const Rule &rule, const char *help) {
    add(key, schemaOf(field, rule), help);
    needed.push_back(key);
  }

  template <typename T>
  void optional(const char *key, T &field, const char *help) {
    optional(key, field, DefaultForm<T>::value, help);
  }
  template <typename T, typename Rule>
  void optional(const char *key, T &field, const Rule &rule, const char *help) {
    llvm::json::Object schema = schemaOf(field, rule);
    if constexpr (std::is_arithmetic_v<T>) // what the struct begins with
      schema["default"] = field;
    add(key, std::move(schema), help);
  }

  void atLeastOne(const char *what, std::initializer_list<const char *> keys);
  void excludes(const char *key, std::initializer_list<const char *> others);
  void needs(const char *key, const char *other);

  llvm::json::Object finish();

private:
  llvm::json::Object properties, dependencies;
  llvm::json::Array needed, rules;

  void add(const char *key, llvm::json::Object schema, const char *help);
};

template <HasSchema T> llvm::json::Object schemaOf(T value, const Items &) {
  SchemaWriter io;
  fields(io, value);
  return io.finish();
}

template <typename T>
llvm::json::Object schemaOf(const std::vector<T> &, const Items &items) {
  llvm::json::Object schema{{"type", "array"}};
  if constexpr (std::is_same_v<T, std::string>)
    schema["items"] = schemaOf(T(), items.form);
  else
    schema["items"] = schemaOf(T(), DefaultForm<T>::value);
  limit(schema, "Items", items);
  if (items.areUnique)
    schema["uniqueItems"] = true;
  return schema;
}

template <typename T>
llvm::json::Object schemaOf(const Named<T> &, const Items &items) {
  llvm::json::Object schema{
      {"type", "object"},
      {"additionalProperties", schemaOf(T(), DefaultForm<T>::value)}};
  limit(schema, "Properties", items);
  if (items.form.pattern)
    schema["propertyNames"] =
        llvm::json::Object{{"pattern", items.form.pattern}};
  return schema;
}

/// Writes the schema of a file that is read into a T.
template <typename T>
void writeSchema(const char *title, const char *description,
                 llvm::raw_ostream &out) {
  llvm::json::Object schema = schemaOf(T(), Items());
  schema["$schema"] = "http://json-schema.org/draft-07/schema#";
  schema["title"] = title;
  schema["description"] = description;
  llvm::json::OStream(out, /*IndentSize=*/2)
      .value(llvm::json::Value(std::move(schema)));
  out << '\n';
}

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_SCHEMA_H
