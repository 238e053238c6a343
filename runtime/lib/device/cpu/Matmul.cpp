//===- Matmul.cpp - matrix products on oneDNN -----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Gemm.h"
#include "NdLoop.h"

#include <dnnl.h>

#include <cstring>
#include <string_view>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

std::optional<MatrixLayout> MatrixLayout::of(std::int64_t rows,
                                             std::int64_t columns,
                                             std::int64_t rowStride,
                                             std::int64_t columnStride) {
  std::int64_t one = 1;
  if (columnStride == 1 || columns <= 1) {
    if (rows <= 1)
      return MatrixLayout{'N', std::max(one, columns)};
    if (rowStride >= std::max(one, columns))
      return MatrixLayout{'N', rowStride};
  }
  if (rowStride == 1 || rows <= 1) {
    if (columns <= 1)
      return MatrixLayout{'T', std::max(one, rows)};
    if (columnStride >= std::max(one, rows))
      return MatrixLayout{'T', columnStride};
  }
  return std::nullopt;
}

void cpu::gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
               const float *a, MatrixLayout layoutA, const float *b,
               MatrixLayout layoutB, float beta, float *c,
               std::int64_t leadingC) {
  // Measured against the matmul primitive on the shapes of a small GPT: as fast
  // or faster on most, no cost for beta = 1 and little overhead on small ones.
  dnnl_status_t status =
      dnnl_sgemm(layoutA.transposed, layoutB.transposed, m, n, k, alpha, a,
                 layoutA.leading, b, layoutB.leading, beta, c, leadingC);
  if (status != dnnl_success)
    throw Error(Status::Failed, "oneDNN: dnnl_sgemm of ", m, " x ", n, " x ", k,
                " failed with status ", static_cast<int>(status));
}

namespace {

/// Leading dimensions, then the last two.
struct Operand {
  Tensor tensor;
  std::int64_t rows, columns, rowStride, columnStride;

  Operand(const OpContext &context, const Tensor &tensor, bool transpose,
          const char *name)
      : tensor(tensor) {
    context.requireType(tensor, plan::v1::DTYPE_F32, name);
    context.require(tensor.rank() >= 2, "expected ", name,
                    " of at least 2 dimensions, got ", describe(tensor));
    std::size_t last = tensor.rank() - 1;
    rows = tensor.dims[last - 1];
    columns = tensor.dims[last];
    rowStride = tensor.strides[last - 1];
    columnStride = tensor.strides[last];
    if (transpose) {
      std::swap(rows, columns);
      std::swap(rowStride, columnStride);
    }
  }

  Tensor batch() const {
    Tensor result = tensor;
    result.dims.resize(result.dims.size() - 2);
    result.strides.resize(result.strides.size() - 2);
    return result;
  }

  std::optional<MatrixLayout> layout() const {
    return MatrixLayout::of(rows, columns, rowStride, columnStride);
  }
};

/// An operand of a product, taken some at a time of the index that is summed
/// over. Where that index walks rows that are a multiple of a kilobyte
/// apart, they are copied to scratch, where they are not.
///
/// oneDNN reads operands in place when a product has a short side
/// (nocopy_checker_avx2 of its gemm_driver.cpp), and down its columns; such
/// rows fall into few sets of the caches, and the product takes up to three
/// times as long. With AVX-512 it copies by itself.
class Panels {
public:
  Panels() = default;
  /// `depth`: of one panel, at most; `width`: elements of a row where the
  /// summed index walks rows, as it does with `byRows`.
  Panels(OpContext &context, MatrixLayout layout, bool byRows,
         std::int64_t depth, std::int64_t width)
      : stride(byRows ? layout.leading : 1), width(width), layout(layout) {
    if (!byRows || layout.leading % 256 != 0)
      return;
    this->layout.leading = width + 16;
    copy = context.reserve(plan::v1::DTYPE_F32, {depth, width + 16});
  }

  bool copied() const { return copy.has_value(); }
  MatrixLayout panelLayout() const { return layout; }

  /// Where [first, first + count) of the summed index is.
  const float *panel(std::byte *const *bases, const float *operand,
                     std::int64_t first, std::int64_t count,
                     unsigned threads) const {
    operand += first * stride;
    if (!copy)
      return operand;
    float *to = copy->at<float>(bases);
    parallelFor(threads, count, 32, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        std::memcpy(to + r * layout.leading, operand + r * stride,
                    width * sizeof(float));
    });
    return to;
  }

private:
  std::int64_t stride = 1, width = 0;
  MatrixLayout layout;
  std::optional<Tensor> copy;
};

class MatmulKernel : public Kernel {
public:
  explicit MatmulKernel(OpContext &context)
      : a(operand(context, 0, context.flag("transpose_a"), "a")),
        b(operand(context, 1, context.flag("transpose_b"), "b")),
        y(context, context.outputs[0], false, "y"), threads(context.threads),
        accumulate(context.accumulate), loop({}, {{}, {}, {}}) {
    context.require(a.columns == b.rows, "the inner dimensions differ: a is ",
                    a.rows, " x ", a.columns, ", b is ", b.rows, " x ",
                    b.columns, " after transposition");
    context.require(y.rows == a.rows && y.columns == b.columns,
                    "expected y of ", a.rows, " x ", b.columns, ", got ",
                    describe(y.tensor));
    std::optional<MatrixLayout> layoutY = y.layout();
    context.require(layoutY && layoutY->transposed == 'N',
                    "expected y with contiguous rows");
    if (context.inputs.size() == 3) {
      bias = context.inputs[2];
      context.requireType(*bias, plan::v1::DTYPE_F32, "bias");
      context.requireDims(*bias, {y.columns}, "bias");
      if (!bias->isRowMajor())
        bias = stage(context, *bias);
    }
    layoutA = *a.layout();
    layoutB = *b.layout();
    chooseLoop(context);
    choosePanels(context);
  }

  void run(std::byte *const *bases) const override {
    for (const auto &copy : copies)
      copy->run(bases);
    if (y.tensor.elements() == 0)
      return;
    const float *from = a.tensor.at<const float>(bases);
    const float *weights = b.tensor.at<const float>(bases);
    const float *biasRow = bias ? bias->at<const float>(bases) : nullptr;
    float *to = y.tensor.at<float>(bases);
    const std::int64_t length = loop.rowLength();
    const std::int64_t calls = loop.rows() * length / rowsPerCall(length);
    // Many products: one thread each. Few: oneDNN divides each. There is one
    // panel of each operand, so they are taken one after the other.
    unsigned outer = calls >= threads && !panelDepth ? threads : 1;
    loop.forPieces(outer, rowsPerCall(length), rowsPerCall(length),
                   [&](const std::int64_t *offsets, std::int64_t count) {
                     multiply(bases, from + offsets[0], weights + offsets[1],
                              biasRow, to + offsets[2],
                              joined ? count : y.rows);
                   });
  }

private:
  Operand operand(OpContext &context, std::size_t index, bool transpose,
                  const char *name) {
    Operand result(context, context.inputs[index], transpose, name);
    if (!result.layout())
      result = Operand(context, stage(context, context.inputs[index]),
                       transpose, name);
    return result;
  }

  Tensor stage(OpContext &context, const Tensor &view) {
    Tensor dense = context.reserve(view.dtype, view.dims);
    copies.push_back(makeCopy(context, view, dense, false));
    return dense;
  }

  /// One product per batch, or fewer: where b is the same for neighbouring
  /// batches and the rows of a and y go on from one to the next, they are one
  /// product with more rows.
  void chooseLoop(const OpContext &context) {
    std::vector<std::int64_t> dims = y.batch().dims;
    std::vector<std::int64_t> stridesA =
        broadcastStrides(context, a.batch(), dims);
    std::vector<std::int64_t> stridesB =
        broadcastStrides(context, b.batch(), dims);
    std::vector<std::int64_t> stridesY = y.batch().strides;
    NdLoop batches(dims, {stridesA, stridesB, stridesY});
    dims.push_back(y.rows);
    stridesA.push_back(a.rowStride);
    stridesB.push_back(0);
    stridesY.push_back(y.rowStride);
    NdLoop rows(dims, {stridesA, stridesB, stridesY});
    std::optional<MatrixLayout> joinedA = MatrixLayout::of(
        rows.rowLength(), a.columns, rows.innerStride(0), a.columnStride);
    std::optional<MatrixLayout> joinedY = MatrixLayout::of(
        rows.rowLength(), y.columns, rows.innerStride(2), y.columnStride);
    joined = y.rows > 1 && joinedA && joinedY && joinedY->transposed == 'N';
    loop = joined ? rows : batches;
    if (joined) {
      layoutA = *joinedA;
      leadingY = joinedY->leading;
    } else {
      leadingY = y.layout()->leading;
    }
  }

  /// Copies cost 1 / rows + 1 / columns of the product, which must have a side
  /// short enough that oneDNN makes none and long enough that ours pay.
  void choosePanels(OpContext &context) {
    const std::int64_t rows = joined ? loop.rowLength() : y.rows;
    if (std::string_view(context.loops->name) != "avx2" ||
        std::min(rows, y.columns) < 64 || a.columns < 64 ||
        1.0 / rows + 1.0 / y.columns < 0.0038)
      return;
    // As deep as keeps a wide operand's scratch, which no plan counts, small:
    // with 64 rows a product takes some 2 % longer than with 256, with 32 7 %.
    constexpr std::int64_t kLeast = 64, kMost = 256, kElements = 1 << 18;
    const std::int64_t depth =
        std::clamp(kElements / std::max(rows, y.columns), kLeast, kMost);
    panelsA = Panels(context, layoutA, layoutA.transposed == 'T', depth, rows);
    panelsB =
        Panels(context, layoutB, layoutB.transposed == 'N', depth, y.columns);
    if (panelsA.copied() || panelsB.copied())
      panelDepth = depth;
  }

  /// Elements of the loop that one product takes.
  std::int64_t rowsPerCall(std::int64_t length) const {
    return joined ? length : 1;
  }

  void multiply(std::byte *const *bases, const float *from,
                const float *weights, const float *biasRow, float *to,
                std::int64_t rows) const {
    float beta = accumulate ? 1.0f : 0.0f;
    if (biasRow || !a.columns) {
      for (std::int64_t r = 0; r < rows; ++r) {
        float *row = to + r * leadingY;
        if (!accumulate && biasRow)
          std::memcpy(row, biasRow, y.columns * sizeof(float));
        else if (!accumulate)
          std::fill_n(row, y.columns, 0.0f);
        else if (biasRow)
          for (std::int64_t c = 0; c < y.columns; ++c)
            row[c] += biasRow[c];
      }
      beta = 1.0f;
    }
    if (!a.columns)
      return;
    if (!panelDepth) {
      gemm(rows, y.columns, a.columns, 1.0f, from, layoutA, weights, layoutB,
           beta, to, leadingY);
      return;
    }
    for (std::int64_t k = 0; k < a.columns; k += panelDepth) {
      std::int64_t depth = std::min(a.columns - k, panelDepth);
      gemm(rows, y.columns, depth, 1.0f,
           panelsA.panel(bases, from, k, depth, threads), panelsA.panelLayout(),
           panelsB.panel(bases, weights, k, depth, threads),
           panelsB.panelLayout(), k ? 1.0f : beta, to, leadingY);
    }
  }

  std::vector<std::unique_ptr<Kernel>> copies;
  Operand a, b, y;
  std::optional<Tensor> bias;
  MatrixLayout layoutA, layoutB;
  Panels panelsA, panelsB;
  std::int64_t panelDepth = 0; ///< 0: operands stay where they are
  std::int64_t leadingY = 0;
  unsigned threads;
  bool accumulate;
  bool joined = false; ///< the loop's inner dimension is the product's rows
  NdLoop loop;
};

std::unique_ptr<Kernel> makeMatmul(OpContext &context) {
  context.requireInputs(2, 3);
  context.requireOutputs(1, 1);
  return std::make_unique<MatmulKernel>(context);
}

} // namespace

void cpu::addMatmulKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_MATMUL,
            {makeMatmul, Layout::Any, Layout::Any, KernelEntry::Itself});
}
