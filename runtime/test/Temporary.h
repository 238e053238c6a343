//===- Temporary.h - a folder for one test --------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TEST_TEMPORARY_H
#define TOMBOLO_RUNTIME_TEST_TEMPORARY_H

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tombolo::runtime::test {

class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "tombolo-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string operator/(const std::string &name) const {
    return path + "/" + name;
  }
  std::string path;
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_RUNTIME_TEST_TEMPORARY_H
