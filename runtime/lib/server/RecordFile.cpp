//===- RecordFile.cpp - checksummed records in a file ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RecordFile.h"

#include "tombolo/runtime/File.h"

#include <google/protobuf/message_lite.h>

#include <algorithm>
#include <bit>
#include <cstring>

using namespace tombolo::runtime;

static_assert(std::endian::native == std::endian::little);

namespace {

constexpr const char *kFailedBefore =
    "server state: an earlier write has failed";
constexpr std::uint64_t kMagic = 0x31474f4c424d4f54; // "TOMBLOG1"

struct Frame {
  std::uint64_t magic = kMagic;
  std::uint64_t type = 0;
  std::uint64_t head = 0, body = 0; // bytes
  std::uint64_t durable = 0;
  char sha256[32] = {};
};
static_assert(sizeof(Frame) == kFrameBytes);

std::uint64_t padded(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

std::string checksum(const Frame &frame, std::string_view head,
                     std::span<const std::byte> body) {
  Sha256 digest;
  digest.update({reinterpret_cast<const char *>(&frame),
                 sizeof frame - sizeof frame.sha256});
  digest.update(head);
  digest.update(body);
  return digest.finish();
}

} // namespace

std::string tombolo::runtime::recordFront(RecordType type,
                                          std::string_view head,
                                          std::span<const std::byte> body,
                                          std::uint64_t durable) {
  Frame frame;
  frame.type = static_cast<std::uint64_t>(type);
  frame.head = head.size();
  frame.body = body.size();
  frame.durable = durable;
  std::string sum = checksum(frame, head, body);
  std::memcpy(frame.sha256, sum.data(), sizeof frame.sha256);
  std::string front(reinterpret_cast<const char *>(&frame), sizeof frame);
  front += head;
  front.resize(padded(front.size()), '\0');
  return front;
}

std::uint64_t RecordWriter::append(RecordType type,
                                   const google::protobuf::MessageLite *head,
                                   std::span<const std::byte> body) {
  return append(type, head ? head->SerializeAsString() : "", body);
}

std::uint64_t RecordWriter::append(RecordType type, std::string_view head,
                                   std::span<const std::byte> body) {
  std::uint64_t durableThen = 0;
  {
    std::lock_guard lock(mutex);
    if (failed)
      throw StorageError(kFailedBefore);
    durableThen = durable;
  }
  // Small ones in one piece; the body of a large one as it lies.
  std::string front = recordFront(type, head, body, durableThen);
  static constexpr std::byte kZeros[8] = {};
  std::uint64_t fill = paddingOf(body.size());
  try {
    file->append(std::as_bytes(std::span(front.data(), front.size())));
    file->append(body);
    file->append(std::span(kZeros).first(fill));
  } catch (...) { // what comes behind half a record could not be read
    std::lock_guard lock(mutex);
    failed = true;
    throw;
  }
  std::lock_guard lock(mutex);
  written += front.size() + body.size() + fill;
  return written;
}

void RecordAssembler::add(std::string_view bytes) {
  waiting.erase(0, std::exchange(at, 0));
  waiting += bytes;
}

std::optional<Record> RecordAssembler::next() {
  std::string_view rest = std::string_view(waiting).substr(at);
  Frame frame;
  if (rest.size() < sizeof frame)
    return std::nullopt;
  std::memcpy(&frame, rest.data(), sizeof frame);
  if (frame.magic != kMagic || frame.head > most || frame.body > most)
    throw Error("expected a record of at most ", most, " bytes, got ",
                frame.magic == kMagic ? "a larger one" : "something else");
  std::uint64_t body = sizeof frame + padded(frame.head);
  std::uint64_t end = body + padded(frame.body);
  if (rest.size() < end)
    return std::nullopt;
  Record record;
  record.type = static_cast<RecordType>(frame.type);
  record.head = rest.substr(sizeof frame, frame.head);
  std::span<const std::byte> data =
      std::as_bytes(std::span(rest)).subspan(body, frame.body);
  record.body.assign(data.begin(), data.end());
  if (checksum(frame, record.head, record.body) !=
      std::string_view(frame.sha256, sizeof frame.sha256))
    throw Error("expected a record with its SHA-256, got another one");
  at += end;
  return record;
}

std::uint64_t RecordWriter::size() const {
  std::lock_guard lock(mutex);
  return written;
}

void RecordWriter::sync(std::uint64_t bytes) {
  std::unique_lock lock(mutex);
  while (durable < bytes) {
    // What a failed sync has left on disk nobody knows.
    if (failed)
      throw StorageError(kFailedBefore);
    if (syncing) {
      changed.wait(lock);
      continue;
    }
    syncing = true;
    std::uint64_t upTo = written;
    lock.unlock();
    try {
      file->sync();
    } catch (...) {
      lock.lock();
      syncing = false;
      failed = true;
      changed.notify_all();
      throw;
    }
    lock.lock();
    syncing = false;
    durable = upTo;
    changed.notify_all();
  }
}

RecordReader::RecordReader(const Storage &storage, const std::string &name)
    : where(storage.path(name)), file(storage.open(name)) {}

std::optional<Record> RecordReader::read(std::uint64_t from,
                                         std::uint64_t &end,
                                         std::uint64_t &durable) const {
  std::uint64_t left = file->size() - from;
  Frame frame;
  if (left < sizeof frame)
    return std::nullopt;
  file->read(from, std::as_writable_bytes(std::span(&frame, 1)));
  left -= sizeof frame;
  if (frame.magic != kMagic || frame.head > left || frame.body > left ||
      padded(frame.head) > left ||
      padded(frame.body) > left - padded(frame.head))
    return std::nullopt;
  Record record;
  record.type = static_cast<RecordType>(frame.type);
  record.head.resize(frame.head);
  record.body.resize(frame.body);
  from += sizeof frame;
  file->read(from, std::as_writable_bytes(
                       std::span(record.head.data(), record.head.size())));
  from += padded(frame.head);
  file->read(from, record.body);
  if (checksum(frame, record.head, record.body) !=
      std::string_view(frame.sha256, sizeof frame.sha256))
    return std::nullopt;
  end = from + padded(frame.body);
  durable = frame.durable;
  return record;
}

std::optional<Record> RecordReader::next() {
  std::uint64_t end = 0, durable = 0;
  std::optional<Record> record = read(at, end, durable);
  if (record)
    at = end;
  return record;
}

bool RecordReader::wasDurable() const {
  std::uint64_t end = 0, durable = 0;
  std::vector<std::uint64_t> words(1 << 13);
  for (std::uint64_t from = at + 8; from + sizeof(Frame) <= file->size();
       from += 8 * words.size()) {
    std::uint64_t bytes =
        std::min<std::uint64_t>(8 * words.size(), (file->size() - from) / 8 * 8);
    file->read(from, std::as_writable_bytes(std::span(words)).first(bytes));
    for (std::uint64_t word = 0; word < bytes / 8; ++word)
      if (words[word] == kMagic && read(from + 8 * word, end, durable) &&
          durable > at)
        return true;
  }
  return false;
}
