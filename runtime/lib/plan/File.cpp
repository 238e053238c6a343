//===- File.cpp - files that are whole or not there -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/File.h"

#include "tombolo/runtime/Error.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tombolo::runtime {

InputFile::InputFile(const std::string &path) : name(path) {
  fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    throw Error("'", path, "': cannot open: ", std::strerror(errno));
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error("'", path, "': expected a regular file");
  }
  bytes = static_cast<std::uint64_t>(info.st_size);
}

InputFile::~InputFile() { ::close(fd); }

void InputFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > bytes || out.size() > bytes - offset)
    throw Error("'", name, "': expected ", out.size(), " bytes at ", offset,
                ", the file has ", bytes);
  std::size_t done = 0;
  while (done < out.size()) {
    ssize_t got = ::pread(fd, out.data() + done, out.size() - done,
                          static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      throw Error("'", name, "': cannot read: ", std::strerror(errno));
    if (got == 0)
      throw Error("'", name, "': the file ends at ", offset + done,
                  " while it is read");
    done += static_cast<std::size_t>(got);
  }
}

std::string readFile(const std::string &path, std::uint64_t limit) {
  InputFile file(path);
  if (file.size() > limit)
    throw Error("'", path, "': expected at most ", limit,
                " bytes, the file has ", file.size());
  std::string data(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(data.data(), data.size())));
  return data;
}

OutputFile::OutputFile(const std::string &path)
    : target(path), aside(path + ".tmp-" + std::to_string(::getpid())) {
  // Renaming would replace a device or a folder by a file.
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    aside.clear();
    throw Error("'", target, "': expected a regular file to write");
  }
  fd = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0)
    throw Error("'", target, "': cannot create: ", std::strerror(errno));
}

OutputFile::~OutputFile() {
  if (fd >= 0)
    ::close(fd);
  if (!aside.empty())
    ::unlink(aside.c_str());
}

void OutputFile::fail(const char *what, int error) {
  throw Error("'", target, "': cannot ", what, ": ", std::strerror(error));
}

void OutputFile::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0)
      fail("write", errno);
    count += static_cast<std::uint64_t>(put);
    data = data.subspan(static_cast<std::size_t>(put));
  }
}

void OutputFile::commit() {
  if (::fsync(fd) != 0)
    fail("write to disk", errno);
  int closing = fd;
  fd = -1;
  if (::close(closing) != 0)
    fail("close", errno);
  if (::rename(aside.c_str(), target.c_str()) != 0)
    fail("put in place", errno);
  aside.clear();
  syncFolder(std::filesystem::path(target).parent_path().string());
}

void writeFile(const std::string &path, std::string_view data) {
  OutputFile out(path);
  out.write(data);
  out.commit();
}

void syncFolder(const std::string &folder) {
  int fd = ::open(folder.empty() ? "." : folder.c_str(),
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    throw Error("'", folder, "': cannot open: ", std::strerror(errno));
  int result = ::fsync(fd);
  int error = errno;
  ::close(fd);
  // Some file systems have nothing to sync for a folder and say so.
  if (result != 0 && error != EINVAL)
    throw Error("'", folder, "': cannot sync: ", std::strerror(error));
}

struct Sha256::State {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state(std::make_unique<State>()) {
  if (!state->context ||
      EVP_DigestInit_ex(state->context, EVP_sha256(), nullptr) != 1)
    throw Error(Status::Failed, "SHA-256 is not available");
}
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> data) {
  if (EVP_DigestUpdate(state->context, data.data(), data.size()) != 1)
    throw Error(Status::Failed, "SHA-256 failed");
}

std::string Sha256::finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(state->context, digest, &length) != 1)
    throw Error(Status::Failed, "SHA-256 failed");
  return std::string(reinterpret_cast<char *>(digest), length);
}

std::string sha256(std::string_view data) {
  Sha256 hash;
  hash.update(data);
  return hash.finish();
}

std::string toHex(std::string_view bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

} // namespace tombolo::runtime
