//===- Pull.h - what a rank asks to see of a fragment -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_PULL_H
#define TOMBOLO_LIB_SERVER_PULL_H

#include "RateLimit.h"
#include "Wire.h"

#include <grpcpp/support/sync_stream.h>

namespace tombolo::runtime {

/// A version or an update, and which parts of it. What it names never changes.
struct Pulled {
  std::shared_ptr<const Version> version;
  bool momentum = false; ///< of the version, instead of its parameters
  std::shared_ptr<const Update> update;
  /// Of bytes in an update, else of floats.
  std::vector<FragmentRun> runs;
  /// Which bytes of all that, and how many of these are not sent again.
  std::uint64_t first = 0, bytes = 0, before = 0;
};

/// Looks up what is asked for. `message` says what is wrong when the outcome is
/// not `Accepted`.
Outcome findPulled(const OuterState &state,
                   const server::v1::PullRequest &request, Pulled &pulled,
                   std::string &message);
/// Then: where it lies. Reads only what never changes.
Outcome locatePulled(const OuterState &state,
                     const server::v1::PullRequest &request, Pulled &pulled,
                     std::string &message);
/// The data in chunks and the trailer, no faster than a limit; ends early when
/// the reader has gone (`isGone`). Returns how many bytes of data have gone.
std::uint64_t sendPulled(const Pulled &pulled,
                         grpc::ServerWriter<server::v1::PullReply> &writer,
                         RateLimit &limit, const std::function<bool()> &isGone);

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_PULL_H
