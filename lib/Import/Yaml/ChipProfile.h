//===- ChipProfile.h - what is known of a chip with its software ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_CHIPPROFILE_H
#define TOMBOLO_LIB_IMPORT_YAML_CHIPPROFILE_H

#include "Fields.h"
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

template <typename Fields>
void fields(Fields &io, planning::Overheads::Correction &correction) {
  io.required("tensor_parallel", correction.tensorParallel,
              "chips of the replica");
  io.required("gflops", correction.gflops, planning::kAbove0,
              "of the block's forward call on one chip");
  io.required("mbytes", correction.mbytes, planning::kAbove0,
              "of what the block hands on");
  io.required("ratio", correction.ratio, planning::kCorrections,
              "of the time foretold");
}

template <typename Fields> void fields(Fields &io, Efficiency &efficiency) {
  io.required("matmul", efficiency.matmul, planning::kAbove0To1,
              "part of the peak FLOP/s that matrix products reach");
  io.required("memory", efficiency.memory, planning::kAbove0To1,
              "part of the memory's peak rate that is reached");
  planning::Overheads &over = efficiency.overheads;
  io.optional("launch_us", over.launchUs, planning::kFrom0,
              "of the host, to start an op on the chip");
  io.optional("kernel_us", over.kernelUs, planning::kFrom0,
              "of the chip, for each op");
  io.optional("score_bytes", over.scoreBytes, planning::kFrom0,
              "moved for each score of attention");
  io.optional("transfer_us", over.transferUs, planning::kFrom0,
              "of the chip, for each boundary tensor sent");
  io.optional("step_ms", over.stepMs, planning::kFrom0, "once an inner step");
  io.optional("exposed_reduction", over.exposedReduction, planning::kFrom0To1,
              "part of a gradient reduction that compute does not hide");
  io.optional("ring_rate", over.ringRate, planning::kAbove0,
              "of the wire's rate, what a step of a collective gets");
  io.optional("ring_latency", over.ringLatency, planning::kAbove0,
              "of the wire's latency, what a step of a collective takes");
  io.optional("message_part", over.messagePart, planning::kMessageParts,
              "of a host's core, while a wire carries a message of its");
  io.optional("corrections", over.corrections,
              "blocks that were seen to take another time than all this says");
}

template <typename Fields> void fields(Fields &io, planning::Wire &wire) {
  io.required("gbits_per_second", wire.gbitsPerSecond, planning::kAbove0,
              "what one side sends");
  io.required("latency_us", wire.latencyUs, planning::kFrom0,
              "until the first byte is there");
}

template <typename Fields> void fields(Fields &io, Tflops &tflops) {
  io.optional("f32", tflops.f32, planning::kAbove0, "at single precision");
  io.optional("bf16", tflops.bf16, planning::kAbove0, "at bfloat16");
  io.atLeastOne("'tflops'", {"f32", "bf16"});
}

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_CHIPPROFILE_H
