//===- CheckpointParts.h - what reader and writer of checkpoints share ----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_CHECKPOINTPARTS_H
#define TOMBOLO_RUNTIME_LIB_EXEC_CHECKPOINTPARTS_H

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tombolo::runtime::detail {

inline constexpr const char *kManifestName = "manifest.json";
inline constexpr const char *kManifestFormat = "tombolo-checkpoint-1";

/// Elements that loading and saving hold in memory at a time.
inline constexpr std::uint64_t kStagingElements = 1 << 20;

/// The object in `text`. Throws Error with `path` when it is none or nested too
/// deep to be written again.
nlohmann::json parseManifest(const std::string &text, const std::string &path);

/// The file beside rank `rank`'s shard that says what is in it, until all have
/// gone into the manifest.
std::string partName(std::uint64_t rank);

/// Whether a folder's name is that of a generation, "step-N".
bool isGeneration(const std::string &name);

/// The manifest without its checksum, which has been checked.
nlohmann::json readManifest(const std::string &folder);

/// Generations that have a manifest, the newest first.
std::vector<std::pair<std::uint64_t, std::string>>
generations(const std::string &islandFolder);

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_CHECKPOINTPARTS_H
