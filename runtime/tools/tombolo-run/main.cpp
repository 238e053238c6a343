//===- main.cpp - tombolo-run ---------------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Commands.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <malloc.h>
#include <new>

#include <sys/resource.h>

using namespace tombolo::runtime;

namespace {

struct Command {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *description;
};

constexpr Command kCommands[] = {
    {"local", runLocal, "start a plan's servers and ranks here and train"},
    {"site", runSite, "start and watch the ranks of one site"},
    {"server", runServer, "run the parameter server"},
    {"rank", runRank, "run one rank of an island"},
    {"status", runStatus, "show how a run is doing"},
    {"admin", runAdmin, "take a site out of a running job, or let it in"},
};

/// Pushes, versions and updates take buffers of many megabytes and give them
/// back, all the time. By itself glibc returns their pages to the system at
/// once and faults them in anew, which is most of what the system does in an
/// exchange. One arena, so that a thread finds what another has given back, and
/// none of gRPC's threads keeps a heap of its own.
void keepFreedMemory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_ARENA_MAX, 1);
#endif
}

/// Each connection takes a descriptor, a stranger's too, and the usual limit of
/// 1024 is only for who still calls select.
void allowManyDescriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

} // namespace

#ifdef __GLIBC__
/// oneDNN takes memory for each product that it packs, aligned to a cache line,
/// and gives it back. glibc cuts such a block out of a longer one, and the ends
/// that it cuts off go to the thread's cache of small ones, where they keep
/// what is free on both sides from growing together: the next product of the
/// same size finds no place and takes new pages, up to 10 MB of them. The ends
/// of this alignment are too long for that cache.
extern "C" int posix_memalign(void **to, std::size_t alignment,
                              std::size_t bytes) noexcept {
  constexpr std::size_t kLarge = 1 << 16;
  void *block =
      memalign(bytes < kLarge ? alignment : std::max(alignment, kLarge), bytes);
  if (!block)
    return ENOMEM;
  *to = block;
  return 0;
}
#endif

int main(int argc, char **argv) {
  keepFreedMemory();
  allowManyDescriptors();
  CommandLine app("runs a plan; COMMAND --help lists a command's options",
                  "tombolo-run",
                  {"tombolo-run local p.plan --model m.onnx --data tokens.bin "
                   "--steps 100 --metrics metrics.jsonl"});
  for (const Command &command : kCommands)
    app.add_subcommand(command.name, command.description);
  if (argc < 2) {
    std::cerr << app.help();
    return static_cast<int>(Status::Usage);
  }
  std::string name = argv[1];
  int status = 0;
  if (name.starts_with("-") && !app.parseArguments(argc, argv, status))
    return status;
  for (const Command &command : kCommands) {
    if (name != command.name)
      continue;
    try {
      return command.run(argc - 1, argv + 1);
    } catch (const Error &error) {
      std::cerr << "tombolo-run " << name << ": error: " << error.what()
                << "\n";
      return error.exitStatus();
    } catch (const std::bad_alloc &) {
      std::cerr << "tombolo-run " << name << ": error: out of memory\n";
      return static_cast<int>(Status::Failed);
    } catch (const std::exception &error) {
      std::cerr << "tombolo-run " << name << ": error: " << error.what()
                << "\n";
      return static_cast<int>(Status::Failed);
    }
  }
  std::cerr << "tombolo-run: error: unknown command '" << name
            << "', expected local, site, server, rank, status or admin\n";
  return static_cast<int>(Status::Usage);
}
