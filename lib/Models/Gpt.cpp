//===- Gpt.cpp - a GPT as an ONNX graph -----------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Models/Gpt.h"

#include "ModelWriter.h"

#include <cmath>
#include <limits>
#include <numbers>

namespace tombolo::models {

const std::vector<NamedGpt> &namedGpts() {
  static const std::vector<NamedGpt> shapes = {
      {"gpt", {6, 256, 8, 0, 256, 128}, "the default: 5 M parameters, bytes"},
      {"gpt-tiny", {2, 64, 4, 0, 256, 32}, "for tests and first steps"},
      {"gpt2-small", {12, 768, 12, 0, 50257, 1024}, "124 M, head untied"},
      {"gpt2-medium", {24, 1024, 16, 0, 50257, 1024}, "355 M, head untied"},
      {"gpt2-large", {36, 1280, 20, 0, 50257, 1024}, "774 M, head untied"},
      {"gpt2-xl", {48, 1600, 25, 0, 50257, 1024}, "1.6 B, head untied"},
      {"gpt-100b", {96, 8192, 64, 45056, 103168, 4096}, "98 B"},
  };
  return shapes;
}

std::optional<GptShape> findGpt(std::string_view name) {
  for (const NamedGpt &named : namedGpts())
    if (named.name == name)
      return named.shape;
  return std::nullopt;
}

std::string checkShape(const GptShape &shape) {
  if (std::string error = checkSizes({{"--layers", shape.layers, 10'000},
                                      {"--hidden", shape.hidden, 1 << 20},
                                      {"--heads", shape.heads, 1 << 20},
                                      {"--ffn", shape.ffnWidth(), 1 << 22},
                                      {"--vocab", shape.vocabulary, 1 << 26},
                                      {"--seq", shape.sequence, 1 << 24}});
      !error.empty())
    return error;
  if (shape.hidden % shape.heads)
    return "--hidden " + std::to_string(shape.hidden) +
           " is not a multiple of --heads " + std::to_string(shape.heads);
  return "";
}

uint64_t countParameters(const GptShape &shape) {
  uint64_t h = shape.hidden, f = shape.ffnWidth();
  uint64_t layer = 4 * h * h + 4 * h + 2 * h * f + f + h + 4 * h;
  return shape.layers * layer + 2 * h + shape.sequence * h +
         2 * shape.vocabulary * h;
}

namespace {

/// Builds the graph of one model.
class GptBuilder {
public:
  explicit GptBuilder(const GptShape &shape) : shape(shape) {}

  ModelWriter build() {
    int64_t sequence = toSigned(shape.sequence);
    writer.input("tokens", {sequence});
    writer.output("logits", {sequence, toSigned(shape.vocabulary)});
    std::string x = embed();
    buildSharedConstants();
    for (uint64_t layer = 0; layer < shape.layers; ++layer) {
      std::string name = "transformer.h." + std::to_string(layer);
      x = node("Add", name + ".attn.residual",
               {x, attention(name + ".attn", norm(name + ".ln_1", x))});
      x = node("Add", name + ".mlp.residual",
               {x, mlp(name + ".mlp", norm(name + ".ln_2", x))});
    }
    x = norm("transformer.ln_f", x);
    std::string head = writer.parameter(
        "lm_head.weight", {shape.hidden, shape.vocabulary}, Init::Normal);
    writer.node("MatMul", "lm_head", {x, head}, {"logits"});
    return std::move(writer);
  }

private:
  static int64_t toSigned(uint64_t size) { return static_cast<int64_t>(size); }

  std::string node(const std::string &type, const std::string &name,
                   const std::vector<std::string> &operands) {
    writer.node(type, name, operands);
    return name;
  }

  std::string embed() {
    std::string tokens =
        writer.parameter("transformer.wte.weight",
                         {shape.vocabulary, shape.hidden}, Init::Normal);
    std::string positions = writer.parameter(
        "transformer.wpe.weight", {shape.sequence, shape.hidden}, Init::Normal);
    std::string token = node("Gather", "transformer.wte", {tokens, "tokens"});
    // Every sample has the same T positions: the whole table is added.
    return node("Add", "transformer.embedding", {token, positions});
  }

  /// What all layers share: scalars, shapes, and the causal mask, which is
  /// computed and so takes no room in the file.
  void buildSharedConstants() {
    int64_t heads = toSigned(shape.heads), hidden = toSigned(shape.hidden);
    int64_t sequence = toSigned(shape.sequence);
    writer.constant("scale",
                    static_cast<float>(1.0 / std::sqrt(static_cast<double>(
                                                 shape.hidden / shape.heads))));
    writer.constant("minus_infinity", -std::numeric_limits<float>::infinity());
    writer.constant("sqrt_two", std::numbers::sqrt2_v<float>);
    writer.constant("one", 1.0f);
    writer.constant("half", 0.5f);
    // 0 keeps the batch dimension as it is.
    writer.constant("heads_shape", {0, sequence, heads, hidden / heads});
    writer.constant("hidden_shape", {0, sequence, hidden});
    writer.constant("mask_shape", {1, 1, sequence, sequence});
    onnx::NodeProto &full =
        writer.node("ConstantOfShape", "full_mask", {"mask_shape"});
    onnx::AttributeProto &value = *full.add_attribute();
    value.set_name("value");
    value.set_type(onnx::AttributeProto::TENSOR);
    value.mutable_t()->set_data_type(onnx::TensorProto::BOOL);
    value.mutable_t()->add_dims(1);
    value.mutable_t()->add_int32_data(1);
    addInt(writer.node("Trilu", "causal_mask", {"full_mask"}), "upper", 0);
  }

  std::string norm(const std::string &name, const std::string &x) {
    std::string weight =
        writer.parameter(name + ".weight", {shape.hidden}, Init::Ones);
    std::string bias =
        writer.parameter(name + ".bias", {shape.hidden}, Init::Zeros);
    onnx::NodeProto &norm =
        writer.node("LayerNormalization", name, {x, weight, bias});
    addInt(norm, "axis", -1);
    addFloat(norm, "epsilon", 1e-5f);
    return name;
  }

  std::string linear(const std::string &name, const std::string &x,
                     uint64_t inputs, uint64_t outputs) {
    std::string weight =
        writer.parameter(name + ".weight", {inputs, outputs}, Init::Normal);
    std::string bias = writer.parameter(name + ".bias", {outputs}, Init::Zeros);
    std::string product = node("MatMul", name + ".product", {x, weight});
    return node("Add", name, {product, bias});
  }

  std::string attention(const std::string &name, const std::string &x) {
    std::string qkv = linear(name + ".qkv", x, shape.hidden, 3 * shape.hidden);
    std::vector<std::string> parts;
    for (const char *part : {".q", ".k", ".v"})
      parts.push_back(name + part);
    addInt(writer.node("Split", name + ".split", {qkv}, parts), "axis", 2);
    for (std::string &part : parts) {
      std::string split =
          node("Reshape", part + ".split_heads", {part, "heads_shape"});
      addInts(writer.node("Transpose", part + ".heads", {split}), "perm",
              {0, 2, 1, 3});
      part += ".heads";
    }
    addInts(writer.node("Transpose", name + ".k.transposed", {parts[1]}),
            "perm", {0, 1, 3, 2});
    std::string scores =
        node("MatMul", name + ".scores", {parts[0], name + ".k.transposed"});
    scores = node("Mul", name + ".scaled", {scores, "scale"});
    scores = node("Where", name + ".masked",
                  {"causal_mask", scores, "minus_infinity"});
    addInt(writer.node("Softmax", name + ".weights", {scores}), "axis", -1);
    std::string mixed =
        node("MatMul", name + ".mixed", {name + ".weights", parts[2]});
    addInts(writer.node("Transpose", name + ".joined", {mixed}), "perm",
            {0, 2, 1, 3});
    std::string joined =
        node("Reshape", name + ".out", {name + ".joined", "hidden_shape"});
    return linear(name + ".proj", joined, shape.hidden, shape.hidden);
  }

  /// The exact GELU, x / 2 (1 + erf(x / sqrt 2)), in the ops that exporters
  /// decompose it into: opset 17 has none of its own.
  std::string mlp(const std::string &name, const std::string &x) {
    std::string wide = linear(name + ".fc", x, shape.hidden, shape.ffnWidth());
    std::string y = node("Div", name + ".gelu.scaled", {wide, "sqrt_two"});
    y = node("Erf", name + ".gelu.erf", {y});
    y = node("Add", name + ".gelu.shifted", {y, "one"});
    y = node("Mul", name + ".gelu.gated", {wide, y});
    y = node("Mul", name + ".gelu", {y, "half"});
    return linear(name + ".proj", y, shape.ffnWidth(), shape.hidden);
  }

  const GptShape &shape;
  ModelWriter writer;
};

} // namespace

std::string writeGpt(const GptShape &shape, uint64_t seed, Weights weights,
                     const std::string &path) {
  if (std::string error = checkShape(shape); !error.empty())
    return error;
  return GptBuilder(shape).build().write(seed, weights, path);
}

} // namespace tombolo::models
