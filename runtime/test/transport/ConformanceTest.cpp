//===- ConformanceTest.cpp - what every transport must do -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Sites.h"

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/Transport.h"

#include "Expect.h"
#include "Temporary.h"

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>
#include <optional>
#include <thread>

#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

// In a rank that mpirun has started: which `onRanks` of its test it is for, and
// the store of the process that runs the test.
constexpr const char *kCall = "TOMBOLO_TEST_CALL";
constexpr const char *kStore = "TOMBOLO_TEST_STORE";

/// Ranks are threads of the test; those of MPI are processes: the test starts
/// itself by mpirun, once for each `onRanks`.
class Conformance : public testing::TestWithParam<const char *> {
protected:
  TransportOptions options{std::chrono::seconds(30), std::chrono::seconds(30)};
  bool endsBadly = false; ///< a rank gives up, which ends all of a launch

  void SetUp() override {
    const char *address = std::getenv(kStore);
    if (isMpi() && !address && std::system("mpirun --version >/dev/null 2>&1"))
      GTEST_SKIP() << "mpirun is missing (Debian: openmpi-bin)";
    if (!address)
      store = std::make_unique<StoreServer>();
    beside = std::make_unique<StoreClient>(address ? address : store->address(),
                                           std::chrono::seconds(30));
  }

  bool isMpi() const { return std::string(GetParam()) == "mpi"; }

  /// Runs `body` on every rank; what it throws fails the test.
  void onRanks(std::uint64_t count,
               const std::function<void(Transport &, std::uint64_t)> &body) {
    call = calls++;
    if (isMpi())
      return std::getenv(kCall) ? asProcess(body) : byMpirun(count);
    std::unique_ptr<InprocHub> hub;
    if (std::string(GetParam()) == "inproc")
      hub = std::make_unique<InprocHub>(count, options);
    std::unique_ptr<Sites> sites;
    if (std::string(GetParam()) == "sites")
      (sites = std::make_unique<Sites>(count))->start();
    StoreServer meeting;
    std::vector<std::thread> threads;
    for (std::uint64_t rank = 0; rank < count; ++rank)
      threads.emplace_back([&, rank] {
        try {
          std::unique_ptr<Transport> transport =
              hub     ? hub->transport(rank)
              : sites ? sites->transport(rank, options)
                      : createGlooTransport(rank, meeting.address(),
                                            "127.0.0.1", options);
          body(*transport, rank);
        } catch (const std::exception &error) {
          ADD_FAILURE() << "rank " << rank << ": " << error.what();
        }
      });
    for (std::thread &thread : threads)
      thread.join();
  }

  /// What ranks tell each other beside the transport.
  void tell(const std::string &what, const std::vector<char> &data = {1}) {
    beside->set(key(what), data);
  }
  std::vector<char> hear(const std::string &what) {
    return beside->get(key(what), std::chrono::seconds(60));
  }
  bool isTold(const std::string &what) {
    return beside->look(key(what)).has_value();
  }

  /// Starts the ranks of this call as processes; what mpirun ends with.
  int launch(std::uint64_t count, const std::string &log) {
    auto *test = testing::UnitTest::GetInstance()->current_test_info();
    return std::system(
        (std::string(kCall) + "=" + std::to_string(call) + " " + kStore + "=" +
         store->address() +
         " mpirun --allow-run-as-root --oversubscribe --bind-to none -n " +
         std::to_string(count) + " /proc/" + std::to_string(getpid()) +
         "/exe --gtest_filter=" + test->test_suite_name() + "." + test->name() +
         " >" + log + " 2>&1")
            .c_str());
  }

  static std::unique_ptr<Communicator> all(Transport &transport,
                                           std::uint64_t count) {
    std::vector<std::uint64_t> ranks(count);
    std::iota(ranks.begin(), ranks.end(), 0);
    return transport.connect("all", ranks);
  }
  static std::span<std::byte> bytes(auto &data) {
    return std::as_writable_bytes(std::span(data));
  }

private:
  std::string key(const std::string &what) const {
    return std::to_string(call) + "/" + what;
  }

  void byMpirun(std::uint64_t count) {
    test::TemporaryFolder folder;
    int status = launch(count, folder / "log");
    bool passed = endsBadly || status == 0;
    for (std::uint64_t rank = 0; rank < count; ++rank)
      passed &= isTold("passed/" + std::to_string(rank));
    if (passed)
      return;
    std::ifstream in(folder / "log");
    ADD_FAILURE() << "call " << call << " on " << count
                  << " ranks, mpirun ended with " << status << ":\n"
                  << std::string(std::istreambuf_iterator<char>(in), {});
  }

  void asProcess(const std::function<void(Transport &, std::uint64_t)> &body) {
    if (std::to_string(call) != std::getenv(kCall))
      return;
    std::uint64_t rank = std::stoull(std::getenv("OMPI_COMM_WORLD_RANK"));
    std::unique_ptr<Transport> transport = createMpiTransport(rank, options);
    body(*transport, rank);
    if (!HasFailure())
      tell("passed/" + std::to_string(rank));
  }

  std::unique_ptr<StoreServer> store;
  std::unique_ptr<StoreClient> beside;
  int call = 0, calls = 0;
};

INSTANTIATE_TEST_SUITE_P(Transports, Conformance,
                         testing::Values("inproc", "gloo", "sites"));
#if TOMBOLO_TEST_MPI
INSTANTIATE_TEST_SUITE_P(Mpi, Conformance, testing::Values("mpi"));
#endif

// Messages of one tag arrive in order, whole, also large and empty ones.
TEST_P(Conformance, DeliversInOrder) {
  onRanks(2, [](Transport &transport, std::uint64_t rank) {
    auto pair = all(transport, 2);
    EXPECT_EQ(pair->rank(), static_cast<int>(rank));
    EXPECT_EQ(pair->size(), 2);
    for (std::size_t size : {1u, 0u, 77u, 3000000u, 5u}) {
      std::vector<std::uint8_t> data(size);
      if (rank == 0) {
        for (std::size_t i = 0; i < size; ++i)
          data[i] = static_cast<std::uint8_t>(i * 7 + size);
        pair->send(1, 0, bytes(data));
        continue;
      }
      pair->receive(0, 0, bytes(data));
      for (std::size_t i = 0; i < size; ++i)
        ASSERT_EQ(data[i], static_cast<std::uint8_t>(i * 7 + size));
    }
  });
}

// A later tag may be received first.
TEST_P(Conformance, KeepsTagsApart) {
  onRanks(2, [](Transport &transport, std::uint64_t rank) {
    auto pair = all(transport, 2);
    std::vector<int> a{1}, b{2};
    if (rank == 0) {
      // Two threads: a send may wait for its receive.
      std::thread other([&] { pair->send(1, 3, bytes(a)); });
      pair->send(1, 4, bytes(b));
      other.join();
    } else {
      std::vector<int> got(1);
      pair->receive(0, 4, bytes(got));
      EXPECT_EQ(got[0], 2);
      pair->receive(0, 3, bytes(got));
      EXPECT_EQ(got[0], 1);
    }
  });
}

// Both directions on two lanes at once, by four threads in each rank.
TEST_P(Conformance, ServesLanesSideBySide) {
  onRanks(2, [](Transport &transport, std::uint64_t rank) {
    auto pair = all(transport, 2);
    int other = 1 - static_cast<int>(rank);
    std::vector<std::thread> threads;
    for (std::uint32_t tag : {0u, 1u}) {
      threads.emplace_back([&, tag] {
        for (int i = 0; i < 200; ++i) {
          std::vector<int> data(1000, i + static_cast<int>(tag) * 1000);
          pair->send(other, tag, bytes(data));
        }
      });
      threads.emplace_back([&, tag] {
        for (int i = 0; i < 200; ++i) {
          std::vector<int> data(1000);
          pair->receive(other, tag, bytes(data));
          EXPECT_EQ(data[999], i + static_cast<int>(tag) * 1000);
        }
      });
    }
    for (std::thread &thread : threads)
      thread.join();
  });
}

// Sums of any length, also shorter than the ring and longer than its scratch,
// are exact for whole numbers and the same bits everywhere.
TEST_P(Conformance, SumsOverAllRanks) {
  for (std::uint64_t count : {1, 2, 3, 5}) {
    onRanks(count, [&](Transport &transport, std::uint64_t rank) {
      auto ring = all(transport, count);
      for (std::size_t n : {1u, 2u, 7u, 1000u, 700001u}) {
        std::vector<float> data(n);
        for (std::size_t i = 0; i < n; ++i)
          data[i] = static_cast<float>(i % 100 + rank);
        ring->allReduceSum(data);
        for (std::size_t i = 0; i < n; i += n / 7 + 1)
          ASSERT_EQ(data[i], static_cast<float>(i % 100 * count +
                                                count * (count - 1) / 2));
      }
      std::vector<float> rough(4099);
      for (std::size_t i = 0; i < rough.size(); ++i)
        rough[i] = std::sin(static_cast<float>(i * (rank + 1)));
      ring->allReduceSum(rough);
      auto chars = [](const std::vector<float> &data) {
        auto *first = reinterpret_cast<const char *>(data.data());
        return std::vector<char>(first, first + data.size() * sizeof(float));
      };
      tell("rough/" + std::to_string(rank), chars(rough));
      for (std::uint64_t other = 0; other < count; ++other)
        EXPECT_EQ(hear("rough/" + std::to_string(other)), chars(rough));
    });
  }
}

/// What member `rank` has in place `i` of its part `part` at first.
float valueOf(std::uint64_t rank, std::uint64_t part, std::size_t i) {
  return static_cast<float>((i * 7 + part * 31 + rank * 101) % 997);
}

// Every collective of parts, over one to five ranks that come at different
// times; parts of nothing, of one element and longer than the scratch.
TEST_P(Conformance, ExchangesParts) {
  for (std::uint64_t count : {1, 2, 3, 4, 5})
    onRanks(count, [&](Transport &transport, std::uint64_t rank) {
      auto ring = all(transport, count);
      std::uint64_t pause = 0;
      for (std::size_t n : {0u, 1u, 5u, 1000u, 300001u}) {
        std::vector<float> start(n * count);
        for (std::uint64_t part = 0; part < count; ++part)
          for (std::size_t i = 0; i < n; ++i)
            start[part * n + i] = valueOf(rank, part, i);
        auto expectPart = [&](const std::vector<float> &data,
                              std::uint64_t part, const auto &expected) {
          for (std::size_t i = 0; i < n; i += n / 9 + 1)
            ASSERT_EQ(data[part * n + i], expected(i))
                << count << " ranks, " << n << " elements, place " << i;
        };
        auto uneven = [&] {
          std::this_thread::sleep_for(
              std::chrono::milliseconds((rank * 7 + ++pause * 5) % 4));
        };

        std::vector<float> sum = start;
        uneven();
        ring->reduceScatterSum(bytes(sum), SumType::F32);
        expectPart(sum, rank, [&](std::size_t i) {
          float expected = 0;
          for (std::uint64_t other = 0; other < count; ++other)
            expected += valueOf(other, rank, i);
          return expected;
        });

        std::vector<float> gathered = start;
        uneven();
        ring->allGather(bytes(gathered));
        for (std::uint64_t part = 0; part < count; ++part)
          expectPart(gathered, part,
                     [&](std::size_t i) { return valueOf(part, part, i); });

        std::vector<float> turned = start;
        uneven();
        ring->allToAll(bytes(turned));
        for (std::uint64_t part = 0; part < count; ++part)
          expectPart(turned, part,
                     [&](std::size_t i) { return valueOf(part, rank, i); });
      }
    });
}

// A reduction in parts, then gathered, is the all-reduce to the bit; bf16 is
// added in f32 and rounded to nearest even.
TEST_P(Conformance, SumsAlikeInPartsAndAtOnce) {
  onRanks(3, [&](Transport &transport, std::uint64_t rank) {
    auto ring = all(transport, 3);
    std::vector<float> whole(3 * 4099);
    for (std::size_t i = 0; i < whole.size(); ++i)
      whole[i] = std::sin(static_cast<float>(i * (rank + 1)));
    std::vector<float> parts = whole;
    ring->allReduceSum(whole);
    ring->reduceScatterSum(bytes(parts), SumType::F32);
    ring->allGather(bytes(parts));
    EXPECT_EQ(std::memcmp(whole.data(), parts.data(), whole.size() * 4), 0);

    // 1 + 2^-8 lies between two bf16 numbers: to even, 1. 1 + 3 2^-8: up.
    std::vector<std::uint16_t> small{0x3f80, 0x3f80, 0x7f80, 0x4000};
    if (rank == 1)
      small = {0x3b80, 0x3c40, 0xff80, 0x4040};
    if (rank == 2)
      small = {0, 0, 0, 0xc0a0};
    ring->allReduceSum(bytes(small), SumType::BF16);
    EXPECT_EQ(small[0], 0x3f80);
    EXPECT_EQ(small[1], 0x3f82);
    EXPECT_GT(small[2] & 0x7fff, 0x7f80) << "inf - inf is no number";
    EXPECT_EQ(small[3], 0x0000);
  });
}

// Nobody leaves a barrier before the last has come.
TEST_P(Conformance, Barrier) {
  onRanks(5, [&](Transport &transport, std::uint64_t rank) {
    auto ring = all(transport, 5);
    auto come = [](int round, std::uint64_t who) {
      return std::to_string(round) + "/" + std::to_string(who);
    };
    for (int round = 1; round <= 20; ++round) {
      tell(come(round, rank));
      ring->barrier();
      for (std::uint64_t other = 0; other < 5; ++other)
        EXPECT_TRUE(isTold(come(round, other)));
    }
  });
}

// Communicators over some of the ranks do not meet each other's messages.
TEST_P(Conformance, SeparatesCommunicators) {
  onRanks(4, [&](Transport &transport, std::uint64_t rank) {
    std::vector<std::uint64_t> pair{rank / 2 * 2, rank / 2 * 2 + 1};
    std::vector<std::uint64_t> column{rank % 2, rank % 2 + 2};
    auto rows = transport.connect("row" + std::to_string(rank / 2), pair);
    auto columns =
        transport.connect("column" + std::to_string(rank % 2), column);
    std::vector<float> a{static_cast<float>(rank)}, b = a;
    rows->allReduceSum(a);
    columns->allReduceSum(b);
    EXPECT_EQ(a[0], rank < 2 ? 1.0f : 5.0f);
    EXPECT_EQ(b[0], rank % 2 ? 4.0f : 2.0f);
  });
}

TEST_P(Conformance, RefusesStrangers) {
  onRanks(3, [&](Transport &transport, std::uint64_t rank) {
    std::vector<std::uint64_t> others{0, 1};
    if (rank == 2)
      expectError([&] { transport.connect("x", others); }, "is no member");
  });
}

/// Lets the other rank go, whatever happens to this one.
struct Release {
  ~Release() { go(); }
  std::function<void()> go;
};

// A wait for a peer that stays silent ends by its timeout.
TEST_P(Conformance, TimesOut) {
  options.timeout = std::chrono::milliseconds(300);
  endsBadly = true;
  onRanks(2, [&](Transport &transport, std::uint64_t rank) {
    // The peer is there, and silent, until this rank's waits have ended.
    std::optional<Release> release;
    if (rank == 0)
      release.emplace([&] { tell("done"); });
    auto pair = all(transport, 2);
    std::vector<int> data(1);
    if (rank == 1) {
      hear("done");
      return;
    }
    EXPECT_THROW(pair->receive(1, 0, bytes(data)), PeerError);
  });
}

// `abort` ends a wait in another thread, and every later one.
TEST_P(Conformance, AbortWakesEveryone) {
  endsBadly = true;
  onRanks(2, [&](Transport &transport, std::uint64_t rank) {
    // The peer is there, and silent, until this rank's waits have ended.
    std::optional<Release> release;
    if (rank == 0)
      release.emplace([&] { tell("done"); });
    auto pair = all(transport, 2);
    if (rank == 1) {
      hear("done");
      return;
    }
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      transport.abort("somebody gave up");
    });
    std::vector<int> data(1);
    expectError([&] { pair->receive(1, 0, bytes(data)); }, "somebody gave up");
    expectError([&] { pair->receive(1, 1, bytes(data)); }, "somebody gave up");
    killer.join();
  });
}

#if TOMBOLO_TEST_MPI
// Of four processes in a ring one is killed: mpirun ends the other three.
class MpiDeadPeer : public Conformance {};
INSTANTIATE_TEST_SUITE_P(Mpi, MpiDeadPeer, testing::Values("mpi"));

TEST_P(MpiDeadPeer, EndsEveryRank) {
  constexpr std::uint64_t kRanks = 4;
  if (const char *rank = std::getenv("OMPI_COMM_WORLD_RANK")) {
    options.timeout = std::chrono::minutes(5);
    auto transport = createMpiTransport(std::stoull(rank), options);
    auto ring = all(*transport, kRanks);
    std::vector<float> data(10000);
    for (int round = 0;; ++round) {
      ring->allReduceSum(data);
      std::string pid = std::to_string(getpid());
      if (round == 3)
        tell(std::string("pid/") + rank, {pid.begin(), pid.end()});
    }
  }
  test::TemporaryFolder folder;
  int status = 0;
  std::thread launched([&] { status = launch(kRanks, folder / "log"); });
  std::vector<pid_t> ranks;
  for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
    std::vector<char> pid = hear("pid/" + std::to_string(rank));
    ranks.push_back(std::stoi(std::string(pid.begin(), pid.end())));
  }
  kill(ranks[2], SIGKILL);
  launched.join();
  EXPECT_NE(status, 0);
  for (pid_t rank : ranks) {
    // One that nobody has waited for yet has ended, too.
    auto runs = [&] {
      std::ifstream in("/proc/" + std::to_string(rank) + "/stat");
      std::string stat;
      return std::getline(in, stat) && stat.find(") Z") == stat.npos;
    };
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (runs() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(runs()) << rank;
  }
}
#endif

} // namespace
