//===- Terminal.cpp - the terminal somebody looks at ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Terminal.h"

#include <cstdlib>
#include <string>

#include <sys/ioctl.h>
#include <unistd.h>

using namespace tombolo::runtime;

Terminal::Terminal(std::FILE *stream) {
  int fd = fileno(stream);
  if (isatty(fd) != 1)
    return;
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
    if (size.ws_col > 1)
      columns = size.ws_col;
    if (size.ws_row > 1)
      rows = size.ws_row;
  }
  const char *kind = std::getenv("TERM");
  isTerminal = kind && *kind && std::string(kind) != "dumb";
  const char *without = std::getenv("NO_COLOR");
  colour = isTerminal && (!without || !*without);
}
