//===- NullDevice.cpp - a device that checks and does nothing -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NullDevice.h"

#include "HostMemory.h"
#include "Segment.h"

#include "tombolo/runtime/Error.h"

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
    ResolvedSegment resolved = resolve(segment);
    for (int i = 0; i < segment.ops_size(); ++i) {
      const plan::v1::Op &op = segment.ops(i);
      std::string where =
          "segment '" + segment.name() + "', op " + std::to_string(i);
      if (!plan::v1::Opcode_IsValid(op.opcode()) ||
          op.opcode() == plan::v1::OPCODE_UNSPECIFIED)
        throw Error(where, ": expected an op, got ", nameOf(op.opcode()));
      for (const auto *operands : {&op.inputs(), &op.outputs()})
        for (std::uint32_t value : *operands)
          if (value >= resolved.values.size())
            throw Error(where, ": expected a value below ",
                        resolved.values.size(), ", got ", value);
    }
    return std::make_unique<NullExecutable>(segment.name(), resolved.arguments,
                                            segment.workspace_bytes() != 0);
  }
};

} // namespace

std::unique_ptr<Device> device::createNullDevice() {
  return std::make_unique<NullDevice>();
}
