//===- SegmentRun.cpp - runs one segment on files of raw values -----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A test tool: `segment-run DEVICE (SEGMENT FOLDER)...`. SEGMENT is a
// plan.v1.Segment in protobuf's text format. Argument NAME is read from
// FOLDER/NAME.in (absent: zeros) and, unless it is only read, written to
// FOLDER/NAME.out. An error does not keep the segments after it from running.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Device.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/schema/plan.pb.h"

#include <google/protobuf/text_format.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

using namespace tombolo;
using namespace tombolo::runtime;

static std::string readAll(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

static void run(const std::string &name, const std::string &path,
                const std::string &folder) {
  plan::v1::Segment segment;
  if (!google::protobuf::TextFormat::ParseFromString(readAll(path), &segment))
    throw Error(path, ": expected a Segment in text format");
  std::unique_ptr<Device> device = createDevice(name);
  std::vector<std::unique_ptr<Arena>> arenas;
  std::vector<std::byte *> addresses;
  for (const plan::v1::Argument &argument : segment.arguments()) {
    arenas.push_back(device->allocateArena(argument.bytes()));
    addresses.push_back(arenas.back()->base());
    std::string bytes = readAll(folder + "/" + argument.name() + ".in");
    if (bytes.size() > argument.bytes())
      throw Error(argument.name(), ": expected ", argument.bytes(),
                  " bytes, got ", bytes.size());
    device->copyToDevice(addresses.back(),
                         std::as_bytes(std::span(bytes.data(), bytes.size())));
  }
  std::unique_ptr<Arena> workspace =
      device->allocateArena(segment.workspace_bytes());
  device->prepare(segment)->run(addresses, workspace->base());
  for (int i = 0; i < segment.arguments_size(); ++i) {
    const plan::v1::Argument &argument = segment.arguments(i);
    if (argument.access() == plan::v1::ACCESS_READ)
      continue;
    std::string bytes(argument.bytes(), '\0');
    device->copyToHost(
        std::as_writable_bytes(std::span(bytes.data(), bytes.size())),
        addresses[i]);
    std::ofstream(folder + "/" + argument.name() + ".out", std::ios::binary)
        << bytes;
  }
}

int main(int argc, char **argv) {
  if (argc < 4 || argc % 2 != 0) {
    std::cerr << "usage: segment-run DEVICE (SEGMENT FOLDER)...\n";
    return 2;
  }
  int status = 0;
  for (int i = 2; i < argc; i += 2)
    try {
      run(argv[1], argv[i], argv[i + 1]);
    } catch (const Error &error) {
      std::cerr << argv[i] << ": error: " << error.what() << '\n';
      if (status == 0)
        status = error.exitStatus();
    }
  return status;
}
