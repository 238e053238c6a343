//===- Error.h - what the runtime throws ------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_ERROR_H
#define TOMBOLO_RUNTIME_ERROR_H

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tombolo::runtime {

/// The exit status a program ends with when an error reaches its main.
enum class Status : int {
  BadInput = 1, ///< a file, plan or argument value is wrong
  Usage = 2,    ///< the command line is wrong
  Failed = 3,   ///< the run could not finish
};

/// A fault of the user, of the input or of the outside world. The message is
/// put together from the arguments as by `operator<<`:
///
///   throw Error("segment '", name, "': expected ", n, " inputs, got ", m);
///
/// Messages start in lower case, have no full stop, name file and place, and
/// say what was expected and found.
class Error : public std::runtime_error {
public:
  template <typename... Parts>
  explicit Error(std::string_view first, const Parts &...parts)
      : Error(Status::BadInput, first, parts...) {}

  template <typename... Parts>
  explicit Error(Status status, std::string_view first, const Parts &...parts)
      : std::runtime_error(format(first, parts...)), code(status) {}

  Status status() const { return code; }
  int exitStatus() const { return static_cast<int>(code); }

private:
  template <typename... Parts> static std::string format(const Parts &...parts) {
    std::ostringstream stream;
    (stream << ... << parts);
    return stream.str();
  }

  Status code;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_ERROR_H
