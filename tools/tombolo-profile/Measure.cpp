//===- Measure.cpp - what a plan uses, measured on this machine -----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Measuring.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/launch/Cores.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/Instructions.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/plan/SegmentName.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sys/utsname.h>
#include <unistd.h>

using namespace tombolo;
using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// Processes beyond this are no longer one machine's.
constexpr uint64_t kMostWorkers = 256;

/// One rank of a plan and the class it stands for.
struct Place {
  uint32_t island = 0;
  uint64_t rank = 0;
  uint32_t program = 0;
};

std::string hexOf(const std::string &bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string valueIn(const char *file, const std::string &key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);)
    if (line.compare(0, key.size(), key) == 0) {
      size_t at = line.find(':');
      at = at == std::string::npos ? at : line.find_first_not_of(" \t", at + 1);
      return at == std::string::npos ? "" : line.substr(at);
    }
  return "";
}

Machine describeMachine(const MeasureOptions &options) {
  Machine machine;
  machine.device = options.device;
  machine.processor = valueIn("/proc/cpuinfo", "model name");
  utsname system;
  if (uname(&system) == 0)
    machine.system = std::string(system.sysname) + " " + system.release + " " +
                     system.machine;
  machine.cores = allowedCores().size();
  machine.memoryGib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                      static_cast<double>(sysconf(_SC_PAGE_SIZE)) /
                      static_cast<double>(1 << 30);
  return machine;
}

/// Spreads of the same thing on several ranks: their mean.
class Mean {
public:
  void add(const Spread &one) {
    sum.seconds += one.seconds;
    sum.lower += one.lower;
    sum.upper += one.upper;
    sum.steps += one.steps;
    ++count;
  }
  Spread get() const {
    return {sum.seconds / count, sum.lower / count, sum.upper / count,
            sum.steps};
  }

private:
  Spread sum;
  double count = 0;
};

Spread spreadIn(const json &line) {
  return {line.value("seconds", 0.0), line.value("lower", 0.0),
          line.value("upper", 0.0), line.value("steps", uint64_t(0))};
}

class Measuring {
public:
  explicit Measuring(const MeasureOptions &options) : options(options) {
    result.machine = describeMachine(options);
    result.chip = options.chip;
  }

  Measured run() {
    // What is known of the machine decides how blocks of a model are split.
    if (std::any_of(options.plans.begin(), options.plans.end(), isModel) ||
        options.plans.empty())
      generic();
    for (const std::string &path : options.plans) {
      if (!isModel(path)) {
        plan(path);
        continue;
      }
      TemporaryFolder folder("/tmp/tombolo-profile-");
      for (const std::string &candidate :
           planCandidates(path, options, result, folder.path()))
        plan(candidate);
    }
    finish();
    return std::move(result);
  }

private:
  using ModelKey = std::pair<std::string, std::string>;

  const MeasureOptions &options;
  Supervisor supervisor;
  Measured result;
  // What is called by several plans: the mean over them.
  std::map<ModelKey, std::map<FunctionKey, std::map<uint64_t, Mean>>> functions;
  std::map<ModelKey, std::map<std::pair<std::string, uint64_t>, Mean>> updates;
  /// Over ranks and plans.
  struct Collectives {
    uint64_t calls = 0; // in a step, the most
    Mean time;
  };
  std::map<std::pair<double, double>, Collectives> collectives;

  uint32_t threadsOf(uint64_t ranks) const {
    return options.threads ? options.threads
                           : static_cast<uint32_t>(std::max<uint64_t>(
                                 1, result.machine.cores / ranks));
  }

  void generic() {
    uint64_t ranks = options.ranks ? options.ranks : result.machine.cores;
    result.machine.ranks = ranks;
    result.machine.threads = threadsOf(ranks);
    if (result.chip.empty())
      result.chip = options.device;
    work(std::vector<std::vector<std::string>>(ranks), /*rates=*/true,
         /*links=*/true, [](size_t, const json &) {});
  }

  void plan(const std::string &path);
  std::vector<Place> placesOf(const Plan &plan, const std::string &path);
  bool sharesOutCores(const Plan &plan) const;
  uint64_t sideBySide(const Plan &plan, uint64_t ranks) const;
  /// Whether so many ranks measure side by side what the processor works for
  /// each, of one thread.
  bool timesProcessor(uint64_t ranks) const {
    return options.device == "cpu" && threadsOf(ranks) == 1 &&
           ranks <= kMostWorkers;
  }
  /// Ranks of so many threads that have cores to themselves.
  uint64_t coresFor(uint32_t threads) const {
    return std::max<uint64_t>(1, result.machine.cores / threads);
  }
  void keep(const Plan &plan, const std::map<uint32_t, Mean> &times);
  void finish();

  /// Runs one worker for each list of arguments, side by side; `tell` gets the
  /// lines about segments.
  template <typename Tell>
  void work(const std::vector<std::vector<std::string>> &arguments, bool rates,
            bool links, Tell tell);
  void hear(const json &line);
};

} // namespace

template <typename Tell>
void Measuring::work(const std::vector<std::vector<std::string>> &arguments,
                     bool rates, bool links, Tell tell) {
  StoreServer store;
  std::map<size_t, size_t> slots; // by process
  for (size_t slot = 0; slot < arguments.size(); ++slot) {
    ProcessSpec spec;
    std::vector<char> self(4096);
    ssize_t length = readlink("/proc/self/exe", self.data(), self.size());
    if (length <= 0)
      throw Error(Status::Failed, "cannot find the path of this program");
    spec.program = std::string(self.data(), static_cast<size_t>(length));
    spec.arguments = {"worker",
                      "--slot",
                      std::to_string(slot),
                      "--workers",
                      std::to_string(arguments.size()),
                      "--threads",
                      std::to_string(result.machine.threads),
                      "--device",
                      options.device,
                      "--seconds",
                      std::to_string(options.seconds),
                      "--rendezvous",
                      store.address()};
    if (rates)
      spec.arguments.push_back("--rates");
    if (links && arguments.size() > 1)
      spec.arguments.push_back("--links");
    spec.arguments.insert(spec.arguments.end(), arguments[slot].begin(),
                          arguments[slot].end());
    slots[supervisor.start(spec)] = slot;
  }
  if (links)
    result.linkRanks = arguments.size();
  std::string failure;
  int status = 0;
  // Once one has failed the others have a moment to say more: whoever notices
  // first need not be the cause.
  constexpr double kGraceSeconds = 1;
  while (supervisor.anyRunning() || status == 0) {
    SupervisorEvent event =
        supervisor.next(status                    ? std::optional(kGraceSeconds)
                        : supervisor.anyRunning() ? std::nullopt
                                                  : std::optional(0.0));
    if (event.kind == SupervisorEvent::Kind::Timeout)
      break;
    if (event.kind == SupervisorEvent::Kind::Signal) {
      supervisor.killAll();
      throw Error(Status::Failed, "told to end by signal ", event.signal);
    }
    if (event.kind == SupervisorEvent::Kind::Ended) {
      if (event.end.signalled && failure.empty())
        failure = "a process that measures " + describe(event.end);
      if (status == 0)
        status = event.end.signalled ? 3 : event.end.code;
      continue;
    }
    json line = json::parse(event.line, nullptr, false);
    if (!line.is_object())
      continue;
    if (line.value("kind", "") == "error") {
      failure = line.value("message", "");
      status = line.value("status", 3);
    } else if (line.value("kind", "") == "segment") {
      tell(slots.at(event.process), line);
    } else {
      hear(line);
    }
  }
  supervisor.killAll();
  if (status != 0)
    throw Error(static_cast<Status>(status),
                failure.empty() ? "a process that measures has failed"
                                : failure);
}

void Measuring::hear(const json &line) {
  std::string kind = line.value("kind", "");
  if (kind == "rates") {
    // Of several the slowest: all ranks wait for it.
    DeviceTimes times;
    times.tflopsF32 = line.value("tflops_f32", 0.0);
    times.tflopsBF16 = line.value("tflops_bf16", 0.0);
    times.memoryGbytesPerSecond = line.value("memory", 0.0);
    times.matmul = line.value("matmul_part", 0.0);
    times.memory = line.value("memory_part", 0.0);
    times.kernelUs = line.value("kernel_us", 0.0);
    if (result.rates.tflopsF32 == 0 || times.tflopsF32 < result.rates.tflopsF32)
      result.rates = times;
    return;
  }
  if (kind == "collective") {
    Collectives &seen =
        collectives[{line.value("messages", 0.0), line.value("bytes", 0.0)}];
    seen.calls = std::max(seen.calls, line.value("calls", uint64_t(0)));
    return seen.time.add(spreadIn(line));
  }
  if (kind == "carry") {
    CarryTime &all = result.carried;
    all.messages += line.value("messages", 0.0);
    all.bytes += line.value("bytes", 0.0);
    all.ringMessages += line.value("ring_messages", 0.0);
    all.ringBytes += line.value("ring_bytes", 0.0);
    all.spread.seconds += line.value("seconds", 0.0);
    return;
  }
  LinkTime time;
  time.bytes = line.value("bytes", uint64_t(0));
  time.seconds = line.value("seconds", 0.0);
  time.lower = line.value("lower", 0.0);
  time.upper = line.value("upper", 0.0);
  time.runs = line.value("steps", uint64_t(0));
  (kind == "message" ? result.messages : result.sums).push_back(time);
}

/// The ranks on the chip; throws where it is not clear which chip that is.
std::vector<Place> Measuring::placesOf(const Plan &plan,
                                       const std::string &path) {
  auto chipOf = [&](const auto &group) -> std::string {
    for (const auto &site : plan.topology().sites())
      for (const auto &pool : site.pools())
        if (site.name() == group.site() && pool.name() == group.pool())
          return plan.topology().chips(static_cast<int>(pool.chip())).name();
    throw Error("plan '", path, "': it has no topology; plan it again");
  };
  std::set<std::string> chips;
  std::vector<Place> places;
  for (int i = 0; i < plan.islands_size(); ++i) {
    IslandLayout layout(plan.islands(i));
    for (uint64_t rank = 0; rank < layout.rankCount(); ++rank) {
      RankCoordinates at = layout.coordinates(rank);
      const auto &group = plan.islands(i)
                              .stages(static_cast<int>(at.stage))
                              .groups(static_cast<int>(at.group));
      std::string chip = chipOf(group);
      chips.insert(chip);
      if (result.chip.empty())
        result.chip = chip;
      if (chip == result.chip)
        places.push_back({static_cast<uint32_t>(i), rank, at.program});
    }
  }
  std::string list;
  for (const std::string &name : chips)
    list += (list.empty() ? "" : ", ") + name;
  if (options.chip.empty() && chips.size() > 1)
    throw Error("plan '", path, "': it uses chips of several types (", list,
                "); say with --chip which of them this machine has");
  if (places.empty())
    throw Error("plan '", path, "': it uses no chip '", result.chip,
                "'; it uses ", list);
  return places;
}

/// Whether the plan shares out the cores that the ranks compute on: what it
/// wants is what a rank takes that has its core to itself.
bool Measuring::sharesOutCores(const Plan &plan) const {
  for (const auto &site : plan.topology().sites())
    for (const auto &pool : site.pools())
      if (plan.topology().chips(static_cast<int>(pool.chip())).name() ==
              result.chip &&
          onHostCores(pool))
        return true;
  return false;
}

static uint64_t rankCount(const Plan &plan) {
  uint64_t count = 0;
  for (const auto &island : plan.islands())
    count += IslandLayout(island).rankCount();
  return count;
}

/// How many ranks measure at once. Of one thread it is known what it takes of a
/// core that it shares; ranks of several have their cores to themselves, where
/// the plan shares them out.
uint64_t Measuring::sideBySide(const Plan &plan, uint64_t ranks) const {
  if (options.ranks)
    return options.ranks;
  if (!sharesOutCores(plan) || timesProcessor(ranks))
    return ranks;
  return std::min(ranks, coresFor(threadsOf(ranks)));
}

void Measuring::plan(const std::string &path) {
  Plan plan = readPlan(path);
  std::vector<Place> places = placesOf(plan, path);
  uint64_t ranks = sideBySide(plan, places.size());
  if (ranks > kMostWorkers)
    throw Error("plan '", path, "': it has ", ranks, " ranks on chips '",
                result.chip, "'; say with --ranks how many share this machine");
  if (result.machine.ranks != 0 && result.machine.ranks != ranks)
    throw Error("plan '", path, "': ", ranks,
                " of its ranks share this "
                "machine, of the plan before ",
                result.machine.ranks,
                "; a profile is of one number, so measure them apart or give "
                "--ranks");
  bool first = result.machine.ranks == 0;
  result.machine.ranks = ranks;
  result.machine.threads = threadsOf(ranks);
  // All ranks side by side, or else one of each class, with company.
  std::vector<Place> chosen = places;
  if (ranks != places.size()) {
    chosen.clear();
    std::set<uint32_t> seen;
    for (const Place &place : places)
      if (seen.insert(place.program).second)
        chosen.push_back(place);
    for (size_t i = 0; chosen.size() % ranks != 0; ++i)
      chosen.push_back(chosen[i]);
  }
  uint64_t most = coresFor(result.machine.threads);
  bool fits = ranks <= most;
  bool processorTime = sharesOutCores(plan) && timesProcessor(ranks);
  // Where ranks share a core one waits while another computes, and what that
  // takes from the step would be in no call; so there all compute at once.
  bool besidePeers = places.size() == ranks && ranks == rankCount(plan) &&
                     (fits || processorTime);
  // Of a wire it is wanted what it gives those who have their cores.
  bool apart = first && sharesOutCores(plan) && !fits && most > 1;
  if (apart)
    work(std::vector<std::vector<std::string>>(most), true, true,
         [](size_t, const json &) {});
  std::map<uint32_t, Mean> times; // by segment
  for (size_t begin = 0; begin < chosen.size(); begin += ranks) {
    std::vector<std::vector<std::string>> arguments;
    for (size_t i = begin; i < begin + ranks; ++i) {
      arguments.push_back({"--plan", path, "--island",
                           std::to_string(chosen[i].island), "--rank",
                           std::to_string(chosen[i].rank)});
      if (besidePeers)
        arguments.back().push_back("--peers");
      if (processorTime)
        arguments.back().push_back("--processor-time");
    }
    bool once = first && begin == 0 && !apart;
    work(arguments, once, once, [&](size_t, const json &line) {
      Spread spread = spreadIn(line);
      if (spread.seconds > 0)
        times[line.value("segment", 0u)].add(spread);
    });
  }
  keep(plan, times);
}

/// The elements that a segment updates; 0: it is no update.
static uint64_t updatedElements(const plan::v1::Segment &segment,
                                std::string &optimizer) {
  for (const plan::v1::Op &op : segment.ops()) {
    if (op.opcode() != plan::v1::OPCODE_ADAMW &&
        op.opcode() != plan::v1::OPCODE_SGD)
      continue;
    optimizer = op.opcode() == plan::v1::OPCODE_ADAMW ? "adamw"
                : op.outputs_size() > 1               ? "momentum"
                                                      : "sgd";
    uint64_t elements = 1;
    for (uint64_t size : segment.values(static_cast<int>(op.outputs(0))).dims())
      elements *= size;
    return elements;
  }
  return 0;
}

void Measuring::keep(const Plan &plan, const std::map<uint32_t, Mean> &times) {
  const char *precision =
      plan.training().precision() == plan::v1::PRECISION_BF16 ? "bf16" : "f32";
  ModelKey model{hexOf(plan.model_hash()), precision};
  for (const auto &[number, mean] : times) {
    const auto &segment = plan.segments(static_cast<int>(number));
    std::string optimizer;
    if (auto name = parseSegmentName(segment.name()))
      functions[model][{name->block, name->function, name->tensorParallel,
                        name->microbatch}][name->part]
          .add(mean.get());
    else if (uint64_t elements = updatedElements(segment, optimizer))
      updates[model][{optimizer, elements}].add(mean.get());
  }
}

/// Replaces runs of times that fall by their mean, so that none does (pool
/// adjacent violators). What grows in truth was disturbed where it was seen to
/// fall.
static bool makeRise(const std::vector<double *> &times) {
  struct Pool {
    double mean;
    size_t count;
  };
  std::vector<Pool> pools;
  for (const double *time : times) {
    pools.push_back({*time, 1});
    while (pools.size() > 1 &&
           pools[pools.size() - 2].mean > pools.back().mean) {
      Pool last = pools.back();
      pools.pop_back();
      Pool &pool = pools.back();
      size_t count = pool.count + last.count;
      pool.mean = (pool.mean * static_cast<double>(pool.count) +
                   last.mean * static_cast<double>(last.count)) /
                  static_cast<double>(count);
      pool.count = count;
    }
  }
  size_t i = 0;
  for (const Pool &pool : pools)
    for (size_t k = 0; k < pool.count; ++k)
      *times[i++] = pool.mean;
  return pools.size() != times.size();
}

void Measuring::finish() {
  bool fell = false;
  for (const auto &[ring, seen] : collectives)
    if (Spread spread = seen.time.get(); spread.seconds > 0)
      result.collectives.push_back(
          {ring.first, ring.second, seen.calls, spread});
  for (auto *links : {&result.messages, &result.sums}) {
    std::vector<double *> times;
    for (LinkTime &link : *links)
      times.push_back(&link.seconds);
    fell |= makeRise(times);
  }
  for (const auto &[model, rows] : functions) {
    FunctionRows &all = result.models[model].functions;
    for (const auto &[key, parts] : rows)
      for (const auto &[part, mean] : parts)
        all[key].push_back(mean.get());
    // Keys ascend by microbatch last.
    for (auto row = all.begin(); row != all.end();) {
      std::vector<double> wholes;
      auto end = row;
      for (; end != all.end() && end->first.isOfSame(row->first); ++end) {
        wholes.push_back(0);
        for (const Spread &part : end->second)
          wholes.back() += part.seconds;
      }
      std::vector<double> rising = wholes;
      std::vector<double *> times;
      for (double &time : rising)
        times.push_back(&time);
      fell |= makeRise(times);
      for (size_t i = 0; row != end; ++row, ++i)
        for (Spread &part : row->second)
          part.seconds *= rising[i] / wholes[i];
    }
  }
  for (const auto &[model, rows] : updates)
    for (const auto &[key, mean] : rows)
      result.models[model].updates[key] = mean.get();
  if (fell)
    std::cerr << "tombolo-profile: warning: larger messages or microbatches "
                 "were seen to take less than smaller ones: this machine was "
                 "not quiet\n";
}

void tombolo::measure(const MeasureOptions &options) {
  // Known before the work; what is there stays until there is something new.
  bool isThere = std::filesystem::exists(options.output);
  if (!std::ofstream(options.output, std::ios::app))
    throw Error("'", options.output, "': cannot be written");
  if (!isThere)
    std::filesystem::remove(options.output);
  Measured measured = Measuring(options).run();
  std::ofstream file(options.output);
  writeProfile(file, measured);
  if (!file.flush())
    throw Error(Status::Failed, "'", options.output, "': cannot be written");
}
