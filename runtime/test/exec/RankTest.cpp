//===- RankTest.cpp - ranks train what the plan says ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TinyRun.h"

#include "Expect.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"

#include "tombolo/runtime/Error.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

TinyModel shaped(std::uint32_t stages, std::uint64_t replicas,
                 std::uint64_t microbatch = 1) {
  TinyModel model;
  model.stages = stages;
  model.replicas = replicas;
  model.microbatch = microbatch;
  model.batch = 12;
  return model;
}

void expectClose(const std::vector<double> &got,
                 const std::vector<double> &expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 1e-5 * std::abs(expected[i]))
        << "step " << i;
}

struct Layout {
  std::uint32_t stages;
  std::uint64_t replicas;
  std::uint64_t microbatch;
  std::uint64_t tensorParallel = 1;
  bool shardedOptimizer = false;
  double momentum = 0;

  TinyModel model() const {
    TinyModel model = shaped(stages, replicas, microbatch);
    model.tensorParallel = tensorParallel;
    model.shardedOptimizer = shardedOptimizer;
    model.momentum = momentum;
    if (momentum > 0)
      model.learningRate = 0.1;
    return model;
  }
  std::string name() const {
    return "pp" + std::to_string(stages) + "dp" + std::to_string(replicas) +
           "mb" + std::to_string(microbatch) +
           (tensorParallel > 1 ? "tp" + std::to_string(tensorParallel) : "") +
           (shardedOptimizer ? "sharded" : "") +
           (momentum > 0 ? "momentum" : "");
  }
};
class EveryLayout : public testing::TestWithParam<Layout> {};

// One rank, data parallel, tensor parallel, a pipeline, a sharded optimizer,
// and mixtures: the losses are those of plain loops over all samples, and they
// fall.
TEST_P(EveryLayout, TrainsAsPlainLoopsDo) {
  TinyRun run(GetParam().model());
  std::vector<double> losses = run.train(20);
  expectClose(losses, run.reference(20));
  EXPECT_LT(losses.back(), 0.9 * losses.front());
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, EveryLayout,
    testing::Values(Layout{1, 1, 1}, Layout{1, 1, 3}, Layout{1, 2, 1},
                    Layout{1, 3, 2}, Layout{2, 1, 1}, Layout{2, 1, 4},
                    Layout{2, 2, 1}, Layout{2, 3, 2}, Layout{1, 1, 1, 2},
                    Layout{1, 1, 3, 4}, Layout{1, 2, 1, 2},
                    Layout{1, 2, 1, 1, true}, Layout{1, 3, 2, 1, true, 0.9},
                    Layout{2, 2, 1, 1, true, 0.9},
                    Layout{1, 2, 2, 4, true, 0.9}),
    [](const auto &info) { return info.param.name(); });

// A stage of two ranks per replica and one of one: halves go over, and the
// whole comes back to both.
TEST(Rank, BridgesUnequalDegrees) {
  TinyRun run(shaped(2, 2));
  widenFirstStage(run.plan);
  expectClose(run.train(20), run.reference(20));
}

// Stopped under one layout and resumed under any other, with the optimizer's
// state: parts of tensor-parallel ranks and of replicas are put together.
TEST(Rank, ResumesUnderAnyLayout) {
  std::vector<Layout> layouts{{1, 1, 1, 1, false, 0.9},
                              {1, 1, 2, 2, false, 0.9},
                              {1, 2, 1, 1, true, 0.9},
                              {1, 3, 1, 2, true, 0.9},
                              {1, 2, 2, 4, true, 0.9}};
  std::vector<double> expected = TinyRun(layouts[0].model()).reference(8);
  for (const Layout &before : layouts) {
    TinyRun stopped(before.model());
    expectClose(stopped.train(4, stopped.folder / "c"),
                {expected.begin(), expected.begin() + 4});
    for (const Layout &after : layouts) {
      SCOPED_TRACE(before.name() + " to " + after.name());
      TinyRun resumed(after.model());
      std::filesystem::copy(stopped.folder / "c", resumed.folder / "c",
                            std::filesystem::copy_options::recursive);
      expectClose(resumed.train(8, resumed.folder / "c", true),
                  {expected.begin() + 4, expected.end()});
    }
  }
}

// Each tensor-parallel rank draws what one rank would draw there.
TEST(Rank, DrawsTheSameUnderAnyLayout) {
  std::vector<std::vector<double>> losses;
  for (Layout layout :
       {Layout{1, 1, 1}, Layout{1, 1, 1, 2}, Layout{1, 2, 1, 4, true}}) {
    TinyRun run(layout.model());
    run.dropWeights();
    run.config.seed = 7;
    losses.push_back(run.train(5));
    expectClose(losses.back(), losses.front());
  }
}

// The same run gives the same bits.
TEST(Rank, RepeatsToTheBit) {
  TinyRun run(shaped(2, 2));
  EXPECT_EQ(run.train(10), run.train(10));
}

TEST(Rank, WritesTheTrainedParameters) {
  TinyRun run(shaped(2, 2));
  run.train(15, run.folder / "c");
  run.reference(15);
  Weights saved =
      readCheckpoint(run.plan, latestCheckpoint(run.folder / "c", 0));
  ASSERT_EQ(saved.size(), run.trained.size());
  for (const auto &[name, expected] : run.trained)
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(saved[name][i], expected[i], 1e-4) << name << " " << i;
}

// Stopped and resumed is as never stopped, to the bit; also under another
// layout of the same model, then within rounding.
TEST(Rank, ResumesWhereItStopped) {
  TinyRun run(shaped(2, 2));
  std::vector<double> whole = run.train(12);
  std::vector<double> first = run.train(7, run.folder / "c");
  std::vector<double> rest = run.train(12, run.folder / "c", true);
  first.insert(first.end(), rest.begin(), rest.end());
  EXPECT_EQ(first, whole);

  TinyRun other(shaped(2, 3, 2));
  std::filesystem::copy(run.folder / "c", other.folder / "c",
                        std::filesystem::copy_options::recursive);
  std::vector<double> more = other.train(15, other.folder / "c", true);
  std::vector<double> expected = run.reference(15);
  expectClose(more, {expected.begin() + 12, expected.end()});
}

// Under a plan of another batch the data goes on where it was, and so does what
// comes after a second stop.
TEST(Rank, ResumesWithAnotherBatchBehindTheSamplesUsed) {
  TinyRun run(shaped(2, 2));
  run.train(5, run.folder / "c");
  TinyModel larger = shaped(2, 2, 2);
  larger.batch = 16;
  TinyRun other(larger);
  std::filesystem::copy(run.folder / "c", other.folder / "c",
                        std::filesystem::copy_options::recursive);
  std::vector<double> expected = run.reference(11, 5, 16);
  expectClose(other.train(8, other.folder / "c", true),
              {expected.begin() + 5, expected.begin() + 8});
  expectClose(other.train(11, other.folder / "c", true),
              {expected.begin() + 8, expected.end()});
}

TEST(Rank, RefusesToResumeBeyondItsSteps) {
  TinyRun run(shaped(1, 1));
  run.train(5, run.folder / "c");
  expectError([&] { run.train(4, run.folder / "c", true); },
              "is of step 5, beyond --steps 4");
  EXPECT_TRUE(run.train(5, run.folder / "c", true).empty());
}

// A number of steps between checkpoints that no run reaches means the end.
TEST(Rank, SavesAtTheEndWithAnyInterval) {
  for (std::uint64_t every : {std::uint64_t{4}, ~std::uint64_t{0}}) {
    TinyRun run(shaped(1, 1));
    run.train(4, run.folder / "c", false, every);
    EXPECT_EQ(latestCheckpoint(run.folder / "c", 0),
              checkpointFolder(run.folder / "c", 0, 4));
  }
}

/// A latch with a limit, so that a test that fails ends.
class Gate {
public:
  void open() {
    std::lock_guard lock(mutex);
    isOpen = true;
    opened.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex);
    return opened.wait_for(lock, std::chrono::seconds(60),
                           [&] { return isOpen; });
  }

private:
  std::mutex mutex;
  std::condition_variable opened;
  bool isOpen = false;
};

// However long the disk takes: the next steps are done before a shard of the
// snapshot is begun, and it holds what was there at its step.
TEST(Rank, TrainsOnWhileASnapshotIsWritten) {
  TinyRun run(shaped(2, 2));
  std::vector<double> plain = run.train(8);
  Gate later;
  run.stepped = [&](std::uint64_t step) {
    if (step == 6) // the third one after the snapshot
      later.open();
  };
  std::atomic<int> inTime = 0;
  run.writing = [&](std::uint64_t, std::uint64_t step) {
    if (step == 4)
      inTime += later.wait();
  };
  EXPECT_EQ(run.train(8, run.folder / "c", false, 4), plain);
  EXPECT_EQ(inTime, 4) << "ranks";

  std::filesystem::remove_all(checkpointFolder(run.folder / "c", 0, 8));
  run.writing = nullptr;
  EXPECT_EQ(run.train(8, run.folder / "c", true),
            std::vector<double>(plain.begin() + 4, plain.end()));
}

// A snapshot that is due while the one before is being written waits for it:
// every generation comes, in order, and is told once.
TEST(Rank, WaitsForTheSnapshotBefore) {
  TinyRun run(shaped(1, 2));
  run.writing = [](std::uint64_t rank, std::uint64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * rank));
  };
  std::vector<std::uint64_t> told;
  double stalled = 0;
  run.checkpoint = [&](std::uint64_t rank, const CheckpointNews &news) {
    EXPECT_EQ(rank, 0u);
    EXPECT_EQ(news.kind, CheckpointNews::Kind::Whole) << news.message;
    EXPECT_GT(news.seconds, 0);
    EXPECT_EQ(news.folder, checkpointFolder(run.folder / "c", 0, news.step));
    told.push_back(news.step);
    stalled += news.stalledSeconds;
  };
  EXPECT_EQ(run.train(5, run.folder / "c", false, 1), run.train(5));
  EXPECT_EQ(told, (std::vector<std::uint64_t>{1, 2, 3, 4, 5}));
  EXPECT_GT(stalled, 0);
}

// With every layout and optimizer state: training has the same bits, and so has
// what goes on from a snapshot of it.
TEST(Rank, SnapshotsLeaveNoTrace) {
  for (Layout layout :
       {Layout{2, 2, 1, 1, true, 0.9}, Layout{1, 2, 2, 4, true, 0.9},
        Layout{1, 1, 2, 2, false, 0.9}}) {
    SCOPED_TRACE(layout.name());
    TinyRun run(layout.model());
    std::vector<double> plain = run.train(9);
    EXPECT_EQ(run.train(9, run.folder / "c", false, 2), plain);
    std::filesystem::remove_all(checkpointFolder(run.folder / "c", 0, 9));
    EXPECT_EQ(run.train(9, run.folder / "c", true),
              std::vector<double>(plain.begin() + 8, plain.end()));
  }
}

// What one rank cannot write is told by that rank alone; training goes on, the
// generation before stays, and the next one is written.
TEST(Rank, TrainsOnWhereASnapshotCannotBeWritten) {
  TinyRun run(shaped(1, 2));
  run.writing = [&](std::uint64_t rank, std::uint64_t step) {
    if (rank == 1 && (step == 4 || step == 6))
      throw Error("'shard': no space");
    if (step == 8 || (step == 6 && rank == 0)) // settled: 4 did not come
      EXPECT_EQ(latestCheckpoint(run.folder / "c", 0),
                checkpointFolder(run.folder / "c", 0, 2));
  };
  std::mutex mutex;
  std::vector<std::uint64_t> whole;
  std::vector<std::string> failed;
  run.checkpoint = [&](std::uint64_t rank, const CheckpointNews &news) {
    std::lock_guard lock(mutex);
    if (news.kind == CheckpointNews::Kind::Whole)
      whole.push_back(news.step);
    else
      failed.push_back(std::to_string(rank) + " at " +
                       std::to_string(news.step) + ": " + news.message);
  };
  EXPECT_EQ(run.train(9, run.folder / "c", false, 2), run.train(9));
  EXPECT_EQ(whole, (std::vector<std::uint64_t>{2, 8, 9}));
  EXPECT_EQ(failed, (std::vector<std::string>{"1 at 4: 'shard': no space",
                                              "1 at 6: 'shard': no space"}));
  // The last one is what the run is for.
  run.writing = [&](std::uint64_t rank, std::uint64_t step) {
    if (rank == 1 && step == 12)
      throw Error("'shard': no space");
  };
  expectError([&] { run.train(12, run.folder / "c", true); },
              "'shard': no space");
}

// A copy of each generation lies in a second folder, and goes when the first
// ones do; a copy that cannot be written is told, and nothing more.
TEST(Rank, KeepsACopyOfEachGeneration) {
  TinyRun run(shaped(1, 2));
  run.config.checkpointCopy = run.folder / "copy";
  std::vector<std::uint64_t> whole, copied;
  run.checkpoint = [&](std::uint64_t, const CheckpointNews &news) {
    (news.kind == CheckpointNews::Kind::Whole ? whole : copied)
        .push_back(news.step);
  };
  run.train(7, run.folder / "c", false, 3);
  EXPECT_EQ(whole, (std::vector<std::uint64_t>{3, 6, 7}));
  EXPECT_EQ(copied, whole);
  for (std::uint64_t step : {6, 7}) {
    std::string one = checkpointFolder(run.folder / "c", 0, step);
    std::string other = checkpointFolder(run.folder / "copy", 0, step);
    EXPECT_NO_THROW(Checkpoint(other).check());
    EXPECT_EQ(readCheckpoint(run.plan, one), readCheckpoint(run.plan, other));
  }
  EXPECT_FALSE(
      std::filesystem::exists(checkpointFolder(run.folder / "copy", 0, 3)));
  std::filesystem::remove_all(run.folder / "c");
  expectError([&] { run.train(8, run.folder / "c"); },
              "copy/island-0/step-7': the folder already holds");

  std::filesystem::remove_all(run.folder / "copy");
  writeFile(run.folder / "copy", "no folder");
  std::atomic<int> failed = 0;
  run.checkpoint = [&](std::uint64_t, const CheckpointNews &news) {
    failed += news.kind == CheckpointNews::Kind::Failed &&
              news.message.find("copy") != std::string::npos;
  };
  run.train(5, run.folder / "c", false, 4);
  EXPECT_EQ(failed, 4) << "two ranks, two generations";
  EXPECT_EQ(latestCheckpoint(run.folder / "c", 0),
            checkpointFolder(run.folder / "c", 0, 5));
}

// What a run that died while it saved has left goes when the next one saves.
TEST(Rank, RemovesWhatAnotherLeftUnfinished) {
  TinyRun run(shaped(1, 1));
  std::string left = checkpointFolder(run.folder / "c", 0, 3);
  std::filesystem::create_directories(left);
  writeFile(left + "/rank-7.safetensors", "half");
  run.train(4, run.folder / "c");
  EXPECT_FALSE(std::filesystem::exists(left));
}

/// A run whose first update is so large that the second step's logits overflow.
TinyRun diverging(const TinyModel &model) {
  TinyModel wild = model;
  wild.learningRate = 1e38;
  return TinyRun(wild);
}

// A loss that is no number ends the run at once, whatever the layout; what is
// saved is from before. Nothing is named that was not asked for.
TEST(Rank, EndsWhenTheLossIsNotFinite) {
  for (Layout layout : {Layout{1, 1, 1}, Layout{2, 2, 1}, Layout{1, 2, 1, 2}}) {
    TinyRun run = diverging(layout.model());
    std::string message;
    try {
      run.train(9, run.folder / "c", false, 1);
    } catch (const Error &error) {
      EXPECT_EQ(error.exitStatus(), 3);
      message = error.what();
    }
    EXPECT_NE(message.find(": the loss is "), message.npos) << message;
    EXPECT_NE(message.find("; give --check-numerics"), message.npos) << message;
    auto at = static_cast<std::uint64_t>(
        std::stoi(message.substr(message.find("step ") + 5)));
    EXPECT_GT(at, 0u);
    // The newest was being written when training failed.
    std::string saved = latestCheckpoint(run.folder / "c", 0);
    EXPECT_TRUE(
        saved == checkpointFolder(run.folder / "c", 0, at) ||
        saved == (at == 1 ? "" : checkpointFolder(run.folder / "c", 0, at - 1)))
        << saved;
  }
}

// Asked, the rank that made it so names the op, where it first was.
TEST(Rank, NamesTheOpThatMadeTheLossNotFinite) {
  TinyRun late = diverging(shaped(1, 1, 2));
  late.config.checkNumerics = true;
  expectError([&] { late.train(9); },
              "step 4: the loss is inf: the first op to make it so was in step "
              "4, microbatch 4 of this rank: segment 'loss', op 0 "
              "(cross_entropy): output 0 (value 2 in argument 'stats', f32[1]) "
              "is inf at element 0");
  // The second stage divides by a weight of zero what the first sends.
  TinyRun first(shaped(2, 1));
  first.plan.mutable_segments(6)->mutable_ops(0)->set_opcode(OPCODE_DIV);
  first.setWeight("norm.weight", 3, 0);
  first.config.checkNumerics = true;
  expectError([&] { first.train(9); },
              "step 0: the loss is nan: the first op to make it so was in step "
              "0, microbatch 0 of this rank: segment 'scale', op 0 (div): "
              "output 0 (value 2 in argument 'y', f32[4, 8]) is ");
  // What is loaded is nobody's fault.
  TinyRun given(shaped(1, 1));
  given.setWeight("table", 0, NAN);
  given.config.checkNumerics = true;
  expectError([&] { given.train(9); },
              "step 0: the loss is nan: no op made it so of finite operands");
}

TEST(Rank, KeepsTwoGenerations) {
  TinyRun run(shaped(1, 1));
  run.train(10, run.folder / "c", false, 3);
  std::vector<std::string> names;
  for (const auto &entry :
       std::filesystem::directory_iterator(run.folder / "c/island-0"))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"step-10", "step-9"}));
  expectError([&] { run.train(10, run.folder / "c"); }, "already holds");
}

// --init draws from seed, name and element alone, so every layout starts alike.
TEST(Rank, DrawsTheSameInEveryLayout) {
  TinyRun one(shaped(2, 1)), two(shaped(2, 2)), three(shaped(2, 1));
  for (TinyRun *run : {&one, &two, &three})
    run->dropWeights();
  expectError([&] { one.train(1); }, "--init SEED");
  one.config.seed = two.config.seed = 7;
  three.config.seed = 8;
  expectClose(one.train(5), two.train(5));
  EXPECT_NE(one.train(1), three.train(1));
}

TEST(Rank, DrawsNothingThatTheModelHas) {
  TinyRun plain(shaped(2, 1)), seeded(shaped(2, 1));
  seeded.config.seed = 7;
  EXPECT_EQ(plain.train(2), seeded.train(2));
}

TEST(Rank, RefusesWrongInput) {
  TinyRun run(shaped(2, 1));
  Plan good = run.plan;
  run.plan.set_model_hash(std::string(32, 'x'));
  expectError([&] { run.train(1); }, "expected the model the plan was made");
  run.plan = good;
  run.config.data.path = run.folder / "nothing";
  expectError([&] { run.train(1); }, "cannot open");
  writeFile(run.folder / "short", "12345678");
  run.config.data.path = run.folder / "short";
  expectError([&] { run.train(1); }, "expected at least 5 tokens");
  writeFile(run.folder / "big", std::string("\1\0\2\0\3\0\7\0\10\0\1\0", 12));
  run.config.data.path = run.folder / "big";
  expectError([&] { run.train(1); },
              "token 8 at position 4 is not below the vocabulary of 8");
  run.config.data.path = run.data;
  expectError([&] { run.train(1, run.folder / "c", true); },
              "holds no checkpoint");
  writeFile(run.folder / "file", "x");
  expectError([&] { run.train(1, run.folder / "file"); }, "cannot create");
}

// When one rank fails all end, and the cause is what is reported.
TEST(Rank, FailureEndsTheWholeIsland) {
  TinyRun run(shaped(2, 2));
  // Labels beyond the table make only the second stage's kernel fail, at run
  // time: the plan's vocabulary is a lie here.
  run.plan.mutable_model()->set_vocabulary(1000);
  std::string bytes;
  for (int i = 0; i < 100; ++i)
    bytes += std::string(i > 60 ? "\xff\0" : "\1\0", 2);
  writeFile(run.data, bytes);
  try {
    run.train(50);
    FAIL() << "no error";
  } catch (const PeerError &error) {
    FAIL() << "only an echo: " << error.what();
  } catch (const Error &error) {
    SUCCEED();
  }
}

} // namespace
