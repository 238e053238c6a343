//===- OptimizerConformance.cpp - optimizers against torch.optim's formulas
//===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include <cmath>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

TEST_P(DeviceConformance, OptimizerAdvanceCountsStepsWithWeight) {
  for (double weight : {0.0, 1.0, 512.0})
    expectClose(OpCase(OPCODE_OPTIMIZER_ADVANCE)
                    .input(of(DTYPE_F32, {1}, {weight}))
                    .input(of(DTYPE_I64, {1}, {41}))
                    .inPlace(1)
                    .run(device())[0],
                of(DTYPE_I64, {1}, {weight > 0 ? 42.0 : 41.0}), 0);
}

// Steps 1 to 3, with and without momentum and weight decay.
TEST_P(DeviceConformance, Sgd) {
  for (std::int64_t n : {1, 15, 1000, 40000}) {
    for (double momentum : {0.0, 0.9}) {
      for (double decay : {0.0, 0.1}) {
        Host param = random({n}, 1), buffer = filled(DTYPE_F32, {n}, 7);
        for (int step = 1; step <= 3; ++step) {
          Host grad = random({n}, 10 + step);
          Host wantParam = param, wantBuffer = buffer;
          for (std::int64_t i = 0; i < n; ++i) {
            double d = grad[i] / 32 + decay * param[i];
            if (momentum != 0) {
              d = step == 1 ? d : momentum * buffer[i] + d;
              wantBuffer[i] = d;
            }
            wantParam[i] -= 0.05 * d;
          }
          OpCase op(OPCODE_SGD);
          op.input(param)
              .input(grad)
              .input(of(DTYPE_F32, {1}, {32}))
              .input(of(DTYPE_I64, {1}, {double(step)}));
          if (momentum != 0)
            op.input(buffer);
          op.inPlace(0);
          if (momentum != 0)
            op.inPlace(4);
          auto got = op.real("learning_rate", 0.05)
                         .real("momentum", momentum)
                         .real("weight_decay", decay)
                         .run(device());
          expectClose(got[0], wantParam, 1e-6, true);
          param = got[0];
          if (momentum != 0) {
            expectClose(got[1], wantBuffer, 1e-6, true);
            buffer = got[1];
          }
        }
      }
    }
  }
}

OpCase adamw(const Host &param, const Host &grad, double weight, double step,
             const Host &average, const Host &squares) {
  OpCase op(OPCODE_ADAMW);
  op.input(param)
      .input(grad)
      .input(of(DTYPE_F32, {1}, {weight}))
      .input(of(DTYPE_I64, {1}, {step}))
      .input(average)
      .input(squares)
      .inPlace(0)
      .inPlace(4)
      .inPlace(5)
      .real("learning_rate", 3e-3)
      .real("beta1", 0.9)
      .real("beta2", 0.999)
      .real("epsilon", 1e-8)
      .real("weight_decay", 0.01);
  return op;
}

TEST_P(DeviceConformance, AdamW) {
  for (std::int64_t n : {1, 17, 1000, 40000}) {
    Host param = random({n}, 1), average = filled(DTYPE_F32, {n}, 0);
    Host squares = average;
    for (int step = 1; step <= 4; ++step) {
      Host grad = random({n}, 20 + step, 5.0);
      Host want = param, m = average, v = squares;
      for (std::int64_t i = 0; i < n; ++i) {
        double g = grad[i] / 96;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.999 * v[i] + 0.001 * g * g;
        want[i] =
            want[i] * (1 - 3e-3 * 0.01) -
            3e-3 / (1 - std::pow(0.9, step)) * m[i] /
                (std::sqrt(v[i]) / std::sqrt(1 - std::pow(0.999, step)) + 1e-8);
      }
      auto got = adamw(param, grad, 96, step, average, squares).run(device());
      expectClose(got[0], want, 1e-6, true);
      expectClose(got[1], m, 1e-6, true);
      expectClose(got[2], v, 1e-6, true);
      param = got[0];
      average = got[1];
      squares = got[2];
    }
  }
}

// The rate of each update over warm-up, decay and what follows; with gradient 1
// a parameter of 0 becomes minus the rate.
TEST_P(DeviceConformance, LearningRateSchedules) {
  struct Course {
    const char *schedule;
    int warmup, decay;
  };
  const double pi = std::acos(-1.0);
  for (Course course :
       {Course{"constant", 0, 0}, Course{"constant", 4, 0},
        Course{"cosine", 0, 7}, Course{"cosine", 3, 8}, Course{"linear", 0, 5},
        Course{"linear", 3, 8}, Course{"linear", 7, 8}}) {
    for (int t = 1; t <= 10; ++t) {
      double w = course.warmup, d = course.decay, factor = 1;
      if (t <= w)
        factor = t / w;
      else if (course.decay != 0 && t >= d)
        factor = 0;
      else if (std::string(course.schedule) == "linear")
        factor = (d - t) / (d - w);
      else if (std::string(course.schedule) == "cosine")
        factor = (1 + std::cos(pi * (t - w) / (d - w))) / 2;
      OpCase sgd(OPCODE_SGD);
      sgd.input(filled(DTYPE_F32, {3}, 0))
          .input(filled(DTYPE_F32, {3}, 32))
          .input(of(DTYPE_F32, {1}, {32}))
          .input(of(DTYPE_I64, {1}, {double(t)}))
          .inPlace(0)
          .real("learning_rate", 0.5)
          .real("momentum", 0)
          .real("weight_decay", 0);
      OpCase adam =
          adamw(filled(DTYPE_F32, {3}, 2), filled(DTYPE_F32, {3}, 32), 32, t,
                filled(DTYPE_F32, {3}, 0), filled(DTYPE_F32, {3}, 0));
      for (OpCase *op : {&sgd, &adam}) {
        op->text("schedule", course.schedule)
            .integer("warmup_steps", course.warmup);
        if (course.decay != 0)
          op->integer("decay_steps", course.decay);
      }
      expectClose(sgd.run(device())[0], filled(DTYPE_F32, {3}, -0.5 * factor),
                  1e-6, true);
      double rate = 3e-3 * factor;
      double m = 0.1 / (1 - std::pow(0.9, t));
      double v = 0.001 / (1 - std::pow(0.999, t));
      double want = 2 * (1 - rate * 0.01) - rate * m / (std::sqrt(v) + 1e-8);
      expectClose(adam.run(device())[0], filled(DTYPE_F32, {3}, want), 1e-6,
                  true);
    }
  }
}

// A step of weight zero changes nothing, whatever stands in the gradient.
TEST_P(DeviceConformance, OptimizersSkipAStepOfWeightZero) {
  Host param = random({50}, 1), grad = filled(DTYPE_F32, {50}, NAN);
  Host average = random({50}, 2), squares = random({50}, 3);
  auto got = adamw(param, grad, 0, 3, average, squares).run(device());
  expectClose(got[0], param, 0);
  expectClose(got[1], average, 0);
  expectClose(got[2], squares, 0);
  auto sgd = OpCase(OPCODE_SGD)
                 .input(param)
                 .input(grad)
                 .input(of(DTYPE_F32, {1}, {0}))
                 .input(of(DTYPE_I64, {1}, {3}))
                 .input(average)
                 .inPlace(0)
                 .inPlace(4)
                 .real("learning_rate", 0.1)
                 .real("momentum", 0.9)
                 .real("weight_decay", 0.1)
                 .run(device());
  expectClose(sgd[0], param, 0);
  expectClose(sgd[1], average, 0);
}

TEST_P(DeviceConformance, SquareSum) {
  for (std::int64_t n : {1, 15, 1000, 16384, 100003}) {
    Host x = random({n}, 1, 3.0);
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i)
      sum += double{x[i]} * x[i];
    expectClose(OpCase(OPCODE_SQUARE_SUM)
                    .input(x)
                    .output(DTYPE_F32, {1})
                    .real("scale", 0.25)
                    .run(device())[0],
                of(DTYPE_F32, {1}, {sum / 4}), 1e-6, true);
  }
}

// Gradients summed to norm 12 over weight 4 have norm 3.
TEST_P(DeviceConformance, ClipWeight) {
  auto divisor = [&](double squares, double weight, double bound) {
    return OpCase(OPCODE_CLIP_WEIGHT)
        .input(of(DTYPE_F32, {1}, {squares}))
        .input(of(DTYPE_F32, {1}, {weight}))
        .output(DTYPE_F32, {1})
        .real("max_norm", bound)
        .run(device())[0];
  };
  auto one = [](double value) { return of(DTYPE_F32, {1}, {value}); };
  expectClose(divisor(144, 4, 1), one(4 * (3 + 1e-6)), 1e-6, true);
  expectClose(divisor(144, 4, 30), one(4), 0);
  // The bound itself is torch's: max_norm / (norm + 1e-6) is below 1.
  expectClose(divisor(144, 4, 3), one(4 * (1 + 1e-6 / 3)), 1e-6, true);
  expectClose(divisor(0, 4, 1), one(4), 0);
  expectClose(divisor(0, 0, 1), one(0), 0);
  EXPECT_TRUE(std::isnan(divisor(NAN, 4, 1)[0]));
}

TEST_P(DeviceConformance, OptimizersWorkInPlaceOnly) {
  Host x = random({4}, 1);
  OpCase(OPCODE_SGD)
      .input(x)
      .input(x)
      .input(of(DTYPE_F32, {1}, {1}))
      .input(of(DTYPE_I64, {1}, {1}))
      .output(DTYPE_F32, {4})
      .real("learning_rate", 0.1)
      .real("momentum", 0)
      .real("weight_decay", 0)
      .expectError(device(), "in place");
}

} // namespace
