//===- NullDevice.h - a device that checks and does nothing -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The shortest complete Device: a place to start a new one from, and a way to
// run schedules and transports without the cost of arithmetic.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_NULLDEVICE_H
#define TOMBOLO_LIB_DEVICE_NULLDEVICE_H

#include "tombolo/runtime/Device.h"

namespace tombolo::runtime::device {

std::unique_ptr<Device> createNullDevice();

} // namespace tombolo::runtime::device

#endif // TOMBOLO_LIB_DEVICE_NULLDEVICE_H
