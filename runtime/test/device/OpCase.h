//===- OpCase.h - one op on a device, with values as doubles ----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_DEVICE_OPCASE_H
#define TOMBOLO_TEST_DEVICE_OPCASE_H

#include "tombolo/runtime/Device.h"
#include "tombolo/schema/plan.pb.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <vector>

namespace tombolo::runtime::test {

using namespace tombolo::plan::v1;

using Dims = std::vector<std::int64_t>;

inline constexpr double kInf = std::numeric_limits<double>::infinity();

std::int64_t product(const Dims &dims);

/// Values in row-major order, whatever their layout on the device.
struct Host {
  DType dtype = DTYPE_F32;
  Dims dims;
  std::vector<double> data;

  std::int64_t size() const { return product(dims); }
  /// Element of a row-major index; rounded to the dtype.
  double &operator[](std::int64_t i) { return data[i]; }
  double operator[](std::int64_t i) const { return data[i]; }
};

/// f32 values that f32 holds exactly, normal(0, scale).
Host random(const Dims &dims, unsigned seed, double scale = 1.0);
Host filled(DType dtype, const Dims &dims, double value);
Host of(DType dtype, const Dims &dims, std::vector<double> data);
Host plus(Host x, const Host &y);
/// Integers in [low, high).
Host randomIntegers(DType dtype, const Dims &dims, unsigned seed,
                    std::int64_t low, std::int64_t high);

/// How a value lies in memory: its dimensions in the order `order` (empty: as
/// they are), `pad` unused elements after the innermost ones, `lead` before.
struct Placement {
  std::vector<std::size_t> order;
  std::int64_t pad = 0;
  std::int64_t lead = 0;
  /// Dimensions stored once and repeated with stride 0 (inputs only; the values
  /// must be equal along them).
  std::vector<std::size_t> repeated;
  bool dense() const {
    return order.empty() && !pad && !lead && repeated.empty();
  }
};

/// The device a conformance suite runs on.
struct Subject {
  std::string device;
  std::string isa; ///< of the cpu device; empty: its own choice
  unsigned threads = 1;

  friend void PrintTo(const Subject &subject, std::ostream *stream) {
    *stream << subject.device << " " << subject.isa << " " << subject.threads;
  }
};

/// One op: operands, attributes, then `run`.
class OpCase {
public:
  explicit OpCase(Opcode opcode);

  OpCase &input(Host value, Placement placement = {});
  /// An output starts as NaN (or as 0xff bytes), or as `initial`.
  OpCase &output(DType dtype, Dims dims, Placement placement = {});
  OpCase &output(Host initial, Placement placement = {});
  /// The next output is the memory of input `index`.
  OpCase &inPlace(std::size_t index);
  OpCase &real(const char *name, double value);
  OpCase &integer(const char *name, std::int64_t value);
  OpCase &flag(const char *name, bool value);
  OpCase &text(const char *name, const char *value);
  OpCase &integers(const char *name, Dims values);
  OpCase &accumulate();

  /// The outputs' values. Fails the test if memory outside the outputs changed.
  std::vector<Host> run(Device &device) const;
  /// Expects `prepare` (or, with `atRun`, the run) to throw an Error whose
  /// message contains `message`.
  void expectError(Device &device, const std::string &message,
                   bool atRun = false) const;

  const Segment &message() const { return segment; }
  Segment &message() { return segment; }

private:
  struct Slot {
    Host value; ///< inputs and initial outputs
    bool initial = true;
    Placement placement;
    std::uint32_t argument;
    std::vector<std::int64_t> strides; ///< in elements
    std::int64_t elements;             ///< of memory, with padding
  };

  Slot place(Host value, Placement placement, Access access);
  Op &op() { return *segment.mutable_ops(0); }

  Segment segment;
  std::vector<Slot> slots; ///< one per value
  std::vector<std::size_t> outputs;
};

/// |got - want| <= relative * (|want| + scale) + tiny for every element, where
/// scale is the largest |want| if `byScale`. NaN and infinities must agree.
void expectClose(const Host &got, const Host &want, double relative,
                 bool byScale = false);

/// The suite's fixture: makes the subject's device.
class DeviceConformance : public testing::TestWithParam<Subject> {
protected:
  void SetUp() override;
  void TearDown() override;
  Device &device() { return *subject; }

private:
  std::unique_ptr<Device> subject;
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_DEVICE_OPCASE_H
