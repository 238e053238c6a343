//===- GraphTest.cpp - types and repetitions of the graph dialect ---------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../../lib/Dialect/Graph/Transforms/Repetition.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace tombolo::graph;

namespace {

/// Segments by letter: capitals have a matrix, small letters a vector, dots
/// nothing.
SmallVector<unsigned> group(StringRef text) {
  SmallVector<Segment> segments;
  for (char c : text) {
    Segment segment;
    segment.kind = c;
    segment.size = 1;
    segment.hasMatrices = isupper(c);
    segment.hasParameters = isalpha(c);
    segments.push_back(segment);
  }
  return groupSegments(segments);
}
using Ends = SmallVector<unsigned>;

TEST(Repetition, TransformerHasLayersAndTwo) {
  // Embedding, three layers of attention and feed-forward, norm and head.
  EXPECT_EQ(group("EAMAMAMnH"), (Ends{1, 3, 5, 7, 9}));
}

TEST(Repetition, PostNormLayersAreNotRotated) {
  EXPECT_EQ(group("EnAnMnAnMnH"), (Ends{2, 6, 10, 11}));
}

TEST(Repetition, ActivationsStayWithTheirProduct) {
  EXPECT_EQ(group("A.A.A.B"), (Ends{2, 4, 6, 7}));
}

TEST(Repetition, StagesOfDifferentWidthRepeatApart) {
  EXPECT_EQ(group("SAAADBBBBH"), (Ends{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(group("SPABABDCDCDCDH").size(), 7u);
}

TEST(Repetition, WithoutRepetitionSegmentsAreBlocks) {
  EXPECT_EQ(group(".A.B..C"), (Ends{3, 6, 7}));
  EXPECT_EQ(group("A"), (Ends{1}));
  EXPECT_EQ(group("...."), (Ends{4}));
}

TEST(Repetition, OneLayerIsNoRepetition) {
  EXPECT_EQ(group("EAMnH"), (Ends{1, 2, 3, 4, 5}));
}

class GraphTypes : public testing::Test {
protected:
  GraphTypes() { context.loadDialect<GraphDialect>(); }
  MLIRContext context;
  Type f32 = Float32Type::get(&context);
};

TEST_F(GraphTypes, MultiplesOfTheBatch) {
  RankedTensorType type = getTensorType({{3, true}, {4, false}}, f32);
  EXPECT_TRUE(hasValidBatch(type));
  EXPECT_EQ(getDims(type)[0], (Dim{3, true}));
  EXPECT_EQ(getStaticType(type, 5), RankedTensorType::get({15, 4}, f32));
  EXPECT_EQ(getNumBytes(type, 5), 15 * 4 * 4);
  EXPECT_EQ(toString(getDims(type)), "[batch*3, 4]");
  // A multiple of one is written without an encoding.
  EXPECT_EQ(getTensorType({{1, true}}, f32).getEncoding(), Attribute());
  EXPECT_EQ(getTensorType({{1, true}, {1, true}}, f32), RankedTensorType());
}

TEST_F(GraphTypes, SizesThatOverflowAreNegative) {
  EXPECT_EQ(
      getNumBytes(RankedTensorType::get({int64_t(1) << 40, 1 << 30}, f32), 1),
      -1);
}

TEST_F(GraphTypes, Broadcasting) {
  Dims batch = {{1, true}, {4, false}}, row = {{4, false}};
  EXPECT_EQ(*broadcastDims(row, batch), batch);
  EXPECT_FALSE(broadcastDims(batch, {{3, false}}));
  EXPECT_FALSE(broadcastDims({{1, true}, {1, false}}, {{1, true}}));
}

TEST_F(GraphTypes, ReshapesOfViews) {
  // Heads interleaved in [2, 4, 8]: cutting is a view, joining is not.
  StridedView whole{{2, 4, 8}, {32, 8, 1}, 0};
  EXPECT_EQ(*getReshapedStrides(whole, {2, 4, 2, 4}),
            (SmallVector<int64_t>{32, 8, 4, 1}));
  StridedView heads{{2, 2, 4, 4}, {32, 4, 8, 1}, 0};
  EXPECT_TRUE(failed(getReshapedStrides(heads, {2, 8, 4})));
  StridedView part{{2, 4, 8}, {96, 24, 1}, 8};
  EXPECT_EQ(*getReshapedStrides(part, {8, 2, 4}),
            (SmallVector<int64_t>{24, 4, 1}));
}

TEST_F(GraphTypes, CostOfProducts) {
  OpBuilder builder(&context);
  Location loc = builder.getUnknownLoc();
  OwningOpRef<ConstantOp> source = builder.create<ConstantOp>(
      loc, DenseElementsAttr::get(RankedTensorType::get({2, 3}, f32), 0.0f));
  Value value = source->getResult();
  OwningOpRef<MatmulOp> product =
      builder.create<MatmulOp>(loc, RankedTensorType::get({2, 2}, f32), value,
                               value, Value(), false, true);
  OpCost cost = product->getCost(1);
  EXPECT_EQ(cost.flops, 2 * 2 * 3 * 2);
  EXPECT_EQ(cost.bytesRead, 2 * 6 * 4);
  EXPECT_EQ(cost.bytesWritten, 4 * 4);
}

} // namespace
