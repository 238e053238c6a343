//===- DeviceTimes.h - what a device reaches, whatever the model -*- C++
//-*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PROFILE_DEVICETIMES_H
#define TOMBOLO_RUNTIME_PROFILE_DEVICETIMES_H

#include "tombolo/runtime/Device.h"

namespace tombolo::runtime::profile {

/// Rates of matrix products over squares of 256 to 1024 and of sums of vectors
/// that no cache holds: the best that was seen, and the mean of the shapes' as
/// a fraction of it.
struct DeviceTimes {
  double tflopsF32 = 0;             ///< 1e12 FLOP/s
  double tflopsBF16 = 0;            ///< 0: the device does not compute it
  double memoryGbytesPerSecond = 0; ///< 1e9 bytes read or written
  double matmul = 0, memory = 0;    ///< in (0, 1]; matmul in f32
  double kernelUs = 0;              ///< the least that an op takes
};

/// Takes about so long. Throws Error for a device that computes nothing.
DeviceTimes measureDevice(Device &device, double seconds);

} // namespace tombolo::runtime::profile

#endif // TOMBOLO_RUNTIME_PROFILE_DEVICETIMES_H
