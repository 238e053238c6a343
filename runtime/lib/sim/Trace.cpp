//===- Trace.cpp - what happened, for Perfetto--------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/sim/Trace.h"

#include "tombolo/runtime/File.h"

#include <cinttypes>
#include <cstdio>

namespace tombolo::runtime::sim {

namespace {

class ChromeTrace : public TraceFile {
public:
  explicit ChromeTrace(const std::string &path) : file(path) {
    file.write("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
  }

  void process(std::uint32_t process, const std::string &name) override {
    begin("M", process, 0);
    buffer += ",\"name\":\"process_name\",\"args\":{\"name\":" + quoted(name) +
              "}}";
  }
  void thread(std::uint32_t process, std::uint32_t thread,
              const std::string &name) override {
    begin("M", process, thread);
    buffer +=
        ",\"name\":\"thread_name\",\"args\":{\"name\":" + quoted(name) + "}}";
  }
  void slice(std::uint32_t process, std::uint32_t thread,
             const std::string &name, double start, double end) override {
    begin("X", process, thread);
    time("ts", start);
    time("dur", end - start);
    buffer += ",\"name\":" + quoted(name) + "}";
  }
  void arrow(std::uint32_t fromProcess, std::uint32_t fromThread,
             double fromTime, std::uint32_t toProcess, std::uint32_t toThread,
             double toTime) override {
    std::string id = std::to_string(arrows++);
    begin("s", fromProcess, fromThread);
    time("ts", fromTime);
    buffer += ",\"cat\":\"transfer\",\"name\":\"transfer\",\"id\":" + id + "}";
    begin("f", toProcess, toThread);
    time("ts", toTime);
    buffer += ",\"bp\":\"e\",\"cat\":\"transfer\",\"name\":\"transfer\",\"id\":" +
              id + "}";
  }
  void counter(std::uint32_t process, const std::string &name, double at,
               double value) override {
    begin("C", process, 0);
    time("ts", at);
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    buffer += ",\"name\":" + quoted(name) + ",\"args\":{\"value\":" + text +
              "}}";
  }
  void instant(std::uint32_t process, const std::string &name,
               double at) override {
    begin("i", process, 0);
    time("ts", at);
    buffer += ",\"s\":\"g\",\"name\":" + quoted(name) + "}";
  }
  void close() override {
    buffer += "\n]}\n";
    file.write(buffer);
    file.commit();
  }

private:
  void begin(const char *phase, std::uint32_t process, std::uint32_t thread) {
    if (buffer.size() > (1 << 20)) {
      file.write(buffer);
      buffer.clear();
    }
    if (!first)
      buffer += ",\n";
    first = false;
    buffer += "{\"ph\":\"" + std::string(phase) +
              "\",\"pid\":" + std::to_string(process) +
              ",\"tid\":" + std::to_string(thread);
  }
  /// In microseconds.
  void time(const char *key, double seconds) {
    char text[64];
    std::snprintf(text, sizeof text, ",\"%s\":%.4f", key, seconds * 1e6);
    buffer += text;
  }
  static std::string quoted(const std::string &text) {
    std::string out = "\"";
    for (char c : text) {
      if (c == '"' || c == '\\')
        out += '\\';
      if (static_cast<unsigned char>(c) >= 0x20)
        out += c;
    }
    return out + '"';
  }

  OutputFile file;
  std::string buffer;
  std::uint64_t arrows = 0;
  bool first = true;
};

} // namespace

std::unique_ptr<TraceFile> openTrace(const std::string &path) {
  return std::make_unique<ChromeTrace>(path);
}

} // namespace tombolo::runtime::sim
