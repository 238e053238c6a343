//===- Expect.h - expecting an Error that says something ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TEST_EXPECT_H
#define TOMBOLO_RUNTIME_TEST_EXPECT_H

#include "tombolo/runtime/Error.h"

#include <gtest/gtest.h>

#include <string>

namespace tombolo::runtime::test {

/// Runs `action`, which must throw Error with `part` in its message.
template <typename Action>
void expectError(Action action, const std::string &part) {
  try {
    action();
    ADD_FAILURE() << "no error, expected one with: " << part;
  } catch (const Error &error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << "got: " << error.what() << "\nexpected in it: " << part;
  }
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_RUNTIME_TEST_EXPECT_H
