//===- SegmentName.cpp - which function of a block a segment is -----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/SegmentName.h"

#include <charconv>

namespace tombolo::runtime {

namespace {

/// Takes the last word off; nothing where it is the only one.
std::optional<std::string_view> takeLastWord(std::string_view &name) {
  std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos)
    return std::nullopt;
  std::string_view word = name.substr(dot + 1);
  name = name.substr(0, dot);
  return word;
}

bool isNumbered(std::string_view word, std::string_view prefix,
                std::uint64_t &number) {
  if (!word.starts_with(prefix))
    return false;
  const char *end = word.data() + word.size();
  auto [rest, error] =
      std::from_chars(word.data() + prefix.size(), end, number);
  return error == std::errc() && rest == end;
}

} // namespace

std::optional<SegmentName> parseSegmentName(std::string_view name) {
  SegmentName result;
  auto word = takeLastWord(name);
  if (word && isNumbered(*word, "part", result.part))
    word = takeLastWord(name);
  if (word && isNumbered(*word, "t", result.tensorParallel))
    word = takeLastWord(name);
  if (!word)
    return std::nullopt;
  result.precision = *word;
  word = takeLastWord(name);
  if (!word || !isNumbered(*word, "m", result.microbatch))
    return std::nullopt;
  word = takeLastWord(name);
  if (!word || (*word != "forward" && *word != "backward_input" &&
                *word != "backward_weight"))
    return std::nullopt;
  result.function = *word;
  result.block = name;
  return result;
}

} // namespace tombolo::runtime
