//===- TensorFileTest.cpp - samples from safetensors files ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Dataset.h"

#include "Expect.h"
#include "Temporary.h"

#include <cstring>
#include <set>

using namespace tombolo::runtime;
using namespace tombolo::plan::v1;
using namespace tombolo::runtime::test;

namespace {

/// Little-endian bytes of values.
template <typename T> std::string bytesOf(std::initializer_list<T> values) {
  std::string bytes;
  for (T value : values)
    bytes.append(reinterpret_cast<const char *>(&value), sizeof value);
  return bytes;
}

class TensorFile : public testing::Test {
protected:
  TensorFile() {
    Input &x = *model.add_inputs();
    x.set_name("x");
    x.set_dtype(DTYPE_F32);
    x.add_dims(2);
    model.mutable_label()->set_name("y");
    model.mutable_label()->set_dtype(DTYPE_I64);
    model.set_tokens_per_sample(1);
    options.path = folder / "data.safetensors";
  }

  void write(const std::string &header, const std::string &data) {
    std::uint64_t length = header.size();
    writeFile(options.path, std::string(reinterpret_cast<char *>(&length), 8) +
                                header + data);
  }
  /// Three samples.
  void writeGood() {
    write(R"({"__metadata__":{"by":"a test"},)"
          R"("y":{"dtype":"I32","shape":[3],"data_offsets":[24,36]},)"
          R"("x":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}})",
          bytesOf<float>({0, 1, 2, 3, 4, 5}) + bytesOf<int>({7, -8, 9}));
  }
  void refused(const std::string &header, const std::string &data,
               const char *why) {
    write(header, data);
    expectError([&] { openDataset(options, model); }, why);
  }
  std::int64_t label(SampleSource &source, std::uint64_t number) {
    std::int64_t value = 0;
    source.read(1, number, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  TemporaryFolder folder;
  DatasetOptions options;
  Model model;
};

TEST_F(TensorFile, ReadsSamplesAndWraps) {
  writeGood();
  std::unique_ptr<SampleSource> source = openDataset(options, model);
  float x[2];
  source->read(0, 4, std::as_writable_bytes(std::span(x)));
  EXPECT_EQ(x[0], 2);
  EXPECT_EQ(x[1], 3);
  EXPECT_EQ(label(*source, 1), -8) << "integers are widened";
  EXPECT_EQ(label(*source, 3000000000000002), 9);
}

TEST_F(TensorFile, ShufflesInputsAndLabelsAlike) {
  writeGood();
  options.shuffle = 5;
  std::unique_ptr<SampleSource> source = openDataset(options, model);
  for (std::uint64_t pass = 0; pass < 10; ++pass) {
    std::set<std::int64_t> seen;
    for (std::uint64_t i = 0; i < 3; ++i) {
      float x[2];
      source->read(0, pass * 3 + i, std::as_writable_bytes(std::span(x)));
      std::int64_t y = label(*source, pass * 3 + i);
      EXPECT_EQ(y, x[0] == 0 ? 7 : x[0] == 2 ? -8 : 9);
      seen.insert(y);
    }
    EXPECT_EQ(seen.size(), 3u);
  }
}

TEST_F(TensorFile, NarrowsWhatFits) {
  model.mutable_label()->set_dtype(DTYPE_I32);
  write(R"({"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
        R"("y":{"dtype":"I64","shape":[2],"data_offsets":[16,32]}})",
        bytesOf<float>({0, 1, 2, 3}) + bytesOf<std::int64_t>({5, 1ll << 40}));
  std::unique_ptr<SampleSource> source = openDataset(options, model);
  std::int32_t value = 0;
  auto out = std::as_writable_bytes(std::span(&value, 1));
  source->read(1, 0, out);
  EXPECT_EQ(value, 5);
  expectError([&] { source->read(1, 1, out); },
              "sample 1 has the value 1099511627776, which does not fit");
}

TEST_F(TensorFile, RefusesBoolsThatAreNone) {
  model.mutable_label()->set_dtype(DTYPE_BOOL);
  write(R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
        R"("y":{"dtype":"BOOL","shape":[1],"data_offsets":[8,9]}})",
        bytesOf<float>({0, 1}) + "\x02");
  std::unique_ptr<SampleSource> source = openDataset(options, model);
  std::byte value;
  expectError([&] { source->read(1, 0, std::span(&value, 1)); },
              "a bool of value 2");
}

TEST_F(TensorFile, RefusesBadFiles) {
  const std::string y = bytesOf<int>({7});
  const std::string x = bytesOf<float>({0, 1});
  writeFile(options.path, "123");
  expectError([&] { openDataset(options, model); }, "got 3 bytes");
  writeFile(options.path, std::string(8, '\xff') + "{}");
  expectError([&] { openDataset(options, model); },
              "its header would have 18446744073709551615 bytes");
  refused("not json", "", "is no JSON object");
  refused(std::string(100000, '['), "", "is no JSON object");
  refused("{}", "",
          "holds no tensor 'x', which the model reads; it holds none");
  refused(R"({"z":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})", x,
          "it holds 'z'");
  refused(R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
          R"("x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})",
          x, "tensor 'x' stands twice");
  refused(R"({"x":7})", x, "expected a dtype, a shape and two data_offsets");
  refused(R"({"x":{"dtype":"F32","shape":[1,-2],"data_offsets":[0,8]}})", x,
          "expected a count, got -2");
  refused(R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,9]}})", x,
          "its data at 0 to 9 is not in the file");
  refused(R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[8,0]}})", x,
          "its data at 8 to 0 is not in the file");
  refused(R"({"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,8]}})", x,
          "does not go with its 8 bytes");
  refused(
      R"({"x":{"dtype":"F32","shape":[9223372036854775809,2],"data_offsets":[0,8]}})",
      x, "does not go with its 8 bytes");
  refused(R"({"x":{"dtype":"F32","shape":[0,2],"data_offsets":[0,0]}})", x,
          "got the shape [0, 2]");
  refused(R"({"x":{"dtype":"F32","shape":[1,3],"data_offsets":[0,8]}})", x,
          "expected samples of shape [2] one after the other");
  refused(R"({"x":{"dtype":"F64","shape":[1,2],"data_offsets":[0,8]}})", x,
          "expected F32, got F64");
  refused(R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
          R"("y":{"dtype":"I32","shape":[2],"data_offsets":[8,16]}})",
          x + y + y, "'y' has 2 samples, 'x' has 1");
}

TEST_F(TensorFile, TokenFilesFeedTokenModelsOnly) {
  options.path = folder / "data.bin";
  writeFile(options.path, "1234");
  expectError([&] { openDataset(options, model); },
              "the plan's has 1 inputs, the first 'x'; give a file "
              "NAME.safetensors");
}

} // namespace
