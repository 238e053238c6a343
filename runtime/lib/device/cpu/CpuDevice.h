//===- CpuDevice.h - kernels on the host's processor ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_CPUDEVICE_H
#define TOMBOLO_LIB_DEVICE_CPU_CPUDEVICE_H

#include "tombolo/runtime/Device.h"

namespace tombolo::runtime::cpu {

std::unique_ptr<Device> createCpuDevice(const DeviceOptions &options);

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_CPUDEVICE_H
