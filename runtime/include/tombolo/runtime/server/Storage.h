//===- Storage.h - where the server's state is kept -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The few things that the server asks of a disk, and what each promises after
// the power has gone: a file has what was in it at its last `sync`, and perhaps
// more or less sensible bytes behind; a name is there, or not, as it was at the
// last `syncNames`, or as it is now. Tests put a disk in its place that forgets
// whatever it may.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_STORAGE_H
#define TOMBOLO_RUNTIME_SERVER_STORAGE_H

#include "tombolo/runtime/Error.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// The system has refused; what is on disk now nobody knows.
class StorageError : public Error {
public:
  template <typename... Parts>
  explicit StorageError(std::string_view first, const Parts &...parts)
      : Error(Status::Failed, first, parts...) {}
};

/// One flat folder. Calls that change something throw StorageError.
class Storage {
public:
  virtual ~Storage() = default;

  class Writer {
  public:
    virtual ~Writer() = default;
    virtual void append(std::span<const std::byte> data) = 0;
    virtual void sync() = 0;
  };
  class Reader {
  public:
    virtual ~Reader() = default;
    virtual std::uint64_t size() const = 0;
    /// Fills `to`, which lies inside the file.
    virtual void read(std::uint64_t offset, std::span<std::byte> to) const = 0;
  };

  /// For messages.
  virtual std::string path(const std::string &name) const = 0;
  virtual std::vector<std::string> names() const = 0;
  /// An empty file, in place of one of that name.
  virtual std::unique_ptr<Writer> create(const std::string &name) = 0;
  virtual std::unique_ptr<Reader> open(const std::string &name) const = 0;
  /// Makes durable what is in a file, whoever has written it.
  virtual void sync(const std::string &name) = 0;
  /// Replaces `to`.
  virtual void rename(const std::string &from, const std::string &to) = 0;
  virtual void remove(const std::string &name) = 0;
  /// Makes what was created, renamed and removed durable.
  virtual void syncNames() = 0;
};

/// A folder, made when it is not there. Throws Error when another process has
/// it open in this way.
std::unique_ptr<Storage> openStorage(const std::string &folder);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_STORAGE_H
