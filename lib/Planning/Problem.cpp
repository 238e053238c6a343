//===- Problem.cpp - what makes a problem or a strategy impossible --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Problem.h"
#include "tombolo/Planning/CostModel.h"
#include "tombolo/Planning/Range.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

namespace tombolo::planning {

namespace {
/// Numbers up to these can be multiplied and added without overflow.
constexpr uint64_t kMaxBatch = static_cast<uint64_t>(kSampleCounts.most);
constexpr uint64_t kMaxCount = static_cast<uint64_t>(kPartCounts.most);
constexpr uint64_t kMaxFragments = static_cast<uint64_t>(kFragmentCounts.most);

std::string number(uint64_t value) { return std::to_string(value); }

std::string bytesText(double bytes) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), bytes < 1e18 ? "%.0f" : "%.3g", bytes);
  return buffer;
}

class Verifier {
public:
  Verifier(const Problem &problem, const Strategy &strategy)
      : problem(problem), strategy(strategy) {}

  Faults run() {
    if (strategy.islands.empty())
      fault("islands", "a strategy needs at least one island");
    uint64_t sum = 0;
    for (size_t i = 0; i < strategy.islands.size(); ++i) {
      shape(strategy.islands[i], i);
      sum += std::min(strategy.islands[i].batch, kMaxBatch);
    }
    if (faults.empty() && sum != problem.training.globalBatch)
      fault("islands", "the islands' batches add up to " + number(sum) +
                           ", expected the global batch " +
                           number(problem.training.globalBatch));
    server();
    if (!faults.empty())
      return std::move(faults); // what follows relies on all of it
    pools();
    for (size_t i = 0; i < strategy.islands.size(); ++i)
      routes(strategy.islands[i], at("islands", i));
    shardings();
    if (!faults.empty())
      return std::move(faults);
    for (size_t i = 0; i < strategy.islands.size(); ++i)
      memoryAndOrder(i, at("islands", i));
    return std::move(faults);
  }

private:
  const Problem &problem;
  const Strategy &strategy;
  Faults faults;

  void fault(std::string path, std::string message) {
    faults.push_back({std::move(path), std::move(message)});
  }

  bool inRange(const std::string &path, const char *key, uint64_t value,
               uint64_t most) {
    if (value >= 1 && value <= most)
      return true;
    fault(in(path, key), std::string("'") + key + "' must be from 1 to " +
                             number(most) + ", got " + number(value));
    return false;
  }

  void site(const std::string &path, const std::string &name) {
    if (!problem.topology.findSite(name))
      fault(path, "unknown site '" + name + "'");
  }

  /// Everything that can be said of an island alone.
  void shape(const Island &island, size_t index) {
    std::string path = at("islands", index);
    if (island.sites.empty())
      fault(in(path, "sites"), "an island needs at least one site");
    for (size_t i = 0; i < island.sites.size(); ++i)
      site(at(in(path, "sites"), i), island.sites[i]);
    bool dealt = inRange(path, "batch", island.batch, kMaxBatch) &&
                 inRange(path, "microbatch", island.microbatch, kMaxBatch);
    if (inRange(path, "chunks", island.chunks, kMaxCount))
      chunks(island, path);
    if (island.innerSteps)
      if (inRange(path, "inner_steps", *island.innerSteps, kMaxBatch) &&
          strategy.server &&
          strategy.server->overlapSteps >= *island.innerSteps)
        fault(in(path, "inner_steps"),
              "inner_steps " + number(*island.innerSteps) +
                  " must be more than the server's overlap_steps " +
                  number(strategy.server->overlapSteps));
    // Else the rounds of fragments would not come in one order on all islands.
    if (hasOwnInnerSteps(strategy) &&
        innerStepsOf(strategy, island) < strategy.server->fragments)
      fault(in(path, "inner_steps"),
            "where an island has inner_steps of its own those of each must be "
            "at least the server's fragments " +
                number(strategy.server->fragments) + ", got " +
                number(innerStepsOf(strategy, island)));
    if (dealt && island.batch % island.microbatch != 0) {
      fault(in(path, "batch"), "batch " + number(island.batch) +
                                   " is not a multiple of the microbatch " +
                                   number(island.microbatch));
      dealt = false;
    }
    if (island.stages.empty())
      fault(in(path, "stages"), "an island needs at least one stage");
    else if (dealt && island.batch / island.microbatch >
                          kMostStageMicrobatches / island.stages.size())
      fault(in(path, "microbatch"),
            number(island.batch / island.microbatch) + " microbatches in " +
                number(island.stages.size()) +
                " stages are too many, expected a product of at most " +
                number(kMostStageMicrobatches) +
                "; choose a larger microbatch");
    uint64_t blocks = 0;
    std::vector<uint64_t> turns;
    for (size_t s = 0; s < island.stages.size(); ++s) {
      const Stage &stage = island.stages[s];
      std::string place = at(in(path, "stages"), s);
      inRange(place, "blocks", stage.blocks, kMaxCount);
      blocks += std::min(stage.blocks, kMaxCount);
      if (stage.replicas.empty())
        fault(in(place, "replicas"), "a stage needs at least one replica");
      bool counted = true;
      for (size_t g = 0; g < stage.replicas.size(); ++g)
        counted &=
            replicas(island, stage.replicas[g], at(in(place, "replicas"), g));
      uint64_t turn = stage.turn();
      if (counted)
        turns.push_back(turn);
      if (dealt && counted && turn &&
          island.batch / island.microbatch % turn != 0)
        fault(in(path, "batch"),
              "batch " + number(island.batch) + " in microbatches of " +
                  number(island.microbatch) + " gives " +
                  number(island.batch / island.microbatch) +
                  " microbatches, which the replicas of stage " + number(s) +
                  " cannot share in turns of " + number(turn) +
                  "; choose a batch that is a multiple of " +
                  number(island.microbatch * turn));
    }
    if (turns.size() == island.stages.size() && !periodOf(turns))
      fault(in(path, "stages"),
            "the turns of the stages of island " + number(index) +
                " end together only after more than " + number(kMaxPeriod) +
                " microbatches; choose replicas and shares with common "
                "divisors");
    if (blocks != problem.model.blocks())
      fault(in(path, "stages"), "the stages of island " + number(index) +
                                    " hold " + number(blocks) +
                                    " blocks, but the model has " +
                                    number(problem.model.blocks()));
    else if (!problem.bounds.tiesAcrossStages)
      ties(island, path);
    else
      tiedDegrees(island, path);
  }

  /// That stages which share a parameter have equal parts of it: what sums its
  /// gradients goes from chip i of one to chip i of the other.
  void tiedDegrees(const Island &island, const std::string &path) {
    for (const TiedParameter &tie : problem.model.ties) {
      std::optional<std::pair<size_t, uint64_t>> first;
      uint64_t begin = 0;
      for (size_t s = 0; s < island.stages.size(); ++s) {
        uint64_t end = begin + island.stages[s].blocks;
        bool uses = std::any_of(
            tie.blockNumbers.begin(), tie.blockNumbers.end(),
            [&](uint64_t block) { return begin <= block && block < end; });
        begin = end;
        if (!uses)
          continue;
        for (const ReplicaGroup &group : island.stages[s].replicas) {
          if (!first)
            first = {s, group.tensorParallel};
          if (group.tensorParallel == first->second)
            continue;
          fault(at(in(path, "stages"), s),
                "stages " + number(first->first) + " and " + number(s) +
                    " share parameter '" + tie.name +
                    "' and must have one tensor_parallel, got " +
                    number(first->second) + " and " +
                    number(group.tensorParallel));
          return;
        }
      }
    }
  }

  /// That the schedule can have chunks, every stage blocks for them, and all
  /// stages pass them in one order.
  void chunks(const Island &island, const std::string &path) {
    if (island.chunks == 1)
      return;
    if (island.schedule != Schedule::Interleaved || island.stages.size() < 2)
      fault(in(path, "chunks"),
            "several chunks in a stage need 'schedule: interleaved' and two "
            "stages or more");
    for (size_t s = 0; s < island.stages.size(); ++s) {
      const Stage &stage = island.stages[s];
      std::string place = at(in(path, "stages"), s);
      if (stage.blocks < island.chunks)
        fault(in(place, "blocks"),
              "a stage of " + number(island.chunks) +
                  " chunks needs as many blocks or more, got " +
                  number(stage.blocks));
      // Else groups of microbatches would differ from stage to stage.
      if (!dealAlike(stage.replicas, island.stages[0].replicas))
        fault(in(place, "replicas"),
              "with several chunks every stage needs as many replicas, with "
              "the same shares, as the first one");
    }
  }

  /// That no cut falls between two users of one parameter.
  void ties(const Island &island, const std::string &path) {
    for (const TiedParameter &tie : problem.model.ties) {
      uint64_t cut = 0;
      for (size_t s = 0; s + 1 < island.stages.size(); ++s) {
        cut += island.stages[s].blocks;
        if (tie.blockNumbers.front() < cut && cut <= tie.blockNumbers.back())
          fault(at(in(path, "stages"), s),
                "parameter '" + tie.name + "' is used by blocks " +
                    number(tie.blockNumbers.front()) + " and " +
                    number(tie.blockNumbers.back()) +
                    ", which must be in one stage: a tied parameter over "
                    "several stages is not there yet");
      }
    }
  }

  bool replicas(const Island &island, const ReplicaGroup &group,
                const std::string &path) {
    bool fine = inRange(path, "count", group.count, kMaxCount);
    fine &= inRange(path, "tensor_parallel", group.tensorParallel, kMaxCount);
    fine &= inRange(path, "share", group.share, kMaxCount);
    std::string where = splitPool(group.pool).first;
    if (!problem.topology.findPool(group.pool))
      fault(in(path, "pool"), "unknown pool '" + group.pool +
                                  "', expected SITE/POOL of the topology");
    else if (std::find(island.sites.begin(), island.sites.end(), where) ==
             island.sites.end())
      fault(in(path, "pool"),
            "pool '" + group.pool + "' is not at one of the island's sites");
    return fine;
  }

  void server() {
    if (!strategy.server) {
      if (strategy.islands.size() > 1)
        fault("server", "several islands need a 'server'");
      return;
    }
    const Server &server = *strategy.server;
    inRange("server", "inner_steps", server.innerSteps, kMaxBatch);
    inRange("server", "fragments", server.fragments, kMaxFragments);
    if (inRange("server", "quorum", server.quorum, kMaxCount) &&
        server.quorum > strategy.islands.size())
      fault("server.quorum", "quorum " + number(server.quorum) +
                                 " is more than the number of islands, " +
                                 number(strategy.islands.size()));
    if (server.overlapSteps >= server.innerSteps)
      fault("server.overlap_steps", "overlap_steps must be below inner_steps " +
                                        number(server.innerSteps) + ", got " +
                                        number(server.overlapSteps));
    if (!(server.deadlineSeconds > 0) || !std::isfinite(server.deadlineSeconds))
      fault("server.deadline_seconds", "deadline_seconds must be positive");
    if (!(server.outerLearningRate > 0) ||
        !std::isfinite(server.outerLearningRate))
      fault("server.outer.lr", "the outer learning rate must be positive");
    if (!(server.outerMomentum >= 0 && server.outerMomentum < 1))
      fault("server.outer.momentum",
            "the outer momentum must be at least 0 and below 1");
    if (!(server.outerBeta2 >= 0 && server.outerBeta2 < 1))
      fault("server.outer.beta2",
            "the outer beta2 must be at least 0 and below 1");
    if (!(server.outerEpsilon > 0) || !std::isfinite(server.outerEpsilon))
      fault("server.outer.eps", "the outer eps must be positive");
    if (!(server.outerWeightDecay >= 0) ||
        !std::isfinite(server.outerWeightDecay))
      fault("server.outer.weight_decay",
            "the outer weight decay must be at least 0");
    for (const auto &[index, place] : server.placement) {
      std::string path = in("server.placement", number(index));
      if (index >= server.fragments)
        fault(path, "there is no fragment " + number(index) + " of " +
                        number(server.fragments));
      site(in(path, "primary"), place.primary);
      if (place.backup.empty())
        continue;
      site(in(path, "backup"), place.backup);
      if (place.backup == place.primary)
        fault(in(path, "backup"),
              "primary and backup are the same site '" + place.backup + "'");
    }
    if (!server.witness.empty())
      site("server.witness", server.witness);
    // What the fragments that live at a site take of its hosts.
    for (const Site &home : problem.topology.sites) {
      double needed = faults.empty() && home.hosts
                          ? serverHostBytes(problem, strategy, home.name)
                          : 0;
      if (needed == 0)
        continue;
      double available = static_cast<double>(home.hosts->count) *
                         home.hosts->memoryGib * 1073741824.0;
      if (needed > available)
        fault("server.placement",
              "the servers at site '" + home.name + "' need " +
                  bytesText(needed) + " bytes of host memory, its hosts have " +
                  bytesText(available) +
                  "; place some fragments elsewhere or give it more hosts");
    }
  }

  /// Calls `visit(group, path)` for every group of replicas.
  template <typename Visit> void forEachGroup(Visit visit) {
    for (size_t i = 0; i < strategy.islands.size(); ++i)
      for (size_t s = 0; s < strategy.islands[i].stages.size(); ++s) {
        const Stage &stage = strategy.islands[i].stages[s];
        std::string path = at(in(at("islands", i), "stages"), s);
        for (size_t g = 0; g < stage.replicas.size(); ++g)
          visit(stage.replicas[g], at(in(path, "replicas"), g));
      }
  }

  void pools() {
    std::map<std::string, uint64_t> used;
    forEachGroup([&](const ReplicaGroup &group, const std::string &) {
      used[group.pool] += group.count * group.tensorParallel;
    });
    // One message for each pool, at its first use.
    std::set<std::string> told;
    forEachGroup([&](const ReplicaGroup &group, const std::string &path) {
      uint64_t chips = problem.topology.findPool(group.pool)->chips();
      if (used[group.pool] > chips && told.insert(group.pool).second)
        fault(in(path, "pool"),
              "pool '" + group.pool + "' lacks chips: the strategy needs " +
                  number(used[group.pool]) + ", it has " + number(chips));
    });
  }

  /// That there are figures of each block on as many chips as hold it.
  void shardings() {
    for (size_t i = 0; i < strategy.islands.size(); ++i) {
      uint64_t first = 0;
      for (size_t s = 0; s < strategy.islands[i].stages.size(); ++s) {
        const Stage &stage = strategy.islands[i].stages[s];
        auto runs = slice(problem.model.runs, first, stage.blocks);
        first += stage.blocks;
        for (size_t g = 0; g < stage.replicas.size(); ++g)
          for (const BlockRun &run : runs) {
            uint64_t chips = stage.replicas[g].tensorParallel;
            const BlockKind &kind = problem.model.kinds[run.kind];
            if (kind.on(chips))
              continue;
            std::string path = at(in(at("islands", i), "stages"), s);
            fault(in(at(in(path, "replicas"), g), "tensor_parallel"),
                  "there is no sharding of block '" + kind.name + "' over " +
                      number(chips) + " chips");
            break;
          }
      }
    }
  }

  void way(const std::string &path, const std::string &from,
           const std::string &to) {
    if (problem.topology.joined(from, to))
      return;
    std::string fromSite = splitPool(from).first;
    std::string toSite = splitPool(to).first;
    if (fromSite != toSite)
      fault(path, "no route from site '" + fromSite + "' to site '" + toSite +
                      "'; add a link between them");
    else
      fault(path, "pools '" + from + "' and '" + to +
                      "' are not joined; give the site a 'fabric'");
  }

  void routes(const Island &island, const std::string &path) {
    for (size_t s = 0; s < island.stages.size(); ++s) {
      std::string place = at(in(path, "stages"), s);
      const Stage &stage = island.stages[s];
      for (size_t g = 0; g + 1 < stage.replicas.size(); ++g)
        way(place, stage.replicas[g].pool, stage.replicas[g + 1].pool);
      if (s + 1 < island.stages.size())
        for (const ReplicaGroup &from : stage.replicas)
          for (const ReplicaGroup &to : island.stages[s + 1].replicas)
            way(place, from.pool, to.pool);
    }
    if (!strategy.server)
      return;
    std::string sites = in(path, "sites");
    for (const auto &[index, place] : strategy.server->placement)
      way(sites, island.sites[0], place.primary);
    if (strategy.server->placement.empty())
      way(sites, island.sites[0], strategy.islands[0].sites[0]);
  }

  double memoryOf(const ReplicaGroup &group) const {
    return static_cast<double>(
        problem.topology.chipOf(*problem.topology.findPool(group.pool))
            .memoryBytes());
  }

  void memoryAndOrder(size_t index, const std::string &path) {
    const Island &island = strategy.islands[index];
    IslandPrediction prediction = evaluateIsland(problem, strategy, index);
    for (size_t s = 0; s < island.stages.size(); ++s)
      for (size_t g = 0; g < island.stages[s].replicas.size(); ++g) {
        const GroupPrediction &group = prediction.stages[s][g];
        double needed = group.memory.total();
        if (needed <= group.availableBytes)
          continue;
        bool recomputes = island.stages[s].recompute.kind == Recompute::Full;
        fault(at(in(path, "stages"), s),
              "stage " + number(s) + " of island " + number(index) +
                  " does not fit into the memory of pool '" +
                  island.stages[s].replicas[g].pool + "': needs " +
                  bytesText(needed) + " bytes per chip, " +
                  bytesText(std::floor(group.availableBytes)) + " of " +
                  bytesText(memoryOf(island.stages[s].replicas[g])) +
                  " are available; use " +
                  (recomputes ? "fewer blocks or a smaller microbatch"
                              : "fewer blocks, a smaller microbatch or "
                                "'recompute: full'"));
      }
    if (!std::isfinite(prediction.stepSeconds))
      fault(in(path, "schedule"), "the schedule of island " + number(index) +
                                      " would wait for itself");
  }
};

} // namespace

Faults Problem::check() const {
  Faults faults = topology.check();
  for (Fault &fault : model.check())
    faults.push_back({in("model", fault.path), fault.message});
  auto fault = [&](const char *path, std::string message) {
    faults.push_back({path, std::move(message)});
  };
  if (training.globalBatch == 0 || training.globalBatch > kMaxBatch)
    fault("global_batch", "the global batch must be from 1 to " +
                              number(kMaxBatch) + ", got " +
                              number(training.globalBatch));
  if (training.optimizerStateBytesPerParameter > 1024)
    fault("optimizer", "absurdly much optimizer state");
  if (!(bounds.memoryMargin >= 0 && bounds.memoryMargin < 1))
    fault("memory_margin", "the memory margin must be at least 0 and below 1");
  if (!(bounds.serverBytesPerSecond > 0))
    fault("server_bytes_per_second", "the server's rate must be positive");
  if (bounds.mostInnerSteps() == 0 || bounds.mostInnerSteps() > kMaxBatch)
    fault("inner_steps", "inner_steps must be from 1 to " + number(kMaxBatch) +
                             ", got " + number(bounds.mostInnerSteps()));
  if (bounds.wanGbits && !(*bounds.wanGbits > 0))
    fault("wan_gbits", "the rate between sites must be positive");
  if (!faults.empty())
    return faults;
  for (size_t s = 0; s < topology.sites.size(); ++s)
    for (size_t p = 0; p < topology.sites[s].pools.size(); ++p) {
      const Pool &pool = topology.sites[s].pools[p];
      if (topology.chipOf(pool).peakFlops(precision()) <= 0)
        faults.push_back({in(at(in(at("sites", s), "pools"), p), "chip"),
                          "chip '" + pool.chip +
                              "' states no tflops for precision " +
                              name(precision())});
    }
  return faults;
}

Faults Problem::verify(const Strategy &strategy) const {
  return Verifier(*this, strategy).run();
}

} // namespace tombolo::planning
