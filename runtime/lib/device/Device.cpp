//===- Device.cpp - the devices by name -----------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Device.h"

#include "NullDevice.h"
#include "cpu/CpuDevice.h"

#include "tombolo/runtime/Error.h"

using namespace tombolo::runtime;

Executable::~Executable() = default;
Arena::~Arena() = default;
Device::~Device() = default;

std::unique_ptr<Device>
tombolo::runtime::createDevice(std::string_view name,
                               const DeviceOptions &options) {
  if (name == "cpu")
    return cpu::createCpuDevice(options);
  if (name == "null")
    return device::createNullDevice();
  throw Error(Status::Usage, "expected a device out of cpu, null, got '", name,
              "'");
}
