//===- YamlText.h - scalars that read back as they were -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TARGET_PLANNING_YAMLTEXT_H
#define TOMBOLO_LIB_TARGET_PLANNING_YAMLTEXT_H

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/YAMLTraits.h"

#include <string>

namespace tombolo {

/// A name that reads back as the same text.
inline std::string scalar(llvm::StringRef text) {
  // Digits and words like `null` would be read as something else elsewhere.
  bool plain = !text.empty() && llvm::isAlpha(text.front()) &&
               llvm::all_of(text,
                            [](char c) {
                              return llvm::isAlnum(c) || c == '-' || c == '_' ||
                                     c == '/';
                            }) &&
               llvm::yaml::needsQuotes(text) == llvm::yaml::QuotingType::None;
  if (plain)
    return text.str();
  return "\"" + llvm::yaml::escape(text) + "\"";
}

/// The shortest number that reads back as the same.
inline std::string real(double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.17g", value);
  // The shortest that reads back the same.
  for (int digits = 1; digits < 17; ++digits) {
    std::string shorter;
    llvm::raw_string_ostream(shorter) << llvm::format("%.*g", digits, value);
    double back = 0;
    if (llvm::to_float(shorter, back) && back == value)
      return shorter;
  }
  return text;
}

} // namespace tombolo

#endif // TOMBOLO_LIB_TARGET_PLANNING_YAMLTEXT_H
