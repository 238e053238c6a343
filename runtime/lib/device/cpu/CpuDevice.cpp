//===- CpuDevice.cpp - kernels on the host's processor --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CpuDevice.h"

#include "../HostMemory.h"
#include "Kernel.h"
#include "Numerics.h"

#include <omp.h>

#include <utility>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

/// Sets OpenMP's thread count, which oneDNN and the kernels follow, for the
/// calling thread, and restores it.
class ThreadCount {
public:
  explicit ThreadCount(unsigned threads) : before(omp_get_max_threads()) {
    omp_set_num_threads(static_cast<int>(threads));
  }
  ~ThreadCount() { omp_set_num_threads(before); }
  ThreadCount(const ThreadCount &) = delete;
  ThreadCount &operator=(const ThreadCount &) = delete;

private:
  int before;
};

/// One buffer for all executables of a device, of the largest one's size.
class SharedScratch {
public:
  void atLeast(std::uint64_t bytes) {
    if (bytes > buffer.size()) {
      buffer = {}; // nothing in it outlives a run
      buffer = device::AlignedBuffer(bytes);
    }
  }
  std::byte *data() const { return buffer.data(); }

private:
  device::AlignedBuffer buffer;
};

/// What the executables of a device have found, when they look.
struct Numerics {
  bool checked = false;
  std::optional<std::string> fault; // the first since it was taken
};

class CpuExecutable : public Executable {
public:
  CpuExecutable(const plan::v1::Segment &segment, const Loops &loops,
                unsigned threads, SharedScratch &scratch, Numerics &numerics)
      : segment(device::resolve(segment)), scratch(scratch), numerics(numerics),
        threads(threads) {
    for (int i = 0; i < segment.ops_size(); ++i)
      kernels.push_back(makeOp(segment, i, loops));
    const device::ResolvedSegment &resolved = this->segment;
    bases.resize(resolved.bases());
    bases[resolved.constantsBase()] = resolved.constants.data();
  }

  void run(std::span<std::byte *const> arguments,
           std::byte *workspace) override {
    if (arguments.size() != segment.arguments)
      throw Error("segment '", segment.name, "': expected ", segment.arguments,
                  " arguments, got ", arguments.size());
    std::copy(arguments.begin(), arguments.end(), bases.begin());
    bases[segment.workspaceBase()] = workspace;
    bases[segment.scratchBase()] = scratch.data();
    ThreadCount guard(threads);
    for (std::size_t i = 0; i < kernels.size(); ++i) {
      bool watched = !watches.empty() && !numerics.fault;
      if (watched)
        watches[i].before(bases.data());
      kernels[i]->run(bases.data());
      if (watched)
        numerics.fault = watches[i].after(bases.data());
    }
  }

private:
  std::unique_ptr<Kernel> makeOp(const plan::v1::Segment &message, int index,
                                 const Loops &loops) {
    const plan::v1::Op &op = message.ops(index);
    const device::ResolvedSegment &resolved = segment;
    OpContext context;
    context.opcode = op.opcode();
    context.where = "segment '" + resolved.name + "', op " +
                    std::to_string(index) + " (" + device::nameOf(op.opcode()) +
                    ")";
    context.op = &op;
    context.accumulate = op.accumulate();
    context.loops = &loops;
    context.threads = threads;
    context.scratchBase = resolved.scratchBase();
    auto collect = [&](const auto &indices, std::vector<Tensor> &to) {
      for (std::uint32_t value : indices) {
        context.require(value < resolved.values.size(),
                        "expected a value below ", resolved.values.size(),
                        ", got ", value);
        to.push_back(resolved.values[value]);
      }
    };
    collect(op.inputs(), context.inputs);
    collect(op.outputs(), context.outputs);
    if (numerics.checked)
      watches.emplace_back(context, message);
    std::unique_ptr<Kernel> kernel = makeKernel(context);
    scratch.atLeast(context.scratchBytes);
    return kernel;
  }

  device::ResolvedSegment segment;
  SharedScratch &scratch;
  Numerics &numerics;
  unsigned threads;
  std::vector<std::unique_ptr<Kernel>> kernels;
  std::vector<NumericsWatch> watches; // one per kernel, or none
  std::vector<std::byte *> bases;
};

class CpuDevice : public device::HostMemoryDevice {
public:
  explicit CpuDevice(const DeviceOptions &options)
      : threads(std::max(options.threads, 1u)),
        loops(selectLoops()), numerics{options.checkNumerics, std::nullopt} {}

  std::string_view name() const override { return "cpu"; }

  std::unique_ptr<Executable>
  prepare(const plan::v1::Segment &segment) override {
    ThreadCount guard(threads);
    return std::make_unique<CpuExecutable>(segment, loops, threads, scratch,
                                           numerics);
  }

  std::optional<std::string> takeNonFinite() override {
    return std::exchange(numerics.fault, std::nullopt);
  }

private:
  unsigned threads;
  const Loops &loops;
  SharedScratch scratch;
  Numerics numerics;
};

} // namespace

std::unique_ptr<Device> cpu::createCpuDevice(const DeviceOptions &options) {
  return std::make_unique<CpuDevice>(options);
}
