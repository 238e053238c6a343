//===- YamlFile.cpp - a YAML file and the places in it --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/YamlFile.h"
#include "ReadYaml.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLParser.h"

using namespace llvm;
using namespace tombolo;

/// More than anybody writes; the parser recurses once for each level.
static constexpr size_t kMaxYamlBytes = 4 << 20;
static constexpr unsigned kMaxDepth = 64;

YamlFile::YamlFile(StringRef name, StringRef text)
    : name(name.str()), text(text.str()) {}

YamlFile::Place YamlFile::placeOf(const char *pointer) const {
  Place place;
  size_t end = pointer >= text.data() ? pointer - text.data() : 0;
  for (char c : StringRef(text).take_front(end)) {
    ++place.column;
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    }
  }
  return place;
}

namespace {

/// Writes down where every node of a document begins.
class Walker {
public:
  Walker(const YamlFile &file,
         std::map<std::string, YamlFile::Place, std::less<>> &places)
      : file(file), places(places) {}

  void walk(yaml::Node *node, const std::string &path) {
    if (!node)
      return;
    const char *start = node->getSourceRange().Start.getPointer();
    // The parser lets a flow collection begin behind its bracket.
    if (isa<yaml::MappingNode, yaml::SequenceNode>(node)) {
      const char *before = start;
      while (before > file.getText().data() && isspace(before[-1]))
        --before;
      if (before > file.getText().data() &&
          (before[-1] == '{' || before[-1] == '['))
        start = before - 1;
    }
    places[path] = file.placeOf(start);
    if (auto *mapping = dyn_cast<yaml::MappingNode>(node)) {
      for (yaml::KeyValueNode &entry : *mapping) {
        auto *key = dyn_cast_or_null<yaml::ScalarNode>(entry.getKey());
        if (!key)
          continue;
        SmallString<32> storage;
        walk(entry.getValue(),
             planning::in(path, key->getValue(storage).str()));
      }
    } else if (auto *sequence = dyn_cast<yaml::SequenceNode>(node)) {
      size_t index = 0;
      for (yaml::Node &entry : *sequence)
        walk(&entry, planning::at(path, index++));
    }
  }

private:
  const YamlFile &file;
  std::map<std::string, YamlFile::Place, std::less<>> &places;
};

} // namespace

void YamlFile::findPlaces() {
  SourceMgr sources;
  sources.setDiagHandler([](const SMDiagnostic &, void *) {});
  yaml::Stream stream(text, sources, /*ShowColors=*/false);
  auto document = stream.begin();
  if (document != stream.end())
    Walker(*this, places).walk(document->getRoot(), "");
}

YamlFile::Place YamlFile::locate(StringRef path) const {
  std::string found;
  auto advance = [&](const std::string &next) {
    if (places.count(next))
      found = next;
  };
  /// A key may have dots of its own (a parameter's name): as much of the path
  /// as is in the file, in one step.
  auto advanceFar = [&] {
    for (StringRef some = path; some.contains('.');
         some = some.rsplit('.').first) {
      std::string next = planning::in(found, some.str());
      if (!places.count(next))
        continue;
      found = next;
      path = path.drop_front(some.size());
      path.consume_front(".");
      return true;
    }
    return false;
  };
  while (!path.empty()) {
    if (advanceFar())
      continue;
    auto [step, rest] = path.split('.');
    path = rest;
    auto [key, index] = step.split('[');
    std::string outer = found;
    advance(planning::in(found, key.str()));
    if (!index.empty() && (found != outer || key.empty()))
      advance(found + "[" + index.str());
  }
  auto place = places.find(found);
  return place == places.end() ? Place() : place->second;
}

void YamlFile::report(raw_ostream &errors, Place place,
                      const Twine &message) const {
  errors << name << ":" << place.line << ":" << place.column
         << ": error: " << message << "\n";
}

void YamlFile::report(raw_ostream &errors, const planning::Fault &fault) const {
  report(errors, locate(fault.path), fault.message);
}

bool YamlFile::isSane(raw_ostream &errors) const {
  if (text.size() > kMaxYamlBytes) {
    report(errors, Place(), "the file is larger than 4 MiB");
    return false;
  }
  size_t zero = text.find('\0');
  if (zero != std::string::npos) {
    report(errors, placeOf(text.data() + zero), "not a text file");
    return false;
  }
  unsigned depth = 0, indicators = 0;
  bool atStart = true;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\n') {
      atStart = true;
      indicators = 0;
    } else if (atStart && (c == '-' || c == '?' || c == ':')) {
      ++indicators; // `- - - x`: one level each
    } else if (c != ' ') {
      atStart = false;
    }
    if (c == '[' || c == '{')
      ++depth;
    else if ((c == ']' || c == '}') && depth > 0)
      --depth;
    if (depth > kMaxDepth || indicators > kMaxDepth) {
      report(errors, placeOf(text.data() + i), "nested too deeply");
      return false;
    }
  }
  return true;
}

bool YamlFile::isEmpty() const {
  StringRef rest = text;
  while (!rest.empty()) {
    auto [line, after] = rest.split('\n');
    rest = after;
    if (!line.consume_front("---"))
      line.consume_front("...");
    line = line.trim();
    if (!line.empty() && !line.starts_with("#") && !line.starts_with("%"))
      return false;
  }
  return true;
}

std::optional<YamlFile> tombolo::openYaml(StringRef path, raw_ostream &errors) {
  auto buffer = MemoryBuffer::getFileOrSTDIN(path, /*IsText=*/true);
  if (!buffer) {
    errors << path
           << ": error: cannot read the file: " << buffer.getError().message()
           << "\n";
    return std::nullopt;
  }
  return YamlFile(path, (*buffer)->getBuffer());
}

void yamlio::FirstFault::handle(const SMDiagnostic &diagnostic, void *opaque) {
  auto *fault = static_cast<FirstFault *>(opaque);
  if (fault->failed) // what follows is an echo
    return;
  fault->failed = true;
  YamlFile::Place place;
  if (diagnostic.getLineNo() > 0) {
    place.line = diagnostic.getLineNo();
    place.column = std::max(diagnostic.getColumnNo() + 1, 1);
  }
  // The parser's messages in the style of ours.
  std::string message = diagnostic.getMessage().rtrim("!.").str();
  if (message == "invalid floating point number")
    message = "expected a number";
  if (message == "invalid boolean")
    message = "expected true or false";
  if (!message.empty())
    message[0] = toLower(message[0]);
  if (StringRef(message).starts_with("expected ") && place.column > 0) {
    StringRef found =
        diagnostic.getLineContents()
            .drop_front(std::min<size_t>(place.column - 1,
                                         diagnostic.getLineContents().size()))
            .take_until([](char c) {
              return c == ',' || c == '}' || c == ']' || c == '#';
            })
            .trim();
    if (!found.empty())
      message += ", got '" + found.str() + "'";
  }
  fault->file->report(*fault->errors, place, message);
}
