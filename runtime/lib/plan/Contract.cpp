//===- Contract.cpp - what the sites of a run agree on --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Contract.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Parameters.h"

#include <algorithm>
#include <charconv>
#include <map>

using namespace tombolo::runtime;
using tombolo::plan::v1::Server;
using tombolo::plan::v1::Training;

namespace {

/// So many differences are told, and so much of each.
constexpr std::size_t kMostTold = 3, kMostCharacters = 80;

/// The shortest that reads back as the same, whatever built this program.
std::string written(double value) {
  char digits[40];
  auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return {digits, end};
}
std::string written(std::uint64_t value) { return std::to_string(value); }
const std::string &written(const std::string &value) { return value; }

std::string join(const google::protobuf::RepeatedPtrField<std::string> &words) {
  std::string all;
  for (const std::string &word : words)
    all += (all.empty() ? "" : "+") + word;
  return all;
}

class Lines {
public:
  template <typename Value> void add(const std::string &what, Value value) {
    all += what + ": " + written(value) + "\n";
  }
  std::string all;
};

std::string describe(const Training &training) {
  if (training.has_adamw()) {
    const Training::AdamW &adamw = training.adamw();
    return "adamw, beta1 " + written(adamw.beta1()) + ", beta2 " +
           written(adamw.beta2()) + ", eps " + written(adamw.epsilon()) +
           ", weight decay " + written(adamw.weight_decay());
  }
  return "sgd, momentum " + written(training.sgd().momentum()) +
         ", weight decay " + written(training.sgd().weight_decay());
}

std::string describe(const Server::Outer &outer) {
  switch (outer.kind()) {
  case Server::Outer::KIND_ADAMW:
    return "adamw, lr " + written(outer.learning_rate()) + ", beta1 " +
           written(outer.momentum()) + ", beta2 " + written(outer.beta2()) +
           ", eps " + written(outer.epsilon()) + ", weight decay " +
           written(outer.weight_decay());
  case Server::Outer::KIND_NESTEROV:
    return "nesterov, lr " + written(outer.learning_rate()) + ", momentum " +
           written(outer.momentum());
  default:
    return "sgd, lr " + written(outer.learning_rate()) + ", momentum " +
           written(outer.momentum());
  }
}

const char *describe(Server::Compression compression) {
  switch (compression) {
  case Server::COMPRESSION_BF16:
    return "bf16";
  case Server::COMPRESSION_INT8:
    return "int8";
  case Server::COMPRESSION_INT4:
    return "int4";
  default:
    return "none";
  }
}

/// Where all fragments have the same server, as most plans say, once.
std::string placements(const Server &server) {
  std::vector<std::string> all;
  for (const Server::Placement &place : server.placements())
    all.push_back(place.primary() +
                  (place.backup().empty() ? "" : ", backup " + place.backup()));
  if (all.empty())
    return "none";
  bool alike = std::equal(all.begin() + 1, all.end(), all.begin());
  std::string line = all.front();
  for (std::size_t i = 1; i < all.size() && !alike; ++i)
    line += "; " + all[i];
  return line;
}

std::string describe(const std::vector<SharedParameter> &parameters) {
  std::string list;
  std::uint64_t elements = 0;
  for (const SharedParameter &parameter : parameters) {
    list += parameter.name + '\0' + written(std::uint64_t(parameter.fragment));
    for (std::uint64_t dim : parameter.dims)
      list += " " + written(dim);
    list += '\n';
    elements += parameter.elements;
  }
  return written(std::uint64_t(parameters.size())) + " tensors, " +
         written(elements) + " elements, " + toHex(sha256(list));
}

/// {what, value} in their order.
std::vector<std::pair<std::string, std::string>> parse(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> lines;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    std::size_t colon = line.find(": ");
    if (colon == line.npos)
      lines.emplace_back(line, "");
    else
      lines.emplace_back(line.substr(0, colon), line.substr(colon + 2));
  }
  return lines;
}

std::string shown(const std::string &word) {
  std::string text = word.substr(0, kMostCharacters);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text + (word.size() > kMostCharacters ? "..." : "");
}

/// The trainable parameters of an island by name. That each element has one
/// owner has been validated.
std::map<std::string, SharedParameter> parametersOf(const Plan &plan,
                                                    std::uint32_t island) {
  std::map<std::string, SharedParameter> parameters;
  IslandLayout layout(plan.islands(static_cast<int>(island)));
  // Many ranks run few programs; each is expanded once.
  std::map<std::uint32_t, std::vector<LocalParameter>> expanded;
  for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank) {
    RankCoordinates where = layout.coordinates(rank);
    if (where.replica != 0)
      continue; // owns nothing, and holds what replica 0 holds
    auto [program, fresh] = expanded.try_emplace(where.program);
    if (fresh)
      program->second =
          expandParameters(plan.programs(static_cast<int>(where.program)));
    for (const LocalParameter &local : program->second) {
      if (!local.trainable)
        continue;
      if (local.dtype != tombolo::plan::v1::DTYPE_F32)
        throw Error("plan: trainable parameter '", local.name,
                    "' is not f32, which the exchange between islands needs");
      SharedParameter found{local.name, local.dims, local.elements,
                            local.fragment};
      auto [entry, first] = parameters.try_emplace(local.name, found);
      const SharedParameter &known = entry->second;
      if (!first && known != found)
        throw Error("plan: parameter '", local.name, "' of island ", island,
                    " has ", known.elements, " elements in fragment ",
                    known.fragment, " on one rank and ", found.elements,
                    " in fragment ", found.fragment, " on rank ", rank);
    }
  }
  return parameters;
}

} // namespace

std::vector<SharedParameter>
tombolo::runtime::sharedParameters(const Plan &plan) {
  std::map<std::string, SharedParameter> first = parametersOf(plan, 0);
  for (int island = 1; island < plan.islands_size(); ++island) {
    auto here = parametersOf(plan, static_cast<std::uint32_t>(island));
    for (const auto &[name, parameter] : here) {
      auto other = first.find(name);
      if (other == first.end() || other->second != parameter)
        throw Error("plan: parameter '", name, "' of island ", island,
                    " is not the same in island 0");
    }
    if (here.size() != first.size())
      throw Error("plan: island ", island, " has ", here.size(),
                  " trainable parameters, island 0 has ", first.size());
  }
  std::vector<SharedParameter> parameters;
  for (auto &[name, parameter] : first)
    parameters.push_back(std::move(parameter));
  return parameters;
}

Contract tombolo::runtime::contractOf(const Plan &plan) {
  const Training &training = plan.training();
  const Server &server = plan.server();
  Lines lines;
  lines.add("model", toHex(plan.model_hash()));
  lines.add("parameters", describe(sharedParameters(plan)));
  lines.add("tokens of a sample", plan.model().tokens_per_sample());
  lines.add("optimizer", describe(training));
  lines.add("learning rate", training.learning_rate());
  lines.add("bound of the gradients' norm", training.clip_gradient_norm());
  lines.add("inner steps", server.inner_steps());
  lines.add("overlap steps", server.overlap_steps());
  lines.add("fragments", std::uint64_t(server.fragments()));
  lines.add("compression", std::string(describe(server.compression())));
  lines.add("outer optimizer", describe(server.outer()));
  lines.add("quorum", std::uint64_t(server.quorum()));
  lines.add("deadline in seconds", server.deadline_seconds());
  lines.add("primary", placements(server));
  lines.add("witness",
            server.witness().empty() ? std::string("none") : server.witness());
  lines.add("islands", std::uint64_t(plan.islands_size()));
  for (int i = 0; i < plan.islands_size(); ++i) {
    const auto &island = plan.islands(i);
    lines.add(
        "island " + std::to_string(i),
        "at " + join(island.sites()) + ", batch " + written(island.batch()) +
            ", inner steps " +
            written(
                IslandSteps(plan, static_cast<std::uint32_t>(i)).inRound()));
  }
  return Contract(lines.all);
}

Contract::Contract(std::string given)
    : lines(std::move(given)), hash(sha256(lines)) {}

std::string Contract::difference(std::string_view other) const {
  if (other == lines)
    return "";
  auto expected = parse(lines), found = parse(other);
  std::map<std::string, std::string> values(found.begin(), found.end());
  std::vector<std::string> told;
  for (const auto &[what, value] : expected) {
    auto theirs = values.find(what);
    if (theirs == values.end())
      told.push_back(what + ": expected '" + shown(value) + "', got none");
    else if (theirs->second != value)
      told.push_back(what + ": expected '" + shown(value) + "', got '" +
                     shown(theirs->second) + "'");
    if (theirs != values.end())
      values.erase(theirs);
  }
  for (const auto &[what, value] : values)
    told.push_back(shown(what) + ": expected none, got '" + shown(value) + "'");
  if (told.empty())
    return "the same lines in another order";
  std::string all;
  for (std::size_t i = 0; i < told.size() && i < kMostTold; ++i)
    all += (i ? "; " : "") + told[i];
  if (told.size() > kMostTold)
    all += "; and " + std::to_string(told.size() - kMostTold) + " more";
  return all;
}
