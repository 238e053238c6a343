//===- RecordFile.h - checksummed records in a file -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A record is a frame of nine 8-byte words, a head (a message), and a body (raw
// data), each filled up with zeros to a multiple of 8 bytes. Words of the frame,
// little endian: a magic number, the type, bytes of the head, bytes of the
// body, how much of the file was durable when the record was written, and
// SHA-256 over these five words, the head and the body.
//
// The fifth word tells a torn end, which any crash may leave, from damage: what
// a later record knows to be durable was once whole.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_RECORDFILE_H
#define TOMBOLO_LIB_SERVER_RECORDFILE_H

#include "tombolo/runtime/server/Storage.h"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

namespace google::protobuf {
class MessageLite;
} // namespace google::protobuf

namespace tombolo::runtime {

/// Values stand on disk.
enum class RecordType : std::uint64_t {
  LogHeader = 1,
  Push = 2,
  Refused = 3,
  Told = 4,
  Version = 5,
  Barrier = 6,
  Stop = 7,
  Members = 8,
  SnapshotHeader = 16,
  Fragment = 17,
  Data = 18,
  End = 19,
  Vote = 32,
};

inline bool isOfSnapshot(RecordType type) {
  return type >= RecordType::SnapshotHeader && type <= RecordType::End;
}

struct Record {
  RecordType type{};
  std::string head;
  std::vector<std::byte> body;
};

inline constexpr std::size_t kFrameBytes = 72;

/// A record's frame, with the head behind it, up to the body.
std::string recordFront(RecordType type, std::string_view head,
                        std::span<const std::byte> body, std::uint64_t durable);
/// What fills a head or a body up.
inline std::uint64_t paddingOf(std::uint64_t bytes) {
  return (8 - bytes % 8) % 8;
}

/// Whoever takes records in, in order.
using RecordSink = std::function<void(RecordType type,
                                      const google::protobuf::MessageLite *head,
                                      std::span<const std::byte> body)>;

/// Appends records. `append` is called by one thread at a time; `sync` by any,
/// and several share one write to disk.
class RecordWriter {
public:
  explicit RecordWriter(std::unique_ptr<Storage::Writer> file)
      : file(std::move(file)) {}

  /// Returns the bytes of the file then.
  std::uint64_t append(RecordType type,
                       const google::protobuf::MessageLite *head,
                       std::span<const std::byte> body);
  std::uint64_t append(RecordType type, std::string_view head,
                       std::span<const std::byte> body);
  /// Returns when the first `bytes` are durable.
  void sync(std::uint64_t bytes);
  std::uint64_t size() const;

private:
  std::unique_ptr<Storage::Writer> file;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t written = 0, durable = 0;
  bool syncing = false, failed = false;
};

/// Puts records together again that come in pieces, as `recordFront`, body and
/// padding.
class RecordAssembler {
public:
  /// No head or body has more than `most` bytes.
  explicit RecordAssembler(std::uint64_t most) : most(most) {}

  void add(std::string_view bytes);
  /// Throws Error for what is no record.
  std::optional<Record> next();

private:
  std::uint64_t most;
  std::string waiting;
  std::size_t at = 0; ///< where the next one begins
};

class RecordReader {
public:
  RecordReader(const Storage &storage, const std::string &name);

  /// The next whole record, or nothing: the end, or something that is none.
  std::optional<Record> next();
  /// Where the last whole record ends.
  std::uint64_t position() const { return at; }
  /// Nothing is behind the last whole record.
  bool atEnd() const { return at == file->size(); }
  /// After `next` has found nothing: a record further on says that something
  /// was durable here, so this is damage and no torn end.
  bool wasDurable() const;

  const std::string &path() const { return where; }

private:
  std::optional<Record> read(std::uint64_t from, std::uint64_t &end,
                             std::uint64_t &durable) const;

  std::string where;
  std::unique_ptr<Storage::Reader> file;
  std::uint64_t at = 0;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_RECORDFILE_H
