//===- FolderStorage.cpp - the server's state in real files ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Storage.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

constexpr const char *kLock = "lock";

[[noreturn]] void fail(const std::string &path, const char *what) {
  throw StorageError("server state '", path, "': cannot ", what, ": ",
                     std::strerror(errno));
}

class FileWriter final : public Storage::Writer {
public:
  explicit FileWriter(std::string where) : path(std::move(where)) {
    fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
      fail(path, "create");
  }
  ~FileWriter() override { ::close(fd); }

  void append(std::span<const std::byte> data) override {
    while (!data.empty()) {
      ssize_t put = ::write(fd, data.data(), data.size());
      if (put < 0 && errno == EINTR)
        continue;
      if (put < 0)
        fail(path, "write");
      data = data.subspan(static_cast<std::size_t>(put));
    }
  }
  void sync() override {
    if (::fdatasync(fd) != 0)
      fail(path, "write to disk");
  }

private:
  std::string path;
  int fd = -1;
};

class FileReader final : public Storage::Reader {
public:
  explicit FileReader(const std::string &path) : file(path) {}
  std::uint64_t size() const override { return file.size(); }
  void read(std::uint64_t offset, std::span<std::byte> to) const override {
    file.read(offset, to);
  }

private:
  InputFile file;
};

class FolderStorage final : public Storage {
public:
  explicit FolderStorage(std::string where) : folder(std::move(where)) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    std::string name = path(kLock);
    lock = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock < 0)
      throw Error("server state '", folder,
                  "': cannot write there: ", std::strerror(errno));
    if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
      ::close(lock);
      throw Error("server state '", folder,
                  "': another server has it open; end that one, or give "
                  "another folder");
    }
  }
  ~FolderStorage() override { ::close(lock); }

  std::string path(const std::string &name) const override {
    return folder + "/" + name;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> found;
    std::error_code error;
    for (std::filesystem::directory_iterator at(folder, error), end;
         !error && at != end; at.increment(error))
      if (at->path().filename() != kLock)
        found.push_back(at->path().filename().string());
    if (error)
      throw Error(Status::Failed, "server state '", folder,
                  "': cannot list: ", error.message());
    return found;
  }
  std::unique_ptr<Writer> create(const std::string &name) override {
    return std::make_unique<FileWriter>(path(name));
  }
  std::unique_ptr<Reader> open(const std::string &name) const override {
    return std::make_unique<FileReader>(path(name));
  }
  void rename(const std::string &from, const std::string &to) override {
    if (::rename(path(from).c_str(), path(to).c_str()) != 0)
      fail(path(to), "put in place");
  }
  void remove(const std::string &name) override {
    if (::unlink(path(name).c_str()) != 0 && errno != ENOENT)
      fail(path(name), "remove");
  }
  void sync(const std::string &name) override {
    int fd = ::open(path(name).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
      fail(path(name), "open");
    int result = ::fsync(fd);
    ::close(fd);
    if (result != 0)
      fail(path(name), "write to disk");
  }
  void syncNames() override { syncFolder(folder); }

private:
  std::string folder;
  int lock = -1;
};

} // namespace

std::unique_ptr<Storage>
tombolo::runtime::openStorage(const std::string &folder) {
  return std::make_unique<FolderStorage>(folder);
}
