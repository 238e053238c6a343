//===- Worker.cpp - one of the processes that measure side by side --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// Ranks share memory, caches and the processor's power. So as many processes
// as ranks share the machine measure at once, each on the core that it would
// be on, and what counts is only what is done while all of them work.
//
//===----------------------------------------------------------------------===//

#include "Measuring.h"

#include "tombolo/runtime/Device.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/launch/Cores.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <iostream>
#include <numeric>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::profile;
using nlohmann::json;

namespace {

struct WorkerOptions {
  std::string plan, device, rendezvous;
  uint32_t island = 0, threads = 1;
  uint64_t rank = 0, slot = 0, workers = 1;
  double seconds = 1;
  bool rates = false, links = false;
  bool peers = false; // all ranks of the plan are among the workers
  bool processorTime = false; // of calls: ranks share cores
  int eventsFd = -1;
};

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Worker {
public:
  Worker(const WorkerOptions &options)
      : options(options),
        device(createDevice(options.device, {options.threads, false})),
        alone(1), out(options.eventsFd) {
    TransportOptions how;
    how.scope = "profile/";
    transport = options.workers > 1
                    ? createGlooTransport(options.slot, options.rendezvous,
                                          "127.0.0.1", how)
                    : alone.transport(0);
    std::vector<uint64_t> ranks(options.workers);
    std::iota(ranks.begin(), ranks.end(), 0);
    all = transport->connect("all", ranks);
  }

  void run() {
    if (options.rates)
      rates();
    if (!options.plan.empty())
      program();
    if (options.links)
      links();
    all->barrier();
  }

private:
  const WorkerOptions &options;
  std::unique_ptr<Device> device;
  InprocHub alone;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Communicator> all;
  EventWriter out;

  void tell(const json &line) {
    if (!out.write(line.dump()))
      throw Error(Status::Failed, "whoever started this worker has gone");
  }

  /// With how long it took.
  void tell(json line, const Spread &spread) {
    line["seconds"] = spread.seconds;
    line["lower"] = spread.lower;
    line["upper"] = spread.upper;
    line["steps"] = spread.steps;
    tell(line);
  }

  /// The largest of all workers' figures.
  double largest(double mine) {
    std::vector<float> values(options.workers, 0);
    values[options.slot] = static_cast<float>(mine);
    all->allReduceSum(values);
    return *std::max_element(values.begin(), values.end());
  }

  void rates() {
    all->barrier();
    DeviceTimes times = measureDevice(*device, options.seconds);
    tell({{"kind", "rates"},
          {"tflops_f32", times.tflopsF32},
          {"tflops_bf16", times.tflopsBF16},
          {"memory", times.memoryGbytesPerSecond},
          {"matmul_part", times.matmul},
          {"memory_part", times.memory},
          {"kernel_us", times.kernelUs}});
  }

  void program() {
    Plan plan = readPlan(options.plan);
    std::unique_ptr<Transport> peers;
    if (options.peers) {
      TransportOptions how;
      how.scope = "island-" + std::to_string(options.island) + "/";
      peers = createGlooTransport(options.rank, options.rendezvous,
                                  "127.0.0.1", how);
    }
    ProgramTimer timer(plan, options.island, options.rank, *device, peers.get(),
                       options.processorTime ? CallClock::Processor
                                             : CallClock::Wall);
    // The first touches memory, the second is as all others.
    timer.step();
    all->barrier();
    auto start = Clock::now();
    timer.step();
    constexpr double kFewestSteps = 12;
    double window =
        std::max(options.seconds, kFewestSteps * largest(since(start)));
    all->barrier();
    // A step that ends when another may have stopped is not counted.
    start = Clock::now();
    for (timer.step(); timer.fromFirst(since(start) < window); timer.step())
      timer.count();
    for (const SegmentTime &time : timer.times())
      tell({{"kind", "segment"},
            {"segment", time.segment},
            {"calls", time.calls}},
           time.spread);
    if (CarryTime carry = timer.carrying(); carry.spread.seconds > 0)
      tell({{"kind", "carry"},
            {"messages", carry.messages},
            {"bytes", carry.bytes},
            {"ring_messages", carry.ringMessages},
            {"ring_bytes", carry.ringBytes},
            {"seconds", carry.spread.seconds}});
    for (const CollectiveTime &time : timer.collectives())
      tell({{"kind", "collective"},
            {"messages", time.messages},
            {"bytes", time.bytes},
            {"calls", time.calls}},
           time.spread);
  }

  void links() {
    double budget = options.seconds / 20;
    for (uint64_t bytes = 1024; bytes <= uint64_t(16) << 20; bytes *= 4)
      for (bool isSum : {false, true}) {
        LinkTime time = isSum ? measureAllReduce(*all, bytes, budget)
                              : measureMessage(*all, bytes, budget);
        if (options.slot == 0)
          tell({{"kind", isSum ? "all_reduce" : "message"},
                {"bytes", time.bytes}},
               {time.seconds, time.lower, time.upper, time.runs});
      }
  }
};

} // namespace

int tombolo::runWorker(int argc, char **argv) {
  WorkerOptions options;
  CLI::App app("measures beside others", "tombolo-profile worker");
  app.add_option("--plan", options.plan);
  app.add_option("--island", options.island);
  app.add_option("--rank", options.rank);
  app.add_option("--slot", options.slot)->required();
  app.add_option("--workers", options.workers)->required();
  app.add_option("--threads", options.threads)->required();
  app.add_option("--device", options.device)->required();
  app.add_option("--seconds", options.seconds)->required();
  app.add_option("--rendezvous", options.rendezvous);
  app.add_flag("--rates", options.rates);
  app.add_flag("--links", options.links);
  app.add_flag("--peers", options.peers);
  app.add_flag("--processor-time", options.processorTime);
  app.add_option("--events-fd", options.eventsFd)->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) ? 2 : 0;
  }
  auto failed = [&](const char *what, int status) {
    json line = {{"kind", "error"},
                 {"status", status},
                 {"message", std::string(what).substr(0, 3000)}};
    EventWriter(options.eventsFd).write(line.dump());
    return status;
  };
  try {
    pinRank(options.slot, options.threads);
    Worker(options).run();
    return 0;
  } catch (const PeerError &error) { // whoever caused it says more
    return static_cast<int>(Status::Failed);
  } catch (const Error &error) {
    return failed(error.what(), error.exitStatus());
  } catch (const std::exception &error) {
    return failed(error.what(), static_cast<int>(Status::Failed));
  }
}
