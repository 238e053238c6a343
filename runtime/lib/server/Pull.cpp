//===- Pull.cpp - what a rank asks to see of a fragment -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Pull.h"

#include "tombolo/runtime/File.h"

#include <algorithm>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

/// Of what the runs count.
static std::size_t unitOf(const Pulled &pulled) {
  return pulled.version ? sizeof(float) : 1;
}

Outcome tombolo::runtime::findPulled(const OuterState &state,
                                     const wire::PullRequest &request,
                                     Pulled &pulled, std::string &message) {
  auto newest = state.current(request.fragment());
  if (!newest) {
    message = "the fragment has no first version yet";
    return Outcome::NotStarted;
  }
  pulled.momentum = request.what() == wire::PullRequest::MOMENTUM;
  if (request.what() == wire::PullRequest::UPDATE)
    pulled.update = state.update(request.fragment(), request.version());
  else
    pulled.version = state.version(request.fragment(), request.version());
  if (pulled.version || pulled.update)
    return Outcome::Accepted;
  message = "the newest version is " + std::to_string(newest->number) +
            ", got a request for version " + std::to_string(request.version());
  return Outcome::UnknownVersion;
}

Outcome tombolo::runtime::locatePulled(const OuterState &state,
                                       const wire::PullRequest &request,
                                       Pulled &pulled, std::string &message) {
  std::vector<TensorSlice> slices = fromWire(request.slices());
  Outcome outcome =
      pulled.update
          ? state.locateBlocks(request.fragment(), slices, pulled.runs, message)
          : state.locate(request.fragment(), slices, pulled.runs, message);
  if (outcome != Outcome::Accepted)
    return outcome;
  std::uint64_t all = 0;
  for (const FragmentRun &run : pulled.runs)
    all += run.length * unitOf(pulled);
  pulled.first = request.first_byte();
  pulled.before = request.sent_before();
  if (pulled.first <= all && request.bytes() <= all - pulled.first)
    pulled.bytes = request.bytes() ? request.bytes() : all - pulled.first;
  if (pulled.first <= all && request.bytes() <= all - pulled.first &&
      pulled.before <= pulled.bytes)
    return Outcome::Accepted;
  message = "there are " + std::to_string(all) + " bytes, got a request for " +
            std::to_string(request.bytes()) + " from " +
            std::to_string(pulled.first) + " on, of which " +
            std::to_string(pulled.before) + " have come";
  return Outcome::BadSize;
}

std::uint64_t tombolo::runtime::sendPulled(
    const Pulled &pulled, grpc::ServerWriter<wire::PullReply> &writer,
    RateLimit &limit, const std::function<bool()> &isGone) {
  const std::size_t most = limit.piece(kChunkBytes);
  std::uint64_t sent = 0, left = pulled.bytes, skip = pulled.first;
  std::uint64_t known = pulled.before; // hashed, and not sent again
  wire::PullReply reply;
  Sha256 digest;
  std::string chunk;
  auto flush = [&] {
    digest.update(chunk);
    if (known > 0) {
      known -= chunk.size();
      chunk.clear();
      return true;
    }
    if (!limit.take(chunk.size(), isGone))
      return false;
    sent += chunk.size();
    reply.Clear();
    reply.set_data(std::move(chunk));
    chunk.clear();
    chunk.reserve(most);
    return writer.Write(reply);
  };
  const Version *version = pulled.version.get();
  // Empty: all zero.
  const std::vector<float> *floats = !version          ? nullptr
                                     : pulled.momentum ? &version->momentum
                                                       : &version->parameters;
  const std::size_t unit = unitOf(pulled);
  const char *source =
      version ? reinterpret_cast<const char *>(floats->data())
              : reinterpret_cast<const char *>(pulled.update->data.data());
  for (const FragmentRun &run : pulled.runs) {
    std::uint64_t done = std::min(skip, run.length * unit);
    skip -= done;
    while (left > 0 && done < run.length * unit) {
      // A chunk is of what is sent or of what is not.
      std::uint64_t room =
          known > 0 ? std::min<std::uint64_t>(known, most) : most;
      std::size_t count =
          std::min({room - chunk.size(), run.length * unit - done, left});
      if (version && floats->empty())
        chunk.append(count, '\0');
      else
        chunk.append(source + run.offset * unit + done, count);
      done += count;
      left -= count;
      if (chunk.size() == room && !flush())
        return sent;
    }
  }
  if (!chunk.empty() && !flush())
    return sent;
  reply.Clear();
  reply.mutable_trailer()->set_sha256(digest.finish());
  writer.Write(reply);
  return sent;
}
