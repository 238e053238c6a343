//===- TemporaryFolder.cpp - a folder that never stays behind -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/launch/Supervisor.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace tombolo::runtime;

/// The keeper: waits for the end of the process that holds the other end of the
/// pipe, then removes the folder. Others may still write into it for a moment,
/// so it tries for a while.
[[noreturn]] static void keep(const std::string &folder, int lifeline) {
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE})
    std::signal(signal, SIG_IGN);
  setpgid(0, 0);
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd)
    dup2(null, fd);
  char byte;
  while (read(lifeline, &byte, 1) < 0 && errno == EINTR) {
  }
  for (int n = 0; n < 20; ++n) {
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    if (!std::filesystem::exists(folder, error))
      break;
    usleep(100000);
  }
  _exit(0);
}

TemporaryFolder::TemporaryFolder(const std::string &prefix)
    : folder(prefix + "XXXXXX") {
  if (!mkdtemp(folder.data()))
    throw Error("cannot make a folder '", prefix,
                "...': ", std::strerror(errno));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) == 0) {
    keeper = fork();
    if (keeper == 0) {
      close(ends[1]);
      keep(folder, ends[0]);
    }
    close(ends[0]);
    lifeline = ends[1];
  }
  if (keeper < 0) {
    int error = errno;
    rmdir(folder.c_str());
    if (lifeline >= 0)
      close(lifeline);
    throw Error(Status::Failed,
                "cannot start a process: ", std::strerror(error));
  }
}

TemporaryFolder::~TemporaryFolder() {
  close(lifeline);
  while (waitpid(keeper, nullptr, 0) < 0 && errno == EINTR) {
  }
}
