//===- ElementwiseConformance.cpp - elementwise ops against plain loops ---===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Value of `x` at row-major index `i` of `dims` by NumPy's broadcasting.
double broadcastAt(const Host &x, const Dims &dims, std::int64_t i) {
  std::int64_t offset = 0, stride = 1;
  for (std::size_t d = dims.size(), k = x.dims.size(); d-- > 0;) {
    std::int64_t index = i % dims[d];
    i /= dims[d];
    if (k > 0) {
      --k;
      if (x.dims[k] != 1)
        offset += index * stride;
      stride *= x.dims[k];
    }
  }
  return x.data[offset];
}

using Function1 = std::function<double(double)>;
using Function2 = std::function<double(double, double)>;

Host mapped(const Host &x, const Function1 &f) {
  Host y{DTYPE_F32, x.dims, {}};
  for (double value : x.data)
    y.data.push_back(f(value));
  return y;
}

Host mapped(const Host &x, const Host &y, const Dims &dims, const Function2 &f,
            DType dtype = DTYPE_F32) {
  Host z{dtype, dims, {}};
  for (std::int64_t i = 0; i < product(dims); ++i)
    z.data.push_back(f(broadcastAt(x, dims, i), broadcastAt(y, dims, i)));
  return z;
}

double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double geluTanh(double x) {
  return 0.5 * x *
         (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double hardSwish(double x) {
  return x * std::max(0.0, std::min(1.0, x / 6 + 0.5));
}
double slope(double (*f)(double), double x) {
  double h = 1e-5;
  return (f(x + h) - f(x - h)) / (2 * h);
}

struct Unary {
  const char *name;
  Opcode opcode;
  Function1 function;
  bool positive = false;
  double relative = 3e-7;
};

const Unary kUnary[] = {
    {"neg", OPCODE_NEG, [](double x) { return -x; }, false, 0},
    {"exp", OPCODE_EXP, [](double x) { return std::exp(x); }},
    {"log", OPCODE_LOG, [](double x) { return std::log(x); }, true},
    {"sqrt", OPCODE_SQRT, [](double x) { return std::sqrt(x); }, true},
    {"reciprocal", OPCODE_RECIPROCAL, [](double x) { return 1 / x; }},
    {"tanh", OPCODE_TANH, [](double x) { return std::tanh(x); }},
    {"erf", OPCODE_ERF, [](double x) { return std::erf(x); }},
    {"sigmoid", OPCODE_SIGMOID,
     [](double x) { return 1 / (1 + std::exp(-x)); }},
    {"softplus", OPCODE_SOFTPLUS,
     [](double x) {
       return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
     }},
    {"hard_swish", OPCODE_HARD_SWISH, hardSwish},
    {"relu", OPCODE_RELU, [](double x) { return x > 0 ? x : 0; }, false, 0},
};

// Each unary op: odd sizes, views, in place, accumulated.
TEST_P(DeviceConformance, Unary) {
  const Dims shapes[] = {{},   {1},       {7},       {16},
                         {33}, {3, 5, 7}, {129, 65}, {0, 4}};
  for (const Unary &unary : kUnary) {
    SCOPED_TRACE(unary.name);
    unsigned seed = 1;
    for (const Dims &dims : shapes) {
      Host x = random(dims, ++seed, 3.0);
      if (unary.positive)
        for (double &value : x.data)
          value = std::fabs(value) + 1e-3f;
      if (unary.positive)
        for (double &value : x.data)
          value = static_cast<float>(value);
      Host want = mapped(x, unary.function);
      expectClose(OpCase(unary.opcode)
                      .input(x)
                      .output(DTYPE_F32, dims)
                      .run(device())[0],
                  want, unary.relative);
      expectClose(OpCase(unary.opcode).input(x).inPlace(0).run(device())[0],
                  want, unary.relative);
      Host before = random(dims, ++seed);
      expectClose(OpCase(unary.opcode)
                      .input(x)
                      .output(before)
                      .accumulate()
                      .run(device())[0],
                  plus(want, before), 1e-6, true);
      if (dims.size() < 2)
        continue;
      std::vector<std::size_t> reversed;
      for (std::size_t i = dims.size(); i-- > 0;)
        reversed.push_back(i);
      expectClose(OpCase(unary.opcode)
                      .input(x, {.order = reversed, .pad = 3, .lead = 5})
                      .output(DTYPE_F32, dims)
                      .run(device())[0],
                  want, unary.relative);
    }
  }
}

// Infinities, NaN, zeros, subnormals and the ends of the range.
TEST_P(DeviceConformance, UnarySpecialValues) {
  std::vector<double> values = {kInf, -kInf, kNan,   0.0,    -0.0, 1e-40, 88.5,
                                88.8, -87.5, -103.0, -150.0, 1e-7, -1e-7, 9.0,
                                -9.0, 3.9,   5.0,    1e30,   -1e30};
  Host x{DTYPE_F32, {static_cast<std::int64_t>(values.size())}, {}};
  for (double value : values)
    x.data.push_back(static_cast<float>(value));
  for (const Unary &unary : kUnary) {
    SCOPED_TRACE(unary.name);
    Host want = mapped(x, unary.function);
    for (double &value : want.data)
      if (std::isfinite(value) || std::isinf(value))
        value = static_cast<float>(value);
    if (unary.opcode == OPCODE_RELU)
      want.data[2] = kNan;
    Host got = OpCase(unary.opcode)
                   .input(x)
                   .output(DTYPE_F32, x.dims)
                   .run(device())[0];
    for (std::size_t i = 0; i < want.data.size(); ++i) {
      double a = got.data[i], b = want.data[i];
      if (std::isnan(b))
        EXPECT_TRUE(std::isnan(a)) << "of " << x.data[i] << ": " << a;
      else if (std::isinf(b))
        EXPECT_EQ(a, b) << "of " << x.data[i];
      else // Subnormal results have fewer bits.
        EXPECT_NEAR(a, b, 3e-7 * std::fabs(b) + 2e-45) << "of " << x.data[i];
    }
  }
}

struct Form {
  Dims x, y, z;
};
const Form kForms[] = {
    {{7}, {7}, {7}},
    {{3, 5, 19}, {3, 5, 19}, {3, 5, 19}},
    {{4, 33}, {33}, {4, 33}},
    {{33}, {4, 33}, {4, 33}},
    {{4, 33}, {4, 1}, {4, 33}},
    {{4, 33}, {}, {4, 33}},
    {{}, {4, 33}, {4, 33}},
    {{2, 1, 5}, {3, 1}, {2, 3, 5}},
    {{2, 3, 1}, {1, 1, 9}, {2, 3, 9}},
    {{5, 2000}, {2000}, {5, 2000}},
    {{0, 3}, {3}, {0, 3}},
};

struct Binary {
  const char *name;
  Opcode opcode;
  Function2 function;
};
const Binary kBinary[] = {
    {"add", OPCODE_ADD, [](double x, double y) { return x + y; }},
    {"sub", OPCODE_SUB, [](double x, double y) { return x - y; }},
    {"mul", OPCODE_MUL, [](double x, double y) { return x * y; }},
    {"div", OPCODE_DIV, [](double x, double y) { return x / y; }},
    {"pow", OPCODE_POW, [](double x, double y) { return std::pow(x, y); }},
};

// Each binary op in every broadcast form, plain, accumulated, in place, with
// views.
TEST_P(DeviceConformance, Binary) {
  for (const Binary &binary : kBinary) {
    unsigned seed = 100;
    for (const Form &form : kForms) {
      SCOPED_TRACE(std::string(binary.name) + " form " +
                   std::to_string(&form - kForms));
      Host x = random(form.x, ++seed), y = random(form.y, ++seed);
      if (binary.opcode == OPCODE_POW)
        for (double &value : x.data)
          value = std::fabs(value);
      Host want = mapped(x, y, form.z, binary.function);
      double relative = 3e-7;
      expectClose(OpCase(binary.opcode)
                      .input(x)
                      .input(y)
                      .output(DTYPE_F32, form.z)
                      .run(device())[0],
                  want, relative, true);
      Host before = random(form.z, ++seed);
      expectClose(OpCase(binary.opcode)
                      .input(x)
                      .input(y)
                      .output(before)
                      .accumulate()
                      .run(device())[0],
                  plus(want, before), 1e-6, true);
      if (form.x == form.z)
        expectClose(
            OpCase(binary.opcode).input(x).input(y).inPlace(0).run(device())[0],
            want, relative, true);
      if (form.y == form.z)
        expectClose(
            OpCase(binary.opcode).input(x).input(y).inPlace(1).run(device())[0],
            want, relative, true);
      expectClose(OpCase(binary.opcode)
                      .input(x, {.pad = 2, .lead = 1})
                      .input(y, {.pad = 1})
                      .output(DTYPE_F32, form.z)
                      .run(device())[0],
                  want, relative, true);
    }
  }
}

TEST_P(DeviceConformance, BinaryOnIntegers) {
  for (DType dtype : {DTYPE_I32, DTYPE_I64}) {
    Host x = randomIntegers(dtype, {5, 9}, 1, -1000, 1000);
    Host y = randomIntegers(dtype, {9}, 2, 1, 50);
    auto check = [&](Opcode opcode, const Function2 &f) {
      expectClose(OpCase(opcode)
                      .input(x)
                      .input(y)
                      .output(dtype, {5, 9})
                      .run(device())[0],
                  mapped(x, y, {5, 9}, f, dtype), 0);
    };
    check(OPCODE_ADD, [](double a, double b) { return a + b; });
    check(OPCODE_SUB, [](double a, double b) { return a - b; });
    check(OPCODE_MUL, [](double a, double b) { return a * b; });
    check(OPCODE_DIV, [](double a, double b) { return std::trunc(a / b); });
    expectClose(
        OpCase(OPCODE_NEG).input(x).output(dtype, x.dims).run(device())[0],
        mapped(x, [](double a) { return -a; }), 0);
  }
}

TEST_P(DeviceConformance, PowersThatModelsUse) {
  Host x = random({37}, 5);
  for (double exponent : {2.0, 3.0, 1.0, -1.0, 0.0}) {
    expectClose(OpCase(OPCODE_POW)
                    .input(x)
                    .input(filled(DTYPE_F32, {}, exponent))
                    .output(DTYPE_F32, x.dims)
                    .run(device())[0],
                mapped(x, [=](double a) { return std::pow(a, exponent); }),
                3e-7);
  }
  // The root of a negative number is not one.
  Host got = OpCase(OPCODE_POW)
                 .input(of(DTYPE_F32, {2}, {-1, 4}))
                 .input(filled(DTYPE_F32, {}, 0.5))
                 .output(DTYPE_F32, {2})
                 .run(device())[0];
  EXPECT_TRUE(std::isnan(got[0]));
  EXPECT_EQ(got[1], 2.0);
}

TEST_P(DeviceConformance, ReluBackward) {
  Host dy = random({3, 21}, 1), x = random({3, 21}, 2);
  x.data[0] = 0;
  expectClose(
      OpCase(OPCODE_RELU_BACKWARD)
          .input(dy)
          .input(x)
          .output(DTYPE_F32, x.dims)
          .run(device())[0],
      mapped(dy, x, x.dims, [](double g, double v) { return v > 0 ? g : 0; }),
      0);
}

TEST_P(DeviceConformance, HardSwishBackward) {
  Host dy = random({3, 21}, 1), x = random({3, 21}, 2, 3.0);
  expectClose(OpCase(OPCODE_HARD_SWISH_BACKWARD)
                  .input(dy)
                  .input(x)
                  .output(DTYPE_F32, x.dims)
                  .run(device())[0],
              mapped(dy, x, x.dims,
                     [](double g, double v) { return g * slope(hardSwish, v); }),
              1e-6);
  // Where pieces meet the middle one counts, as in PyTorch.
  Host ends = of(DTYPE_F32, {2}, {-3, 3});
  expectClose(OpCase(OPCODE_HARD_SWISH_BACKWARD)
                  .input(filled(DTYPE_F32, {2}, 1))
                  .input(ends)
                  .output(DTYPE_F32, {2})
                  .run(device())[0],
              of(DTYPE_F32, {2}, {-0.5, 1.5}), 1e-6);
}

TEST_P(DeviceConformance, GeluAndItsGradient) {
  for (Dims dims : {Dims{5}, Dims{7, 33}, Dims{3, 1024}}) {
    Host x = random(dims, 3, 2.5), dy = random(dims, 4);
    for (bool tanh : {false, true}) {
      double (*f)(double) = tanh ? geluTanh : gelu;
      const char *name = tanh ? "tanh" : "none";
      // For large negative x the terms cancel, here as everywhere.
      expectClose(OpCase(OPCODE_GELU)
                      .input(x)
                      .output(DTYPE_F32, dims)
                      .text("approximate", name)
                      .run(device())[0],
                  mapped(x, f), 3e-7, true);
      expectClose(OpCase(OPCODE_GELU_BACKWARD)
                      .input(dy)
                      .input(x)
                      .output(DTYPE_F32, dims)
                      .text("approximate", name)
                      .run(device())[0],
                  mapped(dy, x, dims,
                         [&](double g, double v) { return g * slope(f, v); }),
                  1e-6, true);
    }
  }
  OpCase(OPCODE_GELU)
      .input(random({3}, 1))
      .output(DTYPE_F32, {3})
      .text("approximate", "cubic")
      .expectError(device(), "'cubic'");
}

TEST_P(DeviceConformance, WhereBroadcasts) {
  Host c = randomIntegers(DTYPE_BOOL, {4, 1, 9}, 1, 0, 2);
  for (DType dtype : {DTYPE_F32, DTYPE_I64, DTYPE_I32, DTYPE_BOOL}) {
    Host x = randomIntegers(dtype, {4, 3, 9}, 2, 0, 2);
    Host y = randomIntegers(dtype, {}, 3, 0, 2);
    Host want{dtype, x.dims, {}};
    for (std::int64_t i = 0; i < x.size(); ++i)
      want.data.push_back(broadcastAt(c, x.dims, i) ? x[i] : y[0]);
    expectClose(OpCase(OPCODE_WHERE)
                    .input(c)
                    .input(x)
                    .input(y)
                    .output(dtype, x.dims)
                    .run(device())[0],
                want, 0);
  }
}

TEST_P(DeviceConformance, Comparisons) {
  for (DType dtype : {DTYPE_F32, DTYPE_I64, DTYPE_I32}) {
    Host x = randomIntegers(dtype, {6, 17}, 1, -2, 3);
    Host y = randomIntegers(dtype, {17}, 2, -2, 3);
    expectClose(OpCase(OPCODE_EQUAL)
                    .input(x)
                    .input(y)
                    .output(DTYPE_BOOL, x.dims)
                    .run(device())[0],
                mapped(
                    x, y, x.dims, [](double a, double b) { return a == b; },
                    DTYPE_BOOL),
                0);
    expectClose(
        OpCase(OPCODE_LESS)
            .input(x)
            .input(y)
            .output(DTYPE_BOOL, x.dims)
            .run(device())[0],
        mapped(
            x, y, x.dims, [](double a, double b) { return a < b; }, DTYPE_BOOL),
        0);
  }
}

TEST_P(DeviceConformance, Cast) {
  const DType types[] = {DTYPE_F32, DTYPE_I32, DTYPE_I64, DTYPE_BOOL};
  for (DType from : types) {
    for (DType to : types) {
      Host x = randomIntegers(from, {3, 11}, 1, 0, 2);
      if (from == DTYPE_F32)
        x = random({3, 11}, 2, 100.0);
      else if (from != DTYPE_BOOL)
        x = randomIntegers(from, {3, 11}, 3, -100, 100);
      Host want{to, x.dims, {}};
      for (double value : x.data)
        want.data.push_back(to == DTYPE_BOOL  ? value != 0
                            : to == DTYPE_F32 ? value
                                              : std::trunc(value));
      expectClose(
          OpCase(OPCODE_CAST).input(x).output(to, x.dims).run(device())[0],
          want, 0);
    }
  }
}

TEST_P(DeviceConformance, ElementwiseRefusesWrongShapes) {
  OpCase(OPCODE_ADD)
      .input(random({3}, 1))
      .input(random({4}, 2))
      .output(DTYPE_F32, {4})
      .expectError(device(), "does not broadcast");
  OpCase(OPCODE_ADD)
      .input(random({4}, 1))
      .output(DTYPE_F32, {4})
      .expectError(device(), "expected 2 inputs, got 1");
  OpCase(OPCODE_EXP)
      .input(random({3}, 1))
      .output(DTYPE_F32, {4})
      .expectError(device(), "expected y to be f32[3], got f32[4]");
  OpCase(OPCODE_EXP)
      .input(filled(DTYPE_I64, {3}, 1))
      .output(DTYPE_F32, {3})
      .expectError(device(), "expected x of type f32");
  OpCase(OPCODE_EXP)
      .input(random({3}, 1))
      .output(DTYPE_BF16, {3})
      .expectError(device(), "bf16");
  OpCase(OPCODE_GELU)
      .input(random({3}, 1))
      .output(random({3}, 2))
      .accumulate()
      .expectError(device(), "cannot accumulate");
}

} // namespace
