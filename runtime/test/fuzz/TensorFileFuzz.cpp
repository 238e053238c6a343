//===- TensorFileFuzz.cpp - libFuzzer target: samples in safetensors ------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input is a header and the data behind it, as two pieces; with a kind of 1
// the first one is the file as it is.
//
//===----------------------------------------------------------------------===//

#include "Pieces.h"
#include "Temporary.h"

#include "tombolo/runtime/Dataset.h"
#include "tombolo/runtime/Error.h"

#include <cstdio>
#include <vector>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data,
                                      std::size_t size) {
  static const TemporaryFolder folder;
  DatasetOptions options;
  options.path = folder / "data.safetensors";
  std::string_view input(reinterpret_cast<const char *>(data), size);
  Piece header, values;
  cutPiece(input, header);
  cutPiece(input, values);
  std::uint64_t length = header.bytes.size();
  std::FILE *file = std::fopen(options.path.c_str(), "wb");
  if (header.kind != 1)
    std::fwrite(&length, 1, sizeof length, file);
  std::fwrite(header.bytes.data(), 1, header.bytes.size(), file);
  std::fwrite(values.bytes.data(), 1, values.bytes.size(), file);
  std::fclose(file);

  tombolo::plan::v1::Model model;
  auto add = [](tombolo::plan::v1::Input &to, const char *name,
                tombolo::plan::v1::DType type, std::uint64_t dim) {
    to.set_name(name);
    to.set_dtype(type);
    if (dim)
      to.add_dims(dim);
  };
  add(*model.add_inputs(), "x", tombolo::plan::v1::DTYPE_F32, 2);
  add(*model.add_inputs(), "mask", tombolo::plan::v1::DTYPE_BOOL, 3);
  add(*model.mutable_label(), "y", tombolo::plan::v1::DTYPE_I64, 0);
  model.set_tokens_per_sample(1);
  try {
    std::unique_ptr<SampleSource> source = openDataset(options, model);
    const std::size_t bytes[] = {8, 3, 8};
    for (std::size_t which = 0; which < 3; ++which)
      for (std::uint64_t number :
           {std::uint64_t(0), source->size() - 1, ~std::uint64_t(0)}) {
        std::vector<std::byte> row(bytes[which]);
        try {
          source->read(which, number, row);
        } catch (const Error &) {
        }
      }
  } catch (const Error &) {
  }
  return 0;
}
