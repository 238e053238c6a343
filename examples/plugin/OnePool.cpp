// A solver: the best plain data parallelism on a single pool.
#include "Example.h"

#include "tombolo/Planning/Solver.h"

using namespace tombolo::planning;

/// All blocks of the model in one stage on `pool`, replicated `replicas` times.
static Strategy dataParallel(const Problem &problem, const Site &site,
                             const Pool &pool, uint64_t replicas,
                             uint64_t microbatch, Recompute recompute) {
  Stage stage;
  stage.blocks = problem.model.blocks();
  stage.recompute = recompute;
  stage.replicas = {{site.name + "/" + pool.name, replicas}};
  Island island;
  island.sites = {site.name};
  island.batch = problem.training.globalBatch;
  island.microbatch = microbatch;
  island.stages = {stage};
  Strategy strategy;
  strategy.islands = {island};
  return strategy;
}

/// Looks at every pool, number of replicas that divides the batch, and
/// microbatch that divides their part; `verify` says what can be run, the cost
/// model how fast it is.
static SearchResult onePool(const Problem &problem, const StrategyPins &pins,
                            const SearchHooks &) {
  SearchResult result;
  if (pins.islands || pins.server || !pins.shardings.empty()) {
    result.faults.push_back({"", "solver 'one-pool' keeps no pinned parts"});
    return result;
  }
  uint64_t batch = problem.training.globalBatch;
  for (const Site &site : problem.topology.sites)
    for (const Pool &pool : site.pools)
      for (uint64_t n = 1; n <= std::min(pool.chips(), batch); ++n)
        for (uint64_t m = 1; batch % n == 0 && m <= batch / n; ++m)
          for (Recompute::Kind kind : {Recompute::None, Recompute::Full}) {
            if (batch / n % m != 0)
              continue;
            Strategy strategy =
                dataParallel(problem, site, pool, n, m, {kind, 0});
            ++result.candidates;
            if (problem.verify(strategy).empty())
              result.strategies.push_back(
                  {strategy, evaluate(problem, strategy)});
          }
  std::stable_sort(result.strategies.begin(), result.strategies.end(),
                   [](const Candidate &a, const Candidate &b) {
                     return a.prediction.stepSeconds < b.prediction.stepSeconds;
                   });
  if (result.strategies.empty())
    result.faults.push_back(
        {"islands", "no chip of any pool holds the whole model"});
  return result;
}

void example::registerOnePool() { registerSolver("one-pool", onePool); }
