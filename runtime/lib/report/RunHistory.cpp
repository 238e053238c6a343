//===- RunHistory.cpp - a run as charts show it ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/report/RunHistory.h"

#include "Value.h"

#include <algorithm>
#include <cmath>

namespace tombolo::report {

RunHistory::RunHistory(std::size_t count, std::size_t mostPoints,
                       std::size_t mostEvents)
    : mostPoints(mostPoints), mostEvents(mostEvents), islands(count) {}

bool RunHistory::isEmpty() const {
  return events.empty() &&
         std::all_of(islands.begin(), islands.end(), [](const Island &island) {
           return island.points.empty();
         });
}

/// Two points become one.
void RunHistory::halve(Island &island) {
  std::vector<Point> fewer;
  for (std::size_t i = 0; i < island.points.size(); i += 2) {
    Point point = island.points[i];
    if (i + 1 < island.points.size()) {
      const Point &next = island.points[i + 1];
      point = {next.step,
               next.clock,
               point.losses + next.losses,
               point.seconds + next.seconds,
               point.tokens + next.tokens,
               point.count + next.count};
    }
    fewer.push_back(point);
  }
  island.points = std::move(fewer);
  island.each *= 2;
}

/// What the island did from `step` on, it does again. Of a point of several
/// steps all go. Whether there was any.
bool RunHistory::forget(std::size_t number, std::uint64_t step) {
  Island &island = islands[number];
  if (island.points.empty() || island.points.back().step < step)
    return false;
  while (!island.points.empty() && island.points.back().step >= step)
    island.points.pop_back();
  island.now = island.points.empty() ? 0 : island.points.back().clock;
  // As they stand in metrics.jsonl, which has lost the lines before them.
  for (Json &event : events)
    if (event.contains("island") && event["island"] == number &&
        event["clock"].get<double>() > island.now)
      event["clock"] = island.now;
  return true;
}

/// JSON has no number for what is none.
static Json numberOrNull(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json RunHistory::pointJson(const Point &point) {
  return {
      {"step", point.step},
      {"clock", numberOrNull(point.clock)},
      {"loss", numberOrNull(point.losses / static_cast<double>(point.count))},
      {"seconds", numberOrNull(point.seconds)},
      {"tokens", numberOrNull(point.tokens)}};
}

Change RunHistory::note(const Json &line, const std::string &where) {
  if (!line.is_object())
    throw Error("'", where,
                "': expected an object, as in metrics.jsonl of tombolo-run");
  Value value(line, where);
  auto islandOf = [&] {
    std::uint64_t island = value["island"].index();
    if (island >= islands.size())
      throw Error("'", where, "' is of another plan: it has island ", island,
                  ", the plan has ", islands.size(), " islands");
    return island;
  };
  if (!value.has("event")) {
    std::uint64_t number = islandOf();
    Island &island = islands[number];
    Point step;
    step.step = value["step"].index();
    step.seconds = value["seconds"].amount();
    step.tokens = value["tokens"].amount();
    Json loss = value["loss"].numberOrNull();
    step.losses = loss.is_null() ? std::nan("") : loss.get<double>();
    step.count = 1;
    bool wholly = forget(number, step.step);
    island.now += step.seconds;
    step.clock = island.now;
    auto &points = island.points;
    if (!points.empty() && points.back().count < island.each) {
      Point &last = points.back();
      last = {step.step,
              step.clock,
              last.losses + step.losses,
              last.seconds + step.seconds,
              last.tokens + step.tokens,
              last.count + 1};
    } else {
      points.push_back(step);
    }
    if (points.size() > mostPoints) {
      halve(island);
      wholly = true;
    }
    if (wholly)
      return {};
    Json data = pointJson(points.back());
    data["island"] = number;
    data["at"] = points.size() - 1;
    return {"point", std::move(data)};
  }
  Json event = {{"event", value["event"].text()}};
  double now = 0;
  for (const Island &island : islands)
    now = std::max(now, island.now);
  if (value.has("island")) {
    std::uint64_t island = islandOf();
    event["island"] = island;
    now = islands[island].now;
  }
  event["clock"] = now;
  for (const char *key : {"step", "fragment", "round", "version"})
    if (value.has(key))
      event[key] = value[key].index();
  for (const char *key : {"site", "message", "part", "time"})
    if (value.has(key))
      event[key] = value[key].text();
  if (value.has("loss"))
    event["loss"] = value["loss"].number();
  if (value.has("islands")) {
    Json members = Json::array();
    for (const Value &member : value["islands"].elements())
      members.push_back(member.index());
    event["islands"] = std::move(members);
  }
  events.push_back(event);
  if (events.size() > mostEvents) {
    events.pop_front();
    ++eventsLeftOut;
  }
  return {"note", std::move(event)};
}

Json RunHistory::toJson() const {
  Json all = Json::array();
  for (const Island &island : islands) {
    Json &columns = all.emplace_back(Json{{"steps_per_point", island.each}});
    for (const char *name : {"step", "clock", "loss", "seconds", "tokens"})
      columns[name] = Json::array();
    for (const Point &point : island.points) {
      Json one = pointJson(point);
      for (const auto &[name, number] : one.items())
        columns[name].push_back(number);
    }
  }
  return {{"islands", std::move(all)},
          {"events", events},
          {"events_left_out", eventsLeftOut}};
}

} // namespace tombolo::report
