//===- Events.h - reading the events of other processes ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_EVENTS_H
#define TOMBOLO_TOOLS_TOMBOLORUN_EVENTS_H

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace tombolo::runtime {

/// Of ranks: the first step begins; no server answers; one does again.
inline constexpr const char *kTraining = "training",
                            *kServerGone = "server_unreachable",
                            *kServerBack = "server_back";
/// Of a rank: its island was removed from the run, and has ended.
inline constexpr const char *kIslandLeft = "island_left";

/// The object in a line, or null when there is none.
inline nlohmann::json parseEvent(std::string_view line) {
  nlohmann::json event =
      nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  return event.is_object() ? event : nlohmann::json();
}

/// A field, or `fallback` when it is missing or of another type.
template <typename T>
T field(const nlohmann::json &event, const char *name, T fallback) {
  auto found = event.find(name);
  if (found == event.end())
    return fallback;
  try {
    return found->get<T>();
  } catch (const nlohmann::json::exception &) {
    return fallback;
  }
}

/// One line; bytes that are no UTF-8 are replaced.
inline std::string toLine(const nlohmann::json &event) {
  return event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_EVENTS_H
