//===- CodecTest.cpp - what crosses the line ------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlainCodec.h"

#include "simd/Loops.h"

#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr Compression kAll[] = {Compression::None, Compression::Bf16,
                                Compression::Int8, Compression::Int4};

std::vector<float> randomValues(std::mt19937 &random, std::size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> x;
  float scale = std::ldexp(1.0f, static_cast<int>(random() % 40) - 30);
  for (std::size_t k = 0; k < count; ++k) {
    float value = scale * normal(random);
    if (random() % 7 == 0)
      value =
          scale * static_cast<float>(static_cast<int>(random() % 255) - 127);
    if (random() % 50 == 0)
      value = random() % 2 ? 0.0f : -0.0f;
    x.push_back(value);
  }
  return x;
}

TEST(Codec, AgreesWithThePlainFormatToTheBit) {
  std::mt19937 random(1);
  for (int n = 0; n < 200; ++n)
    for (Compression compression : kAll) {
      std::size_t count = random() % 3 ? 1 + random() % 1200 : random() % 4;
      std::vector<float> x = randomValues(random, count);
      std::vector<std::byte> to(encodedBytes(compression, count));
      encode(compression, x, to);
      ASSERT_EQ(to, plainEncode(compression, x))
          << name(compression) << " of " << count;
    }
}

/// Half a step from what was, each element by itself, and -x gives -decode(x).
TEST(Codec, LosesAtMostHalfAStep) {
  std::mt19937 random(2);
  for (Compression compression : kAll) {
    std::vector<float> x = randomValues(random, 1000), back(1000);
    std::vector<std::byte> to(encodedBytes(compression, 1000));
    encode(compression, x, to);
    decode(compression, to, back);
    for (std::size_t begin = 0; begin < 1000; begin += 256) {
      float largest = 0;
      std::size_t end = std::min<std::size_t>(begin + 256, 1000);
      for (std::size_t k = begin; k < end; ++k)
        largest = std::max(largest, std::fabs(x[k]));
      for (std::size_t k = begin; k < end; ++k) {
        float step = compression == Compression::None   ? 0
                     : compression == Compression::Bf16 ? std::fabs(x[k]) / 128
                     : compression == Compression::Int8 ? largest / 127
                                                        : largest / 7;
        ASSERT_LE(std::fabs(x[k] - back[k]), 0.5001f * step);
      }
    }
  }
}

/// What is lost now is sent later: after many rounds the sum of what was
/// decoded is the sum of what was meant, but for the last error.
TEST(Codec, ErrorFeedbackLosesNothing) {
  std::mt19937 random(3);
  for (Compression compression : kAll) {
    std::vector<float> error(300);
    std::vector<double> meant(300), sent(300);
    for (int round = 0; round < 50; ++round) {
      std::vector<float> x(300);
      for (float &value : x)
        value =
            0.01f * static_cast<float>(static_cast<int>(random() % 200) - 99);
      for (std::size_t k = 0; k < 300; ++k)
        meant[k] += x[k];
      std::vector<std::byte> to(encodedBytes(compression, 300));
      std::vector<float> before = error, given = x, decoded(300);
      encodeWithFeedback(compression, x, error, to);
      decode(compression, to, decoded);
      ASSERT_EQ(decoded, x);
      for (std::size_t k = 0; k < 300; ++k) {
        volatile float sum = given[k] + before[k];
        ASSERT_EQ(error[k], sum - decoded[k]);
        sent[k] += decoded[k];
      }
    }
    for (std::size_t k = 0; k < 300; ++k)
      ASSERT_NEAR(meant[k], sent[k] + error[k], 1e-4);
  }
}

/// A block that is not finite never decodes to something that is.
TEST(Codec, WhatIsNotFiniteStaysSo) {
  for (float bad : {std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()})
    for (Compression compression : kAll)
      for (std::size_t at : {0, 100, 298}) {
        std::vector<float> x(299, 0.5f), back(299);
        x[at] = bad;
        std::vector<std::byte> to(encodedBytes(compression, 299));
        encode(compression, x, to);
        decode(compression, to, back);
        EXPECT_FALSE(std::isfinite(back[at])) << name(compression);
      }
}

/// Values whose scale is not a normal number: it is far off, but nothing
/// overflows, and signs stay.
TEST(Codec, HandlesTheSmallestNumbers) {
  for (Compression compression : {Compression::Int8, Compression::Int4})
    for (int units : {1, 3, 6, 127, 190, 1000}) {
      float tiny = std::ldexp(static_cast<float>(units), -149);
      std::vector<float> x = {tiny, -tiny, 0, tiny / 2}, back(4);
      std::vector<std::byte> to(encodedBytes(compression, 4));
      encode(compression, x, to);
      ASSERT_EQ(to, plainEncode(compression, x));
      decode(compression, to, back);
      EXPECT_LE(std::fabs(back[0]), 2 * tiny);
      EXPECT_EQ(back[0], -back[1]);
    }
}

/// Every instruction set comes to the same bits.
TEST(Codec, InstructionSetsAgree) {
  std::mt19937 random(4);
  const outer::Loops &plain = *outer::findLoops("baseline");
  for (const char *isa : {"avx2", "avx512"}) {
    const outer::Loops *loops = outer::findLoops(isa);
    if (!loops)
      continue;
    for (int n = 0; n < 50; ++n) {
      std::size_t count = random() % 600;
      std::vector<float> x = randomValues(random, count),
                         y = randomValues(random, count);
      auto both = [&](auto run) {
        auto a = run(plain), b = run(*loops);
        ASSERT_EQ(a.size(), b.size());
        ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]), 0)
            << isa << ", " << count;
      };
      float scale = std::fabs(count ? x[0] : 1) + 1e-3f;
      both([&](const outer::Loops &l) {
        return std::vector{l.largestBits(x.data(), count)};
      });
      for (auto to : {&outer::Loops::toInt8, &outer::Loops::toInt4})
        both([&](const outer::Loops &l) {
          std::vector<std::uint8_t> q(count + 1);
          (l.*to)(x.data(), count, scale, q.data());
          return q;
        });
      both([&](const outer::Loops &l) {
        std::vector<std::uint8_t> q(2 * count + 1);
        l.toBf16(x.data(), count, q.data());
        return q;
      });
      both([&](const outer::Loops &l) {
        std::vector<float> v = y, u(count);
        l.nesterov(x.data(), v.data(), count, 0.7f, 0.9f, u.data());
        l.sgd(x.data(), v.data(), count, 0.7f, 0.9f, v.data());
        l.addScaled(u.data(), 0.3f, count, v.data());
        return v;
      });
      both([&](const outer::Loops &l) {
        std::vector<float> m = y, v(count, 0.25f), u(count);
        outer::AdamWConstants c{0.9f, 0.1f, 0.99f, 0.01f,
                                0.3f, 0.2f, 1e-8f, 0.1f};
        l.adamw(x.data(), y.data(), m.data(), v.data(), count, c, u.data());
        u.insert(u.end(), v.begin(), v.end());
        return u;
      });
    }
  }
}

} // namespace
