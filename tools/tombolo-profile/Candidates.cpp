//===- Candidates.cpp - plans of a model that are worth measuring ---------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// What a rank calls of a block depends on the microbatch and on the number of
// chips that share the block, on nothing else of a layout. So one plan for each
// of these, of all blocks in one stage, calls everything that any layout of the
// model would.
//
//===----------------------------------------------------------------------===//

#include "Measuring.h"

#include "tombolo/runtime/Error.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

#include <fstream>
#include <iostream>

using namespace tombolo;
using runtime::Error;

namespace {

/// This machine as a site, with what was measured of it.
void writeSites(const std::string &path, const Measured &measured) {
  const DeviceTimes &rates = measured.rates;
  double ranks = static_cast<double>(measured.machine.ranks);
  std::ofstream os(path);
  os << "chips:\n  - name: \"" << measured.chip
     << "\"\n    tflops: {f32: " << rates.tflopsF32 << ", bf16: "
     << (rates.tflopsBF16 > 0 ? rates.tflopsBF16 : rates.tflopsF32)
     << "}\n    memory_gib: " << measured.machine.memoryGib / ranks
     << "\n    memory_gbytes_per_second: " << rates.memoryGbytesPerSecond
     << "\n    efficiency: {matmul: " << rates.matmul
     << ", memory: " << rates.memory << "}\nsites:\n  - name: here\n"
     << "    pools:\n      - {name: here, chip: \"" << measured.chip
     << "\", nodes: 1, chips_per_node: " << measured.machine.ranks;
  if (!measured.messages.empty()) {
    auto wire = fitMessages(measured);
    os << ", intra_node: {gbits_per_second: " << wire.bytesPerSecond * 8e-9
       << ", latency_us: " << wire.latencySeconds * 1e6 << "}";
  } else {
    os << ", intra_node: {gbits_per_second: 1, latency_us: 1}"; // unused
  }
  os << "}\n";
}

/// Two microbatches for each replica of the whole model.
uint64_t writeStrategy(const std::string &path, uint64_t ranks, uint64_t degree,
                       uint64_t microbatch) {
  uint64_t replicas = ranks / degree, batch = 2 * replicas * microbatch;
  std::ofstream(path) << "islands:\n  - sites: [here]\n    batch: " << batch
                      << "\n    microbatch: " << microbatch
                      << "\n    schedule: 1f1b\n    chunks: 1\n    stages:\n"
                      << "      - {pool: here/here, data_parallel: " << replicas
                      << ", tensor_parallel: " << degree
                      << ", recompute: none, optimizer_sharding: false}\n";
  return batch;
}

/// The first line of a file.
std::string firstLine(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

} // namespace

bool tombolo::isModel(const std::string &path) {
  return llvm::StringRef(path).ends_with(".onnx");
}

std::vector<std::string> tombolo::planCandidates(const std::string &model,
                                                 const MeasureOptions &options,
                                                 const Measured &measured,
                                                 const std::string &folder) {
  if (!llvm::sys::fs::exists(model))
    throw Error("'", model, "': cannot open");
  std::string self = llvm::sys::fs::getMainExecutable(
      nullptr, reinterpret_cast<void *>(&tombolo::isModel));
  llvm::SmallString<256> planner(llvm::sys::path::parent_path(self));
  llvm::sys::path::append(planner, "tombolo-plan");
  std::string sites = folder + "/sites.yaml", strategy = folder + "/s.yaml",
              said = folder + "/said";
  writeSites(sites, measured);
  std::vector<std::string> plans;
  std::string refusal;
  uint64_t ranks = measured.machine.ranks;
  for (uint64_t degree = 1; degree <= ranks; ++degree)
    for (uint64_t microbatch : options.microbatches) {
      if (ranks % degree != 0)
        continue;
      uint64_t batch = writeStrategy(strategy, ranks, degree, microbatch);
      std::string plan = folder + "/" + std::to_string(plans.size()) + ".plan";
      std::vector<std::string> words = {planner.str().str(),
                                        model,
                                        "--topology",
                                        sites,
                                        "--strategy",
                                        strategy,
                                        "--global-batch",
                                        std::to_string(batch),
                                        "--simulate",
                                        "0",
                                        "-o",
                                        plan};
      words.insert(words.end(), options.planOptions.begin(),
                   options.planOptions.end());
      std::vector<llvm::StringRef> arguments(words.begin(), words.end());
      std::string trouble;
      int status = llvm::sys::ExecuteAndWait(planner, arguments, std::nullopt,
                                             {llvm::StringRef(),
                                              llvm::StringRef("/dev/null"),
                                              llvm::StringRef(said)},
                                             0, 0, &trouble);
      if (status < 0)
        throw Error(runtime::Status::Failed, "'", planner.str().str(),
                    "' cannot be run: ", trouble);
      if (status == 0) {
        plans.push_back(plan);
        continue;
      }
      // Not every block divides into so many parts, not every batch fits.
      refusal = firstLine(said);
      std::cerr << "tombolo-profile: warning: microbatch " << microbatch
                << " on " << degree << " chips is left out: " << refusal
                << "\n";
    }
  if (plans.empty())
    throw Error("'", model, "': no layout of it on ", ranks,
                " ranks can be measured here: ", refusal);
  return plans;
}
