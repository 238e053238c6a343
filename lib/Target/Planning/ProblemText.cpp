//===- ProblemText.cpp - writing a planning problem -----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Target/ProblemText.h"
#include "YamlText.h"

#include "tombolo/Planning/ProblemFormat.h"

using namespace llvm;
using namespace tombolo;
using namespace tombolo::planning;

namespace {

class Writer {
public:
  explicit Writer(raw_ostream &os) : os(os) {}

  void write(const Problem &problem) {
    os << "version: " << kProblemVersion << "\ntopology:\n";
    topology(problem.topology);
    os << "model:\n";
    model(problem.model);
    os << "training:\n  global_batch: " << problem.training.globalBatch
       << "\n  optimizer_state_bytes_per_parameter: "
       << problem.training.optimizerStateBytesPerParameter << "\n";
    os << "bounds:\n";
    bounds(problem.bounds);
  }

private:
  raw_ostream &os;

  template <typename Range> void list(const Range &values) {
    os << "[";
    interleaveComma(values, os, [&](double value) { os << real(value); });
    os << "]";
  }
  void affine(const Affine &figure) {
    list(std::initializer_list<double>{figure.constant, figure.perSample});
  }

  //===--------------------------------------------------------------------===//
  // Topology, as in sites.yaml
  //===--------------------------------------------------------------------===//

  void wire(const char *key, const std::optional<Wire> &wire) {
    if (wire)
      os << ", " << key << ": {gbits_per_second: " << real(wire->gbitsPerSecond)
         << ", latency_us: " << real(wire->latencyUs) << "}";
  }

  void write(const Overheads &over) {
    if (over == Overheads())
      return;
    os << ", launch_us: " << real(over.launchUs)
       << ", kernel_us: " << real(over.kernelUs)
       << ", score_bytes: " << real(over.scoreBytes)
       << ", transfer_us: " << real(over.transferUs)
       << ", step_ms: " << real(over.stepMs)
       << ", exposed_reduction: " << real(over.exposedReduction)
       << ", ring_rate: " << real(over.ringRate)
       << ", ring_latency: " << real(over.ringLatency)
       << ", message_part: " << real(over.messagePart);
    if (over.corrections.empty())
      return;
    os << ", corrections: [";
    for (const Overheads::Correction &seen : over.corrections)
      os << (&seen == &over.corrections.front() ? "" : ", ")
         << "{tensor_parallel: " << seen.tensorParallel
         << ", gflops: " << real(seen.gflops)
         << ", mbytes: " << real(seen.mbytes) << ", ratio: " << real(seen.ratio)
         << "}";
    os << "]";
  }

  void topology(const Topology &topology) {
    os << "  chips:\n";
    for (const Chip &chip : topology.chips) {
      os << "    - name: " << scalar(chip.name) << "\n      tflops: {";
      if (chip.tflopsF32)
        os << "f32: " << real(*chip.tflopsF32);
      if (chip.tflopsBF16)
        os << (chip.tflopsF32 ? ", " : "")
           << "bf16: " << real(*chip.tflopsBF16);
      os << "}\n      memory_gib: " << real(chip.memoryGib)
         << "\n      memory_gbytes_per_second: "
         << real(chip.memoryGbytesPerSecond)
         << "\n      efficiency: {matmul: " << real(chip.matmulEfficiency)
         << ", memory: " << real(chip.memoryEfficiency);
      write(chip.overheads);
      os << "}\n";
      if (chip.pricePerHour)
        os << "      price_per_hour: " << real(*chip.pricePerHour) << "\n";
    }
    os << "  sites:\n";
    for (const Site &site : topology.sites)
      write(site);
    if (topology.links.empty())
      return;
    os << "  links:\n";
    for (const Link &link : topology.links)
      os << "    - {sites: [" << scalar(link.first) << ", "
         << scalar(link.second)
         << "], gbits_per_second: " << real(link.gbitsPerSecond)
         << ", rtt_ms: " << real(link.rttMs) << ", loss: " << real(link.loss)
         << "}\n";
  }

  void write(const Site &site) {
    os << "    - name: " << scalar(site.name) << "\n";
    if (site.hosts) {
      os << "      hosts: {count: " << site.hosts->count
         << ", memory_gib: " << real(site.hosts->memoryGib);
      if (site.hosts->diskGbytesPerSecond)
        os << ", disk_gbytes_per_second: "
           << real(*site.hosts->diskGbytesPerSecond);
      if (site.hosts->address)
        os << ", address: \"" << yaml::escape(*site.hosts->address) << "\"";
      os << "}\n";
    }
    os << "      pools:\n";
    for (const Pool &pool : site.pools) {
      os << "        - {name: " << scalar(pool.name)
         << ", chip: " << scalar(pool.chip) << ", nodes: " << pool.nodes
         << ", chips_per_node: " << pool.chipsPerNode
         << ", nics_per_node: " << pool.nicsPerNode;
      if (pool.coresPerNode)
        os << ", cores_per_node: " << *pool.coresPerNode;
      wire("intra_node", pool.intraNode);
      wire("inter_node", pool.interNode);
      os << "}\n";
    }
    if (site.fabric)
      os << "      fabric: {gbits_per_second: "
         << real(site.fabric->gbitsPerSecond)
         << ", latency_us: " << real(site.fabric->latencyUs) << "}\n";
    if (site.fabrics.empty())
      return;
    os << "      fabrics:\n";
    for (const PairFabric &fabric : site.fabrics)
      os << "        - {pools: [" << scalar(fabric.first) << ", "
         << scalar(fabric.second)
         << "], gbits_per_second: " << real(fabric.wire.gbitsPerSecond)
         << ", latency_us: " << real(fabric.wire.latencyUs) << "}\n";
  }

  //===--------------------------------------------------------------------===//
  // Model
  //===--------------------------------------------------------------------===//

  void model(const ModelProfile &model) {
    os << "  precision: " << name(model.precision)
       << "\n  tokens_per_sample: " << model.tokensPerSample
       << "\n  runs: # of blocks: kind and how many\n";
    for (const BlockRun &run : model.runs)
      os << "    - [" << run.kind << ", " << run.count << "]\n";
    os << "  kinds:\n";
    for (const BlockKind &kind : model.kinds)
      write(kind, "    ");
    if (model.ties.empty())
      return;
    os << "  ties:\n";
    for (const TiedParameter &tie : model.ties) {
      os << "    - {name: " << scalar(tie.name) << ", elements: " << tie.count
         << ", blocks: [";
      interleaveComma(tie.blockNumbers, os);
      os << "]}\n";
    }
  }

  void write(const BlockKind &kind, const std::string &indent) {
    os << indent << "- name: " << scalar(kind.name) << "\n";
    std::string inner = indent + "  ";
    for (const auto &[key, field] : kKindCounts)
      os << inner << key << ": " << kind.*field << "\n";
    for (const auto &[key, field] : kKindWorks) {
      os << inner << key << ": {";
      bool isFirst = true;
      for (const auto &[figure, affineField] : kWorkAffines) {
        os << (isFirst ? "" : ", ") << figure << ": ";
        affine((kind.*field).*affineField);
        isFirst = false;
      }
      for (size_t c = 0; c < kCollectives; ++c) {
        const Exchange &exchange = (kind.*field).exchanges[c];
        if (exchange == Exchange())
          continue;
        os << ", " << kCollectiveKeys[c] << ": ";
        list(std::initializer_list<double>{
            exchange.count, exchange.bytes.constant, exchange.bytes.perSample});
      }
      os << "}\n";
    }
    for (const auto &[key, field] : kKindAffines) {
      os << inner << key << ": ";
      affine(kind.*field);
      os << "\n";
    }
    if (kind.crossingBytes != Affine()) {
      os << inner << kKindCrossing.name << ": ";
      affine(kind.crossingBytes);
      os << "\n";
    }
    if (!kind.measured.empty())
      os << inner << "measured:\n";
    for (const ChipTimes &times : kind.measured) {
      os << inner << "  - chip: " << scalar(times.chip) << "\n"
         << inner << "    scale: ";
      list(times.scale);
      os << "\n"
         << inner
         << "    cells: # tensor_parallel, microbatch, forward, backward, "
            "update\n";
      for (const MeasuredTime &cell : times.cells) {
        os << inner << "      - ";
        std::vector<double> figures = {static_cast<double>(cell.tensorParallel),
                                       static_cast<double>(cell.microbatch),
                                       cell.seconds[0], cell.seconds[1],
                                       cell.seconds[2]};
        if (!cell.withExchanges) // of a chip profile
          figures.push_back(cell.weightPart);
        list(figures);
        os << "\n";
      }
    }
    if (!kind.sharded.empty())
      os << inner << "sharded:\n";
    for (const BlockKind &sharded : kind.sharded)
      write(sharded, inner + "  ");
  }

  void bounds(const Bounds &bounds) {
    for (const auto &[key, field] : kBoundReals)
      os << "  " << key << ": " << real(bounds.*field) << "\n";
    os << "  ties_across_stages: "
       << (bounds.tiesAcrossStages ? "true" : "false") << "\n"
       << "  candidates: " << bounds.candidates
       << "\n  search_nodes: " << bounds.searchNodes << "\n";
    os << "  objective: "
       << (bounds.objective == Objective::Cost ? "cost" : "throughput") << "\n";
    if (bounds.innerSteps)
      os << "  inner_steps: " << *bounds.innerSteps << "\n";
    if (bounds.overlapSteps)
      os << "  overlap_steps: " << *bounds.overlapSteps << "\n";
    if (bounds.compression)
      os << "  compression: " << name(*bounds.compression) << "\n";
    if (bounds.wanGbits)
      os << "  wan_gbits: " << real(*bounds.wanGbits) << "\n";
    if (bounds.schedule)
      os << "  schedule: " << name(*bounds.schedule) << "\n";
  }
};

} // namespace

void tombolo::writeProblem(raw_ostream &os, const Problem &problem) {
  Writer(os).write(problem);
}
