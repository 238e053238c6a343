//===- Seeds.cpp - what the fuzzers begin with ----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   fuzz-seeds DIR     writes DIR/TARGET/NAME: good inputs of each target, made
//                      by what makes them elsewhere
//
//===----------------------------------------------------------------------===//

#include "FuzzedServer.h"
#include "PlanBuilder.h"
#include "SimulatedDisk.h"
#include "Temporary.h"
#include "Wire.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/server/ParameterServer.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <array>
#include <filesystem>
#include <iostream>
#include <vector>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

std::string folder;

void write(const std::string &target, const std::string &name,
           const std::string &content) {
  std::filesystem::create_directories(folder + "/" + target);
  writeFile(folder + "/" + target + "/" + name, content);
}

std::string readAll(const std::string &path) { return readFile(path, 1 << 20); }

void seedPlans() {
  TinyModel one, two;
  two.replicas = 2;
  for (const auto &[name, tiny] :
       {std::pair("one", one), std::pair("two", two)}) {
    Plan plan = tinyPlan(tiny);
    write("plan-fuzz", name, plan.SerializeAsString());
    *plan.add_islands() = plan.islands(0);
    addServer(plan, 3, "north");
    write("plan-fuzz", std::string(name) + "-server", plan.SerializeAsString());
  }
}

void seedModels() {
  tombolo::onnx_subset::ModelProto model;
  auto *table = model.mutable_graph()->add_initializer();
  table->set_name("table");
  table->set_data_type(1);
  table->add_dims(2);
  table->set_raw_data(std::string(8, '\1'));
  auto *node = model.mutable_graph()->add_node();
  node->set_op_type("Gather");
  node->add_input("table");
  node->add_input("ids");
  node->add_output("logits");
  write("onnx-fuzz", "gather", model.SerializeAsString());
}

void seedCheckpoints() {
  TemporaryFolder temporary;
  LocalParameter parameter;
  parameter.name = "w";
  parameter.dims = {4, 6};
  parameter.elements = parameter.localElements = 24;
  tombolo::plan::v1::Slice &slice = parameter.ranges.emplace_back();
  slice.set_length(24);
  slice.set_count(1);
  slice.set_stride(24);
  auto values = [](std::uint64_t, std::span<float> to) {
    std::fill(to.begin(), to.end(), 1.0f);
  };
  CheckpointInfo info;
  info.modelHash = info.contract = std::string(32, 'h');
  info.step = 5;
  info.batches = {12, 12};
  info.innerSteps = 3;
  for (bool server : {false, true}) {
    std::string generation = checkpointFolder(temporary.path, 0, 5);
    writeShard(generation, 0,
               {{"w", &parameter, values}, {"w/exp_avg", &parameter, values}});
    if (server)
      info.points = {{1, 3, 4}, {1, 5, {}}};
    writeManifest(generation, 1, info);
    std::string shard =
        makePiece(0, readAll(generation + "/rank-0.safetensors"));
    std::string manifest = readAll(generation + "/manifest.json");
    for (std::uint8_t kind : {0, 1})
      write("checkpoint-fuzz",
            (server ? "server-" : "plain-") + std::to_string(kind),
            makePiece(kind, manifest) + shard);
  }
}

void seedTensorFiles() {
  write(
      "tensor-file-fuzz", "good",
      makePiece(
          0,
          R"({"__metadata__":{"by":"a seed"},)"
          R"("x":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},)"
          R"("y":{"dtype":"I32","shape":[3],"data_offsets":[24,36]},)"
          R"("mask":{"dtype":"BOOL","shape":[3,3],"data_offsets":[36,45]}})") +
          makePiece(0, std::string(45, '\1')));
}

wire::Sender sender(std::uint32_t island, std::uint32_t rank = 0) {
  wire::Sender result;
  result.set_run_id(kRun);
  result.set_contract(Contract(kPlan).digest());
  result.set_protocol(kServerProtocol);
  result.set_island(island);
  result.set_rank(rank);
  return result;
}

std::string piece(Event event, const google::protobuf::MessageLite &message) {
  return makePiece(static_cast<std::uint8_t>(event),
                   message.SerializeAsString());
}

/// All that an island, of one rank, pushes of a fragment.
std::string push(PushContent content, std::uint32_t island,
                 std::uint32_t fragment, std::uint64_t round) {
  PushPart part;
  part.island = island;
  part.content = content;
  part.fragment = fragment;
  part.round = part.baseVersion = round;
  if (content == PushContent::Delta) {
    part.tokens = part.innerSteps = 4;
    part.step = 4 * (round + 1);
  }
  for (const OuterTensor &tensor : fuzzedConfig().tensors)
    if (tensor.fragment == fragment)
      part.slices.push_back(
          {tensor.name, {{0, tensor.elements, 1, tensor.elements}}});
  wire::PushHeader header;
  toWire(part, header);
  *header.mutable_sender() = sender(island);
  return piece(Event::Header, header) +
         makePiece(static_cast<std::uint8_t>(Event::Data),
                   std::string(64, '\x3f'));
}

void seedServers() {
  auto event = [](Event kind, std::size_t bytes = 0) {
    return makePiece(static_cast<std::uint8_t>(kind), std::string(bytes, '\0'));
  };
  std::string run;
  for (std::uint32_t fragment : {0, 1})
    run += push(PushContent::StartParameters, 0, fragment, 0);
  run += event(Event::Versions);
  for (std::uint32_t island : {0, 1}) {
    wire::WaitRequest join;
    *join.mutable_sender() = sender(island);
    join.set_join(true);
    run += piece(Event::Wait, join);
  }
  write("server-fuzz", "start", run);
  for (std::uint64_t round : {0, 1}) {
    for (std::uint32_t island : {0, 1})
      for (std::uint32_t fragment : {0, 1})
        run += push(PushContent::Delta, island, fragment, round);
    run += event(Event::Versions);
    for (std::uint32_t island : {0, 1}) {
      wire::WaitRequest wait;
      *wait.mutable_sender() = sender(island);
      wait.set_round(round);
      wait.set_step(4 * (round + 1));
      run += piece(Event::Wait, wait);
      wire::PullRequest pull;
      *pull.mutable_sender() = sender(island);
      pull.set_version(round + 1);
      pull.set_what(static_cast<wire::PullRequest::What>(island + round));
      toWire(TensorSlice{"b", {{10, 20, 3, 30}}}, *pull.add_slices());
      run += piece(Event::Pull, pull);
    }
    write("server-fuzz", "rounds-" + std::to_string(round), run);
    run += event(Event::Restart);
  }
  run += push(PushContent::Delta, 0, 0, 2) + event(Event::Time, 25) +
         event(Event::Versions) + push(PushContent::Delta, 1, 0, 2);
  wire::HeartbeatRequest heart;
  *heart.mutable_sender() = sender(1);
  heart.set_stop(true);
  run += piece(Event::Heartbeat, heart);
  heart.set_done(true);
  run += piece(Event::Heartbeat, heart) + event(Event::Restart);
  write("server-fuzz", "late-and-stop", run);
  wire::GreetRequest greeting;
  *greeting.mutable_sender() = sender(1);
  run += piece(Event::Greet, greeting);
  heart.set_gone(true);
  run += piece(Event::Heartbeat, heart) + piece(Event::Greet, greeting) +
         event(Event::Time, 25) + event(Event::Restart);
  write("server-fuzz", "greeting-and-gone", run);
}

/// Records of a file, without their frames.
std::string recordsOf(const Storage &storage, const std::string &name) {
  std::string pieces;
  RecordReader reader(storage, name);
  while (auto record = reader.next())
    pieces += makeRecord(record->type, record->head,
                         {reinterpret_cast<const char *>(record->body.data()),
                          record->body.size()});
  return pieces;
}

PushPart partOf(const std::string &pieces) {
  std::string_view input = pieces;
  Piece header;
  cutPiece(input, header);
  wire::PushHeader message;
  message.ParseFromString(std::string(header.bytes));
  return *fromWire(message);
}

void takeAll(DurableState &state, PushContent content, std::uint32_t island,
             std::uint64_t round) {
  for (std::uint32_t fragment : {0, 1}) {
    PushPart part = partOf(push(content, island, fragment, round));
    std::uint64_t bytes = 0;
    state.state().admit(part, &bytes);
    std::vector<std::byte> data(bytes, std::byte(0));
    if (auto closing = state.push(part, data, 0).closing) {
      closing->compute();
      state.logVersion(*closing);
      state.publish(*closing);
    }
  }
}

void seedLogs() {
  SimulatedDisk disk(1);
  auto files = [&] {
    std::unique_ptr<Storage> storage = disk.mount();
    std::string pieces;
    for (std::size_t i = 0; i < std::size(kFiles); ++i)
      for (const std::string &name : storage->names())
        if (name == kFiles[i])
          pieces += makePiece(static_cast<std::uint8_t>(i),
                              recordsOf(*storage, name));
    return pieces;
  };
  auto run = [&](auto work) {
    DurableState state(fuzzedConfig(), fuzzedOptions(), disk.mount(), 0);
    work(state);
  };
  run([](DurableState &state) {
    takeAll(state, PushContent::StartParameters, 0, 0);
    for (std::uint32_t island : {0, 1})
      state.join(0, island, 0);
    for (std::uint32_t island : {0, 1})
      takeAll(state, PushContent::Delta, island, 0);
    state.receipt(0, 1, 0, 4);
    takeAll(state, PushContent::Delta, 1, 1);
  });
  write("log-fuzz", "log", files());
  run([](DurableState &state) {
    state.writeSnapshot(state.beginSnapshot());
    state.stop();
  });
  write("log-fuzz", "snapshot", files());
}

/// A run of three servers, as the second one, the backup, hears of it.
void seedPeers() {
  std::vector<std::unique_ptr<SimulatedDisk>> disks;
  std::vector<std::unique_ptr<Replica>> replicas;
  for (std::uint32_t i = 0; i < 3; ++i) {
    disks.push_back(std::make_unique<SimulatedDisk>(i));
    replicas.push_back(
        std::make_unique<Replica>(fuzzedConfig(), fuzzedOptions(),
                                  fuzzedReplica(i), disks[i]->mount(), 0));
  }
  std::string heard;
  auto add = [&](PeerEvent event, const std::string &bytes) {
    heard += makePiece(static_cast<std::uint8_t>(event), bytes);
  };
  std::mutex mutex;
  bool started = false;
  for (double now = 0; now < 7; now += 0.25) {
    if (now == 6)
      replicas[0]->setOver(); // it tells the others
    if (replicas[0]->isPrimary() && !std::exchange(started, true)) {
      takeAll(replicas[0]->state(), PushContent::StartParameters, 0, 0);
      takeAll(replicas[0]->state(), PushContent::Delta, 0, 0);
    }
    for (std::uint32_t from = 0; from < 3; ++from) {
      replicas[from]->tick(now);
      std::unique_lock lock(mutex);
      while (replicas[from]->work(lock, now)) {
      }
      for (std::uint32_t to = 0; to < 3; ++to)
        while (to != from) {
          auto message = replicas[from]->next(to, now);
          if (!message)
            break;
          message->set_run_id(kRun);
          message->set_contract(Contract(kPlan).digest());
          message->set_protocol(kServerProtocol);
          replicas[to]->receive(*message, now);
          if (to != 1)
            continue;
          if (message->has_append() && !message->append().data().empty()) {
            std::string pieces;
            RecordAssembler assembler(1 << 20);
            assembler.add(message->append().data());
            while (auto record = assembler.next())
              pieces += makeRecord(
                  record->type, record->head,
                  {reinterpret_cast<const char *>(record->body.data()),
                   record->body.size()});
            message->mutable_append()->set_data(pieces);
            add(PeerEvent::Records, message->SerializeAsString());
          } else {
            add(PeerEvent::Message, message->SerializeAsString());
          }
        }
    }
    add(PeerEvent::Time, std::string(2, '\0'));
    add(PeerEvent::Work, "");
  }
  write("peer-fuzz", "run", heard);
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    std::cerr << "usage: fuzz-seeds DIR\n";
    return 2;
  }
  folder = argv[1];
  seedPlans();
  seedModels();
  seedCheckpoints();
  seedTensorFiles();
  seedServers();
  seedLogs();
  seedPeers();
  return 0;
}
