//===- Onnx.cpp - the weights of an ONNX file -----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Onnx.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <filesystem>

namespace tombolo::runtime {

using Extent = OnnxInitializer::Extent;
static_assert(std::endian::native == std::endian::little,
              "weights are read as little-endian bytes");

namespace {

// A graph without its weights is small; a larger one is no model.
constexpr std::uint64_t kMaxStripped = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 48;

enum DataType : std::int32_t {
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16
};

/// Bytes of an element in raw data; 0 where there is none or we do not know.
std::uint64_t rawBytes(std::int32_t type) {
  switch (type) {
  case kUint8:
  case kInt8:
  case kBool:
    return 1;
  case kUint16:
  case kInt16:
  case kFloat16:
  case kBfloat16:
    return 2;
  case kFloat:
  case kInt32:
  case kUint32:
    return 4;
  case kDouble:
  case kInt64:
  case kUint64:
  case kComplex64:
    return 8;
  case kComplex128:
    return 16;
  default:
    return 0;
  }
}

bool isReal(std::int32_t type) {
  return type == kFloat || type == kFloat16 || type == kBfloat16 ||
         type == kDouble;
}

/// Reads the wire format from a file through a small window.
class Walker {
public:
  explicit Walker(const InputFile &file) : file(file) {}

  std::uint64_t position = 0;

  [[noreturn]] void fail(const std::string &what) const {
    throw Error("'", file.path(), "': not an ONNX model: ", what, " at byte ",
                position);
  }

  std::uint8_t byte() {
    if (position < begin || position >= begin + window.size()) {
      if (position >= file.size())
        fail("the file ends");
      begin = position;
      window.resize(std::min<std::uint64_t>(1 << 16, file.size() - position));
      file.read(begin, std::as_writable_bytes(std::span(window)));
    }
    return window[position++ - begin];
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      std::uint8_t next = byte();
      if (shift < 64)
        value |= static_cast<std::uint64_t>(next & 0x7f) << shift;
      if (!(next & 0x80))
        return value;
    }
    fail("a number is too long");
  }

  struct Field {
    std::uint32_t number;
    std::uint32_t wire;
    std::uint64_t start; // of the tag
    std::uint64_t data;  // of the content (behind a length)
    std::uint64_t bytes; // of the content
    std::uint64_t end() const { return data + bytes; }
  };

  /// The next field of a message that ends at `end`; leaves `position` at its
  /// content.
  Field next(std::uint64_t end) {
    Field field{};
    field.start = position;
    std::uint64_t tag = varint();
    if (tag >> 32 || tag < 8)
      fail("a field tag is damaged");
    field.number = static_cast<std::uint32_t>(tag >> 3);
    field.wire = static_cast<std::uint32_t>(tag & 7);
    switch (field.wire) {
    case 0: {
      field.data = position;
      varint();
      field.bytes = position - field.data;
      break;
    }
    case 1:
      field.data = position;
      field.bytes = 8;
      break;
    case 2:
      field.bytes = varint();
      field.data = position;
      break;
    case 5:
      field.data = position;
      field.bytes = 4;
      break;
    default:
      fail("a field of unknown kind");
    }
    if (field.data > end || field.bytes > end - field.data)
      fail("a field is longer than what it lies in, the file is cut off or "
           "damaged");
    position = field.data;
    return field;
  }

  void append(std::string &to, std::uint64_t from, std::uint64_t bytes) const {
    if (bytes > kMaxStripped - std::min<std::uint64_t>(to.size(), kMaxStripped))
      fail("the graph without its weights is over 1 GiB");
    std::size_t old = to.size();
    to.resize(old + bytes);
    file.read(from, std::as_writable_bytes(std::span(to.data() + old, bytes)));
  }

private:
  const InputFile &file;
  std::uint64_t begin = 0;
  std::vector<std::uint8_t> window;
};

void putVarint(std::string &to, std::uint64_t value) {
  while (value >= 0x80) {
    to += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  to += static_cast<char>(value);
}

void putMessage(std::string &to, std::uint32_t field, const std::string &body) {
  putVarint(to, field << 3 | 2);
  putVarint(to, body.size());
  to += body;
}

/// What is known of an initializer's data after the walk.
struct Located {
  std::vector<Extent> raw;
  std::vector<Extent> typed; // float_data or double_data, bytes as raw data
  std::string other;         // wire bytes of the varint-coded data fields
};

/// Copies a TensorProto without its data; says where the data lies.
std::string stripTensor(Walker &walk, std::uint64_t end, Located &located) {
  std::string out;
  while (walk.position < end) {
    Walker::Field field = walk.next(end);
    walk.position = field.end();
    switch (field.number) {
    case 9:
      if (field.wire != 2)
        walk.fail("raw_data is no bytes");
      // The last one counts, as protobuf has it.
      located.raw.assign(1, {field.data, field.bytes});
      break;
    case 4:
    case 10:
      if (!located.typed.empty() &&
          located.typed.back().offset + located.typed.back().bytes ==
              field.data)
        located.typed.back().bytes += field.bytes;
      else
        located.typed.push_back({field.data, field.bytes});
      break;
    case 5:
    case 7:
    case 11:
      walk.append(located.other, field.start, field.end() - field.start);
      break;
    case 6:
      break; // strings are no weights
    default:
      walk.append(out, field.start, field.end() - field.start);
    }
  }
  return out;
}

std::uint64_t parseNumber(const std::string &text, const std::string &place) {
  std::uint64_t value = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw Error(place, ": expected a number, got '", text, "'");
  return value;
}

float halfToFloat(std::uint16_t half) {
  std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  std::uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023;
  if (exponent == 0) {
    float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

} // namespace

OnnxModel::OnnxModel(const std::string &path)
    : file(path), input(std::make_unique<InputFile>(path)),
      proto(std::make_unique<onnx_subset::ModelProto>()) {
  Walker walk(*input);
  std::string model;
  std::vector<Located> located;
  bool sawGraph = false;
  while (walk.position < input->size()) {
    Walker::Field field = walk.next(input->size());
    if (field.number != 7 || field.wire != 2) {
      walk.position = field.end();
      walk.append(model, field.start, field.end() - field.start);
      continue;
    }
    if (sawGraph)
      walk.fail("a second graph");
    sawGraph = true;
    std::string graph;
    while (walk.position < field.end()) {
      Walker::Field part = walk.next(field.end());
      if (part.number == 5 && part.wire == 2) {
        located.emplace_back();
        putMessage(graph, 5, stripTensor(walk, part.end(), located.back()));
      } else {
        walk.position = part.end();
        walk.append(graph, part.start, part.end() - part.start);
      }
    }
    putMessage(model, 7, graph);
  }
  if (!sawGraph)
    throw Error("'", path, "': not an ONNX model: it holds no graph");
  if (!proto->ParseFromString(model))
    throw Error("'", path, "': not an ONNX model: the graph cannot be read");

  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  auto &graph = *proto->mutable_graph();
  if (static_cast<std::size_t>(graph.initializer_size()) != located.size())
    throw Error("'", path, "': not an ONNX model: initializers are damaged");
  for (int i = 0; i < graph.initializer_size(); ++i) {
    auto &tensor = *graph.mutable_initializer(i);
    Located &found = located[static_cast<std::size_t>(i)];
    OnnxInitializer entry;
    entry.name = tensor.name();
    entry.dataType = tensor.data_type();
    std::string place = "'" + path + "': initializer '" + entry.name + "'";
    for (std::int64_t dim : tensor.dims()) {
      if (dim < 0)
        throw Error(place, ": negative dimension ", dim);
      entry.dims.push_back(static_cast<std::uint64_t>(dim));
      if (__builtin_mul_overflow(entry.elements,
                                 static_cast<std::uint64_t>(dim),
                                 &entry.elements) ||
          entry.elements > kMaxElements)
        throw Error(place, ": is too large");
    }
    std::uint64_t bytes = entry.elements * rawBytes(entry.dataType);
    if (tensor.data_location() == 1) {
      entry.external = true;
      std::uint64_t offset = 0, length = bytes;
      for (const auto &pair : tensor.external_data()) {
        if (pair.key() == "location")
          entry.location = pair.value();
        else if (pair.key() == "offset")
          offset = parseNumber(pair.value(), place + ": external offset");
        else if (pair.key() == "length")
          length = parseNumber(pair.value(), place + ": external length");
      }
      std::filesystem::path relative(entry.location);
      if (entry.location.empty() || relative.is_absolute() ||
          std::find(relative.begin(), relative.end(), "..") != relative.end())
        throw Error(place, ": external data location '", entry.location,
                    "' must be a path inside the model's folder");
      entry.location = (folder / relative).string();
      if (length != bytes)
        throw Error(place, ": expected ", bytes,
                    " bytes of external data, got ", length);
      std::error_code error;
      entry.absent = !std::filesystem::exists(entry.location, error);
      if (!entry.absent) {
        std::uint64_t size = std::filesystem::file_size(entry.location, error);
        if (error || offset > size || length > size - offset)
          throw Error(place, ": expected ", length, " bytes at ", offset,
                      " of '", entry.location, "', the file has ", size);
      }
      entry.extents.push_back({offset, length});
    } else if (!found.raw.empty() && found.raw.front().bytes > 0) {
      entry.extents = found.raw;
    } else {
      entry.extents = found.typed;
      if (!found.other.empty()) {
        // Varint-coded integers are small and belong to the graph.
        onnx_subset::TensorProto data;
        if (!data.ParseFromString(found.other))
          throw Error(place, ": its data cannot be read");
        tensor.MergeFrom(data);
      }
    }
    std::uint64_t present = 0;
    for (const Extent &extent : entry.extents)
      present += extent.bytes;
    if (isReal(entry.dataType) && !entry.external && found.other.empty() &&
        present != bytes)
      throw Error(place, ": expected ", bytes, " bytes of data, got ", present);
    std::string name = entry.name;
    if (!table.emplace(name, std::move(entry)).second)
      throw Error(place, ": stands twice");
  }
}

OnnxModel::~OnnxModel() = default;

const OnnxInitializer *OnnxModel::find(const std::string &name) const {
  auto entry = table.find(name);
  return entry == table.end() ? nullptr : &entry->second;
}

const InputFile &OnnxModel::open(const OnnxInitializer &initializer) const {
  if (!initializer.external)
    return *input;
  std::unique_ptr<InputFile> &opening = opened[initializer.location];
  if (!opening)
    opening = std::make_unique<InputFile>(initializer.location);
  return *opening;
}

void OnnxModel::readBytes(const OnnxInitializer &initializer,
                          std::uint64_t begin, std::span<std::byte> out) const {
  const InputFile &from = open(initializer);
  for (const Extent &extent : initializer.extents) {
    if (out.empty())
      return;
    if (begin >= extent.bytes) {
      begin -= extent.bytes;
      continue;
    }
    std::size_t part = static_cast<std::size_t>(
        std::min<std::uint64_t>(extent.bytes - begin, out.size()));
    from.read(extent.offset + begin, out.first(part));
    out = out.subspan(part);
    begin = 0;
  }
  if (!out.empty())
    throw Error("'", file, "': initializer '", initializer.name,
                "': its data is too short");
}

void OnnxModel::read(const OnnxInitializer &initializer, std::uint64_t begin,
                     std::span<float> out) const {
  std::string place = "'" + file + "': initializer '" + initializer.name + "'";
  if (initializer.absent)
    throw Error(place, ": its weights '", initializer.location,
                "' do not exist; give --init SEED to draw them");
  if (!isReal(initializer.dataType))
    throw Error(place, ": expected real numbers, got ONNX data type ",
                initializer.dataType);
  if (begin > initializer.elements || out.size() > initializer.elements - begin)
    throw Error(place, ": expected ", begin + out.size(), " elements, got ",
                initializer.elements);
  std::uint64_t size = rawBytes(initializer.dataType);
  if (initializer.dataType == kFloat) {
    readBytes(initializer, begin * size, std::as_writable_bytes(out));
    return;
  }
  // Piece by piece, so that no second copy of a large tensor exists.
  std::vector<std::byte> piece;
  constexpr std::size_t kPiece = 1 << 16;
  for (std::size_t done = 0; done < out.size();) {
    std::size_t n = std::min(kPiece, out.size() - done);
    piece.resize(n * size);
    readBytes(initializer, (begin + done) * size, piece);
    for (std::size_t i = 0; i < n; ++i) {
      const std::byte *at = piece.data() + i * size;
      if (initializer.dataType == kDouble) {
        double value;
        std::memcpy(&value, at, sizeof value);
        out[done + i] = static_cast<float>(value);
        continue;
      }
      std::uint16_t bits;
      std::memcpy(&bits, at, sizeof bits);
      out[done + i] =
          initializer.dataType == kFloat16
              ? halfToFloat(bits)
              : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
    done += n;
  }
}

std::string OnnxModel::rawData(const OnnxInitializer &initializer) const {
  std::uint64_t bytes = 0;
  for (const Extent &extent : initializer.extents)
    bytes += extent.bytes;
  std::string data(bytes, '\0');
  readBytes(initializer, 0,
            std::as_writable_bytes(std::span(data.data(), data.size())));
  return data;
}

/// Small integer initializers steer shapes (a Reshape's target): they are
/// graph, not weights, and count in the same form wherever and however they are
/// stored.
std::string
OnnxModel::smallIntegers(const onnx_subset::TensorProto &tensor) const {
  const OnnxInitializer &initializer = table.at(tensor.name());
  constexpr std::uint64_t kSmall = 4096;
  std::uint64_t size = rawBytes(initializer.dataType);
  if (isReal(initializer.dataType) || size == 0 || size > 8 ||
      initializer.absent || initializer.elements > kSmall)
    return "";
  if (!initializer.extents.empty())
    return rawData(initializer);
  std::string bytes;
  auto put = [&](std::uint64_t value) {
    bytes.append(reinterpret_cast<const char *>(&value), size);
  };
  for (std::int32_t value : tensor.int32_data())
    put(static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
  for (std::int64_t value : tensor.int64_data())
    put(static_cast<std::uint64_t>(value));
  for (std::uint64_t value : tensor.uint64_data())
    put(value);
  return bytes;
}

std::string OnnxModel::hash() const {
  onnx_subset::ModelMeaning meaning;
  // Through the wire: opset_import is an unknown field of ModelProto.
  if (!meaning.ParseFromString(proto->SerializeAsString()))
    throw Error("'", file, "': the graph cannot be read");
  meaning.DiscardUnknownFields();
  *meaning.mutable_graph() = proto->graph();
  onnx_subset::GraphProto &graph = *meaning.mutable_graph();
  graph.clear_doc_string();
  for (onnx_subset::NodeProto &node : *graph.mutable_node())
    node.clear_doc_string();
  for (onnx_subset::TensorProto &tensor : *graph.mutable_initializer()) {
    tensor.clear_doc_string();
    std::string integers = smallIntegers(tensor);
    tensor.clear_float_data();
    tensor.clear_int32_data();
    tensor.clear_int64_data();
    tensor.clear_double_data();
    tensor.clear_uint64_data();
    tensor.clear_raw_data();
    tensor.clear_external_data();
    tensor.clear_data_location();
    if (!integers.empty())
      tensor.set_raw_data(integers);
  }
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!meaning.SerializeToCodedStream(&coded))
      throw Error("'", file, "': the graph cannot be serialised");
  }
  return sha256(bytes);
}

std::string modelHash(const std::string &path) {
  return OnnxModel(path).hash();
}

} // namespace tombolo::runtime
