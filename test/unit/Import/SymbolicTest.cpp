//===- SymbolicTest.cpp - the forms of known tensors ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Symbolic.h"

#include <gtest/gtest.h>
#include <limits>

using namespace tombolo::importer;

namespace {

constexpr int64_t most = std::numeric_limits<int64_t>::max();

Scalar whole(int64_t value) { return Scalar::integer({value, 0}); }

/// A mask of 0 and 1 with rows x columns.
Symbolic mask(int64_t rows, int64_t columns, int64_t offset) {
  return Symbolic::triangle(ElementType::I64, {{rows, 0}, {columns, 0}},
                            whole(1), whole(0), offset);
}

/// Both hold the same elements, whatever their form.
void expectSame(const std::optional<Symbolic> &actual,
                const std::optional<Symbolic> &expected) {
  ASSERT_TRUE(actual && expected);
  EXPECT_EQ(actual->getShape(), expected->getShape());
  EXPECT_EQ(*actual->expand(), *expected->expand());
}

/// All elements, of integers.
std::vector<int64_t> list(const Symbolic &tensor) {
  std::vector<Scalar> elements = *tensor.expand();
  std::vector<int64_t> values;
  for (Scalar value : elements)
    values.push_back(value.bits);
  return values;
}

// Sums and products of constants and batches, and where they end.
TEST(Affine, Arithmetic) {
  EXPECT_EQ(add({1, 2}, {3, 4}), (Affine{4, 6}));
  EXPECT_EQ(mul({3, 0}, {1, 2}), (Affine{3, 6}));
  EXPECT_EQ(mul({0, 1}, {0, 1}), std::nullopt) << "the batch squared";
  EXPECT_EQ(add({most, 0}, {1, 0}), std::nullopt);
  EXPECT_EQ(mul({most, 0}, {2, 0}), std::nullopt);
  EXPECT_EQ(div({0, 6}, {3, 0}), (Affine{0, 2}));
  EXPECT_EQ(div({0, 6}, {0, 2}), (Affine{3, 0}));
  EXPECT_EQ(div({1, 6}, {3, 0}), std::nullopt);
  EXPECT_EQ(div({-7, 0}, {2, 0}), (Affine{-3, 0})) << "rounds to zero";
  EXPECT_EQ(div({7, 0}, {0, 0}), std::nullopt);
  EXPECT_EQ(div({std::numeric_limits<int64_t>::min(), 0}, {-1, 0}),
            std::nullopt);
}

// A comparison is known only if it holds for every batch size.
TEST(Affine, Compare) {
  EXPECT_EQ(compare({0, 1}, {-1, 0}), 1);
  EXPECT_EQ(compare({0, 1}, {0, 2}), -1);
  EXPECT_EQ(compare({5, 1}, {5, 1}), 0);
  EXPECT_EQ(compare({0, 1}, {1, 0}), std::nullopt) << "equal only for batch 1";
  EXPECT_EQ(compare({0, 1}, {8, 0}), std::nullopt);
}

// Masks are recognised in what a file holds, and only masks.
TEST(Symbolic, FindsTriangles) {
  for (int64_t rows : {2, 3, 5})
    for (int64_t columns : {2, 3, 5})
      for (int64_t offset = -rows + 1; offset < columns - 1; ++offset) {
        Symbolic made = mask(rows, columns, offset);
        Symbolic found = Symbolic::dense(
            ElementType::I64, {{rows, 0}, {columns, 0}}, *made.expand());
        EXPECT_EQ(found.getForm(), Symbolic::Form::Triangle);
        expectSame(found, made);
      }
  Symbolic other = Symbolic::dense(ElementType::I64, {{2, 0}, {2, 0}},
                                   {whole(1), whole(2), whole(3), whole(1)});
  EXPECT_EQ(other.getForm(), Symbolic::Form::Dense);
}

// Movements of a triangle agree with movements of its elements.
TEST(Symbolic, MovesTriangles) {
  for (int64_t offset : {-1, 0, 1}) {
    Symbolic made = mask(4, 5, offset);
    std::vector<int64_t> all = list(made);
    auto turned = made.transpose({1, 0});
    ASSERT_TRUE(turned);
    std::vector<int64_t> values = list(*turned);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 5; ++j)
        EXPECT_EQ(values[j * 4 + i], all[i * 5 + j]);
    auto rows = made.slice(0, {1, 0}, {2, 0}, 1);
    auto part = rows->slice(1, {2, 0}, {3, 0}, 1);
    ASSERT_TRUE(part);
    values = list(*part);
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t j = 0; j < 3; ++j)
        EXPECT_EQ(values[i * 3 + j], all[(i + 1) * 5 + j + 2]);
    auto every = made.slice(1, {0, 0}, {3, 0}, 2);
    ASSERT_TRUE(every);
    values = list(*every);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 3; ++j)
        EXPECT_EQ(values[i * 3 + j], all[i * 5 + 2 * j]);
  }
}

// A mask far too long to write out stays a triangle through the ops around it.
TEST(Symbolic, KeepsLongMasks) {
  Affine n{1 << 20, 0};
  Symbolic full = Symbolic::triangle(ElementType::F32, {n, n}, Scalar::real(0),
                                     Scalar::real(-1), 0);
  EXPECT_EQ(full.expand(), nullptr);
  auto wide = full.reshape({Affine{1, 0}, Affine{1, 0}, n, n});
  ASSERT_TRUE(wide);
  wide = wide->broadcast({Affine{0, 1}, Affine{8, 0}, n, n});
  ASSERT_TRUE(wide);
  auto scaled = wide->map(ElementType::F32, [](Scalar value) {
    return std::optional<Scalar>(Scalar::real(value.asReal() * 10));
  });
  ASSERT_TRUE(scaled);
  EXPECT_EQ(scaled->getForm(), Symbolic::Form::Triangle);
  EXPECT_EQ(scaled->getOutside().asReal(), -10);
  EXPECT_EQ(scaled->getShape()[0], (Affine{0, 1}));
}

// Ranges keep their form through the movements that exporters use.
TEST(Symbolic, MovesRanges) {
  Symbolic range = Symbolic::linear(ElementType::I64, {{6, 0}}, whole(3), {2});
  EXPECT_EQ(list(range), (std::vector<int64_t>{3, 5, 7, 9, 11, 13}));
  auto column = range.reshape({Affine{6, 0}, Affine{1, 0}});
  ASSERT_TRUE(column);
  auto wide = column->broadcast({Affine{6, 0}, Affine{0, 1}});
  ASSERT_TRUE(wide) << "the batch is no obstacle";
  EXPECT_EQ(wide->getForm(), Symbolic::Form::Linear);
  auto part = range.slice(0, {1, 0}, {2, 0}, 3);
  ASSERT_TRUE(part);
  EXPECT_EQ(list(*part), (std::vector<int64_t>{5, 11}));
  auto folded = range.reshape({Affine{2, 0}, Affine{3, 0}});
  ASSERT_TRUE(folded);
  EXPECT_EQ(list(*folded), list(range));
}

// Broadcasting of different forms agrees with broadcasting of elements.
TEST(Symbolic, Elementwise) {
  Symbolic range = Symbolic::linear(ElementType::I64, {{3, 0}}, whole(0), {1});
  Symbolic made = mask(3, 3, 0);
  auto sum = elementwise({&made, &range}, ElementType::I64,
                         [](llvm::ArrayRef<Scalar> values) {
                           return std::optional<Scalar>(
                               whole(values[0].bits * 10 + values[1].bits));
                         });
  ASSERT_TRUE(sum);
  EXPECT_EQ(list(*sum),
            (std::vector<int64_t>{10, 1, 2, 10, 11, 2, 10, 11, 12}));
  Symbolic other = mask(2, 3, 0);
  EXPECT_EQ(elementwise({&made, &other}, ElementType::I64,
                        [](llvm::ArrayRef<Scalar> values) {
                          return std::optional<Scalar>(values[0]);
                        }),
            std::nullopt)
      << "shapes that do not go together";
}

} // namespace
