//===- Device.h - the seam to kernels and their memory ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One rank drives one Device. The device owns the rank's arena, prepares the
// plan's segments once and runs them many times. Every implementation passes
// the conformance suite in runtime/test/device.
//
// Streams: in this version every call is synchronous, that is, a segment's
// effects are complete when `run` returns. A device with queues (CUDA) would
// keep a stream per lane behind this interface: `run` enqueues on the lane's
// stream and waits, as cudaLaunchKernel + cudaStreamSynchronize do. When
// overlap on the device is wanted, `Executable::enqueue(..., Stream &)` and
// `Stream::record() -> Event` join the interface, the executor completes an
// instruction when its event fires, and `run` stays as enqueue + wait; nothing
// that is written against the synchronous calls has to change.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_DEVICE_H
#define TOMBOLO_RUNTIME_DEVICE_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tombolo::plan::v1 {
class Segment;
} // namespace tombolo::plan::v1

namespace tombolo::runtime {

/// A segment made ready for one device: shapes are static, so primitives,
/// scratch and loop bounds exist before the first run.
class Executable {
public:
  virtual ~Executable();

  /// Runs the segment. `arguments[i]` is the address of `Segment.arguments[i]`
  /// and has its `bytes`; `workspace` has `Segment.workspace_bytes` (it may be
  /// null when that is 0). All are addresses of the device's memory space,
  /// aligned at least to the elements they hold. Throws Error on what only
  /// shows at run time (an index out of range); the outputs are then undefined.
  /// The executables of one device share scratch: one runs at a time.
  virtual void run(std::span<std::byte *const> arguments,
                   std::byte *workspace) = 0;
};

/// A piece of the device's memory, released with the object (cudaFree, munmap).
class Arena {
public:
  virtual ~Arena();
  /// The first byte, 64-byte aligned. An address of the *device's* memory
  /// space: dereference it on the host only if `Device::hostAccessible()`.
  std::byte *base() const { return start; }
  std::uint64_t size() const { return bytes; }

  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;

protected:
  Arena(std::byte *start, std::uint64_t bytes) : start(start), bytes(bytes) {}

private:
  std::byte *start;
  std::uint64_t bytes;
};

class Device {
public:
  virtual ~Device();

  /// "cpu", "null": as in `createDevice`.
  virtual std::string_view name() const = 0;

  /// `bytes` of zeroed memory. Physical memory is taken when first touched
  /// where the platform can do so, so a rank's resident memory follows what its
  /// plan really uses. Throws Error (Status::Failed) naming the size when there
  /// is not enough.
  virtual std::unique_ptr<Arena> allocateArena(std::uint64_t bytes) = 0;

  /// True if arena addresses may be read and written by the host (and so be
  /// handed to a host transport) without a copy.
  virtual bool hostAccessible() const = 0;

  /// cudaMemcpy in its three directions; ranges must not overlap.
  virtual void copyToDevice(std::byte *device,
                            std::span<const std::byte> host) = 0;
  virtual void copyToHost(std::span<std::byte> host,
                          const std::byte *device) = 0;
  virtual void copyOnDevice(std::byte *to, const std::byte *from,
                            std::uint64_t bytes) = 0;
  /// cudaMemset to zero.
  virtual void zero(std::byte *device, std::uint64_t bytes) = 0;

  /// Checks every op, value and bound of `segment` and makes it ready to run.
  /// Keeps no reference to `segment`. Throws Error, naming segment and op, for
  /// an op, dtype or shape this device does not compute; never reads or writes
  /// outside the stated argument and workspace sizes later. The device must
  /// outlive its executables.
  virtual std::unique_ptr<Executable>
  prepare(const plan::v1::Segment &segment) = 0;

  /// With `DeviceOptions::checkNumerics`: the first op that has run since the
  /// last call and made a NaN or an infinity of operands without, in words
  /// (segment, op, output, element); nothing where there was none.
  virtual std::optional<std::string> takeNonFinite() { return std::nullopt; }
};

struct DeviceOptions {
  unsigned threads = 1; ///< of one rank's kernels (cpu)
  /// Look at the operands of every op for `takeNonFinite`: several times
  /// slower.
  bool checkNumerics = false;
};

/// Makes the device called `name`: "cpu", or "null", which checks and prepares
/// everything and computes nothing. Throws Error with the known names for any
/// other.
std::unique_ptr<Device> createDevice(std::string_view name,
                                     const DeviceOptions &options = {});

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_DEVICE_H
