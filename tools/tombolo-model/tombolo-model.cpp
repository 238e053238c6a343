//===- tombolo-model.cpp - writes models to plan and train ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Models/Gpt.h"
#include "tombolo/Models/Llama.h"
#include "tombolo/runtime/CommandLine.h"

#include <iostream>

using namespace tombolo::models;

namespace {

/// What the command line says.
struct Request {
  std::string preset, output;
  std::optional<uint64_t> layers, hidden, heads, kvHeads, ffn, vocabulary,
      sequence;
  uint64_t seed = 0;
  bool noWeights = false;

  Weights weights() const { return noWeights ? Weights::None : Weights::Auto; }
};

/// The sizes that all models have.
template <typename Shape> void setSizes(const Request &request, Shape &shape) {
  // Another width takes the default MLP along, unless that is given too.
  if (request.hidden)
    shape.ffn = 0;
  shape.layers = request.layers.value_or(shape.layers);
  shape.hidden = request.hidden.value_or(shape.hidden);
  shape.heads = request.heads.value_or(shape.heads);
  shape.ffn = request.ffn.value_or(shape.ffn);
  shape.vocabulary = request.vocabulary.value_or(shape.vocabulary);
  shape.sequence = request.sequence.value_or(shape.sequence);
}

template <typename Named>
void addNames(const std::vector<Named> &shapes, std::string &list) {
  for (const Named &named : shapes)
    list += (list.empty() ? "'" : ", '") + std::string(named.name) + "'";
}

template <typename Named>
void addSummaries(const std::vector<Named> &shapes, std::string &list) {
  for (const Named &named : shapes)
    list +=
        "\n  " + std::string(named.name) + ": " + std::string(named.summary);
}

/// Writes the model; the error, or the empty string.
std::string write(const Request &request) {
  if (request.ffn && *request.ffn == 0)
    return "--ffn is 0, expected at least 1";
  if (std::optional<LlamaShape> shape = findLlama(request.preset)) {
    setSizes(request, *shape);
    shape->kvHeads = request.kvHeads.value_or(shape->kvHeads);
    return writeLlama(*shape, request.seed, request.weights(), request.output);
  }
  if (std::optional<GptShape> shape = findGpt(request.preset)) {
    setSizes(request, *shape);
    if (request.kvHeads && *request.kvHeads != shape->heads)
      return "--kv-heads is " + std::to_string(*request.kvHeads) +
             ", expected " + std::to_string(shape->heads) +
             ": a GPT has as many as --heads";
    return writeGpt(*shape, request.seed, request.weights(), request.output);
  }
  std::string names;
  addNames(namedGpts(), names);
  addNames(namedLlamas(), names);
  return "unknown preset '" + request.preset + "', expected one of " + names;
}

} // namespace

int main(int argc, char **argv) {
  tombolo::runtime::CommandLine app(
      "writes a GPT or Llama as ONNX, batch free and sequence length constant",
      "tombolo-model",
      {"tombolo-model gpt --layers 4 --hidden 128 --heads 4 --vocab 256 "
       "--seq 64 -o m.onnx",
       "tombolo-model llama-7b --no-weights -o llama.onnx"});
  Request request;
  std::string presets = "one of:";
  addSummaries(namedGpts(), presets);
  addSummaries(namedLlamas(), presets);
  app.add_option("preset", request.preset, presets)->required();
  app.add_option("--layers", request.layers, "number of blocks");
  app.add_option("--hidden", request.hidden, "width of the residual stream");
  app.add_option("--heads", request.heads, "attention heads; divides --hidden");
  app.add_option("--kv-heads", request.kvHeads,
                 "heads of keys and values (Llama); divides --heads");
  app.add_option("--ffn", request.ffn,
                 "width of the MLP (default 4 x hidden; Llama: 8/3 x hidden, "
                 "rounded up to a multiple of 64)");
  app.add_option("--vocab", request.vocabulary, "number of different tokens");
  app.add_option("--seq", request.sequence, "tokens per sample");
  app.add_option("--seed", request.seed, "of the weights")
      ->capture_default_str();
  app.add_flag("--no-weights", request.noWeights,
               "a skeleton: enough to plan and simulate");
  app.add_option("-o,--output", request.output, "the file to write")
      ->required();
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;

  if (std::string error = write(request); !error.empty()) {
    std::cerr << "tombolo-model: error: " << error << "\n";
    return 1;
  }
  return 0;
}
