//===- NdLoop.h - walks operands with strides in step -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_NDLOOP_H
#define TOMBOLO_LIB_DEVICE_CPU_NDLOOP_H

#include "Kernel.h"

#include <algorithm>
#include <exception>

namespace tombolo::runtime::cpu {

/// Calls f(first, last) for parts of [0, count) on at most `threads` threads,
/// on this one alone when there are fewer than 2 * `grain` items.
template <typename Function>
void parallelFor(unsigned threads, std::int64_t count, std::int64_t grain,
                 Function f) {
  std::int64_t parts =
      std::min<std::int64_t>(threads, count / std::max<std::int64_t>(grain, 1));
  if (parts <= 1) {
    if (count > 0)
      f(std::int64_t(0), count);
    return;
  }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (std::int64_t part = 0; part < parts; ++part)
    f(count * part / parts, count * (part + 1) / parts);
}

/// A loop nest over common dims with one stride per operand and dimension.
/// Dimensions of extent 1 are dropped and adjacent ones that every operand
/// walks contiguously are joined, so a plain tensor becomes one long row.
class NdLoop {
public:
  static constexpr std::size_t kMaxOperands = 10;

  /// `strides[k]` are operand k's, one per dimension of `dims`.
  NdLoop(const std::vector<std::int64_t> &dims,
         const std::vector<std::vector<std::int64_t>> &strides)
      : operands(strides.size()) {
    for (std::size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] == 1)
        continue;
      Dimension dimension{dims[i], {}};
      for (std::size_t k = 0; k < operands; ++k)
        dimension.strides[k] = strides[k][i];
      if (!nest.empty() && joins(nest.back(), dimension)) {
        dimension.extent *= nest.back().extent;
        nest.back() = dimension;
      } else {
        nest.push_back(dimension);
      }
    }
    inner = {1, {}};
    for (std::size_t k = 0; k < operands; ++k)
      inner.strides[k] = 1;
    if (!nest.empty()) {
      inner = nest.back();
      nest.pop_back();
    }
    rowCount = 1;
    for (const Dimension &dimension : nest)
      rowCount *= dimension.extent;
    if (inner.extent == 0)
      rowCount = 0;
  }

  std::int64_t rows() const { return rowCount; }
  std::int64_t rowLength() const { return inner.extent; }
  std::int64_t innerStride(std::size_t operand) const {
    return inner.strides[operand];
  }

  /// f(offsets) for rows [first, last), offsets[k] in elements from operand k's
  /// first element.
  template <typename Function>
  void forRows(std::int64_t first, std::int64_t last, Function f) const {
    std::int64_t index[16] = {}, offsets[kMaxOperands] = {};
    std::int64_t rest = first;
    for (std::size_t d = nest.size(); d-- > 0;) {
      index[d] = rest % nest[d].extent;
      rest /= nest[d].extent;
      for (std::size_t k = 0; k < operands; ++k)
        offsets[k] += index[d] * nest[d].strides[k];
    }
    for (std::int64_t row = first; row < last; ++row) {
      f(static_cast<const std::int64_t *>(offsets));
      for (std::size_t d = nest.size(); d-- > 0;) {
        for (std::size_t k = 0; k < operands; ++k)
          offsets[k] += nest[d].strides[k];
        if (++index[d] < nest[d].extent)
          break;
        for (std::size_t k = 0; k < operands; ++k)
          offsets[k] -= nest[d].extent * nest[d].strides[k];
        index[d] = 0;
      }
    }
  }

  /// f(offsets, count): rows cut into pieces of at most `piece` elements,
  /// shared between the threads, each of which gets at least `grain` elements.
  template <typename Function>
  void forPieces(unsigned threads, std::int64_t piece, std::int64_t grain,
                 Function f) const {
    if (!rowCount)
      return;
    std::int64_t pieces = (inner.extent + piece - 1) / piece;
    parallelFor(
        threads, rowCount * pieces, grain / std::min(piece, inner.extent),
        [&](std::int64_t first, std::int64_t last) {
          std::int64_t row = first / pieces, cut = first % pieces;
          forRows(row, (last - 1) / pieces + 1,
                  [&](const std::int64_t *starts) {
                    std::int64_t end = row == (last - 1) / pieces
                                           ? (last - 1) % pieces + 1
                                           : pieces;
                    for (; cut < end; ++cut) {
                      std::int64_t offsets[kMaxOperands];
                      for (std::size_t k = 0; k < operands; ++k)
                        offsets[k] = starts[k] + cut * piece * inner.strides[k];
                      f(static_cast<const std::int64_t *>(offsets),
                        std::min(piece, inner.extent - cut * piece));
                    }
                    cut = 0;
                    ++row;
                  });
        });
  }

private:
  struct Dimension {
    std::int64_t extent;
    std::int64_t strides[kMaxOperands];
  };

  bool joins(const Dimension &outer, const Dimension &next) const {
    for (std::size_t k = 0; k < operands; ++k)
      if (outer.strides[k] != next.strides[k] * next.extent)
        return false;
    return true;
  }

  std::size_t operands;
  std::vector<Dimension> nest; ///< without the innermost
  Dimension inner;
  std::int64_t rowCount;
};

/// Strides of `tensor` under `dims` by NumPy's broadcasting: 0 where it
/// repeats. Fails in the name of `context` if it does not broadcast to them.
inline std::vector<std::int64_t>
broadcastStrides(const OpContext &context, const Tensor &tensor,
                 const std::vector<std::int64_t> &dims) {
  context.require(tensor.rank() <= dims.size(), "an input of ", tensor.rank(),
                  " dimensions does not broadcast to an output of ",
                  dims.size());
  std::vector<std::int64_t> strides(dims.size(), 0);
  std::size_t shift = dims.size() - tensor.rank();
  for (std::size_t i = 0; i < tensor.rank(); ++i) {
    if (tensor.dims[i] == dims[i + shift])
      strides[i + shift] = tensor.strides[i];
    else
      context.require(tensor.dims[i] == 1, "an input ", describe(tensor),
                      " does not broadcast to the output's dimensions");
  }
  return strides;
}

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_NDLOOP_H
