//===- DurableStateTest.cpp - a server that comes back --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "Outer.h"
#include "Temporary.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/server/DurableState.h"

#include <filesystem>
#include <fstream>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// Real files, of which at times none can be created.
class ScarceStorage final : public Storage {
public:
  explicit ScarceStorage(const std::string &folder)
      : real(openStorage(folder)) {}

  std::string path(const std::string &name) const override {
    return real->path(name);
  }
  std::vector<std::string> names() const override { return real->names(); }
  std::unique_ptr<Writer> create(const std::string &name) override {
    if (name.starts_with(none))
      throw StorageError("'", name, "': cannot create: Too many open files");
    return real->create(name);
  }
  std::unique_ptr<Reader> open(const std::string &name) const override {
    return real->open(name);
  }
  void sync(const std::string &name) override { real->sync(name); }
  void rename(const std::string &from, const std::string &to) override {
    real->rename(from, to);
  }
  void remove(const std::string &name) override { real->remove(name); }
  void syncNames() override { real->syncNames(); }

  std::string none = "-"; ///< of names that begin so

private:
  std::unique_ptr<Storage> real;
};

/// A server with two islands of one rank whose state lies in real files.
class Durable : public testing::Test {
protected:
  Durable() {
    config.islands = 2;
    config.quorum = 2;
    config.compression = Compression::Int8;
    config.tensors = {{"b", 300, 0}, {"a", 20, 0}};
    options.contract = Contract("plan");
    options.runId = "run";
    options.onDamage = [this](const std::string &message) {
      damages.push_back(message);
    };
  }

  void start() {
    server.reset(); // it holds the lock
    auto storage = std::make_shared<ScarceStorage>(state());
    scarce = storage.get();
    server = std::make_unique<DurableState>(config, options, storage, 0.0);
  }
  std::string state() const { return folder / "state"; }
  std::string file(const std::string &name) const {
    return state() + "/" + name;
  }

  void begin() {
    start();
    for (RankPart &part :
         cutTensors(randomTensors(config, random, 1), config, 1, random)) {
      part.part.content = PushContent::StartParameters;
      close(server->push(part.part, encoded(part.part, Compression::None, part.data), 0).closing);
    }
  }
  PushResult push(std::uint32_t island, std::uint64_t round,
                  std::uint64_t incarnation = 0) {
    std::mt19937 own(island + 10 * round);
    RankPart part =
        cut(randomPush(config, island, round, own), config, 1, island).at(0);
    part.part.incarnation = incarnation;
    part.part.tokens = part.part.innerSteps = 5;
    PushResult result = server->push(
        part.part, encoded(part.part, config.compression, part.data), 0);
    close(result.closing);
    return result;
  }
  void close(const std::shared_ptr<RoundClosing> &closing) {
    if (!closing)
      return;
    closing->compute();
    server->logVersion(*closing);
    DurableState::sync(server->mark());
    server->publish(*closing);
  }
  void rounds(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t round = from; round < to; ++round)
      for (std::uint32_t island : {0, 1})
        ASSERT_EQ(push(island, round).outcome, Outcome::Accepted);
  }
  void snapshot() {
    DurableState::Snapshot taken = server->beginSnapshot();
    server->writeSnapshot(taken);
  }
  std::string hash() const { return server->state().current(0)->hash; }

  void flip(const std::string &path, std::int64_t at) {
    std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at, at < 0 ? std::ios::end : std::ios::beg);
    auto where = stream.tellg();
    char byte = static_cast<char>(stream.get());
    stream.seekp(where);
    stream.put(static_cast<char>(byte ^ 4));
    ASSERT_TRUE(stream.good());
  }

  test::TemporaryFolder folder;
  OuterConfig config;
  DurableOptions options;
  std::mt19937 random{5};
  std::vector<std::string> damages;
  ScarceStorage *scarce = nullptr; ///< the server's
  std::unique_ptr<DurableState> server;
};

/// All islands have been told one end, or none; another run is not ended by it.
TEST_F(Durable, AnEndThatWasToldStays) {
  start();
  server->stop();
  EXPECT_EQ(server->state().stopRound(), 0u) << "nothing has begun";
  server.reset();
  std::filesystem::remove_all(state());
  begin();
  rounds(0, 3);
  server->stop();
  EXPECT_EQ(server->state().stopRound(), 5u);
  rounds(3, 4);
  server->stop();
  start();
  EXPECT_EQ(server->state().stopRound(), 5u) << "from the log";
  snapshot();
  start();
  EXPECT_EQ(server->state().stopRound(), 5u) << "from the snapshot";
  options.runId = "another run";
  start();
  EXPECT_EQ(server->state().stopRound(), 0u);
  EXPECT_EQ(server->state().current(0)->number, 4u);
}

/// From the log alone, and from a snapshot and what came behind it; pushes of
/// the open round included.
TEST_F(Durable, ComesBackAsItWas) {
  begin();
  rounds(0, 3);
  push(1, 3);
  std::string before = hash();
  start();
  EXPECT_EQ(hash(), before);
  ASSERT_EQ(server->newestEvents().size(), 1u);
  EXPECT_EQ(server->newestEvents()[0].version, 3u);
  EXPECT_EQ(push(1, 3).outcome, Outcome::Repeated);
  snapshot();
  EXPECT_EQ(hash(), before);
  push(0, 3); // closes round 3
  ASSERT_EQ(server->state().current(0)->number, 4u);
  before = hash();
  start();
  EXPECT_EQ(hash(), before);
  EXPECT_EQ(push(0, 2).outcome, Outcome::Repeated);
  EXPECT_EQ(server->receipt(0, 0, 3, 0).kind, Receipt::Kind::Member);
  rounds(4, 6);
  EXPECT_TRUE(damages.empty()) << damages[0];
  // A server that never fell has come to the same.
  std::string fallen = hash();
  std::filesystem::remove_all(state());
  random.seed(5);
  begin();
  rounds(0, 6);
  EXPECT_EQ(hash(), fallen);
}

/// What stands behind the last whole record was never acknowledged.
TEST_F(Durable, ATornEndIsNoDamage) {
  begin();
  rounds(0, 2);
  std::string before = hash();
  push(0, 2);
  server.reset();
  std::filesystem::resize_file(
      file("log-0"), std::filesystem::file_size(file("log-0")) - 20);
  start();
  EXPECT_EQ(hash(), before);
  ASSERT_EQ(damages.size(), 1u);
  EXPECT_NE(damages[0].find(file("log-0") + "': torn at byte"),
            std::string::npos)
      << damages[0];
  EXPECT_EQ(push(0, 2).outcome, Outcome::Accepted);
  start(); // the torn end is still there, and behind it another log
  EXPECT_EQ(push(0, 2).outcome, Outcome::Repeated);
}

/// No descriptor left: the old log goes on, and nothing is lost or ends.
TEST_F(Durable, ASnapshotWithoutAFileIsPutOff) {
  for (std::string none : {"log", "snapshot"}) {
    server.reset();
    std::filesystem::remove_all(state());
    damages.clear();
    begin();
    rounds(0, 2);
    scarce->none = none;
    snapshot();
    rounds(2, 3);
    snapshot();
    ASSERT_EQ(damages.size(), 1u) << "told once";
    EXPECT_NE(damages[0].find("Too many open files; the snapshot is put off"),
              std::string::npos)
        << damages[0];
    push(0, 3);
    std::string before = hash();
    start();
    EXPECT_EQ(hash(), before);
    EXPECT_EQ(push(0, 3).outcome, Outcome::Repeated);
    scarce->none = none;
    snapshot();
    scarce->none = "-";
    snapshot();
    EXPECT_TRUE(std::filesystem::exists(file("snapshot-2")));
    start();
    EXPECT_EQ(hash(), before);
    EXPECT_EQ(push(0, 3).outcome, Outcome::Repeated);
  }
}

TEST_F(Durable, ADamagedSnapshotIsPassedOver) {
  begin();
  rounds(0, 2);
  snapshot();
  rounds(2, 3);
  snapshot();
  rounds(3, 4);
  std::string before = hash();
  server.reset();
  ASSERT_TRUE(std::filesystem::exists(file("snapshot-1")));
  flip(file("snapshot-2"), 500);
  start();
  EXPECT_EQ(hash(), before);
  ASSERT_EQ(damages.size(), 1u);
  EXPECT_NE(damages[0].find(file("snapshot-2") + "': damaged"),
            std::string::npos)
      << damages[0];
  // The same with one that was cut off.
  snapshot();
  server.reset();
  std::filesystem::resize_file(file("snapshot-4"), 700);
  start();
  EXPECT_EQ(hash(), before);
  EXPECT_EQ(damages.size(), 2u);
}

/// Damage where something durable stood is never taken for the end.
TEST_F(Durable, ADamagedLogIsAnError) {
  begin();
  rounds(0, 3);
  server.reset();
  std::uint64_t middle = std::filesystem::file_size(file("log-0")) / 2;
  flip(file("log-0"), static_cast<std::int64_t>(middle));
  expectError([&] { start(); }, file("log-0") + "': damaged at byte");
}

TEST_F(Durable, AnotherPlansStateIsRefused) {
  options.contract = Contract("quorum: 2\nislands: 2\n");
  begin();
  rounds(0, 1);
  snapshot();
  options.contract = Contract("quorum: 1\nislands: 2\n");
  expectError([&] { start(); },
              "is of another plan; quorum: expected '1', got '2'");
  // Nothing has been touched.
  EXPECT_TRUE(damages.empty());
  options.contract = Contract("quorum: 2\nislands: 2\n");
  start();
  EXPECT_EQ(server->state().current(0)->number, 1u);
}

/// Who takes part, and what a removed island was told, from the log and from a
/// snapshot. Another run begins with all.
TEST_F(Durable, KeepsWhoTakesPart) {
  begin();
  rounds(0, 1);
  const Membership all{{false, false}, 2}, without{{false, true}, 1};
  ASSERT_EQ(server->state().membership(), all);
  ASSERT_EQ(server->state().objection(without), "");
  server->setMembership(without);
  EXPECT_EQ(push(1, 1).outcome, Outcome::Removed);
  // It was told with that: whatever comes, it is told no other.
  server->setMembership(all);
  for (int way : {0, 1}) {
    start();
    EXPECT_EQ(server->state().membership(), all);
    EXPECT_EQ(push(1, 1).outcome, Outcome::Removed);
    Receipt receipt = server->receipt(0, 1, 1, 0);
    EXPECT_EQ(receipt.kind, Receipt::Kind::Removed);
    EXPECT_FALSE(receipt.fresh);
    if (way == 0)
      snapshot();
  }
  server->setMembership(without);
  start();
  EXPECT_EQ(server->state().membership(), without);
  snapshot();
  start();
  EXPECT_EQ(server->state().membership(), without);
  EXPECT_EQ(push(0, 1).outcome, Outcome::Accepted);
  EXPECT_EQ(server->state().current(0)->number, 2u) << "alone";
  options.runId = "next";
  start();
  EXPECT_EQ(server->state().membership(), all);
}

TEST_F(Durable, TwoServersDoNotShareAFolder) {
  begin();
  expectError([&] { openStorage(state()); }, "another server has it open");
}

/// Who owns what is known behind a restart, from the log or a snapshot.
TEST_F(Durable, OwnersAreKept) {
  begin();
  rounds(0, 1);
  auto expectOwned = [&](const char *how) {
    SCOPED_TRACE(how);
    std::mt19937 own(5);
    RankPart part =
        cut(randomPush(config, 0, 1, own), config, 1, /*seed=*/7).at(0);
    EXPECT_EQ(server->state().admit(part.part).outcome, Outcome::Inconsistent);
    part.part.rank = 1;
    EXPECT_EQ(server->state().admit(part.part).outcome, Outcome::Overlap);
    part.part.incarnation = 1;
    EXPECT_EQ(server->state().admit(part.part).outcome, Outcome::Accepted);
  };
  expectOwned("at once");
  start();
  expectOwned("from the log");
  snapshot();
  start();
  expectOwned("from a snapshot");
  EXPECT_EQ(push(0, 1).outcome, Outcome::Accepted);
}

/// In another run islands count from incarnation 0 again, and whole pushes stay.
TEST_F(Durable, AnotherRunGoesOn) {
  begin();
  rounds(0, 1);
  push(0, 1, /*incarnation=*/3);
  start();
  EXPECT_EQ(server->state().nextIncarnation(0), 4u);
  EXPECT_EQ(server->state().nextIncarnation(1), 1u);
  snapshot();
  start();
  EXPECT_EQ(server->state().nextIncarnation(0), 4u);
  options.runId = "next";
  start();
  EXPECT_EQ(push(0, 1, 0).outcome, Outcome::Repeated);
  EXPECT_EQ(server->join(0, 1, 0).version, 1u);
  EXPECT_EQ(push(1, 1, 0).outcome, Outcome::Accepted);
  EXPECT_EQ(server->state().current(0)->number, 2u);
}

} // namespace
