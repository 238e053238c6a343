//===- ProfileFile.cpp - writing chip profiles --------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fitting.h"
#include "Measuring.h"

#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <ostream>

namespace tombolo {

void writeProfile(std::ostream &os, const std::string &chip,
                  const calibration::Constants &constants,
                  const FitReport &report) {
  const planning::Overheads &over = constants.overheads;
  os << std::setprecision(6);
  os << "tombolo_profile: 1\nchip: " << chip
     << "\nfit: {precision: " << report.precision << ", runs: " << report.runs
     << ", shapes: " << report.shapes << ", error_percent: " << report.error;
  if (report.heldOut)
    os << ", held_out_error_percent: " << *report.heldOut;
  os << "}\nefficiency:\n  matmul: " << constants.matmul
     << "\n  memory: " << constants.memory << "\n  launch_us: " << over.launchUs
     << "\n  kernel_us: " << over.kernelUs
     << "\n  score_bytes: " << over.scoreBytes
     << "\n  transfer_us: " << over.transferUs << "\n  step_ms: " << over.stepMs
     << "\n  exposed_reduction: " << over.exposedReduction << "\n";
  if (!over.corrections.empty())
    os << "  corrections:\n";
  for (const planning::Overheads::Correction &seen : over.corrections)
    os << "    - {tensor_parallel: " << seen.tensorParallel
       << ", gflops: " << seen.gflops << ", mbytes: " << seen.mbytes
       << ", ratio: " << seen.ratio << "}\n";
  auto wire = [&](const char *name, const std::optional<planning::Wire> &wire) {
    if (wire)
      os << name << ": {gbits_per_second: " << wire->gbitsPerSecond
         << ", latency_us: " << wire->latencyUs << "}\n";
  };
  wire("intra_node", constants.intraNode);
  wire("inter_node", constants.interNode);
}

//===----------------------------------------------------------------------===//
// What was measured
//===----------------------------------------------------------------------===//

runtime::profile::WireFit fitMessages(const Measured &measured) {
  std::vector<runtime::profile::WireTime> times;
  for (const LinkTime &time : measured.messages)
    times.push_back({1, static_cast<double>(time.bytes), time.seconds});
  return runtime::profile::fitWire(times);
}

runtime::profile::WireFit fitRing(const Measured &measured) {
  // What plans did in training counts for what it takes of a step. Sums of
  // nothing but zeros, one after the other, say how other sizes compare.
  constexpr double kApart = 0.05;
  std::vector<runtime::profile::WireTime> times;
  double inTraining = 0;
  for (const CollectiveTime &time : measured.collectives) {
    double weight = static_cast<double>(time.calls) * time.spread.seconds;
    times.push_back({time.messages, time.bytes, time.spread.seconds, weight});
    inTraining += weight;
  }
  double weight = inTraining > 0 ? kApart * inTraining /
                                       static_cast<double>(measured.sums.size())
                                 : 1;
  // A sum over n is 2 (n - 1) steps of a part in n.
  double n = static_cast<double>(measured.linkRanks), steps = 2 * (n - 1);
  for (const LinkTime &time : measured.sums)
    times.push_back({steps, steps / n * static_cast<double>(time.bytes),
                     time.seconds, weight});
  return runtime::profile::fitWire(times);
}

namespace {

/// A text in quotes, whatever is in it.
std::string quoted(const std::string &text) {
  std::string result = "\"";
  for (char c : text)
    if (c == '"' || c == '\\')
      (result += '\\') += c;
    else if (static_cast<unsigned char>(c) >= ' ')
      result += c;
  return result + "\"";
}

void writeSpread(std::ostream &os, const Spread &spread) {
  // To the nanosecond; never as 1e+06, which is no number to every reader.
  auto us = [](double seconds) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.3f", std::max(1e6 * seconds, 1e-3));
    return std::string(text);
  };
  os << "us: " << us(spread.seconds) << ", quartiles_us: [" << us(spread.lower)
     << ", " << us(spread.upper) << "], runs: " << spread.steps;
}

void writeLinks(std::ostream &os, const char *key,
                const std::vector<LinkTime> &times) {
  if (times.empty())
    return;
  os << "  " << key << ":\n";
  for (const LinkTime &time : times) {
    os << "    - {bytes: " << time.bytes << ", ";
    writeSpread(os, {time.seconds, time.lower, time.upper, time.runs});
    os << "}\n";
  }
}

void writeCollectives(std::ostream &os,
                      const std::vector<CollectiveTime> &times) {
  if (times.empty())
    return;
  os << "  in_training:\n";
  for (const CollectiveTime &time : times) {
    os << "    - {messages: " << static_cast<uint64_t>(time.messages)
       << ", bytes: " << static_cast<uint64_t>(time.bytes)
       << ", calls: " << time.calls << ", ";
    writeSpread(os, time.spread);
    os << "}\n";
  }
}

void writeModel(std::ostream &os, const ModelTimes &model) {
  os << "    functions:\n";
  for (const auto &[key, parts] : model.functions) {
    os << "      - block: " << quoted(key.block)
       << "\n        function: " << key.function
       << "\n        microbatch: " << key.microbatch
       << "\n        tensor_parallel: " << key.tensorParallel
       << "\n        parts:\n";
    for (const Spread &part : parts) {
      os << "          - {";
      writeSpread(os, part);
      os << "}\n";
    }
  }
  if (!model.updates.empty())
    os << "    updates:\n";
  for (const auto &[key, spread] : model.updates) {
    os << "      - {optimizer: " << key.first << ", parameters: " << key.second
       << ", ";
    writeSpread(os, spread);
    os << "}\n";
  }
}

} // namespace

void writeProfile(std::ostream &os, const Measured &measured) {
  os << std::setprecision(6);
  const Machine &machine = measured.machine;
  os << "tombolo_profile: 2\nchip: " << quoted(measured.chip)
     << "\nmachine: {processor: " << quoted(machine.processor)
     << ", cores: " << machine.cores << ", memory_gib: " << machine.memoryGib
     << ", system: " << quoted(machine.system)
     << ",\n          device: " << machine.device
     << ", ranks: " << machine.ranks << ", threads: " << machine.threads
     << "}\n";
  const DeviceTimes &rates = measured.rates;
  os << "peak: {tflops: {f32: " << rates.tflopsF32;
  if (rates.tflopsBF16 > 0)
    os << ", bf16: " << rates.tflopsBF16;
  os << "}, memory_gbytes_per_second: " << rates.memoryGbytesPerSecond
     << "}\nefficiency: {matmul: " << rates.matmul
     << ", memory: " << rates.memory << ", kernel_us: " << rates.kernelUs;
  runtime::profile::WireFit wire, ring;
  if (!measured.messages.empty()) {
    wire = fitMessages(measured);
    ring = fitRing(measured);
    // A multiple of the wire's is told.
    if (!(wire.latencySeconds > 0 && ring.latencySeconds > 0))
      ring.latencySeconds = wire.latencySeconds;
    os << ",\n             ring_rate: "
       << ring.bytesPerSecond / wire.bytesPerSecond << ", ring_latency: "
       << (wire.latencySeconds > 0 ? ring.latencySeconds / wire.latencySeconds
                                   : 1);
  }
  const CarryTime &carried = measured.carried;
  if (carried.messages + carried.ringMessages > 0 &&
      !measured.messages.empty()) {
    double busy = carried.messages * wire.latencySeconds +
                  carried.bytes / wire.bytesPerSecond +
                  carried.ringMessages * ring.latencySeconds +
                  carried.ringBytes / ring.bytesPerSecond;
    os << ", message_part: "
       << std::clamp(carried.spread.seconds / busy, 1e-3, 100.0);
  }
  os << "}\n";
  if (!measured.messages.empty()) {
    os << "intra_node: {gbits_per_second: " << wire.bytesPerSecond * 8e-9
       << ", latency_us: " << wire.latencySeconds * 1e6 << "}\n";
    os << "links:\n";
    writeLinks(os, "messages", measured.messages);
    writeLinks(os, "all_reduces", measured.sums);
    writeCollectives(os, measured.collectives);
  }
  if (!measured.models.empty())
    os << "models:\n";
  for (const auto &[key, model] : measured.models) {
    os << "  - hash: " << quoted(key.first) << "\n    precision: " << key.second
       << "\n";
    writeModel(os, model);
  }
}

} // namespace tombolo
