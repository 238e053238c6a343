//===- NullDevice.cpp - a device that checks and does nothing -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NullDevice.h"

#include "HostMemory.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Validate.h"

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::device;

namespace {

class NullExecutable : public Executable {
public:
  NullExecutable(std::string name, std::uint32_t arguments, bool workspace)
      : name(std::move(name)), arguments(arguments), workspace(workspace) {}

  void run(std::span<std::byte *const> addresses, std::byte *scratch) override {
    if (addresses.size() != arguments)
      throw Error("segment '", name, "': expected ", arguments,
                  " arguments, got ", addresses.size());
    if (workspace && !scratch)
      throw Error("segment '", name, "': expected a workspace");
  }

private:
  std::string name;
  std::uint32_t arguments;
  bool workspace;
};

class NullDevice : public HostMemoryDevice {
public:
  std::string_view name() const override { return "null"; }

  std::unique_ptr<Executable>
  prepare(const plan::v1::Segment &segment) override {
    validateSegment(segment, "segment '" + segment.name() + "'");
    return std::make_unique<NullExecutable>(segment.name(),
                                            segment.arguments_size(),
                                            segment.workspace_bytes() != 0);
  }
};

} // namespace

std::unique_ptr<Device> device::createNullDevice() {
  return std::make_unique<NullDevice>();
}
