//===- LayerTimes.cpp - reading measured layer times ----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/LayerTimes.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>

using namespace llvm;
using namespace tombolo;

/// More than anybody measures.
static constexpr uint64_t kMaxCsvBytes = uint64_t(64) << 20;
static constexpr size_t kMaxRows = 1 << 18; // of one model and chip

namespace {

constexpr StringLiteral kColumns[] = {
    "model",         "chip",       "microbatch",      "tensor_parallel",
    "first_layer",   "last_layer", "forward_seconds", "backward_seconds",
    "update_seconds"};
enum Column {
  Model,
  Chip,
  Microbatch,
  TensorParallel,
  FirstLayer,
  LastLayer,
  FirstTime // and two more
};

class Reader {
public:
  Reader(StringRef path, StringRef text, raw_ostream &errors)
      : path(path), text(text), errors(errors) {}

  std::optional<std::vector<planning::LayerTimes>> run(StringRef model,
                                                       StringRef chip) {
    size_t zero = text.find('\0');
    if (text.size() > kMaxCsvBytes)
      fault(text.begin(), "the file is larger than 64 MiB");
    else if (zero != StringRef::npos)
      fault(text.begin() + zero, "not a text file");
    StringRef rest = text;
    while (!failed && !rest.empty()) {
      auto [line, after] = rest.split('\n');
      rest = after;
      line.consume_back("\r");
      if (line.trim().empty())
        continue;
      if (places.empty())
        header(line);
      else
        row(line, model, chip);
    }
    if (!failed && places.empty())
      fault(text.begin(), "the file is empty, expected a line of columns");
    if (!failed && rows.empty())
      nothing(model, chip);
    if (failed)
      return std::nullopt;
    // Where the planner finds a fault, the line is known.
    for (const planning::Fault &wrong : planning::checkLayerTimes(rows, ""))
      fault(lineOf(wrong), wrong.message);
    if (failed)
      return std::nullopt;
    if (auto noise = planning::layerTimesNoise(rows, ""))
      say("warning", lineOf(*noise), noise->message);
    return std::move(rows);
  }

private:
  StringRef path, text;
  raw_ostream &errors;
  bool failed = false;
  SmallVector<size_t> places; // of each column, by Column
  size_t width = 0;           // columns of the file
  std::vector<planning::LayerTimes> rows;
  std::vector<const char *> lines; // of `rows`
  StringSet<> models, chips;       // that there are: chips of the model

  /// Where the row is that a fault with a path like `[3]` is about.
  const char *lineOf(const planning::Fault &fault) const {
    size_t number = 0;
    StringRef(fault.path).drop_front().drop_back().getAsInteger(10, number);
    return lines[std::min(number, lines.size() - 1)];
  }

  void fault(const char *where, const Twine &message) {
    failed = true;
    say("error", where, message);
  }

  void say(StringRef what, const char *where, const Twine &message) {
    StringRef before = text.take_front(where - text.begin());
    size_t lineStart = before.rfind('\n') + 1; // npos + 1 is 0
    errors << path << ":" << before.count('\n') + 1 << ":"
           << before.size() - lineStart + 1 << ": " << what << ": " << message
           << "\n";
  }

  static SmallVector<StringRef> fieldsOf(StringRef line) {
    SmallVector<StringRef> fields;
    line.split(fields, ',');
    for (StringRef &field : fields)
      field = field.trim();
    return fields;
  }

  void header(StringRef line) {
    SmallVector<StringRef> fields = fieldsOf(line);
    width = fields.size();
    for (StringRef column : kColumns) {
      auto found = llvm::find(fields, column);
      if (found == fields.end())
        return fault(line.begin(),
                     "expected a column '" + column + "' in the first line");
      if (std::count(fields.begin(), fields.end(), column) > 1)
        return fault(found->begin(), "column '" + column + "' stands twice");
      places.push_back(found - fields.begin());
    }
  }

  void row(StringRef line, StringRef model, StringRef chip) {
    SmallVector<StringRef> fields = fieldsOf(line);
    if (fields.size() != width)
      return fault(line.begin(), "expected " + Twine(width) + " fields, got " +
                                     Twine(fields.size()));
    auto field = [&](size_t column) { return fields[places[column]]; };
    planning::LayerTimes row;
    whole(field(Microbatch), "microbatch", 1, row.time.microbatch);
    whole(field(TensorParallel), "tensor_parallel", 1, row.time.tensorParallel);
    whole(field(FirstLayer), "first_layer", 0, row.firstBlock);
    whole(field(LastLayer), "last_layer", row.firstBlock, row.lastBlock);
    for (size_t t = 0; t < planning::kTimed; ++t)
      seconds(field(FirstTime + t), kColumns[FirstTime + t],
              row.time.seconds[t]);
    models.insert(field(Model));
    if (field(Model) == model)
      chips.insert(field(Chip));
    if (failed || field(Model) != model || field(Chip) != chip)
      return;
    if (rows.size() == kMaxRows)
      return fault(line.begin(), "more than " + Twine(kMaxRows) +
                                     " rows of one model and chip");
    rows.push_back(row);
    lines.push_back(line.begin());
  }

  void whole(StringRef field, StringRef column, uint64_t least,
             uint64_t &value) {
    if (failed)
      return;
    if (field.getAsInteger(10, value) || value < least)
      fault(field.begin(), "expected a whole number of at least " +
                               Twine(least) + " as '" + column + "', got '" +
                               field + "'");
  }

  void seconds(StringRef field, StringRef column, double &value) {
    if (failed || field.empty()) // not measured
      return;
    if (!to_float(field, value) || !(value >= 0) || !std::isfinite(value))
      fault(field.begin(), "expected seconds as '" + column + "', got '" +
                               field +
                               "'; leave the field empty where nothing was "
                               "measured");
  }

  /// Says what there is instead.
  void nothing(StringRef model, StringRef chip) {
    const StringSet<> &there = chips.empty() ? models : chips;
    SmallVector<StringRef> names(there.keys());
    llvm::sort(names);
    if (names.size() > 12)
      names.resize(12);
    std::string list = names.empty() ? "none" : join(names, ", ");
    fault(text.begin(), chips.empty() ? "no layer times of model '" + model +
                                            "'; models that are there: " + list
                                      : "no layer times of model '" + model +
                                            "' on chip '" + chip +
                                            "'; chips that are there: " + list);
  }
};

} // namespace

std::optional<std::vector<planning::LayerTimes>>
tombolo::readLayerTimes(StringRef path, StringRef text, StringRef model,
                        StringRef chip, raw_ostream &errors) {
  return Reader(path, text, errors).run(model, chip);
}

std::optional<std::vector<planning::LayerTimes>>
tombolo::readLayerTimesFile(StringRef path, StringRef model, StringRef chip,
                            raw_ostream &errors) {
  // A folder, a device or a pipe may have no end.
  if (!sys::fs::is_regular_file(path)) {
    errors << path << ": error: "
           << (sys::fs::exists(path) ? "not a file" : "there is no such file")
           << "\n";
    return std::nullopt;
  }
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/true,
                                      /*RequiresNullTerminator=*/false);
  if (!buffer) {
    errors << path
           << ": error: cannot read the file: " << buffer.getError().message()
           << "\n";
    return std::nullopt;
  }
  return readLayerTimes(path, (*buffer)->getBuffer(), model, chip, errors);
}
