//===- ServerChoice.cpp - the settings of the parameter server ------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ServerChoice.h"
#include "Infinity.h"

#include "tombolo/Planning/ServerPlaces.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tombolo::planning {

namespace {

/// More than these in a row are taken in steps of less than the 1 % that the
/// choice may lose.
constexpr uint64_t kEveryInnerSteps = 128;
constexpr double kNear = 1.01;

/// Settings that bounds and pins allow.
class Settings {
public:
  Settings(const Problem &problem, const StrategyPins &pins)
      : bounds(problem.bounds), given(pins.server.value_or(ServerPins())) {
    if (pins.islands)
      for (const IslandPins &island : *pins.islands)
        leastOwn = std::min(leastOwn, island.innerSteps.value_or(leastOwn));
  }

  /// Rising.
  std::vector<uint64_t> innerSteps() const {
    if (given.innerSteps)
      return {*given.innerSteps};
    std::vector<uint64_t> result;
    for (uint64_t h = 1; h <= bounds.mostInnerSteps();
         h += h < kEveryInnerSteps ? 1 : h / kEveryInnerSteps)
      result.push_back(h);
    if (result.back() != bounds.mostInnerSteps())
      result.push_back(bounds.mostInnerSteps());
    return result;
  }
  /// From the mildest on.
  std::vector<Compression> compressions() const {
    if (given.compression)
      return {*given.compression};
    std::vector<Compression> result = {Compression::None};
    for (Compression one :
         {Compression::BF16, Compression::Int8, Compression::Int4})
      if (one <= bounds.mostCompression())
        result.push_back(one);
    return result;
  }
  std::vector<uint64_t> overlaps(uint64_t innerSteps) const {
    if (given.overlapSteps)
      return {*given.overlapSteps};
    innerSteps = std::min(innerSteps, leastOwn);
    std::vector<uint64_t> result = {0};
    for (uint64_t v = 1; v <= bounds.mostOverlapSteps() && v < innerSteps; ++v)
      result.push_back(v);
    return result;
  }
  /// A fragment for each inner step at most.
  std::vector<uint64_t> fragments(uint64_t innerSteps) const {
    if (given.fragments)
      return {*given.fragments};
    innerSteps = std::min(innerSteps, leastOwn);
    std::vector<uint64_t> result = {1};
    constexpr uint64_t kMost = 64;
    // Whoever allows no overlap wants exchanges that training waits for.
    if (bounds.mostOverlapSteps() > 0)
      for (uint64_t f = 2; f <= std::min(innerSteps, kMost); f *= 2)
        result.push_back(f);
    return result;
  }
  Server base() const {
    Server server = Server::with(given.outer.value_or(Server().outer));
    server.outerLearningRate =
        given.outerLearningRate.value_or(server.outerLearningRate);
    server.outerMomentum = given.outerMomentum.value_or(server.outerMomentum);
    server.outerBeta2 = given.outerBeta2.value_or(server.outerBeta2);
    server.outerEpsilon = given.outerEpsilon.value_or(server.outerEpsilon);
    server.outerWeightDecay =
        given.outerWeightDecay.value_or(server.outerWeightDecay);
    server.quorum = given.quorum.value_or(server.quorum);
    server.deadlineSeconds =
        given.deadlineSeconds.value_or(server.deadlineSeconds);
    server.witness = given.witness.value_or("");
    if (given.placement)
      server.placement = *given.placement;
    return server;
  }

private:
  const Bounds &bounds;
  ServerPins given;
  uint64_t leastOwn = UINT64_MAX; // of islands' own inner steps
};

/// The site with the shortest synchronisation that all islands can reach.
std::string homeOf(const Problem &problem, const Strategy &strategy) {
  double fastest = std::numeric_limits<double>::infinity();
  std::string home;
  for (const Island &island : strategy.islands)
    for (const std::string &site : island.sites) {
      Strategy placed = strategy;
      placed.server = Server();
      placed.server->placement[0] = {site, ""};
      bool reached = std::all_of(
          strategy.islands.begin(), strategy.islands.end(),
          [&](const Island &other) {
            return problem.topology.route(other.sites[0], site).has_value();
          });
      const Site &here = *problem.topology.findSite(site);
      bool isHeld = !here.hosts || serverHostBytes(problem, placed, site) <=
                                       static_cast<double>(here.hosts->count) *
                                           here.hosts->memoryGib * 1073741824.0;
      Synchronisation sync = synchronisation(problem, placed);
      double seconds =
          sync.seconds +
          *std::max_element(sync.coreSeconds.begin(), sync.coreSeconds.end());
      if (reached && isHeld && seconds < fastest) {
        fastest = seconds;
        home = site;
      }
    }
  return home;
}

/// Where fragments are kept that nobody has placed: where others are that have
/// a backup, or at home, with a backup where nothing is said.
ServerPlaces placesOf(const Problem &problem, const Strategy &strategy,
                      const Server &given) {
  for (const auto &[index, place] : given.placement)
    if (!place.backup.empty())
      return {place, given.witness};
  std::string home = homeOf(problem, strategy);
  if (home.empty() || !given.placement.empty() || !given.witness.empty())
    return {{home, ""}, given.witness};
  std::set<std::string> sites;
  for (const Island &island : strategy.islands)
    sites.insert(island.sites.begin(), island.sites.end());
  return placesWithBackup(problem.topology, sites, home, [&](const Site &site) {
    Strategy placed = strategy;
    placed.server = Server();
    placed.server->placement[0] = {home, site.name};
    return serverHostBytes(problem, placed, site.name) <=
           static_cast<double>(site.hosts->count) * site.hosts->memoryGib *
               1073741824.0;
  });
}

/// Tries settings on a strategy whose islands are known.
class Chooser {
public:
  Chooser(const Problem &problem, const StrategyPins &pins,
          const Strategy &strategy,
          const std::vector<IslandPrediction> &islands)
      : problem(problem), settings(problem, pins), trial(strategy),
        islands(islands), base(settings.base()),
        places(placesOf(problem, strategy, base)) {}

  Server fastest() {
    double best = -kInfinity;
    Server result = base;
    // Nothing is slower with more inner steps, or sends more.
    everyAt(settings.innerSteps().back(), [&](const Server &server) {
      double tokens = tokensWith(server);
      if (tokens > best + 1e-12 * std::abs(best) || best == -kInfinity) {
        best = tokens;
        result = server;
      }
      return false;
    });
    return result;
  }

  Server mildest() {
    Server result = fastest();
    double enough = tokensWith(result) / kNear;
    if (!(enough > 0))
      return result;
    for (uint64_t innerSteps : settings.innerSteps())
      if (everyAt(innerSteps, [&](const Server &server) {
            if (tokensWith(server) < enough)
              return false;
            result = server;
            return true;
          }))
        break;
    return result;
  }

private:
  const Problem &problem;
  Settings settings;
  Strategy trial;
  const std::vector<IslandPrediction> &islands;
  Server base;
  ServerPlaces places;

  /// Calls `visit` with all settings of an H, the mildest first, until it
  /// returns true.
  template <typename Visit> bool everyAt(uint64_t innerSteps, Visit visit) {
    Server server = base;
    server.innerSteps = innerSteps;
    server.witness = places.witness;
    for (Compression compression : settings.compressions())
      for (uint64_t overlap : settings.overlaps(innerSteps))
        for (uint64_t fragments : settings.fragments(innerSteps)) {
          server.compression = compression;
          server.overlapSteps = overlap;
          server.fragments = fragments;
          server.placement = base.placement;
          if (!places.place.primary.empty())
            for (uint64_t f = 0; f < std::min<uint64_t>(fragments, 65536); ++f)
              server.placement.try_emplace(f, places.place);
          if (visit(server))
            return true;
        }
    return false;
  }

  /// Negative, and by how much, where the lines may not carry as much.
  double tokensWith(const Server &server) {
    trial.server = server;
    Prediction prediction = evaluate(problem, trial, islands);
    double excess = wanGbits(trial, prediction) /
                    problem.bounds.wanGbits.value_or(kInfinity);
    return excess > 1 ? -excess : prediction.tokensPerSecond;
  }
};

bool needsServer(const StrategyPins &pins, const Strategy &strategy) {
  return strategy.islands.size() > 1 || pins.server;
}

} // namespace

double wanGbits(const Strategy &strategy, const Prediction &prediction) {
  double steps =
      strategy.server ? static_cast<double>(strategy.server->innerSteps) : 1;
  return prediction.wanBytesPerRound * 8 /
         (1e9 * steps * std::max(1e-300, prediction.stepSeconds));
}

std::optional<Server>
fastestServer(const Problem &problem, const StrategyPins &pins,
              const Strategy &strategy,
              const std::vector<IslandPrediction> &islands) {
  if (!needsServer(pins, strategy))
    return std::nullopt;
  return Chooser(problem, pins, strategy, islands).fastest();
}

std::optional<Server>
mildestServer(const Problem &problem, const StrategyPins &pins,
              const Strategy &strategy,
              const std::vector<IslandPrediction> &islands) {
  if (!needsServer(pins, strategy))
    return std::nullopt;
  return Chooser(problem, pins, strategy, islands).mildest();
}

Faults checkServerPins(const Problem &problem, const StrategyPins &pins) {
  Faults faults;
  if (!pins.server)
    return faults;
  const ServerPins &given = *pins.server;
  const Bounds &bounds = problem.bounds;
  auto contradict = [&](const char *path, const std::string &pin,
                        const std::string &bound) {
    faults.push_back(
        {path, pin + " contradicts " + bound + "; change one of the two"});
  };
  auto number = [](uint64_t value) { return std::to_string(value); };
  if (given.innerSteps && bounds.innerSteps &&
      *given.innerSteps > *bounds.innerSteps)
    contradict("server.inner_steps", "inner_steps " + number(*given.innerSteps),
               "--max-inner-steps " + number(*bounds.innerSteps));
  if (given.overlapSteps && bounds.overlapSteps &&
      *given.overlapSteps > *bounds.overlapSteps)
    contradict("server.overlap_steps",
               "overlap_steps " + number(*given.overlapSteps),
               "--max-overlap " + number(*bounds.overlapSteps));
  if (given.overlapSteps && !given.innerSteps &&
      *given.overlapSteps >= bounds.mostInnerSteps())
    contradict("server.overlap_steps",
               "overlap_steps " + number(*given.overlapSteps) +
                   ", which must be below inner_steps,",
               "--max-inner-steps " + number(bounds.mostInnerSteps()));
  if (given.compression && bounds.compression &&
      *given.compression > *bounds.compression)
    contradict("server.compression",
               std::string("compression ") + name(*given.compression),
               std::string("--max-compression ") + name(*bounds.compression));
  return faults;
}

} // namespace tombolo::planning
