//===- IslandTalk.cpp - what the agents of one island say -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IslandTalk.h"

#include "Events.h"

#include "tombolo/runtime/plan/Layout.h"

#include <algorithm>

using namespace tombolo::runtime;
using nlohmann::json;

std::string tombolo::runtime::toText(const IslandStart &start) {
  json text = {{"incarnation", start.incarnation}};
  if (start.resumeStep)
    text["resume_step"] = *start.resumeStep;
  if (!start.givenUp.empty())
    text["given_up"] = start.givenUp;
  return toLine(text);
}

std::optional<IslandStart>
tombolo::runtime::startFrom(const std::string &text) {
  json said = parseEvent(text);
  if (said.is_null())
    return std::nullopt;
  IslandStart start;
  start.incarnation = field<std::uint64_t>(said, "incarnation", 0);
  if (said.contains("resume_step"))
    start.resumeStep = field<std::uint64_t>(said, "resume_step", 0);
  start.givenUp = field<std::string>(said, "given_up", "");
  return start;
}

IslandTalk::IslandTalk(std::shared_ptr<StoreClient> store, const Plan &plan,
                       std::uint32_t island, const std::string &site)
    : store(std::move(store)),
      scope("agents-of-island-" + std::to_string(island) + "/"), site(site) {
  for (std::string &each : sitesOfRanks(plan.islands(static_cast<int>(island))))
    if (std::find(sites.begin(), sites.end(), each) == sites.end())
      sites.push_back(std::move(each));
}

std::string IslandTalk::key(std::uint64_t life, const std::string &what) const {
  return scope + std::to_string(life) + "/" + what;
}

std::optional<std::string> IslandTalk::look(const std::string &key) {
  std::optional<std::vector<char>> value = store->look(key);
  if (!value)
    return std::nullopt;
  return std::string(value->begin(), value->end());
}

void IslandTalk::set(const std::string &key, const std::string &value) {
  store->set(key, {value.begin(), value.end()});
}

std::optional<IslandStart> IslandTalk::start(std::uint64_t life) {
  std::optional<std::string> text = look(key(life, "start"));
  return text ? startFrom(*text) : std::nullopt;
}

void IslandTalk::tellStart(std::uint64_t life, const IslandStart &start) {
  set(key(life, "start"), toText(start));
}

bool IslandTalk::join(std::uint64_t life) {
  return store->claim(key(life, "joined/" + site), {1});
}

bool IslandTalk::hasFailed(std::uint64_t life) {
  return look(key(life, "failed")).has_value();
}

void IslandTalk::tellFailed(std::uint64_t life) {
  set(key(life, "failed"), "!");
}

void IslandTalk::tellEnded(std::uint64_t life,
                           const std::vector<json> &failures) {
  set(key(life, "ended/" + site), toLine({{"failures", failures}}));
}

std::optional<std::vector<json>> IslandTalk::ended(std::uint64_t life) {
  std::vector<json> all;
  for (const std::string &each : sites) {
    std::optional<std::string> text = look(key(life, "ended/" + each));
    if (!text)
      return std::nullopt;
    json said = parseEvent(*text);
    for (json &failure : field(said, "failures", std::vector<json>()))
      if (failure.is_object())
        all.push_back(std::move(failure));
  }
  return all;
}

void IslandTalk::tellLeft() { set(scope + "left/" + site, "!"); }

bool IslandTalk::haveAllLeft() {
  return std::all_of(sites.begin(), sites.end(), [&](const std::string &each) {
    return look(scope + "left/" + each).has_value();
  });
}
