//===- TensorFile.cpp - samples from safetensors files --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The format: the header's length (8 bytes, little-endian), the header (JSON:
// name -> {dtype, shape, data_offsets}, offsets from the header's end), data.
//
//===----------------------------------------------------------------------===//

#include "TensorFile.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Validate.h"

#include <nlohmann/json.hpp>

#include <cstring>
#include <limits>
#include <map>

namespace tombolo::runtime::detail {

using nlohmann::json;
using namespace plan::v1;

namespace {

// As the format's own reader.
constexpr std::uint64_t kMaxHeader = 100'000'000;
// An entry needs 3 levels.
constexpr int kMaxDepth = 8;

struct Tensor {
  DType dtype = DTYPE_UNSPECIFIED;
  std::string dtypeName;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0, end = 0; // in the file
};

DType dtypeOf(const std::string &name) {
  return name == "F32"    ? DTYPE_F32
         : name == "BF16" ? DTYPE_BF16
         : name == "I32"  ? DTYPE_I32
         : name == "I64"  ? DTYPE_I64
         : name == "BOOL" ? DTYPE_BOOL
                          : DTYPE_UNSPECIFIED;
}

const char *nameOf(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
    return "F32";
  case DTYPE_BF16:
    return "BF16";
  case DTYPE_I32:
    return "I32";
  case DTYPE_I64:
    return "I64";
  case DTYPE_BOOL:
    return "BOOL";
  default:
    return "unknown";
  }
}

bool isInteger(DType dtype) { return dtype == DTYPE_I32 || dtype == DTYPE_I64; }

template <typename Dims> std::string shapeText(const Dims &dims) {
  std::string text = "[";
  for (std::uint64_t dim : dims)
    text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

class TensorSource : public SampleSource {
public:
  TensorSource(const DatasetOptions &options, const Model &model)
      : file(options.path), shuffle(options.shuffle) {
    std::map<std::string, Tensor> tensors = readHeader();
    for (const Input &input : model.inputs())
      bind(input, tensors);
    if (model.has_label())
      bind(model.label(), tensors);
    if (sources.empty())
      fail("the model reads no data");
  }

  void read(std::size_t input, std::uint64_t number,
            std::span<std::byte> out) override {
    const Source &source = sources.at(input);
    std::uint64_t row = permutedSample(number, samples, shuffle) % samples;
    std::uint64_t at = source.begin + row * source.rowBytes;
    if (source.given == source.wanted) {
      file.read(at, out);
      if (source.wanted == DTYPE_BOOL)
        checkBools(source, row, out);
      return;
    }
    buffer.resize(source.rowBytes);
    file.read(at, buffer);
    if (source.given == DTYPE_I32)
      widen(out);
    else
      narrow(source, row, out);
  }

  std::uint64_t size() const override { return samples; }

private:
  struct Source {
    std::string name;
    DType given, wanted;
    std::uint64_t begin, rowBytes;
  };

  template <typename... Parts>
  [[noreturn]] void fail(const Parts &...parts) const {
    throw Error("'", file.path(), "': ", parts...);
  }

  std::map<std::string, Tensor> readHeader() const;
  Tensor readEntry(const std::string &name, const json &entry,
                   std::uint64_t dataBegin) const;
  void bind(const Input &input, const std::map<std::string, Tensor> &tensors);

  void checkBools(const Source &source, std::uint64_t row,
                  std::span<const std::byte> values) const {
    for (std::byte value : values)
      if (std::to_integer<unsigned>(value) > 1)
        fail("tensor '", source.name, "': sample ", row,
             " has a bool of value ", std::to_integer<unsigned>(value));
  }
  void widen(std::span<std::byte> out) const {
    for (std::size_t i = 0; i < out.size() / 8; ++i) {
      std::int32_t from;
      std::memcpy(&from, buffer.data() + i * 4, 4);
      std::int64_t to = from;
      std::memcpy(out.data() + i * 8, &to, 8);
    }
  }
  void narrow(const Source &source, std::uint64_t row,
              std::span<std::byte> out) const {
    for (std::size_t i = 0; i < out.size() / 4; ++i) {
      std::int64_t from;
      std::memcpy(&from, buffer.data() + i * 8, 8);
      auto to = static_cast<std::int32_t>(from);
      if (to != from)
        fail("tensor '", source.name, "': sample ", row, " has the value ",
             from, ", which does not fit the model's 32 bits");
      std::memcpy(out.data() + i * 4, &to, 4);
    }
  }

  InputFile file;
  std::optional<std::uint64_t> shuffle;
  std::vector<Source> sources; // the inputs, then the label
  std::uint64_t samples = 0;
  std::vector<std::byte> buffer;
};

std::map<std::string, Tensor> TensorSource::readHeader() const {
  unsigned char head[8];
  if (file.size() < sizeof head)
    fail("expected a safetensors file, got ", file.size(), " bytes");
  file.read(0, std::as_writable_bytes(std::span(head)));
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | head[i];
  if (length > kMaxHeader || length > file.size() - sizeof head)
    fail("expected a safetensors file, but its header would have ", length,
         " bytes, the file has ", file.size());
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(sizeof head, std::as_writable_bytes(std::span(text)));

  // Of names that stand twice the parser would keep the last.
  std::map<std::string, int> names;
  bool tooDeep = false;
  auto look = [&](int depth, json::parse_event_t event, json &value) {
    tooDeep |= depth > kMaxDepth;
    if (event == json::parse_event_t::key && depth == 1)
      ++names[value.get<std::string>()];
    return depth <= kMaxDepth;
  };
  json header = json::parse(text, look, /*allow_exceptions=*/false);
  if (tooDeep || !header.is_object())
    fail("expected a safetensors file, but its header is no JSON object");
  for (const auto &[name, count] : names)
    if (count > 1)
      fail("tensor '", name, "' stands twice");
  std::map<std::string, Tensor> tensors;
  for (const auto &[name, entry] : header.items())
    if (name != "__metadata__")
      tensors[name] = readEntry(name, entry, sizeof head + length);
  return tensors;
}

Tensor TensorSource::readEntry(const std::string &name, const json &entry,
                               std::uint64_t dataBegin) const {
  auto count = [&](const json &value) {
    if (!value.is_number_unsigned())
      fail("tensor '", name, "': expected a count, got ",
           value.dump(-1, ' ', true, json::error_handler_t::replace)
               .substr(0, 60));
    return value.get<std::uint64_t>();
  };
  Tensor tensor;
  if (!entry.is_object() || !entry.contains("dtype") ||
      !entry["dtype"].is_string() || !entry.contains("shape") ||
      !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2)
    fail("tensor '", name, "': expected a dtype, a shape and two data_offsets");
  tensor.dtypeName = entry["dtype"].get<std::string>();
  tensor.dtype = dtypeOf(tensor.dtypeName);
  for (const json &dim : entry["shape"])
    tensor.shape.push_back(count(dim));
  std::uint64_t begin = count(entry["data_offsets"][0]);
  std::uint64_t end = count(entry["data_offsets"][1]);
  std::uint64_t dataBytes = file.size() - dataBegin;
  if (begin > end || end > dataBytes)
    fail("tensor '", name, "': its data at ", begin, " to ", end,
         " is not in the file, which has ", dataBytes, " bytes of data");
  tensor.begin = dataBegin + begin;
  tensor.end = dataBegin + end;
  return tensor;
}

void TensorSource::bind(const Input &input,
                        const std::map<std::string, Tensor> &tensors) {
  const std::string &name = input.name();
  auto found = tensors.find(name);
  if (found == tensors.end()) {
    std::string held;
    for (const auto &[other, tensor] : tensors)
      if (held.size() < 200)
        held += (held.empty() ? "'" : ", '") + other + "'";
    fail("holds no tensor '", name, "', which the model reads; it holds ",
         held.empty() ? "none" : held);
  }
  const Tensor &tensor = found->second;
  DType wanted = input.dtype();
  if (tensor.dtype != wanted && !(isInteger(tensor.dtype) && isInteger(wanted)))
    fail("tensor '", name, "': expected ", nameOf(wanted), ", got ",
         tensor.dtypeName);
  bool fits =
      tensor.shape.size() == static_cast<std::size_t>(input.dims_size()) + 1 &&
      std::equal(input.dims().begin(), input.dims().end(),
                 tensor.shape.begin() + 1);
  if (!fits || tensor.shape[0] == 0)
    fail("tensor '", name, "': expected samples of shape ",
         shapeText(input.dims()), " one after the other, got the shape ",
         shapeText(tensor.shape));
  std::uint64_t rowBytes =
      sampleBytes(input) / elementBytes(wanted) * elementBytes(tensor.dtype);
  std::uint64_t total;
  if (__builtin_mul_overflow(rowBytes, tensor.shape[0], &total) ||
      total != tensor.end - tensor.begin)
    fail("tensor '", name, "': its shape ", shapeText(tensor.shape), " of ",
         tensor.dtypeName, " does not go with its ", tensor.end - tensor.begin,
         " bytes");
  if (samples == 0)
    samples = tensor.shape[0];
  else if (samples != tensor.shape[0])
    fail("tensor '", name, "' has ", tensor.shape[0], " samples, '",
         sources.front().name, "' has ", samples);
  sources.push_back({name, tensor.dtype, wanted, tensor.begin, rowBytes});
}

} // namespace

std::unique_ptr<SampleSource> openTensorFile(const DatasetOptions &options,
                                             const Model &model) {
  return std::make_unique<TensorSource>(options, model);
}

} // namespace tombolo::runtime::detail
