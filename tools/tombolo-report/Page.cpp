//===- Page.cpp - one file that a browser opens ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Page.h"

#include "tombolo/runtime/Error.h"

#include <string_view>

namespace tombolo::report {

// Written by cmake/EmbedFile.cmake.
extern const unsigned char kPage[];
extern const unsigned long kPageBytes;

std::string makePage(const Json &data) {
  std::string_view page(reinterpret_cast<const char *>(kPage), kPageBytes);
  static constexpr std::string_view place = "@TOMBOLO_REPORT_DATA@";
  std::size_t at = page.find(place);
  if (at == std::string_view::npos)
    throw runtime::Error("the page that this program was built with has no "
                         "place for data");
  // Bytes that are no UTF-8 (in a file's name) are replaced.
  std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string result(page.substr(0, at));
  result.reserve(page.size() + text.size() + text.size() / 64);
  // In JSON these stand in strings alone, where escapes mean the same.
  for (char c : text)
    switch (c) {
    case '<':
      result += "\\u003c";
      break;
    case '>':
      result += "\\u003e";
      break;
    case '&':
      result += "\\u0026";
      break;
    default:
      result += c;
    }
  result += page.substr(at + place.size());
  return result;
}

} // namespace tombolo::report
