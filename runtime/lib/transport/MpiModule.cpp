//===- MpiModule.cpp - loads the transport over MPI -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A module of its own, loaded when it is asked for: MPI brings many libraries,
// which other runs shall neither need nor load, and a site may build the module
// with its vendor's.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Transport.h"

#include <filesystem>

#include <dlfcn.h>

namespace tombolo::runtime {

std::unique_ptr<Transport> createMpiTransport(std::uint64_t rank,
                                              TransportOptions options) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path program = fs::read_symlink("/proc/self/exe", error);
  std::string path =
      (program.parent_path().parent_path() / "lib/tombolo/libtombolo-mpi.so")
          .string();
  if (!fs::exists(path, error))
    throw Error(Status::Usage, "the transport mpi is not installed: expected '",
                path,
                "'; build Tombolo where MPI is (Debian: libopenmpi-dev), or "
                "use the transport gloo");
  // Global: MPI loads parts of itself, which need its symbols.
  void *module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!module)
    throw Error(Status::Failed, "cannot load the transport mpi: ", ::dlerror());
  using Create = Transport *(*)(std::uint64_t, const TransportOptions *);
  auto create =
      reinterpret_cast<Create>(::dlsym(module, "tombolo_create_mpi_transport"));
  if (!create)
    throw Error(Status::Failed, "'", path,
                "': is no transport of this version: ", ::dlerror());
  return std::unique_ptr<Transport>(create(rank, &options));
}

} // namespace tombolo::runtime
