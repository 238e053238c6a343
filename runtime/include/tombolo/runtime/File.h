//===- File.h - files that are whole or not there ---------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_FILE_H
#define TOMBOLO_RUNTIME_FILE_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tombolo::runtime {

/// A file open for reading at any offset.
class InputFile {
public:
  explicit InputFile(const std::string &path);
  ~InputFile();
  InputFile(const InputFile &) = delete;
  InputFile &operator=(const InputFile &) = delete;

  const std::string &path() const { return name; }
  std::uint64_t size() const { return bytes; }
  int descriptor() const { return fd; }
  /// Fills `out` from `offset`. Throws Error when the file ends before.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

private:
  std::string name;
  int fd = -1;
  std::uint64_t bytes = 0;
};

/// The whole of a file of at most `limit` bytes.
std::string readFile(const std::string &path, std::uint64_t limit);

/// Writes `path` aside (path.tmp-PID) and puts it in place with `commit`, which
/// syncs file and folder. Without `commit` nothing is left. Every failure (a
/// full disk, a missing folder) throws Error with the system's reason.
class OutputFile {
public:
  explicit OutputFile(const std::string &path);
  ~OutputFile();
  OutputFile(const OutputFile &) = delete;
  OutputFile &operator=(const OutputFile &) = delete;

  void write(std::span<const std::byte> data);
  void write(std::string_view data) {
    write(std::as_bytes(std::span(data.data(), data.size())));
  }
  std::uint64_t written() const { return count; }
  /// Where `commit` puts it instead, in the same folder: a name that only the
  /// content decides.
  void retarget(const std::string &path) { target = path; }
  void commit();

private:
  [[noreturn]] void fail(const char *what, int error);
  std::string target;
  std::string aside;
  int fd = -1;
  std::uint64_t count = 0;
};

void writeFile(const std::string &path, std::string_view data);

/// Makes renames in `folder` durable.
void syncFolder(const std::string &folder);

/// SHA-256 in pieces.
class Sha256 {
public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256 &) = delete;
  Sha256 &operator=(const Sha256 &) = delete;
  void update(std::span<const std::byte> data);
  void update(std::string_view data) {
    update(std::as_bytes(std::span(data.data(), data.size())));
  }
  /// The 32 bytes; the object is then spent.
  std::string finish();

private:
  struct State;
  std::unique_ptr<State> state;
};

std::string sha256(std::string_view data);
std::string toHex(std::string_view bytes);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_FILE_H
