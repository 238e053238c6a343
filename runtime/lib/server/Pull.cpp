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
  return pulled.update
             ? state.locateBlocks(request.fragment(), slices, pulled.runs,
                                  message)
             : state.locate(request.fragment(), slices, pulled.runs, message);
}

std::uint64_t
tombolo::runtime::sendPulled(const Pulled &pulled,
                             grpc::ServerWriter<wire::PullReply> &writer) {
  std::uint64_t sent = 0;
  wire::PullReply reply;
  Sha256 digest;
  std::string chunk;
  auto flush = [&] {
    digest.update(chunk);
    sent += chunk.size();
    reply.Clear();
    reply.set_data(std::move(chunk));
    chunk.clear();
    chunk.reserve(kChunkBytes);
    return writer.Write(reply);
  };
  const Version *version = pulled.version.get();
  // Empty: all zero.
  const std::vector<float> *floats = !version          ? nullptr
                                     : pulled.momentum ? &version->momentum
                                                       : &version->parameters;
  const std::size_t unit = version ? sizeof(float) : 1;
  const char *source =
      version ? reinterpret_cast<const char *>(floats->data())
              : reinterpret_cast<const char *>(pulled.update->data.data());
  for (const FragmentRun &run : pulled.runs) {
    for (std::uint64_t done = 0; done < run.length * unit;) {
      std::size_t count = std::min<std::uint64_t>(kChunkBytes - chunk.size(),
                                                  run.length * unit - done);
      if (version && floats->empty())
        chunk.append(count, '\0');
      else
        chunk.append(source + run.offset * unit + done, count);
      done += count;
      if (chunk.size() == kChunkBytes && !flush())
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
