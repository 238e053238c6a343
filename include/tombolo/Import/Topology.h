//===- Topology.h - reading sites.yaml ------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_TOPOLOGY_H
#define TOMBOLO_IMPORT_TOPOLOGY_H

#include "tombolo/Import/YamlFile.h"
#include "tombolo/Planning/Topology.h"

namespace tombolo {

struct TopologyFile {
  YamlFile file;
  planning::Topology topology;
};

/// Reads and checks a topology. Every fault is written to `errors` as
/// `sites.yaml:12:7: error: ...`; then there is no topology.
std::optional<TopologyFile> readTopology(YamlFile file,
                                         llvm::raw_ostream &errors);
std::optional<TopologyFile> readTopologyFile(llvm::StringRef path,
                                             llvm::raw_ostream &errors);

/// The JSON Schema of such files, as `writeStrategySchema`.
void writeTopologySchema(llvm::raw_ostream &out);

/// Registers `tombolo-translate --import-topology`.
void registerImportTopology();

} // namespace tombolo

#endif // TOMBOLO_IMPORT_TOPOLOGY_H
