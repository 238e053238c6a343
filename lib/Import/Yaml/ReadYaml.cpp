//===- ReadYaml.cpp - reading the values of a file ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ReadYaml.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Regex.h"

#include <cmath>

using namespace llvm;
using namespace tombolo;
using namespace tombolo::yamlio;

bool Findings::report(const YamlFile &file, raw_ostream &errors) const {
  constexpr size_t kMost = 20; // of a file that is something else altogether
  for (const auto &[place, message] : ArrayRef(list).take_front(kMost))
    file.report(errors, place, message);
  if (list.size() > kMost)
    file.report(errors, list[kMost].first,
                "here and further on " + Twine(list.size() - kMost) +
                    " more faults");
  return list.empty();
}

static std::optional<double> readNumber(const YamlNode &node, const char *key,
                                        const Range &range, bool isWhole,
                                        Findings &findings) {
  auto number = node.asNumber();
  if (!number || (isWhole && std::floor(*number) != *number)) {
    findings.expected(node, isWhole ? "a whole number" : "a number");
    return std::nullopt;
  }
  if (auto fault = range.fault(key, *number)) {
    findings.add(node.place, *fault);
    return std::nullopt;
  }
  return number;
}

void yamlio::readValue(const YamlNode &node, const char *key,
                       const Range &range, double &field, Findings &findings) {
  if (auto number = readNumber(node, key, range, /*isWhole=*/false, findings))
    field = *number;
}

void yamlio::readValue(const YamlNode &node, const char *key,
                       const Range &range, uint64_t &field,
                       Findings &findings) {
  // Also written as 4.0 or 4e3: neither YAML nor JSON knows a difference.
  auto number = readNumber(node, key, range, /*isWhole=*/true, findings);
  if (number && StringRef(node.text).getAsInteger(10, field))
    field = static_cast<uint64_t>(*number);
}

void yamlio::readValue(const YamlNode &node, const char *, const Items &,
                       bool &field, Findings &findings) {
  if (auto value = node.asBoolean())
    field = *value;
  else
    findings.expected(node, "true or false");
}

void yamlio::readValue(const YamlNode &node, const char *key, const Form &form,
                       std::string &field, Findings &findings) {
  if (node.kind != YamlNode::Scalar || node.isNull())
    return findings.expected(node, form.expected);
  if (isOfForm(node.text, key, form, node.place, findings))
    field = node.text;
}

bool yamlio::isOfForm(const std::string &text, const char *key,
                      const Form &form, YamlFile::Place place,
                      Findings &findings) {
  if (!form.pattern || Regex(form.pattern).match(text))
    return true;
  findings.add(place, "'" + std::string(key) + "' must be " + form.expected +
                          ", got '" + text + "'");
  return false;
}

std::optional<size_t> yamlio::readWord(const YamlNode &node,
                                       std::span<const char *const> words,
                                       Findings &findings) {
  if (node.kind == YamlNode::Scalar)
    for (size_t i = 0; i < words.size(); ++i)
      if (node.text == words[i])
        return i;
  findings.expected(node, alternatives(words));
  return std::nullopt;
}

bool yamlio::holdsEnough(const YamlNode &node, const char *key,
                         const Items &items, Findings &findings) {
  size_t count = node.children.size();
  if (count >= items.least && count <= items.most)
    return true;
  std::string expected = items.least == items.most
                             ? std::to_string(items.least) + " entries"
                             : "at least " + std::to_string(items.least);
  findings.add(node.place, "'" + std::string(key) + "': expected " + expected +
                               ", got " + std::to_string(count));
  return false;
}

//===----------------------------------------------------------------------===//
// FieldReader
//===----------------------------------------------------------------------===//

FieldReader::~FieldReader() {
  bool allKnown = true;
  for (const YamlNode &child : node.children)
    if (!is_contained(known, child.key)) {
      allKnown = false;
      findings.add(child.keyPlace, "unknown key '" + child.key + "'");
    }
  for (std::string &message : missing)
    if (allKnown)
      findings.add(node.place, std::move(message));
}

void FieldReader::atLeastOne(const char *what,
                             std::initializer_list<const char *> keys) {
  if (none_of(keys, [&](const char *key) { return node.find(key); }))
    missing.push_back(std::string(what) + " needs " + alternatives(keys, "'"));
}

void FieldReader::excludes(const char *key,
                           std::initializer_list<const char *> others) {
  for (const char *other : others)
    if (const YamlNode *given = node.find(other); given && node.find(key))
      findings.add(given->place, std::string("'") + other + "' and '" + key +
                                     "' exclude each other");
}

void FieldReader::needs(const char *key, const char *other) {
  const YamlNode *given = node.find(key);
  if (given && !node.find(other))
    findings.add(given->place,
                 std::string("'") + key + "' needs '" + other + "'");
}
