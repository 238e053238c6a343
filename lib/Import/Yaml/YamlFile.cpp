//===- YamlFile.cpp - a YAML file and the places in it --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/YamlFile.h"
#include "YamlNode.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLParser.h"

using namespace llvm;
using namespace tombolo;

/// More than anybody writes; the parser recurses once for each level.
static constexpr size_t kMaxYamlBytes = 4 << 20;
static constexpr unsigned kMaxDepth = 64;

YamlFile::YamlFile(StringRef name, StringRef text)
    : name(name.str()), text(text.str()), lines{0} {
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] == '\n')
      lines.push_back(i + 1);
}

YamlFile::Place YamlFile::placeOf(const char *pointer) const {
  size_t offset = pointer >= text.data() ? pointer - text.data() : 0;
  size_t line = llvm::upper_bound(lines, offset) - lines.begin();
  return {static_cast<unsigned>(line),
          static_cast<unsigned>(offset - lines[line - 1] + 1)};
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

std::optional<double> YamlNode::asNumber() const {
  if (kind != Scalar || isQuoted)
    return std::nullopt;
  StringRef digits = text;
  if (digits.consume_front("0x") || digits.consume_front("0o")) {
    uint64_t whole = 0;
    if (digits.empty() || digits.getAsInteger(text[1] == 'x' ? 16 : 8, whole))
      return std::nullopt;
    return static_cast<double>(whole);
  }
  // What more strtod would take: hexadecimal fractions, "inf", "nan".
  double value = 0;
  if (text.find_first_not_of("+-.0123456789eE") != std::string::npos ||
      !to_float(text, value))
    return std::nullopt;
  return value;
}

std::optional<bool> YamlNode::asBoolean() const {
  if (kind != Scalar || isQuoted)
    return std::nullopt;
  return StringSwitch<std::optional<bool>>(text)
      .Cases("true", "True", "TRUE", true)
      .Cases("false", "False", "FALSE", false)
      .Default(std::nullopt);
}

bool YamlNode::isNull() const {
  return kind == Nothing ||
         (kind == Scalar && !isQuoted &&
          is_contained({"", "~", "null", "Null", "NULL"}, text));
}

std::string YamlNode::describe() const {
  switch (kind) {
  case Nothing:
    return "nothing";
  case List:
    return "a list";
  case Mapping:
    return "a mapping";
  case Scalar:
    break;
  }
  return (isQuoted ? "the text '" : "'") + text + "'";
}

//===----------------------------------------------------------------------===//
// Parsing
//===----------------------------------------------------------------------===//

namespace {

/// The first thing that is wrong with a text as YAML; what follows is an echo.
struct SyntaxError {
  const YamlFile &file;
  std::optional<std::pair<YamlFile::Place, std::string>> first;

  void add(YamlFile::Place place, std::string message) {
    if (!first)
      first.emplace(place, std::move(message));
  }

  /// For llvm::SourceMgr.
  static void handle(const SMDiagnostic &diagnostic, void *opaque) {
    YamlFile::Place place;
    if (diagnostic.getLineNo() > 0) {
      place.line = diagnostic.getLineNo();
      place.column = std::max(diagnostic.getColumnNo() + 1, 1);
    }
    // The parser's messages in the style of ours.
    std::string message = diagnostic.getMessage().rtrim("!.").str();
    if (!message.empty())
      message[0] = toLower(message[0]);
    static_cast<SyntaxError *>(opaque)->add(place, std::move(message));
  }
};

/// Copies the parser's nodes, which it forgets as it goes on.
class Copier {
public:
  Copier(SyntaxError &error,
         std::map<std::string, YamlFile::Place, std::less<>> &places)
      : error(error), places(places) {}

  YamlNode copy(yaml::Node *from, const std::string &path) {
    YamlNode node;
    if (!from) {
      error.add({}, "not a valid YAML file");
      return node;
    }
    node.place = placeOf(from);
    places[path] = node.place;
    if (auto *scalar = dyn_cast<yaml::ScalarNode>(from)) {
      SmallString<32> storage;
      node.kind = YamlNode::Scalar;
      node.text = scalar->getValue(storage).str();
      node.isQuoted = scalar->getRawValue().starts_with("'") ||
                      scalar->getRawValue().starts_with("\"");
    } else if (auto *block = dyn_cast<yaml::BlockScalarNode>(from)) {
      node.kind = YamlNode::Scalar;
      node.text = block->getValue().str();
      node.isQuoted = true;
    } else if (auto *mapping = dyn_cast<yaml::MappingNode>(from)) {
      node.kind = YamlNode::Mapping;
      copyEntries(*mapping, path, node);
    } else if (auto *sequence = dyn_cast<yaml::SequenceNode>(from)) {
      node.kind = YamlNode::List;
      for (yaml::Node &element : *sequence) {
        if (error.first)
          break;
        node.children.push_back(
            copy(&element, planning::at(path, node.children.size())));
      }
    } else if (isa<yaml::AliasNode>(from)) {
      error.add(node.place, "aliases are not read; write out what is meant");
    }
    return node;
  }

private:
  SyntaxError &error;
  std::map<std::string, YamlFile::Place, std::less<>> &places;

  void copyEntries(yaml::MappingNode &mapping, const std::string &path,
                   YamlNode &node) {
    StringSet<> seen;
    for (yaml::KeyValueNode &entry : mapping) {
      if (error.first)
        break;
      yaml::Node *from = entry.getKey();
      auto *key = dyn_cast_or_null<yaml::ScalarNode>(from);
      if (!key) {
        error.add(from ? placeOf(from) : node.place, "expected a key");
        break;
      }
      SmallString<32> storage;
      std::string name = key->getValue(storage).str();
      YamlFile::Place place = placeOf(key);
      if (!seen.insert(name).second)
        error.add(place, "duplicated mapping key '" + name + "'");
      YamlNode value = copy(entry.getValue(), planning::in(path, name));
      value.key = name;
      value.keyPlace = place;
      if (value.kind == YamlNode::Nothing)
        value.place = places[planning::in(path, name)] = place;
      node.children.push_back(std::move(value));
    }
  }

  YamlFile::Place placeOf(yaml::Node *node) {
    const char *start = node->getSourceRange().Start.getPointer();
    const char *text = error.file.getText().data();
    // The parser lets an alias begin behind its end.
    while (isa<yaml::AliasNode>(node) && start > text && *start != '*')
      --start;
    // And a flow collection behind its bracket.
    if (isa<yaml::MappingNode, yaml::SequenceNode>(node)) {
      const char *before = start;
      while (before > text && isspace(before[-1]))
        --before;
      if (before > text && (before[-1] == '{' || before[-1] == '['))
        start = before - 1;
    }
    return error.file.placeOf(start);
  }
};

} // namespace

std::optional<YamlNode> YamlFile::parse(raw_ostream &errors) {
  if (!isSane(errors))
    return std::nullopt;
  SyntaxError error{*this, std::nullopt};
  SourceMgr sources;
  sources.setDiagHandler(SyntaxError::handle, &error);
  yaml::Stream stream(text, sources, /*ShowColors=*/false);
  auto document = stream.begin();
  YamlNode root;
  if (document != stream.end())
    root = Copier(error, places).copy(document->getRoot(), "");
  if (!error.first && stream.failed())
    error.add({}, "not a valid YAML file");
  if (!error.first && document != stream.end() && ++document != stream.end())
    error.add({}, "expected one YAML document");
  if (!error.first)
    return root;
  report(errors, error.first->first, error.first->second);
  return std::nullopt;
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
  if (isEmpty()) { // the parser would run past the end
    report(errors, Place(), "the file is empty");
    return false;
  }
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
