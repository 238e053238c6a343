//===- tombolo-model.cpp - writes models to plan and train ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Models/Gpt.h"

#include <CLI/CLI.hpp>

#include <iostream>

using namespace tombolo::models;

static int fail(const std::string &message) {
  std::cerr << "tombolo-model: error: " << message << "\n";
  return 1;
}

int main(int argc, char **argv) {
  CLI::App app("writes a GPT as ONNX, batch free and sequence length constant",
               "tombolo-model");
  std::string preset, output;
  std::optional<uint64_t> layers, hidden, heads, kvHeads, ffn, vocabulary,
      sequence;
  uint64_t seed = 0;
  bool noWeights = false;
  std::string presets = "one of:";
  for (const NamedGpt &named : namedGpts())
    presets +=
        "\n  " + std::string(named.name) + ": " + std::string(named.summary);
  app.add_option("preset", preset, presets)->required();
  app.add_option("--layers", layers, "number of blocks");
  app.add_option("--hidden", hidden, "width of the residual stream");
  app.add_option("--heads", heads, "attention heads; divides --hidden");
  app.add_option("--kv-heads", kvHeads, "heads of keys and values");
  app.add_option("--ffn", ffn, "width of the MLP (default 4 x hidden)");
  app.add_option("--vocab", vocabulary, "number of different tokens");
  app.add_option("--seq", sequence, "tokens per sample");
  app.add_option("--seed", seed, "of the weights")->capture_default_str();
  app.add_flag("--no-weights", noWeights,
               "a skeleton: enough to plan and simulate");
  app.add_option("-o,--output", output, "the file to write")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  if (preset.rfind("llama", 0) == 0)
    return fail("preset '" + preset +
                "' is not there yet; take a GPT, e.g. 'gpt'");
  std::optional<GptShape> shape = findGpt(preset);
  if (!shape) {
    std::string names;
    for (const NamedGpt &named : namedGpts())
      names += (names.empty() ? "'" : ", '") + std::string(named.name) + "'";
    return fail("unknown preset '" + preset + "', expected one of " + names);
  }
  // Another width takes the default MLP along, unless that is given too.
  if (hidden && !ffn)
    shape->ffn = 0;
  shape->layers = layers.value_or(shape->layers);
  shape->hidden = hidden.value_or(shape->hidden);
  shape->heads = heads.value_or(shape->heads);
  if (ffn && *ffn == 0)
    return fail("--ffn is 0, expected at least 1");
  shape->ffn = ffn.value_or(shape->ffn);
  shape->vocabulary = vocabulary.value_or(shape->vocabulary);
  shape->sequence = sequence.value_or(shape->sequence);
  if (kvHeads && *kvHeads != shape->heads)
    return fail("--kv-heads is " + std::to_string(*kvHeads) + ", expected " +
                std::to_string(shape->heads) +
                ": a GPT has as many as --heads");

  std::string error =
      writeGpt(*shape, seed, noWeights ? Weights::None : Weights::Auto, output);
  if (!error.empty())
    return fail(error);
  return 0;
}
