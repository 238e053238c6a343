//===- ServerBench.cpp - what compression and merging cost ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One core over 64 MiB of f32, more than a cache holds. bytes_per_second is
// bytes of f32 that go in, by the thread's CPU time.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Codec.h"
#include "tombolo/runtime/server/OuterState.h"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

using namespace tombolo::runtime;

namespace {

constexpr std::size_t kElements = std::size_t(16) << 20;

std::vector<float> values() {
  std::mt19937 random(1);
  std::vector<float> x(kElements);
  for (float &value : x)
    value = 1e-3f * (static_cast<float>(random() % 2001) - 1000);
  return x;
}

void count(benchmark::State &state) {
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(kElements * sizeof(float)));
}

/// A push: delta + error, encoded, and the new error.
void push(benchmark::State &state, Compression compression) {
  std::vector<float> x = values(), error(kElements);
  std::vector<std::byte> to(encodedBytes(compression, kElements));
  for (auto _ : state) {
    encodeWithFeedback(compression, x, error, to);
    benchmark::DoNotOptimize(to.data());
  }
  count(state);
}

void receive(benchmark::State &state, Compression compression) {
  std::vector<float> x = values();
  std::vector<std::byte> from(encodedBytes(compression, kElements));
  encode(compression, x, from);
  for (auto _ : state) {
    decode(compression, from, x);
    benchmark::DoNotOptimize(x.data());
  }
  count(state);
}

/// The outer step over two islands: bytes of both deltas.
void merge(benchmark::State &state) {
  std::vector<float> a = values(), b = values(), g = values(), v(kElements),
                     u(kElements);
  std::vector<OuterMember> members = {{a, 100, 5}, {b, 200, 7}};
  for (auto _ : state) {
    outerStep(OuterSettings(), 1, members, g, v, {}, u);
    benchmark::DoNotOptimize(u.data());
  }
  state.SetBytesProcessed(
      state.iterations() *
      static_cast<std::int64_t>(2 * kElements * sizeof(float)));
}

BENCHMARK_CAPTURE(push, int8, Compression::Int8);
BENCHMARK_CAPTURE(push, int4, Compression::Int4);
BENCHMARK_CAPTURE(push, bf16, Compression::Bf16);
BENCHMARK_CAPTURE(receive, int8, Compression::Int8);
BENCHMARK_CAPTURE(receive, int4, Compression::Int4);
BENCHMARK_CAPTURE(receive, bf16, Compression::Bf16);
BENCHMARK(merge);

} // namespace

BENCHMARK_MAIN();
