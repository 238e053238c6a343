//===- Fields.h - what the values of a file's keys may be -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// The shape of a file is said once: of each struct that a mapping is read into
// by a function
//
//   template <typename Fields> void fields(Fields &io, planning::Pool &pool) {
//     io.required("name", pool.name, kName, "what stages call the pool");
//     io.required("nodes", pool.nodes, planning::kCounts, "...");
//     io.optional("intra_node", pool.intraNode, "...");
//   }
//
// which both `FieldReader` (ReadYaml.h) and `SchemaWriter` (Schema.h) go
// through. Numbers come with a Range, texts with a Form, lists with Items;
// where they are left out anything of the field's type will do.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_FIELDS_H
#define TOMBOLO_LIB_IMPORT_YAML_FIELDS_H

#include "tombolo/Planning/Range.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tombolo::yamlio {

using planning::Range;

/// What a text looks like: an expression of the kind that POSIX's extended
/// ones and ECMA's have in common, and its meaning for people.
struct Form {
  const char *pattern = nullptr; // nothing: any text
  const char *expected = "a text";
};

/// How many entries a list or a mapping of names has, and of what form the
/// texts in it, or those names, are.
struct Items {
  size_t least = 0;
  size_t most = std::numeric_limits<size_t>::max();
  bool areUnique = false;
  Form form = {};
};

inline constexpr Form kName = {"^[^/]+$", "a name without '/'"};
inline constexpr Form kPoolPath = {"^[^/]+/[^/]+$", "SITE/POOL"};
inline constexpr Form kAddress = {
    "^.+:0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|"
    "655[0-2][0-9]|6553[0-5])$",
    "HOST:PORT with a port from 1 to 65535"};
inline constexpr Items kSome = {1};
/// The ends of a wire.
inline constexpr Items kTwo = {2, 2, /*areUnique=*/true};

/// A mapping from names that the file chooses, in its order.
template <typename T> using Named = std::vector<std::pair<std::string, T>>;

/// Of a field's type: what holds of its values when nothing else is said.
template <typename T> struct DefaultForm {
  using type = Items; // lists, mappings; unused where there is nothing to say
  static constexpr type value = {};
};
template <> struct DefaultForm<std::string> {
  using type = Form;
  static constexpr type value = {};
};
template <> struct DefaultForm<double> {
  using type = Range;
  static constexpr type value = {-std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::infinity()};
};
template <> struct DefaultForm<uint64_t> {
  using type = Range;
  static constexpr type value = {0, 9.0e18};
};
template <typename T> struct DefaultForm<std::optional<T>> : DefaultForm<T> {};

/// A type with a closed set of words (tombolo/Planning/Strategy.h).
template <typename T>
concept IsWord = std::is_enum_v<T> && requires(T value) {
  { words(value) } -> std::convertible_to<std::span<const char *const>>;
};

/// `a, b or c`.
inline std::string alternatives(std::span<const char *const> words,
                                const char *quote = "") {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += std::string(i == 0                  ? ""
                        : i + 1 == words.size() ? " or "
                                                : ", ") +
            quote + words[i] + quote;
  return text;
}

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_FIELDS_H
