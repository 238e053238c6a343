//===- Attention.cpp - attention and its gradients, blocked by rows -------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One (batch, head) at a time, kBlockRows query rows at a time: their scores
// against all keys they may see fit the second level cache, so the softmax of a
// row is exact in one go and nothing of size T x S is ever stored. Under a
// causal mask the keys beyond a block's last row are not multiplied at all.
//
//===----------------------------------------------------------------------===//

#include "Gemm.h"
#include "NdLoop.h"

#include <limits>
#include <mutex>
#include <omp.h>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

constexpr std::int64_t kBlockRows = 64;

/// What forward and backward share: shapes, mask, walk over the heads.
class AttentionBase : public Kernel {
protected:
  AttentionBase(OpContext &context, std::size_t q, std::size_t k, std::size_t v)
      : loops(context.loops), threads(context.threads),
        causal(context.flag("causal")),
        scale(static_cast<float>(context.real("scale"))), heads({}, {{}}) {
    const Tensor &query = context.inputs[q], &key = context.inputs[k];
    const Tensor &value = context.inputs[v];
    for (const Tensor *tensor : {&query, &key, &value}) {
      context.requireType(*tensor, plan::v1::DTYPE_F32, "q, k and v");
      context.require(tensor->rank() >= 2 && tensor->rank() == query.rank(),
                      "expected q, k and v of the same 2 or more dimensions, "
                      "got ",
                      describe(query), ", ", describe(key), ", ",
                      describe(value));
    }
    std::size_t rank = query.rank();
    batch.assign(query.dims.begin(), query.dims.end() - 2);
    queries = query.dims[rank - 2];
    depth = query.dims[rank - 1];
    keys = key.dims[rank - 2];
    valueDepth = value.dims[rank - 1];
    context.require(depth > 0 && valueDepth > 0 && keys > 0,
                    "expected q, k and v without empty dimensions");
  }

  std::vector<std::int64_t> shape(std::int64_t rows,
                                  std::int64_t columns) const {
    std::vector<std::int64_t> dims = batch;
    dims.push_back(rows);
    dims.push_back(columns);
    return dims;
  }

  /// Adds an operand [B..., rows, columns]; its place in the walk's offsets.
  /// An input whose rows are not contiguous or overlap is copied first.
  std::size_t operand(OpContext &context, Tensor tensor, std::int64_t rows,
                      std::int64_t columns, const char *name, bool isInput) {
    context.requireType(tensor, plan::v1::DTYPE_F32, name);
    context.requireDims(tensor, shape(rows, columns), name);
    auto layout =
        MatrixLayout::of(rows, columns, tensor.strides[tensor.rank() - 2],
                         tensor.strides[tensor.rank() - 1]);
    if (!layout || layout->transposed != 'N') {
      context.require(isInput, "expected ", name, " with contiguous rows");
      Tensor dense = context.reserve(tensor.dtype, tensor.dims);
      copies.push_back(makeCopy(context, tensor, dense, false));
      tensor = dense;
      layout = MatrixLayout{'N', columns};
    }
    tensors.push_back(tensor);
    layouts.push_back(*layout);
    return tensors.size() - 1;
  }

  /// lse [B..., T], row-major.
  std::size_t rowOperand(OpContext &context, const Tensor &tensor,
                         const char *name) {
    std::vector<std::int64_t> dims = batch;
    dims.push_back(queries);
    context.requirePlain(tensor, dims, name);
    tensors.push_back(tensor);
    layouts.push_back({});
    return tensors.size() - 1;
  }

  void finish(OpContext &context, std::int64_t floatsPerThread) {
    std::vector<std::vector<std::int64_t>> strides;
    for (const Tensor &tensor : tensors)
      strides.emplace_back(tensor.strides.begin(),
                           tensor.strides.begin() + batch.size());
    heads = NdLoop(batch, strides);
    scratch = context.reserve(
        plan::v1::DTYPE_F32,
        {static_cast<std::int64_t>(threads), (floatsPerThread + 15) / 16 * 16});
  }

  /// f(pointers to each operand's head, this thread's scratch).
  template <typename Function>
  void forHeads(std::byte *const *bases, Function f) const {
    for (const auto &copy : copies)
      copy->run(bases);
    std::exception_ptr failure;
    std::mutex mutex;
    heads.forPieces(
        threads, 1, 1, [&](const std::int64_t *offsets, std::int64_t) {
          float *pointers[NdLoop::kMaxOperands];
          for (std::size_t i = 0; i < tensors.size(); ++i)
            pointers[i] = tensors[i].at<float>(bases) + offsets[i];
          std::int64_t thread = omp_in_parallel() ? omp_get_thread_num() : 0;
          try {
            f(static_cast<float *const *>(pointers),
              scratch.at<float>(bases) + thread * scratch.lastDim());
          } catch (...) { // must not leave a parallel region
            std::lock_guard<std::mutex> lock(mutex);
            failure = std::current_exception();
          }
        });
    if (failure)
      std::rethrow_exception(failure);
  }

  /// Keys [0, n) are visible to query row i.
  std::int64_t visible(std::int64_t i) const {
    if (!causal)
      return keys;
    return std::clamp<std::int64_t>(i + 1 + keys - queries, 0, keys);
  }

  std::int64_t blockRows() const { return std::min(kBlockRows, queries); }

  /// scores[rows, n] = scale q kᵀ, for query rows from `first`.
  void scores(const float *q, MatrixLayout layoutQ, const float *k,
              MatrixLayout layoutK, std::int64_t first, std::int64_t rows,
              std::int64_t n, float *to) const {
    gemm(rows, n, depth, scale, q + first * layoutQ.leading, layoutQ, k,
         transposed(layoutK), 0.0f, to, keys);
  }

  static MatrixLayout transposed(MatrixLayout layout) {
    return {'T', layout.leading};
  }

  const Loops *loops;
  unsigned threads;
  bool causal;
  float scale;
  std::vector<std::int64_t> batch;
  std::int64_t queries, keys, depth, valueDepth;
  std::vector<Tensor> tensors;
  std::vector<MatrixLayout> layouts;
  std::vector<std::unique_ptr<Kernel>> copies;
  NdLoop heads;
  Tensor scratch;
};

class AttentionKernel : public AttentionBase {
public:
  explicit AttentionKernel(OpContext &context)
      : AttentionBase(context, 0, 1, 2) {
    const std::vector<Tensor> &in = context.inputs, &out = context.outputs;
    q = operand(context, in[0], queries, depth, "q", true);
    k = operand(context, in[1], keys, depth, "k", true);
    v = operand(context, in[2], keys, valueDepth, "v", true);
    o = operand(context, out[0], queries, valueDepth, "o", false);
    lse = rowOperand(context, out[1], "lse");
    finish(context, blockRows() * keys);
  }

  void run(std::byte *const *bases) const override {
    forHeads(bases, [this](float *const *at, float *p) {
      for (std::int64_t first = 0; first < queries; first += kBlockRows)
        block(at, first, std::min(kBlockRows, queries - first), p);
    });
  }

private:
  void block(float *const *at, std::int64_t first, std::int64_t rows,
             float *p) const {
    const std::int64_t n = visible(first + rows - 1);
    float *out = at[o] + first * layouts[o].leading;
    float *logSum = at[lse] + first;
    if (n)
      scores(at[q], layouts[q], at[k], layouts[k], first, rows, n, p);
    float largest[kBlockRows], sums[kBlockRows];
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t seen = visible(first + r);
      float *row = p + r * keys;
      sums[r] = 1.0f;
      // A row that may see nothing has no distribution: it gives zero.
      largest[r] = seen ? loops->expRow(row, seen, &sums[r])
                        : -std::numeric_limits<float>::infinity();
      std::fill(row + seen, row + n, 0.0f);
    }
    const void *logarithmOf[] = {sums};
    loops->log(logarithmOf, logSum, rows);
    const void *parts[] = {largest, logSum};
    loops->add(parts, logSum, rows);
    if (n)
      gemm(rows, valueDepth, n, 1.0f, p, {'N', keys}, at[v], layouts[v], 0.0f,
           out, layouts[o].leading);
    // Rows of o are shorter than rows of p: divided by the sums here.
    for (std::int64_t r = 0; r < rows; ++r) {
      if (n)
        loops->scaleRow(out + r * layouts[o].leading, valueDepth,
                        1.0f / sums[r]);
      else
        std::fill_n(out + r * layouts[o].leading, valueDepth, 0.0f);
    }
  }

  std::size_t q, k, v, o, lse;
};

/// With p = exp(s - lse), dp = do vᵀ and Δᵢ = Σ doᵢ oᵢ:
/// ds = p (dp - Δ), dq = scale ds k, dk = scale dsᵀ q, dv = pᵀ do.
class AttentionBackwardKernel : public AttentionBase {
public:
  explicit AttentionBackwardKernel(OpContext &context)
      : AttentionBase(context, 1, 2, 3) {
    const std::vector<Tensor> &in = context.inputs, &out = context.outputs;
    gradient = operand(context, in[0], queries, valueDepth, "do", true);
    q = operand(context, in[1], queries, depth, "q", true);
    k = operand(context, in[2], keys, depth, "k", true);
    v = operand(context, in[3], keys, valueDepth, "v", true);
    o = operand(context, in[4], queries, valueDepth, "o", true);
    lse = rowOperand(context, in[5], "lse");
    dq = operand(context, out[0], queries, depth, "dq", false);
    dk = operand(context, out[1], keys, depth, "dk", false);
    dv = operand(context, out[2], keys, valueDepth, "dv", false);
    finish(context, 2 * blockRows() * keys);
  }

  void run(std::byte *const *bases) const override {
    forHeads(bases, [this](float *const *at, float *p) {
      // From the last block, which sees every key, so that it sets dk and dv
      // and the others add.
      float beta = 0.0f;
      std::int64_t blocks = (queries + kBlockRows - 1) / kBlockRows;
      for (std::int64_t i = blocks; i-- > 0; beta = 1.0f)
        block(at, i * kBlockRows,
              std::min(kBlockRows, queries - i * kBlockRows), beta, p,
              p + blockRows() * keys);
      if (!blocks) {
        clear(at[dk], layouts[dk], keys, depth);
        clear(at[dv], layouts[dv], keys, valueDepth);
      }
    });
  }

private:
  void block(float *const *at, std::int64_t first, std::int64_t rows,
             float beta, float *p, float *dp) const {
    const std::int64_t n = visible(first + rows - 1);
    const float *dOut = at[gradient] + first * layouts[gradient].leading;
    const float *out = at[o] + first * layouts[o].leading;
    float *dQuery = at[dq] + first * layouts[dq].leading;
    if (!n) {
      clear(dQuery, layouts[dq], rows, depth);
      return;
    }
    scores(at[q], layouts[q], at[k], layouts[k], first, rows, n, p);
    gemm(rows, n, valueDepth, 1.0f, dOut, layouts[gradient], at[v],
         transposed(layouts[v]), 0.0f, dp, keys);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t seen = visible(first + r);
      float *row = p + r * keys, *dRow = dp + r * keys;
      float delta = loops->dotRow(dOut + r * layouts[gradient].leading,
                                  out + r * layouts[o].leading, valueDepth);
      loops->scoreGradientRow(row, dRow, seen, at[lse][first + r], delta,
                              scale);
      std::fill(row + seen, row + n, 0.0f);
      std::fill(dRow + seen, dRow + n, 0.0f);
    }
    gemm(n, valueDepth, rows, 1.0f, p, {'T', keys}, dOut, layouts[gradient],
         beta, at[dv], layouts[dv].leading);
    gemm(rows, depth, n, 1.0f, dp, {'N', keys}, at[k], layouts[k], 0.0f, dQuery,
         layouts[dq].leading);
    gemm(n, depth, rows, 1.0f, dp, {'T', keys},
         at[q] + first * layouts[q].leading, layouts[q], beta, at[dk],
         layouts[dk].leading);
  }

  static void clear(float *matrix, MatrixLayout layout, std::int64_t rows,
                    std::int64_t columns) {
    for (std::int64_t r = 0; r < rows; ++r)
      std::fill_n(matrix + r * layout.leading, columns, 0.0f);
  }

  std::size_t gradient, q, k, v, o, lse, dq, dk, dv;
};

std::unique_ptr<Kernel> makeAttention(OpContext &context) {
  context.requireInputs(3, 3);
  context.requireOutputs(2, 2);
  return std::make_unique<AttentionKernel>(context);
}

std::unique_ptr<Kernel> makeAttentionBackward(OpContext &context) {
  context.requireInputs(6, 6);
  context.requireOutputs(3, 3);
  if (!context.inputs[5].isRowMajor())
    context.fail("expected lse without strides");
  return std::make_unique<AttentionBackwardKernel>(context);
}

} // namespace

void cpu::addAttentionKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_ATTENTION,
            {makeAttention, Layout::Any, Layout::Any});
  table.add(plan::v1::OPCODE_ATTENTION_BACKWARD,
            {makeAttentionBackward, Layout::Any, Layout::Any});
}
