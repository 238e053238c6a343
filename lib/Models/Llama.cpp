//===- Llama.cpp - a Llama as an ONNX graph -------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Models/Llama.h"

#include "ModelWriter.h"

#include <cmath>
#include <limits>

namespace tombolo::models {

const std::vector<NamedLlama> &namedLlamas() {
  static const std::vector<NamedLlama> shapes = {
      {"llama", {6, 256, 8, 2, 0, 256, 128}, "4.4 M parameters, bytes"},
      {"llama-tiny", {2, 64, 4, 2, 0, 256, 32}, "for tests and first steps"},
      {"llama-7b", {32, 4096, 32, 32, 11008, 32000, 4096}, "6.7 B"},
      {"llama-70b", {80, 8192, 64, 8, 28672, 32000, 4096}, "69 B"},
      {"llama-100b", {96, 8192, 64, 8, 36864, 103168, 4096}, "103.2 B"},
  };
  return shapes;
}

std::optional<LlamaShape> findLlama(std::string_view name) {
  for (const NamedLlama &named : namedLlamas())
    if (named.name == name)
      return named.shape;
  return std::nullopt;
}

std::string checkShape(const LlamaShape &shape) {
  if (std::string error = checkSizes({{"--layers", shape.layers, 10'000},
                                      {"--hidden", shape.hidden, 1 << 20},
                                      {"--heads", shape.heads, 1 << 20},
                                      {"--kv-heads", shape.kvHeads, 1 << 20},
                                      {"--ffn", shape.ffnWidth(), 1 << 22},
                                      {"--vocab", shape.vocabulary, 1 << 26},
                                      {"--seq", shape.sequence, 1 << 24}});
      !error.empty())
    return error;
  if (shape.hidden % (2 * shape.heads))
    return "--hidden " + std::to_string(shape.hidden) +
           " is not a multiple of twice --heads " +
           std::to_string(shape.heads) +
           ": the rotary embedding turns pairs of elements of a head";
  if (shape.heads % shape.kvHeads)
    return "--heads " + std::to_string(shape.heads) +
           " is not a multiple of --kv-heads " + std::to_string(shape.kvHeads);
  return "";
}

namespace {

/// Builds the graph of one model.
class LlamaBuilder {
public:
  explicit LlamaBuilder(const LlamaShape &shape) : shape(shape) {}

  ModelWriter build() {
    int64_t sequence = toSigned(shape.sequence);
    writer.input("tokens", {sequence});
    writer.output("logits", {sequence, toSigned(shape.vocabulary)});
    std::string table =
        writer.parameter("model.embed_tokens.weight",
                         {shape.vocabulary, shape.hidden}, Init::Normal);
    std::string x = node("Gather", "model.embed_tokens", {table, "tokens"});
    buildSharedConstants();
    buildAngles();
    for (uint64_t layer = 0; layer < shape.layers; ++layer) {
      std::string name = "model.layers." + std::to_string(layer);
      std::string y = norm(name + ".input_layernorm", x);
      x = node("Add", name + ".self_attn.residual",
               {x, attention(name + ".self_attn", y)});
      y = norm(name + ".post_attention_layernorm", x);
      x = node("Add", name + ".mlp.residual", {x, mlp(name + ".mlp", y)});
    }
    x = norm("model.norm", x);
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

  /// What all layers share: scalars, shapes, and the causal mask, which is
  /// computed and so takes no room in the file.
  void buildSharedConstants() {
    int64_t heads = toSigned(shape.heads), kvHeads = toSigned(shape.kvHeads);
    int64_t sequence = toSigned(shape.sequence);
    int64_t width = toSigned(shape.headWidth());
    writer.constant("root_width",
                    static_cast<float>(std::sqrt(static_cast<double>(width))));
    writer.constant("minus_infinity", -std::numeric_limits<float>::infinity());
    writer.constant("one", 1.0f);
    writer.constant("two", 2.0f);
    writer.constant("epsilon", 1e-5f);
    // 0 keeps the batch dimension as it is.
    writer.constant("heads_shape", {0, sequence, heads, width});
    writer.constant("kv_heads_shape", {0, sequence, kvHeads, width});
    writer.constant("hidden_shape", {0, sequence, heads * width});
    writer.constant("group_axis", {2});
    // 1 takes the dimension of the operand.
    writer.constant("group_shape", {1, 1, heads / kvHeads, 1, 1});
    writer.constant("grouped_shape", {0, heads, sequence, width});
    writer.constant("last_axis", {3});
    writer.constant("zero_offset", {0});
    writer.constant("half_width", {width / 2});
    writer.constant("width", {width});
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

  /// Cosines and sines of position times frequency, [T, head width]; element i
  /// and i + width / 2 of a head are turned by the same angle.
  void buildAngles() {
    std::vector<float> frequencies(shape.headWidth() / 2);
    for (size_t i = 0; i < frequencies.size(); ++i)
      frequencies[i] = static_cast<float>(
          std::pow(rotaryBase, -2.0 * static_cast<double>(i) /
                                   static_cast<double>(shape.headWidth())));
    writer.constant("rotary.frequencies", frequencies);
    writer.constant("rotary.start", 0.0f);
    // Exact: checkShape keeps it below 2^24.
    writer.constant("rotary.end", static_cast<float>(shape.sequence));
    node("Range", "rotary.positions", {"rotary.start", "rotary.end", "one"});
    writer.constant("rotary.column", {1});
    node("Unsqueeze", "rotary.rows", {"rotary.positions", "rotary.column"});
    node("Mul", "rotary.half", {"rotary.rows", "rotary.frequencies"});
    addInt(
        writer.node("Concat", "rotary.angles", {"rotary.half", "rotary.half"}),
        "axis", -1);
    node("Cos", "rotary.cos", {"rotary.angles"});
    node("Sin", "rotary.sin", {"rotary.angles"});
  }

  /// weight * x / sqrt(mean(x^2) + epsilon), over the last dimension.
  std::string norm(const std::string &name, const std::string &x) {
    std::string weight =
        writer.parameter(name + ".weight", {shape.hidden}, Init::Ones);
    node("Pow", name + ".squares", {x, "two"});
    addInts(writer.node("ReduceMean", name + ".mean", {name + ".squares"}),
            "axes", {-1});
    std::string y =
        node("Add", name + ".variance", {name + ".mean", "epsilon"});
    y = node("Sqrt", name + ".root", {y});
    y = node("Div", name + ".inverse", {"one", y});
    y = node("Mul", name + ".scaled", {x, y});
    return node("Mul", name, {weight, y});
  }

  std::string linear(const std::string &name, const std::string &x,
                     uint64_t inputs, uint64_t outputs) {
    std::string weight =
        writer.parameter(name + ".weight", {inputs, outputs}, Init::Normal);
    return node("MatMul", name, {x, weight});
  }

  /// [batch, T, heads * width] to [batch, heads, T, width].
  std::string splitHeads(const std::string &x, const std::string &headsShape) {
    std::string split = node("Reshape", x + ".split_heads", {x, headsShape});
    addInts(writer.node("Transpose", x + ".heads", {split}), "perm",
            {0, 2, 1, 3});
    return x + ".heads";
  }

  /// x cos + (-x2, x1) sin, where x1 and x2 are the halves of each head.
  std::string rotate(const std::string &x) {
    std::string first = node("Slice", x + ".first",
                             {x, "zero_offset", "half_width", "last_axis"});
    std::string second =
        node("Slice", x + ".second", {x, "half_width", "width", "last_axis"});
    second = node("Neg", x + ".negated", {second});
    addInt(writer.node("Concat", x + ".turned", {second, first}), "axis", -1);
    std::string cosine = node("Mul", x + ".cos", {x, "rotary.cos"});
    std::string sine = node("Mul", x + ".sin", {x + ".turned", "rotary.sin"});
    return node("Add", x + ".rotated", {cosine, sine});
  }

  /// One head of keys or values for each head of queries.
  std::string repeat(const std::string &x) {
    if (shape.kvHeads == shape.heads)
      return x;
    std::string y = node("Unsqueeze", x + ".group", {x, "group_axis"});
    y = node("Expand", x + ".expanded", {y, "group_shape"});
    return node("Reshape", x + ".repeated", {y, "grouped_shape"});
  }

  std::string attention(const std::string &name, const std::string &x) {
    uint64_t kvWidth = shape.kvHeads * shape.headWidth();
    std::string q = linear(name + ".q_proj", x, shape.hidden, shape.hidden);
    std::string k = linear(name + ".k_proj", x, shape.hidden, kvWidth);
    std::string v = linear(name + ".v_proj", x, shape.hidden, kvWidth);
    q = rotate(splitHeads(q, "heads_shape"));
    k = repeat(rotate(splitHeads(k, "kv_heads_shape")));
    v = repeat(splitHeads(v, "kv_heads_shape"));
    addInts(writer.node("Transpose", name + ".k.transposed", {k}), "perm",
            {0, 1, 3, 2});
    std::string scores =
        node("MatMul", name + ".scores", {q, name + ".k.transposed"});
    scores = node("Div", name + ".scaled", {scores, "root_width"});
    scores = node("Where", name + ".masked",
                  {"causal_mask", scores, "minus_infinity"});
    addInt(writer.node("Softmax", name + ".weights", {scores}), "axis", -1);
    std::string mixed = node("MatMul", name + ".mixed", {name + ".weights", v});
    addInts(writer.node("Transpose", name + ".joined", {mixed}), "perm",
            {0, 2, 1, 3});
    std::string joined =
        node("Reshape", name + ".out", {name + ".joined", "hidden_shape"});
    return linear(name + ".o_proj", joined, shape.hidden, shape.hidden);
  }

  /// SwiGLU: (silu(x gate) * x up) down, silu(y) = y sigmoid(y).
  std::string mlp(const std::string &name, const std::string &x) {
    uint64_t width = shape.ffnWidth();
    std::string gate = linear(name + ".gate_proj", x, shape.hidden, width);
    std::string sigmoid = node("Sigmoid", name + ".sigmoid", {gate});
    gate = node("Mul", name + ".silu", {gate, sigmoid});
    std::string up = linear(name + ".up_proj", x, shape.hidden, width);
    std::string gated = node("Mul", name + ".gated", {gate, up});
    return linear(name + ".down_proj", gated, width, shape.hidden);
  }

  static constexpr double rotaryBase = 10'000;

  const LlamaShape &shape;
  ModelWriter writer;
};

} // namespace

std::string writeLlama(const LlamaShape &shape, uint64_t seed, Weights weights,
                       const std::string &path) {
  if (std::string error = checkShape(shape); !error.empty())
    return error;
  return LlamaBuilder(shape).build().write(seed, weights, path);
}

} // namespace tombolo::models
