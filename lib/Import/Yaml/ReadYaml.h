//===- ReadYaml.h - parsing into structs by their YAML traits -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_READYAML_H
#define TOMBOLO_LIB_IMPORT_YAML_READYAML_H

#include "tombolo/Import/YamlFile.h"

#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLTraits.h"

namespace tombolo::yamlio {

/// A whole number from 0; written in decimal.
struct Count {
  uint64_t value = 0;
};

/// What the traits are told: in the first pass no key is required, so that a
/// misspelt key is named as such and not as the missing one it stands for.
struct Pass {
  bool requireKeys = false;
};

template <typename T> void need(llvm::yaml::IO &io, const char *key, T &field) {
  if (static_cast<Pass *>(io.getContext())->requireKeys)
    io.mapRequired(key, field);
  else
    io.mapOptional(key, field);
}

inline void required(llvm::yaml::IO &io, const char *key, uint64_t &field) {
  Count count;
  need(io, key, count);
  field = count.value;
}

inline void optional(llvm::yaml::IO &io, const char *key,
                     std::optional<uint64_t> &field) {
  std::optional<Count> count;
  io.mapOptional(key, count);
  if (count)
    field = count->value;
}

/// Collects the first fault of a pass.
struct FirstFault {
  const YamlFile *file;
  llvm::raw_ostream *errors;
  bool failed = false;

  /// For llvm::SourceMgr.
  static void handle(const llvm::SMDiagnostic &diagnostic, void *opaque);
};

/// Parses the file's one document into `value` by its traits. Reports the first
/// fault and returns false when there is any: bad syntax, an unknown, missing
/// or repeated key, a value of the wrong sort. Then finds the places.
template <typename T>
bool read(YamlFile &file, T &value, llvm::raw_ostream &errors) {
  if (!file.isSane(errors))
    return false;
  if (file.isEmpty()) { // the parser would run past the end
    file.report(errors, YamlFile::Place(), "the file is empty");
    return false;
  }
  for (bool requireKeys : {false, true}) {
    FirstFault fault{&file, &errors};
    Pass pass{requireKeys};
    llvm::yaml::Input input(
        llvm::MemoryBufferRef(file.getText(), file.getName()), &pass,
        FirstFault::handle, &fault);
    value = T();
    input >> value;
    if (input.error() && !fault.failed)
      file.report(errors, YamlFile::Place(), "not a valid YAML file");
    if (input.error() || fault.failed)
      return false;
    if (input.nextDocument()) {
      file.report(errors, YamlFile::Place(), "expected one YAML document");
      return false;
    }
  }
  file.findPlaces();
  return true;
}

} // namespace tombolo::yamlio

namespace llvm::yaml {
template <> struct ScalarTraits<tombolo::yamlio::Count> {
  static void output(const tombolo::yamlio::Count &count, void *,
                     raw_ostream &os) {
    os << count.value;
  }
  static StringRef input(StringRef text, void *,
                         tombolo::yamlio::Count &count) {
    if (!text.getAsInteger(10, count.value))
      return "";
    return text.starts_with("-") ? "expected a number that is not negative"
                                 : "expected a whole number";
  }
  static QuotingType mustQuote(StringRef) { return QuotingType::None; }
};
} // namespace llvm::yaml

#endif // TOMBOLO_LIB_IMPORT_YAML_READYAML_H
