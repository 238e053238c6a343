//===- PlanFile.cpp - reading and writing plan files ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/PlanFile.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/Validate.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include <limits>

namespace tombolo::runtime {

namespace {

// Field 1000, length-delimited: (1000 << 3 | 2) as a varint, then 32.
constexpr std::string_view kChecksumHead("\xc2\x3e\x20", 3);
constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kChecksumBytes = kChecksumHead.size() + kDigestBytes;

} // namespace

std::string planChecksum(std::string_view body) { return sha256(body); }

std::string serializePlan(const Plan &plan) {
  const Plan *body = &plan;
  Plan copy;
  if (!plan.checksum().empty()) {
    copy = plan;
    copy.clear_checksum();
    body = &copy;
  }
  std::string bytes;
  std::size_t size = body->ByteSizeLong() + kChecksumBytes;
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error("the plan is too large: ", size,
                " bytes, at most 2 GiB fit a plan file");
  bytes.reserve(size); // else it grows, and is copied, many times
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!body->SerializeToCodedStream(&coded))
      throw Error("cannot serialise the plan");
  }
  std::string digest = planChecksum(bytes);
  bytes += kChecksumHead;
  bytes += digest;
  return bytes;
}

Plan parsePlanUnchecked(std::string_view bytes, const std::string &name) {
  if (bytes.size() < kChecksumBytes ||
      bytes.substr(bytes.size() - kChecksumBytes, kChecksumHead.size()) !=
          kChecksumHead)
    throw Error("'", name,
                "': not a plan, or cut off: expected a checksum at "
                "the end; write it again with tombolo-plan");
  std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  if (bytes.substr(bytes.size() - kDigestBytes) != planChecksum(body))
    throw Error("'", name,
                "': the checksum does not match, the file is "
                "damaged; write it again with tombolo-plan");
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error("'", name, "': expected at most 2 GiB, got ", bytes.size(),
                " bytes");
  // Our error says it all; protobuf would print its own to stderr.
  google::protobuf::LogSilencer silence;
  Plan plan;
  if (!plan.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    throw Error("'", name, "': not a plan: the message cannot be read");
  if (plan.format_version() != kPlanFormatVersion)
    throw Error("'", name, "': expected plan format version ",
                kPlanFormatVersion, ", got ", plan.format_version(),
                "; write it again with this version's tombolo-plan");
  return plan;
}

Plan parsePlan(std::string_view bytes, const std::string &name) {
  Plan plan = parsePlanUnchecked(bytes, name);
  try {
    validatePlan(plan);
  } catch (const Error &error) {
    throw Error("'", name, "': ", error.what());
  }
  return plan;
}

Plan readPlan(const std::string &path) {
  return parsePlan(readFile(path, std::numeric_limits<int>::max()), path);
}

void writePlan(const Plan &plan, const std::string &path) {
  writeFile(path, serializePlan(plan));
}

} // namespace tombolo::runtime
