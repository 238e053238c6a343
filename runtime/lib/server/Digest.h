//===- Digest.h - SHA-256 in pieces -----------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_DIGEST_H
#define TOMBOLO_LIB_SERVER_DIGEST_H

#include "tombolo/runtime/server/OuterState.h"

#include <bit>
#include <memory>

struct evp_md_ctx_st;

namespace tombolo::runtime {

// Floats go over the wire and into hashes as they lie in memory.
static_assert(std::endian::native == std::endian::little,
              "the server's wire format needs a little-endian machine");

class Digest {
public:
  Digest();
  ~Digest();
  Digest(const Digest &) = delete;
  Digest &operator=(const Digest &) = delete;

  void add(const void *data, std::size_t bytes);
  void add(std::uint64_t value) { add(&value, sizeof value); }
  Sha256 finish();

private:
  evp_md_ctx_st *context;
};

/// Lower-case hexadecimal digits.
std::string hex(std::span<const std::uint8_t> bytes);

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_DIGEST_H
