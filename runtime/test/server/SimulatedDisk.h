//===- SimulatedDisk.h - a disk that forgets --------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The server's Storage in memory, with a power switch. When the power goes, of
// what was not synced a random part stays: some of the bytes at the end of a
// file, perhaps others than were written, and the first few of the changes of
// names, in order, as a journal keeps them.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_SIMULATEDDISK_H
#define TOMBOLO_TEST_SERVER_SIMULATEDDISK_H

#include "tombolo/runtime/server/Storage.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>

namespace tombolo::runtime::test {

/// What every call throws from the moment on when the power goes.
struct PowerLoss {};

class SimulatedDisk {
public:
  explicit SimulatedDisk(unsigned seed) : random(seed) {}

  /// A server's view, until the next power loss or `unplug`.
  std::unique_ptr<Storage> mount() {
    ++mounts;
    operationsLeft.reset();
    return std::make_unique<Mount>(*this);
  }
  /// The power goes during the n-th call that changes something.
  void losePowerIn(std::uint64_t calls) { operationsLeft = calls; }
  /// Now. What was not synced is lost, or not.
  void losePower() {
    ++mounts; // nobody who has it open gets at it any more
    std::size_t kept = random() % (renames.size() + 1);
    names = durableNames;
    for (std::size_t i = 0; i < kept; ++i)
      renames[i].apply(names);
    durableNames = names;
    renames.clear();
    for (auto &[number, file] : files) {
      file.synced = std::min(file.synced, file.data.size()); // damage
      std::size_t loose = file.data.size() - file.synced;
      if (loose == 0)
        continue;
      std::size_t stays = random() % (loose + 1);
      file.data.resize(file.synced + stays);
      // Blocks that did not come to the disk, or only half.
      if (stays > 0 && random() % 2)
        file.data[file.synced + random() % stays] ^= 1 << random() % 8;
      if (stays > 0 && random() % 4 == 0)
        std::memset(file.data.data() + file.synced, 0, stays);
      file.synced = file.data.size();
    }
  }
  /// The server's process alone ends: what it wrote stays.
  void unplug() { ++mounts; }

  std::vector<std::string> list() const {
    std::vector<std::string> found;
    for (const auto &[name, file] : names)
      found.push_back(name);
    return found;
  }
  std::string &content(const std::string &name) {
    return files.at(names.at(name)).data;
  }

private:
  struct File {
    std::string data;
    std::size_t synced = 0;
  };
  // Nothing that was opened for reading is written any more.
  using Names = std::map<std::string, int>;
  struct Change {
    std::string from, to; // from empty: `to` is `file`; to empty: removed
    int file = 0;
    void apply(Names &names) const {
      if (from.empty()) {
        names[to] = file;
      } else if (to.empty()) {
        names.erase(from);
      } else {
        names[to] = names.at(from);
        names.erase(from);
      }
    }
  };

  class Mount final : public Storage {
  public:
    explicit Mount(SimulatedDisk &disk) : disk(disk), number(disk.mounts) {}

    std::string path(const std::string &name) const override {
      return "disk/" + name;
    }
    std::vector<std::string> names() const override {
      check();
      return disk.list();
    }
    std::unique_ptr<Writer> create(const std::string &name) override {
      change();
      int file = disk.nextFile++;
      disk.files[file];
      disk.rename({"", name, file});
      return std::make_unique<MountWriter>(*this, file);
    }
    std::unique_ptr<Reader> open(const std::string &name) const override {
      check();
      return std::make_unique<MountReader>(disk.content(name));
    }
    void rename(const std::string &from, const std::string &to) override {
      change();
      disk.rename({from, to, 0});
    }
    void remove(const std::string &name) override {
      change();
      if (disk.names.contains(name))
        disk.rename({name, "", 0});
    }
    void sync(const std::string &name) override {
      change();
      File &file = disk.files.at(disk.names.at(name));
      file.synced = file.data.size();
    }
    void syncNames() override {
      change();
      disk.durableNames = disk.names;
      disk.renames.clear();
    }

  private:
    class MountWriter final : public Writer {
    public:
      MountWriter(Mount &mount, int file) : mount(mount), file(file) {}
      void append(std::span<const std::byte> data) override {
        if (data.empty())
          return;
        mount.check();
        std::string &to = mount.disk.files.at(file).data;
        // The power may go in the middle.
        std::size_t half = mount.isLast() ? data.size() / 2 : data.size();
        to.append(reinterpret_cast<const char *>(data.data()), half);
        mount.change();
      }
      void sync() override {
        mount.change();
        File &it = mount.disk.files.at(file);
        it.synced = it.data.size();
      }

    private:
      Mount &mount;
      int file;
    };
    class MountReader final : public Reader {
    public:
      explicit MountReader(const std::string &data) : data(data) {}
      std::uint64_t size() const override { return data.size(); }
      void read(std::uint64_t offset, std::span<std::byte> to) const override {
        std::ranges::copy(
            std::as_bytes(std::span(data)).subspan(offset, to.size()),
            to.begin());
      }

    private:
      const std::string &data;
    };

    void check() const {
      if (number != disk.mounts)
        throw PowerLoss{};
    }
    bool isLast() const { return disk.operationsLeft == 1; }
    void change() const {
      check();
      if (!disk.operationsLeft || --*disk.operationsLeft > 0)
        return;
      disk.operationsLeft.reset();
      disk.losePower();
      throw PowerLoss{};
    }

    SimulatedDisk &disk;
    std::uint64_t number;
  };

  void rename(Change change) {
    change.apply(names);
    renames.push_back(std::move(change));
  }

  std::mt19937 random;
  std::map<int, File> files;
  Names names, durableNames;
  std::vector<Change> renames; // not durable yet, in order
  int nextFile = 0;
  std::uint64_t mounts = 0;
  std::optional<std::uint64_t> operationsLeft;
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_SIMULATEDDISK_H
