//===- ChipProfile.h - what is known of a chip with its software ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_CHIPPROFILE_H
#define TOMBOLO_LIB_IMPORT_YAML_CHIPPROFILE_H

#include "ReadYaml.h"
#include "tombolo/Planning/Topology.h"

namespace tombolo::yamlio {

/// `efficiency: {matmul, memory, launch_us, ...}`, in a topology or a profile.
struct Efficiency {
  double matmul = 1, memory = 1;
  planning::Overheads overheads;
};

struct Tflops {
  std::optional<double> f32, bf16;
};

/// The rates that efficiencies are fractions of.
struct Peak {
  Tflops tflops;
  double memoryGbytesPerSecond = 0;
};

/// A chip profile (docs/Profiles.md).
struct ChipProfile {
  std::string chip;
  std::optional<Peak> peak;
  Efficiency efficiency;
  std::optional<planning::Wire> intraNode, interNode;
  std::vector<planning::FunctionTime> functionTimes;
  std::vector<planning::UpdateTime> updateTimes;
};

/// Reads a profile and checks that it is of this chip. Faults are written as
/// `chip.yaml:3:7: error: ...`; then there is nothing.
std::optional<ChipProfile> readChipProfile(llvm::StringRef path,
                                           llvm::StringRef chip,
                                           llvm::raw_ostream &errors);

} // namespace tombolo::yamlio

namespace llvm::yaml {

template <> struct MappingTraits<tombolo::yamlio::Efficiency> {
  static void mapping(IO &io, tombolo::yamlio::Efficiency &efficiency);
};
template <> struct MappingTraits<tombolo::yamlio::Tflops> {
  static void mapping(IO &io, tombolo::yamlio::Tflops &tflops);
};
template <> struct MappingTraits<tombolo::planning::Wire> {
  static void mapping(IO &io, tombolo::planning::Wire &wire);
};

} // namespace llvm::yaml

#endif // TOMBOLO_LIB_IMPORT_YAML_CHIPPROFILE_H
