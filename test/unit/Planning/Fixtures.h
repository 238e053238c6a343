//===- Fixtures.h - problems for tests ------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_UNIT_PLANNING_FIXTURES_H
#define TOMBOLO_TEST_UNIT_PLANNING_FIXTURES_H

#include "tombolo/Planning/Problem.h"

#include <random>

namespace tombolo::planning::test {

/// A chip whose figures make one FLOP take a second per `tflops` 1e-12.
inline Chip chip(const std::string &name, double tflops, double memoryGib) {
  Chip result;
  result.name = name;
  result.tflopsF32 = tflops;
  result.tflopsBF16 = 8 * tflops;
  result.memoryGib = memoryGib;
  result.memoryGbytesPerSecond = 1000;
  return result;
}

inline Pool pool(const std::string &name, const std::string &chip,
                 uint64_t nodes, uint64_t chipsPerNode) {
  Pool result;
  result.name = name;
  result.chip = chip;
  result.nodes = nodes;
  result.chipsPerNode = chipsPerNode;
  result.nicsPerNode = chipsPerNode;
  result.intraNode = Wire{2400, 3};
  result.interNode = Wire{200, 8};
  return result;
}

/// A block with compute-bound costs: `flops` forward per sample, twice that
/// backward.
inline BlockKind kind(const std::string &name, double flops,
                      uint64_t parameters, double savedBytes,
                      double boundaryBytes) {
  BlockKind result;
  result.name = name;
  result.forward.flops.perSample = flops;
  result.backwardInput.flops.perSample = flops;
  result.backwardWeight.flops.perSample = flops;
  result.parameterCount = result.trainableCount = parameters;
  result.parameterBytes = 4 * parameters;
  result.savedBytes.perSample = savedBytes;
  result.inputBytes.perSample = boundaryBytes;
  result.outputBytes.perSample = boundaryBytes;
  return result;
}

/// One site with one pool of `chips` equal chips, and a model of `blocks` equal
/// blocks of a second each (forward) on it.
inline Problem equalBlocks(uint64_t chips, uint64_t blocks) {
  Problem problem;
  problem.topology.chips = {chip("c", 1, 16)};
  Site site;
  site.name = "s";
  site.pools = {pool("p", "c", chips, 1)};
  problem.topology.sites = {site};
  problem.model.kinds = {kind("layer", 1e12, 1000, 1000, 100)};
  problem.model.runs = {{0, blocks}};
  problem.model.tokensPerSample = 10;
  problem.training.globalBatch = 8;
  return problem;
}

inline Stage stage(const std::string &pool, uint64_t blocks,
                   uint64_t count = 1) {
  Stage result;
  result.blocks = blocks;
  result.replicas = {{pool, count, 1, 1}};
  return result;
}

/// An island on pool s/p.
inline Island island(uint64_t batch, uint64_t microbatch,
                     std::vector<uint64_t> blocks, uint64_t count = 1) {
  Island result;
  result.sites = {"s"};
  result.batch = batch;
  result.microbatch = microbatch;
  for (uint64_t n : blocks)
    result.stages.push_back(stage("s/p", n, count));
  return result;
}

} // namespace tombolo::planning::test

#endif // TOMBOLO_TEST_UNIT_PLANNING_FIXTURES_H
