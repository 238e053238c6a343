//===- TinyRun.cpp - the tiny model, run and computed by hand -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TinyRun.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <cmath>
#include <fstream>
#include <mutex>
#include <thread>

namespace tombolo::runtime::test {

namespace {

void addWeights(onnx_subset::GraphProto &graph, const std::string &name,
                std::vector<std::int64_t> dims,
                const std::vector<float> &values) {
  auto *tensor = graph.add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(1);
  for (std::int64_t dim : dims)
    tensor->add_dims(dim);
  tensor->set_raw_data(std::string(
      reinterpret_cast<const char *>(values.data()), values.size() * 4));
}

} // namespace

TinyRun::TinyRun(const TinyModel &model) : model(model), plan(tinyPlan(model)) {
  auto v = static_cast<std::int64_t>(model.vocabulary);
  for (std::int64_t i = 0; i < v * v; ++i)
    initial["table"].push_back(std::sin(static_cast<float>(i)) * 0.5f);
  for (std::int64_t i = 0; i < v; ++i)
    initial["norm.weight"].push_back(1 +
                                     0.1f * std::cos(static_cast<float>(i)));
  onnx_subset::ModelProto proto;
  onnx_subset::GraphProto &graph = *proto.mutable_graph();
  auto *gather = graph.add_node();
  gather->set_op_type("Gather");
  gather->add_input("table");
  gather->add_input("ids");
  gather->add_output("hidden");
  addWeights(graph, "table", {v, v}, initial["table"]);
  if (model.stages > 1) {
    auto *mul = graph.add_node();
    mul->set_op_type("Mul");
    mul->add_input("hidden");
    mul->add_input("norm.weight");
    mul->add_output("logits");
    addWeights(graph, "norm.weight", {v}, initial["norm.weight"]);
  }
  onnx = folder / "m.onnx";
  writeFile(onnx, proto.SerializeAsString());
  plan.set_model_hash(modelHash(onnx));

  data = folder / "tokens.bin";
  std::string bytes;
  for (std::uint64_t i = 0; i < 101; ++i) {
    tokens.push_back(
        static_cast<std::int64_t>((i * i + i / 3) % model.vocabulary));
    bytes += static_cast<char>(tokens.back());
    bytes += '\0';
  }
  writeFile(data, bytes);
  config.model = onnx;
  config.data.path = data;
}

void TinyRun::dropWeights() {
  onnx_subset::ModelProto proto;
  std::ifstream file(onnx, std::ios::binary);
  if (!proto.ParseFromIstream(&file))
    throw Error("'", onnx, "' does not parse");
  for (auto &tensor : *proto.mutable_graph()->mutable_initializer()) {
    tensor.clear_raw_data();
    tensor.set_data_location(1);
    auto *entry = tensor.add_external_data();
    entry->set_key("location");
    entry->set_value("nowhere.bin");
  }
  file.close();
  writeFile(onnx, proto.SerializeAsString());
}

void TinyRun::setWeight(const std::string &name, std::size_t element,
                        float value) {
  onnx_subset::ModelProto proto;
  std::ifstream file(onnx, std::ios::binary);
  if (!proto.ParseFromIstream(&file))
    throw Error("'", onnx, "' does not parse");
  initial[name].at(element) = value;
  for (auto &tensor : *proto.mutable_graph()->mutable_initializer())
    if (tensor.name() == name)
      std::copy_n(reinterpret_cast<const char *>(&value), sizeof value,
                  tensor.mutable_raw_data()->begin() +
                      static_cast<std::ptrdiff_t>(element * sizeof value));
  file.close();
  writeFile(onnx, proto.SerializeAsString());
}

std::vector<double> TinyRun::train(std::uint64_t steps,
                                   const std::string &checkpointDir,
                                   bool resume, std::uint64_t every) {
  IslandLayout layout(plan.islands(0));
  TransportOptions options{std::chrono::seconds(60), std::chrono::seconds(60),
                           ""};
  InprocHub hub(layout.rankCount(), options);
  std::vector<double> losses;
  std::mutex mutex;
  std::exception_ptr failure;
  bool echo = false;
  std::vector<std::thread> threads;
  for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank)
    threads.emplace_back([&, rank] {
      try {
        RankConfig own = config;
        own.rank = rank;
        own.steps = steps;
        own.checkpointDir = checkpointDir;
        own.checkpointEvery = every;
        own.resume = resume;
        DeviceOptions deviceOptions;
        deviceOptions.checkNumerics = config.checkNumerics;
        std::unique_ptr<Device> device = createDevice("cpu", deviceOptions);
        std::unique_ptr<Transport> transport = hub.transport(rank);
        RankEvents events;
        events.step = [&](const StepMetrics &metrics) {
          if (stepped)
            stepped(metrics.step);
          losses.push_back(metrics.loss);
        };
        events.checkpoint = [&](const CheckpointNews &news) {
          if (checkpoint)
            checkpoint(rank, news);
        };
        events.writing = [&](std::uint64_t step) {
          if (writing)
            writing(rank, step);
        };
        try {
          Rank(plan, own, *device, *transport, std::move(events)).run();
        } catch (const std::exception &error) {
          transport->abort(error.what());
          throw;
        }
      } catch (const PeerError &) {
        std::lock_guard lock(mutex);
        if (!failure) {
          failure = std::current_exception();
          echo = true;
        }
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure || echo)
          failure = std::current_exception();
        echo = false;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  if (failure)
    std::rethrow_exception(failure);
  return losses;
}

std::vector<double> TinyRun::reference(std::uint64_t steps,
                                       std::uint64_t change,
                                       std::uint64_t batch) {
  std::size_t v = model.vocabulary, t = model.tokens;
  std::vector<double> table(initial["table"].begin(), initial["table"].end());
  std::vector<double> scale(v, 1.0), tableMomentum(v * v), scaleMomentum(v);
  if (model.stages > 1)
    scale.assign(initial["norm.weight"].begin(), initial["norm.weight"].end());
  std::vector<double> losses;
  std::uint64_t next = 0; // sample
  for (std::uint64_t step = 0; step < steps; ++step) {
    std::vector<double> tableGrad(v * v), scaleGrad(v);
    double loss = 0, weight = 0;
    std::uint64_t first = next;
    next += step < change ? model.batch : batch;
    for (std::uint64_t s = first; s < next; ++s)
      for (std::size_t i = 0; i < t; ++i) {
        auto token =
            static_cast<std::size_t>(tokens[(s * t + i) % tokens.size()]);
        auto label =
            static_cast<std::size_t>(tokens[(s * t + i + 1) % tokens.size()]);
        double sum = 0;
        std::vector<double> logits(v);
        for (std::size_t k = 0; k < v; ++k) {
          logits[k] = table[token * v + k] * scale[k];
          sum += std::exp(logits[k]);
        }
        loss += std::log(sum) - logits[label];
        weight += 1;
        for (std::size_t k = 0; k < v; ++k) {
          double d = std::exp(logits[k]) / sum - (k == label ? 1 : 0);
          scaleGrad[k] += d * table[token * v + k];
          tableGrad[token * v + k] += d * scale[k];
        }
      }
    losses.push_back(loss / weight);
    auto update = [&](std::vector<double> &values,
                      std::vector<double> &momentum,
                      const std::vector<double> &gradient) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        momentum[i] = model.momentum * momentum[i] + gradient[i] / weight;
        values[i] -= model.learningRate * momentum[i];
      }
    };
    update(table, tableMomentum, tableGrad);
    if (model.stages > 1)
      update(scale, scaleMomentum, scaleGrad);
  }
  trained.clear();
  trained["table"].assign(table.begin(), table.end());
  if (model.stages > 1)
    trained["norm.weight"].assign(scale.begin(), scale.end());
  return losses;
}

Weights readCheckpoint(const Plan &plan, const std::string &folder) {
  Checkpoint checkpoint(folder);
  Weights all;
  for (const plan::v1::Program &program : plan.programs())
    for (const LocalParameter &parameter : expandParameters(program)) {
      std::vector<float> &values = all[parameter.name];
      values.resize(parameter.elements);
      checkpoint.read(parameter.name, parameter,
                      [&](std::uint64_t at, std::span<const float> part) {
                        std::copy(part.begin(), part.end(),
                                  values.begin() +
                                      static_cast<std::ptrdiff_t>(at));
                      });
    }
  return all;
}

} // namespace tombolo::runtime::test
