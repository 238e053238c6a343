//===- WireFormat.h - walking a protobuf message without parsing *- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model of a gigabyte is nearly all weights. Walking its fields by their
// lengths touches a few pages of the file, while parsing copies all of it.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_ONNX_WIREFORMAT_H
#define TOMBOLO_LIB_IMPORT_ONNX_WIREFORMAT_H

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>

namespace tombolo::importer {

/// One field of a message.
struct WireField {
  uint32_t number;
  uint32_t wireType;     ///< 0 varint, 1 64 bits, 2 length and bytes, 5 32 bits
  llvm::StringRef whole; ///< with its tag
  llvm::StringRef payload; ///< wire type 2: the bytes
};

/// Walks the fields of a message.
class WireReader {
public:
  enum class Status { Field, End, Malformed, Truncated };

  explicit WireReader(llvm::StringRef message) : rest(message) {}

  /// Truncated: a field says that it is longer than what is left.
  Status next(WireField &field) {
    if (rest.empty())
      return Status::End;
    llvm::StringRef start = rest;
    uint64_t tag;
    if (Status status = varint(tag); status != Status::Field)
      return status;
    if (tag >> 3 == 0 || tag >> 32)
      return Status::Malformed;
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wireType = tag & 7;
    field.payload = {};
    uint64_t skip = 0;
    switch (field.wireType) {
    case 0:
      if (Status status = varint(skip); status != Status::Field)
        return status;
      skip = 0;
      break;
    case 1:
      skip = 8;
      break;
    case 2:
      if (Status status = varint(skip); status != Status::Field)
        return status;
      break;
    case 5:
      skip = 4;
      break;
    default:
      return Status::Malformed;
    }
    if (skip > rest.size())
      return Status::Truncated;
    if (field.wireType == 2)
      field.payload = rest.take_front(skip);
    rest = rest.drop_front(skip);
    field.whole = start.drop_back(rest.size());
    return Status::Field;
  }

private:
  Status varint(uint64_t &value) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest.empty())
        return Status::Truncated;
      uint8_t byte = static_cast<uint8_t>(rest.front());
      rest = rest.drop_front();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (!(byte & 0x80))
        return Status::Field;
    }
    return Status::Malformed;
  }

  llvm::StringRef rest;
};

/// Appends a field of wire type 2.
inline void appendField(std::string &to, uint32_t number,
                        llvm::StringRef payload) {
  auto appendVarint = [&](uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      to.push_back(static_cast<char>(value | 0x80));
    to.push_back(static_cast<char>(value));
  };
  appendVarint(uint64_t{number} << 3 | 2);
  appendVarint(payload.size());
  to.append(payload.data(), payload.size());
}

} // namespace tombolo::importer

#endif // TOMBOLO_LIB_IMPORT_ONNX_WIREFORMAT_H
