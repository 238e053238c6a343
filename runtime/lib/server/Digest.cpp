//===- Digest.cpp - SHA-256 in pieces -------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Digest.h"

#include "tombolo/runtime/Error.h"

#include <openssl/evp.h>

using namespace tombolo::runtime;

Digest::Digest() : context(EVP_MD_CTX_new()) {
  if (!context || EVP_DigestInit_ex(context, EVP_sha256(), nullptr) != 1) {
    EVP_MD_CTX_free(context);
    throw Error(Status::Failed, "OpenSSL has no SHA-256");
  }
}

Digest::~Digest() { EVP_MD_CTX_free(context); }

void Digest::add(const void *data, std::size_t bytes) {
  if (EVP_DigestUpdate(context, data, bytes) != 1)
    throw Error(Status::Failed, "OpenSSL cannot continue a SHA-256");
}

Sha256 Digest::finish() {
  Sha256 result{};
  unsigned length = 0;
  if (EVP_DigestFinal_ex(context, result.data(), &length) != 1 ||
      length != result.size())
    throw Error(Status::Failed, "OpenSSL cannot finish a SHA-256");
  return result;
}

std::string tombolo::runtime::hex(std::span<const std::uint8_t> bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (std::uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}
