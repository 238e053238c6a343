//===- Page.cpp - one file that a browser opens ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/report/Report.h"

#include "tombolo/runtime/Error.h"

#include <string_view>

namespace tombolo::report {

// Written by cmake/EmbedFile.cmake.
extern const unsigned char kPage[];
extern const unsigned long kPageBytes;

/// Control characters, and those that turn the direction of all text behind
/// them (of names that are none of theirs), are shown as what cannot be shown.
static std::string withoutControls(const std::string &text) {
  static constexpr std::string_view instead = "\xEF\xBF\xBD"; // U+FFFD
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto byte = [&](std::size_t k) {
      return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0;
    };
    if (byte(0) == '\t' || byte(0) == '\n') {
      out += ' ';
    } else if (byte(0) < 0x20 || byte(0) == 0x7F) {
      out += instead;
    } else if (byte(0) == 0xC2 && byte(1) >= 0x80 && byte(1) < 0xA0) {
      out += instead; // U+0080 to U+009F
      i += 1;
    } else if (byte(0) == 0xE2 &&
               ((byte(1) == 0x80 && (byte(2) == 0x8E || byte(2) == 0x8F ||
                                     (byte(2) >= 0xA8 && byte(2) <= 0xAE))) ||
                (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9))) {
      out += instead; // U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

void cleanTexts(Json &value) {
  if (value.is_string())
    value = withoutControls(value.get_ref<const std::string &>());
  else if (value.is_structured())
    for (Json &part : value)
      cleanTexts(part);
}

bool hasPage() { return kPageBytes > 0; }

/// Replaces `place`, which the page has once.
static std::string filled(std::string_view page, std::string_view place,
                          std::string_view with) {
  std::size_t at = page.find(place);
  if (at == std::string_view::npos)
    throw runtime::Error("the page that this program was built with has no '",
                         std::string(place), "'");
  std::string result(page.substr(0, at));
  result += with;
  result += page.substr(at + place.size());
  return result;
}

std::string makePage(Json data) {
  cleanTexts(data);
  bool isLive = data.contains("live");
  // Bytes that are no UTF-8 (in a file's name) are replaced.
  std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 64);
  // In JSON these stand in strings alone, where escapes mean the same.
  for (char c : text)
    switch (c) {
    case '<':
      escaped += "\\u003c";
      break;
    case '>':
      escaped += "\\u003e";
      break;
    case '&':
      escaped += "\\u0026";
      break;
    default:
      escaped += c;
    }
  std::string_view page(reinterpret_cast<const char *>(kPage), kPageBytes);
  // Only a page that is served may ask for something: for its run.
  return filled(filled(page, "@TOMBOLO_REPORT_CONNECT@",
                       isLive ? "connect-src 'self'; " : ""),
                "@TOMBOLO_REPORT_DATA@", escaped);
}

} // namespace tombolo::report
