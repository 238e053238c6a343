//===- Schema.cpp - the JSON Schema of a file -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Schema.h"

#include "llvm/Support/Regex.h"

#include <cmath>

using namespace llvm;
using namespace tombolo;
using namespace tombolo::yamlio;

/// A whole number as one; of others the digits.
static json::Value plain(double value) {
  if (std::floor(value) == value && std::fabs(value) <= 1e18)
    return static_cast<int64_t>(value);
  return value;
}

static json::Object number(const char *type, const Range &range) {
  json::Object schema{{"type", type}};
  if (std::isfinite(range.least))
    schema[range.aboveLeast ? "exclusiveMinimum" : "minimum"] =
        plain(range.least);
  if (std::isfinite(range.most))
    schema[range.belowMost ? "exclusiveMaximum" : "maximum"] =
        plain(range.most);
  return schema;
}

json::Object yamlio::schemaOf(double, const Range &range) {
  return number("number", range);
}

json::Object yamlio::schemaOf(uint64_t, const Range &range) {
  return number("integer", range);
}

json::Object yamlio::schemaOf(bool, const Items &) {
  return json::Object{{"type", "boolean"}};
}

json::Object yamlio::schemaOf(const std::string &, const Form &form) {
  // A name like 2024 need not be quoted, unless no number is of the form.
  json::Object schema{{"type", json::Array{"string", "number", "boolean"}}};
  if (!form.pattern)
    return schema;
  if (!Regex(form.pattern).match("1"))
    schema["type"] = "string";
  schema["pattern"] = form.pattern;
  return schema;
}

json::Object yamlio::schemaOf(std::span<const char *const> words) {
  json::Array all;
  for (const char *word : words)
    all.push_back(word);
  return json::Object{{"enum", std::move(all)}};
}

void yamlio::limit(json::Object &schema, const char *what, const Items &items) {
  if (items.least > 0)
    schema["min" + std::string(what)] = static_cast<int64_t>(items.least);
  if (items.most != Items().most)
    schema["max" + std::string(what)] = static_cast<int64_t>(items.most);
}

void SchemaWriter::add(const char *key, json::Object schema, const char *help) {
  schema["description"] = help;
  properties[key] = std::move(schema);
}

void SchemaWriter::atLeastOne(const char *,
                              std::initializer_list<const char *> keys) {
  json::Array any;
  for (const char *key : keys)
    any.push_back(json::Object{{"required", json::Array{key}}});
  rules.push_back(json::Object{{"anyOf", std::move(any)}});
}

void SchemaWriter::excludes(const char *key,
                            std::initializer_list<const char *> others) {
  for (const char *other : others)
    rules.push_back(json::Object{
        {"not", json::Object{{"required", json::Array{key, other}}}}});
}

void SchemaWriter::needs(const char *key, const char *other) {
  dependencies[key] = json::Array{other};
}

json::Object SchemaWriter::finish() {
  json::Object schema{{"type", "object"},
                      {"properties", std::move(properties)},
                      {"additionalProperties", false}};
  if (!needed.empty())
    schema["required"] = std::move(needed);
  if (!rules.empty())
    schema["allOf"] = std::move(rules);
  if (!dependencies.empty())
    schema["dependencies"] = std::move(dependencies);
  return schema;
}
