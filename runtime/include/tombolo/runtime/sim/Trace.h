//===- Trace.h - what happened, for Perfetto----------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Chrome's trace event format (JSON), which Perfetto and chrome://tracing open.
// A process per island, with a thread per rank class and lane; one, number 0,
// for lines.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SIM_TRACE_H
#define TOMBOLO_RUNTIME_SIM_TRACE_H

#include "tombolo/schema/plan.pb.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tombolo::runtime::sim {

/// Who wants to know less leaves the rest out.
class Trace {
public:
  virtual ~Trace() = default;

  /// Names a process, and how it is ordered among them.
  virtual void process(std::uint32_t /*process*/,
                       const std::string & /*name*/) {}
  virtual void thread(std::uint32_t /*process*/, std::uint32_t /*thread*/,
                      const std::string & /*name*/) {}
  virtual void slice(std::uint32_t /*process*/, std::uint32_t /*thread*/,
                     const std::string & /*name*/, double /*start*/,
                     double /*end*/) {}
  /// A slice of a call of segment `name` by `rank` of the island (and those
  /// like it); the values of the loops' variables around it say which of its
  /// calls.
  virtual void call(std::uint32_t process, std::uint32_t thread,
                    const std::string &name, double start, double end,
                    std::uint64_t /*rank*/, const plan::v1::Call &,
                    std::span<const std::int64_t> /*variables*/) {
    slice(process, thread, name, start, end);
  }
  /// An arrow between two slices that contain these times.
  virtual void arrow(std::uint32_t /*fromProcess*/,
                     std::uint32_t /*fromThread*/, double /*fromTime*/,
                     std::uint32_t /*toProcess*/, std::uint32_t /*toThread*/,
                     double /*toTime*/) {}
  virtual void counter(std::uint32_t /*process*/, const std::string & /*name*/,
                       double /*time*/, double /*value*/) {}
  virtual void instant(std::uint32_t /*process*/, const std::string & /*name*/,
                       double /*time*/) {}
};

/// Writes the file at `path` when it is closed: all of it or nothing. Throws
/// Error at once when it cannot be written there.
class TraceFile : public Trace {
public:
  virtual void close() = 0;
};
std::unique_ptr<TraceFile> openTrace(const std::string &path);

/// The thread of a class's lane.
inline std::uint32_t laneThread(std::uint32_t ofClass, plan::v1::Lane lane) {
  return ofClass * 8 + static_cast<std::uint32_t>(lane);
}

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_SIM_TRACE_H
