//===- ReadYaml.h - parsing into structs by their YAML traits -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
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

inline void required(llvm::yaml::IO &io, const char *key, uint64_t &field) {
  Count count;
  io.mapRequired(key, count);
  field = count.value;
}

inline void optional(llvm::yaml::IO &io, const char *key,
                     std::optional<uint64_t> &field) {
  std::optional<Count> count;
  io.mapOptional(key, count);
  if (count)
    field = count->value;
}

/// Parses the file's one document into `value` by its traits. Reports the first
/// fault and returns false when there is any: bad syntax, an unknown, missing
/// or repeated key, a value of the wrong sort. Then finds the places.
template <typename T>
bool read(YamlFile &file, T &value, llvm::raw_ostream &errors) {
  if (!file.isSane(errors))
    return false;
  if (file.getText().trim().empty()) {
    file.report(errors, {}, "the file is empty");
    return false;
  }
  struct Context {
    const YamlFile *file;
    llvm::raw_ostream *errors;
    bool failed;
  } context{&file, &errors, false};
  llvm::yaml::Input input(
      llvm::MemoryBufferRef(file.getText(), file.getName()), nullptr,
      [](const llvm::SMDiagnostic &diagnostic, void *opaque) {
        auto *context = static_cast<Context *>(opaque);
        if (context->failed) // what follows is an echo
          return;
        context->failed = true;
        YamlFile::Place place;
        if (diagnostic.getLineNo() > 0) {
          place.line = diagnostic.getLineNo();
          place.column = std::max(diagnostic.getColumnNo() + 1, 1);
        }
        context->file->report(*context->errors, place, diagnostic.getMessage());
      },
      &context);
  input >> value;
  if (input.error()) {
    if (!context.failed)
      file.report(errors, {}, "not a valid YAML file");
    return false;
  }
  if (context.failed)
    return false;
  if (input.nextDocument()) {
    file.report(errors, {}, "expected one YAML document");
    return false;
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
