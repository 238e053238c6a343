//===- Dataset.h - samples from token files and tensor files --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_DATASET_H
#define TOMBOLO_RUNTIME_DATASET_H

#include "tombolo/runtime/File.h"
#include "tombolo/schema/plan.pb.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tombolo::runtime {

struct DatasetOptions {
  std::string path;                     ///< *.safetensors: a tensor file
  unsigned tokenBytes = 2;              ///< 2 or 4
  std::optional<std::uint64_t> shuffle; ///< permutes sample numbers
};

/// Which of `samples` samples stands at place `number` of an endless sequence
/// of passes over all of them; with a seed each pass is shuffled anew.
std::uint64_t permutedSample(std::uint64_t number, std::uint64_t samples,
                             const std::optional<std::uint64_t> &seed);

/// Bytes of one sample of an input of a validated plan.
std::uint64_t sampleBytes(const plan::v1::Input &input);

/// What a run is fed with, sample by sample.
class SampleSource {
public:
  virtual ~SampleSource() = default;

  /// Fills `out` with the sample at place `number`, from 0 without end, of the
  /// model's input `input`; that after the last input is the label. `out` has
  /// the size of one sample as the plan describes it.
  virtual void read(std::size_t input, std::uint64_t number,
                    std::span<std::byte> out) = 0;
  /// How many samples there are, all different.
  virtual std::uint64_t size() const = 0;
};

/// Opens the data of a run and checks it against the plan's model. Throws Error
/// when the file is damaged or does not have what the model reads.
std::unique_ptr<SampleSource> openDataset(const DatasetOptions &options,
                                          const plan::v1::Model &model);

/// A file of little-endian token ids without a header. Sample k is the tokens
/// [k T, k T + T]: T inputs and, shifted by one, T labels, wrapping at the end
/// of the file. Read piece by piece, never mapped, so that a rank's resident
/// memory does not grow with its data.
class TokenFile {
public:
  /// Reads the whole file once: throws Error, with the position, for a token
  /// not below `vocabulary`, and for a file of fewer than T + 1 tokens.
  TokenFile(const DatasetOptions &options, std::uint64_t tokensPerSample,
            std::uint64_t vocabulary);

  std::uint64_t tokens() const { return count; }

  /// The T + 1 tokens of sample `number`; with `shuffle` of the sample that
  /// stands in its place. Shuffling permutes each pass over the file anew.
  void sample(std::uint64_t number, std::span<std::int64_t> out) const;

  /// Which sample stands at place `number`.
  std::uint64_t permuted(std::uint64_t number) const;

private:
  void read(std::uint64_t first, std::span<std::int64_t> out) const;
  InputFile file;
  DatasetOptions options;
  std::uint64_t perSample;
  std::uint64_t count;
  mutable std::vector<std::byte> buffer;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_DATASET_H
