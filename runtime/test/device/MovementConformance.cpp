//===- MovementConformance.cpp - data movement against plain loops --------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

std::vector<std::int64_t> indexOf(std::int64_t i, const Dims &dims) {
  std::vector<std::int64_t> index(dims.size());
  for (std::size_t d = dims.size(); d-- > 0;) {
    index[d] = i % dims[d];
    i /= dims[d];
  }
  return index;
}

std::int64_t at(const std::vector<std::int64_t> &index, const Dims &dims) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < dims.size(); ++d)
    offset = offset * dims[d] + index[d];
  return offset;
}

// Between every pair of layouts: dense, permuted, padded.
TEST_P(DeviceConformance, CopyBetweenLayouts) {
  const Dims dims = {3, 5, 2, 7};
  const Placement placements[] = {{},
                                  {.order = {0, 2, 1, 3}},
                                  {.order = {3, 2, 1, 0}, .pad = 1},
                                  {.pad = 4, .lead = 3}};
  for (const Placement &from : placements) {
    for (const Placement &to : placements) {
      for (DType dtype : {DTYPE_F32, DTYPE_I64, DTYPE_I32, DTYPE_BOOL}) {
        Host x = randomIntegers(dtype, dims, 1, 0, 2);
        expectClose(OpCase(OPCODE_COPY)
                        .input(x, from)
                        .output(dtype, dims, to)
                        .run(device())[0],
                    x, 0);
      }
      Host x = random(dims, 2), y = random(dims, 3);
      expectClose(OpCase(OPCODE_COPY)
                      .input(x, from)
                      .output(y, to)
                      .accumulate()
                      .run(device())[0],
                  plus(x, y), 1e-6, true);
    }
  }
}

// A stride of 0 repeats what is stored once.
TEST_P(DeviceConformance, CopyBroadcasts) {
  Host row = random({40}, 1), x{DTYPE_F32, {6, 40}, {}};
  for (int r = 0; r < 6; ++r)
    x.data.insert(x.data.end(), row.data.begin(), row.data.end());
  expectClose(OpCase(OPCODE_COPY)
                  .input(x, {.repeated = {0}})
                  .output(DTYPE_F32, x.dims)
                  .run(device())[0],
              x, 0);
  Host column{DTYPE_F32, {40, 6}, {}};
  for (int i = 0; i < 240; ++i)
    column.data.push_back(row[i / 6]);
  expectClose(OpCase(OPCODE_COPY)
                  .input(column, {.repeated = {1}})
                  .output(DTYPE_F32, column.dims)
                  .run(device())[0],
              column, 0);
}

TEST_P(DeviceConformance, CopyOfManyElements) {
  Host x = random({70, 1000}, 1);
  expectClose(OpCase(OPCODE_COPY)
                  .input(x, {.order = {1, 0}})
                  .output(DTYPE_F32, x.dims)
                  .run(device())[0],
              x, 0);
}

TEST_P(DeviceConformance, Concat) {
  for (std::int64_t axis : {0, 1, 2}) {
    for (bool accumulate : {false, true}) {
      Dims whole = {4, 5, 6};
      OpCase op(OPCODE_CONCAT);
      std::vector<Host> parts;
      whole[axis] = 0;
      for (std::int64_t extent : {2, 1, 4}) {
        Dims dims = whole;
        dims[axis] = extent;
        parts.push_back(random(dims, 10 + extent));
        op.input(parts.back(), {.pad = extent - 1});
      }
      whole[axis] = 7;
      Host want = random(whole, 77);
      if (accumulate)
        op.output(want).accumulate();
      else
        op.output(DTYPE_F32, whole);
      for (std::int64_t i = 0; i < want.size(); ++i) {
        std::vector<std::int64_t> index = indexOf(i, whole);
        std::size_t part = 0;
        while (index[axis] >= parts[part].dims[axis])
          index[axis] -= parts[part++].dims[axis];
        double value = parts[part][at(index, parts[part].dims)];
        want[i] = accumulate ? want[i] + value : value;
      }
      expectClose(op.integer("axis", axis).run(device())[0], want, 1e-6, true);
    }
  }
  OpCase(OPCODE_CONCAT)
      .input(random({2, 3}, 1))
      .output(DTYPE_F32, {3, 3})
      .integer("axis", 0)
      .expectError(device(), "add up to 2");
}

TEST_P(DeviceConformance, Pad) {
  Host x = random({3, 1, 5}, 1);
  const Dims dims = {4, 4, 9}, low = {1, 3, 2};
  for (bool accumulate : {false, true}) {
    Host want = accumulate ? random(dims, 2) : filled(DTYPE_F32, dims, 0);
    OpCase op(OPCODE_PAD);
    op.input(x).integers("low", low);
    if (accumulate)
      op.output(want).accumulate();
    else
      op.output(DTYPE_F32, dims);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      std::vector<std::int64_t> index = indexOf(i, x.dims);
      for (std::size_t d = 0; d < index.size(); ++d)
        index[d] += low[d];
      want[at(index, dims)] += x[i];
    }
    expectClose(op.run(device())[0], want, 1e-6, true);
  }
  OpCase(OPCODE_PAD)
      .input(x)
      .output(DTYPE_F32, dims)
      .integers("low", {1, 4, 2})
      .expectError(device(), "does not fit");
}

TEST_P(DeviceConformance, Fill) {
  for (DType dtype : {DTYPE_F32, DTYPE_I32, DTYPE_I64})
    expectClose(OpCase(OPCODE_FILL)
                    .output(dtype, {3, 50})
                    .real("value", -7)
                    .run(device())[0],
                filled(dtype, {3, 50}, -7), 0);
  expectClose(OpCase(OPCODE_FILL)
                  .output(DTYPE_BOOL, {5})
                  .real("value", 1)
                  .run(device())[0],
              filled(DTYPE_BOOL, {5}, 1), 0);
}

TEST_P(DeviceConformance, GatherAndItsGradient) {
  for (DType indexType : {DTYPE_I64, DTYPE_I32}) {
    for (std::int64_t axis : {0, 1, 2}) {
      Host table = random({6, 7, 9}, 1);
      Host indices = randomIntegers(indexType, {2, 5}, 2, 0, table.dims[axis]);
      Dims dims(table.dims.begin(), table.dims.begin() + axis);
      dims.insert(dims.end(), {2, 5});
      dims.insert(dims.end(), table.dims.begin() + axis + 1, table.dims.end());
      Host want{DTYPE_F32, dims, std::vector<double>(product(dims))};
      Host slices = random(dims, 3), gradient = random(table.dims, 4);
      Host sum = filled(DTYPE_F32, table.dims, 0);
      for (std::int64_t i = 0; i < want.size(); ++i) {
        std::vector<std::int64_t> index = indexOf(i, dims), from;
        from.assign(index.begin(), index.begin() + axis);
        from.push_back(static_cast<std::int64_t>(
            indices[index[axis] * 5 + index[axis + 1]]));
        from.insert(from.end(), index.begin() + axis + 2, index.end());
        want[i] = table[at(from, table.dims)];
        sum[at(from, table.dims)] += slices[i];
      }
      expectClose(OpCase(OPCODE_GATHER)
                      .input(table)
                      .input(indices)
                      .output(DTYPE_F32, dims)
                      .integer("axis", axis)
                      .run(device())[0],
                  want, 0);
      expectClose(OpCase(OPCODE_GATHER)
                      .input(table, {.order = {2, 0, 1}})
                      .input(indices)
                      .output(DTYPE_F32, dims)
                      .integer("axis", axis)
                      .run(device())[0],
                  want, 0);
      expectClose(OpCase(OPCODE_GATHER_BACKWARD)
                      .input(slices)
                      .input(indices)
                      .output(DTYPE_F32, table.dims)
                      .integer("axis", axis)
                      .run(device())[0],
                  sum, 1e-6, true);
      expectClose(OpCase(OPCODE_GATHER_BACKWARD)
                      .input(slices)
                      .input(indices)
                      .output(gradient)
                      .integer("axis", axis)
                      .accumulate()
                      .run(device())[0],
                  plus(sum, gradient), 1e-6, true);
    }
  }
}

// One of the equal parts that a first axis counts; any dtype.
TEST_P(DeviceConformance, Shard) {
  Host x = random({3, 4, 5}, 1);
  for (std::int64_t part : {0, 1, 2}) {
    Host want{DTYPE_F32, {4, 5}, std::vector<double>(20)};
    for (std::int64_t i = 0; i < 20; ++i)
      want[i] = x[part * 20 + i];
    Host index = of(DTYPE_I64, {}, {static_cast<double>(part)});
    expectClose(OpCase(OPCODE_SHARD)
                    .input(x)
                    .input(index)
                    .output(DTYPE_F32, {4, 5})
                    .run(device())[0],
                want, 0);
    Host whole = of(DTYPE_I64, {3}, {7, 8, 9});
    EXPECT_EQ(OpCase(OPCODE_SHARD)
                  .input(whole)
                  .input(index)
                  .output(DTYPE_I64, {})
                  .run(device())[0][0],
              7.0 + static_cast<double>(part));
  }
  for (double bad : {-1.0, 3.0, 1e18})
    OpCase(OPCODE_SHARD)
        .input(x)
        .input(of(DTYPE_I64, {1}, {bad}))
        .output(DTYPE_F32, {4, 5})
        .expectError(device(), "expected an index in [0, 3)", true);
}

// The parts of a table split along the axis add up to the whole's gather, and
// each takes its part of the gradient.
TEST_P(DeviceConformance, GatherFromPartsOfATable) {
  for (std::int64_t axis : {0, 1, 2}) {
    Host table = random({4, 6, 8}, 1);
    std::int64_t n = table.dims[axis] / 2;
    Host indices = randomIntegers(DTYPE_I64, {7}, 2, 0, table.dims[axis]);
    Dims dims = table.dims, local = table.dims;
    dims[axis] = 7;
    local[axis] = n;
    Host slices = random(dims, 3);
    auto whole = OpCase(OPCODE_GATHER)
                     .input(table)
                     .input(indices)
                     .output(DTYPE_F32, dims)
                     .integer("axis", axis)
                     .run(device())[0];
    auto gradient = OpCase(OPCODE_GATHER_BACKWARD)
                        .input(slices)
                        .input(indices)
                        .output(DTYPE_F32, table.dims)
                        .integer("axis", axis)
                        .run(device())[0];
    Host sum = filled(DTYPE_F32, dims, 0);
    for (std::int64_t part : {0, 1}) {
      Host here{DTYPE_F32, local, std::vector<double>(product(local))};
      Host wanted = here;
      for (std::int64_t i = 0; i < here.size(); ++i) {
        std::vector<std::int64_t> from = indexOf(i, local);
        from[axis] += part * n;
        here[i] = table[at(from, table.dims)];
        wanted[i] = gradient[at(from, table.dims)];
      }
      Host index = of(DTYPE_I64, {}, {static_cast<double>(part)});
      sum = plus(sum, OpCase(OPCODE_GATHER)
                          .input(here)
                          .input(indices)
                          .input(index)
                          .output(DTYPE_F32, dims)
                          .integer("axis", axis)
                          .integer("count", 2)
                          .run(device())[0]);
      expectClose(OpCase(OPCODE_GATHER_BACKWARD)
                      .input(slices)
                      .input(indices)
                      .input(index)
                      .output(DTYPE_F32, local)
                      .integer("axis", axis)
                      .integer("count", 2)
                      .run(device())[0],
                  wanted, 0);
    }
    expectClose(sum, whole, 0);
  }
}

// The other parts' indices are allowed, those of no part are not.
TEST_P(DeviceConformance, GatherFromPartsRefusesIndicesOutside) {
  auto gather = [](double indexOfToken, double part) {
    return OpCase(OPCODE_GATHER)
        .input(random({4, 2}, 1))
        .input(of(DTYPE_I64, {3}, {0, indexOfToken, 3}))
        .input(of(DTYPE_I64, {}, {part}))
        .output(DTYPE_F32, {3, 2})
        .integer("axis", 0)
        .integer("count", 3);
  };
  gather(11, 1).run(device());
  gather(12, 1).expectError(device(), "expected indices in [0, 12)", true);
  gather(-1, 1).expectError(device(), "at position 1", true);
  gather(0, 3).expectError(device(), "expected an index in [0, 3)", true);
}

TEST_P(DeviceConformance, GatherRefusesIndicesOutside) {
  for (double bad : {-1.0, 4.0, 1e15}) {
    Host indices = of(DTYPE_I64, {3}, {0, bad, 3});
    OpCase(OPCODE_GATHER)
        .input(random({4, 2}, 1))
        .input(indices)
        .output(DTYPE_F32, {3, 2})
        .integer("axis", 0)
        .expectError(device(), "expected indices in [0, 4)", true);
    OpCase(OPCODE_GATHER_BACKWARD)
        .input(random({3, 2}, 1))
        .input(indices)
        .output(DTYPE_F32, {4, 2})
        .integer("axis", 0)
        .expectError(device(), "at position 1", true);
  }
}

} // namespace
