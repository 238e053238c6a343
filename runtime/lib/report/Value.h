//===- Value.h - a value of a JSON file, with its place
//--------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_VALUE_H
#define TOMBOLO_REPORT_VALUE_H

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/report/Report.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tombolo::report {

using runtime::Error;

/// A value of a JSON file with its place, for messages.
class Value {
public:
  Value(const Json &json, const std::string &file, std::string path = "")
      : json(json), file(file), path(std::move(path)) {}

  bool has(const char *key) const {
    return json.is_object() && json.contains(key) && !json[key].is_null();
  }
  Value operator[](const char *key) const {
    if (!json.is_object())
      fail("an object");
    auto entry = json.find(key);
    if (entry == json.end())
      throw Error("'", file, "': expected '", within(key), "', found none");
    return {*entry, file, within(key)};
  }
  std::vector<Value> elements() const {
    if (!json.is_array())
      fail("a list");
    std::vector<Value> all;
    for (std::size_t i = 0; i < json.size(); ++i)
      all.push_back({json[i], file, path + "[" + std::to_string(i) + "]"});
    return all;
  }
  Json number() const {
    if (!json.is_number())
      fail("a number");
    return json;
  }
  Json numberOrNull() const {
    if (!json.is_number() && !json.is_null())
      fail("a number or null");
    return json;
  }
  /// Bytes, seconds, parts: what charts can be drawn of.
  Json amount() const {
    double value = number();
    if (!(value >= 0 && value <= 1e18))
      throw Error("'", file, "': ", path,
                  ": expected a number from 0 to 1e18, "
                  "got ",
                  value);
    return json;
  }
  /// JSON has no infinity: null is what there is none of.
  Json amountOrNull() const { return json.is_null() ? json : amount(); }
  std::uint64_t index() const {
    if (!json.is_number_integer() || json < 0)
      fail("a whole number of at least 0");
    return json.get<std::uint64_t>();
  }
  Json flag() const {
    if (!json.is_boolean())
      fail("true or false");
    return json;
  }
  Json text() const {
    if (!json.is_string())
      fail("a text");
    return json;
  }
  Json amountOrText() const { return json.is_string() ? json : amount(); }

  [[noreturn]] void fail(const char *expected) const {
    throw Error("'", file, "': ", path.empty() ? "" : path + ": ", "expected ",
                expected, ", got ", json.type_name());
  }

private:
  std::string within(const char *key) const {
    return path.empty() ? key : path + "." + key;
  }
  const Json &json;
  const std::string &file;
  std::string path;
};

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_VALUE_H
