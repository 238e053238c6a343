//===- MembersTest.cpp - sites that come, go, and come back otherwise -----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SitesFixture.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/plan/Parameters.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

class SiteMembers : public Sites {
protected:
  /// The parameter that an island has saved at the end, in "c".
  std::vector<float> savedTable(std::uint32_t island) {
    LocalParameter table;
    table.elements = table.localElements = kVocabulary * kVocabulary;
    table.dims = {kVocabulary, kVocabulary};
    Slice &whole = table.ranges.emplace_back();
    whole.set_length(table.elements);
    whole.set_count(1);
    whole.set_stride(table.elements);
    std::vector<float> values(table.elements);
    Checkpoint(checkpointFolder(folder / "c", island, kSteps))
        .read("table", table,
              [&](std::uint64_t first, std::span<const float> part) {
                std::copy(part.begin(), part.end(), values.begin() + first);
              });
    return values;
  }
};

/// A site is taken out of a running job: its ranks save and end, its command
/// too, and the others go on. Let in again it goes on from what it has saved,
/// and all come to the same end. Who may not ask is refused.
TEST_F(SiteMembers, ASiteIsRemovedAndAddedAgain) {
  plan.mutable_server()->set_quorum(2);
  savePlan();
  std::vector<std::string> saves = {"--checkpoint-dir", folder / "c"};
  std::vector<std::string> pauses =
      pausing({{0, 0, 0, 7},
               {1, 0, 0, 7},
               /*the second life:*/ {1, 0, 1, 16}});
  auto words = [&](const std::string &name, std::vector<std::string> more) {
    std::vector<std::string> all = site(name, std::move(more));
    all.insert(all.end(), saves.begin(), saves.end());
    all.insert(all.end(), pauses.begin(), pauses.end());
    return all;
  };
  auto admin = [&](std::vector<std::string> action,
                   const std::string &who = "north") {
    std::vector<std::string> all = {"admin", address("north")};
    all.insert(all.end(), action.begin(), action.end());
    all.insert(all.end(), {"--cert", folder / ("certs/" + who + ".crt"),
                           "--key", folder / ("certs/" + who + ".key"), "--ca",
                           folder / "certs/ca.crt", "--wait-seconds", "5"});
    std::size_t before = log().size();
    Outcome outcome = finish(start(std::move(all)));
    outcome.errors.erase(0, before); // what has come since
    return outcome;
  };
  pid_t north = start(words("north", {"--address", address("north"),
                                      "--state-dir", folder / "north"}));
  pid_t south = start(words("south", {"--server", address("north")}));
  EXPECT_TRUE(eventually([&] { return stopped().size() == 2; })) << log();

  Outcome told = admin({"remove", "north"}, "south");
  EXPECT_EQ(told.status, 1);
  EXPECT_NE(told.errors.find("admin: error: parameter server at " +
                             address("north") +
                             ": unknown sender: the certificate is that of "
                             "'south', which may not ask for this"),
            std::string::npos)
      << told.errors;
  EXPECT_NE(log().find("\"stranger_refused\""), std::string::npos) << log();
  told = admin({"remove", "south"});
  EXPECT_EQ(told.status, 1);
  EXPECT_NE(told.errors.find("impossible: a round needs 2 islands (the "
                             "quorum), and there would be 1; set another with "
                             "--quorum"),
            std::string::npos)
      << told.errors;
  told = admin({"remove", "south", "--quorum", "1"});
  EXPECT_EQ(told.status, 0) << told.errors;
  for (const char *line : {"island  sites  state\n", "0       north  l",
                           "1       south  removed\na round needs 1 island\n"})
    EXPECT_NE(told.errors.find(line), std::string::npos) << told.errors;
  for (pid_t rank : stopped())
    if (readAll("/proc/" + std::to_string(rank) + "/cmdline")
            .find(std::string("--island") + '\0' + "1" + '\0') !=
        std::string::npos)
      kill(rank, SIGCONT);
  EXPECT_EQ(finish(south).status, 0) << log();
  for (const char *event :
       {"{\"event\":\"island_removed\",\"island\":1,\"message\":\"asked for by "
        "site north\"",
        "{\"event\":\"island_left\",\"island\":1,\"step\":9"})
    EXPECT_NE(log().find(event), std::string::npos) << event << "\n" << log();
  EXPECT_TRUE(std::filesystem::exists(folder / "c/island-1/step-9")) << log();

  // It is not let in by itself.
  Outcome refused =
      finish(start(words("south", {"--server", address("north")})));
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.errors.find("(removed): island 1 has been removed from the "
                                "run; 'tombolo-run admin' with 'add' lets it "
                                "in again"),
            std::string::npos)
      << refused.errors;
  told = admin({"add", "south", "--json"});
  EXPECT_EQ(told.status, 0) << told.errors;
  EXPECT_NE(told.errors.find("\"state\":\"lost\""), std::string::npos)
      << told.errors;
  south = start(words("south", {"--server", address("north")}));
  EXPECT_TRUE(eventually([&] { return stopped().size() == 2; })) << log();
  for (pid_t rank : stopped())
    kill(rank, SIGCONT);
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_NE(log().find("\"event\":\"island_added\""), std::string::npos);
  EXPECT_NE(log().find("{\"event\":\"begin\",\"incarnation\":1,\"island\":1,"
                       "\"site\":\"south\",\"step\":9"),
            std::string::npos)
      << log();
  EXPECT_EQ(savedTable(0), savedTable(1)) << "all have the last version";
  expectNothingLeft();
}

/// The island of a site with the job's server leaves; the server stays.
TEST_F(SiteMembers, TheServerOfARemovedSiteStays) {
  addBackup();
  letOneGoOn();
  std::vector<std::string> pauses = pausing({{0, 0, 0, 7}, {1, 0, 0, 7}});
  pid_t north = start(replicated("north", pauses));
  pid_t south = start(replicated("south", pauses));
  pid_t east = startWitness();
  EXPECT_TRUE(eventually([&] { return stopped().size() == 2; })) << log();
  Outcome told = finish(
      start({"admin", address("north") + "," + address("south"), "remove",
             "north", "--cert", folder / "certs/south.crt", "--key",
             folder / "certs/south.key", "--ca", folder / "certs/ca.crt"}));
  EXPECT_EQ(told.status, 0) << told.errors;
  for (pid_t rank : stopped())
    kill(rank, SIGCONT);
  for (pid_t pid : {north, south, east})
    EXPECT_EQ(finish(pid).status, 0) << log();
  EXPECT_NE(log().find("\"event\":\"island_left\",\"island\":0"),
            std::string::npos)
      << log();
  EXPECT_EQ(log().find("\"event\":\"epoch\",\"site\":\"south\""),
            std::string::npos);
  EXPECT_EQ(lossesOf(log()).count({1, kSteps - 1}), 1u) << log();
  expectNothingLeft();
}

/// A site comes back with other strategies inside its island: other parts of a
/// parameter on a rank, then fewer ranks. Its checkpoint, and what of it the
/// others have not got yet, go on under each. A plan that is another towards
/// the other sites is refused, and it is said why.
TEST_F(SiteMembers, ASiteComesBackWithAnotherStrategy) {
  letOneGoOn();
  Plan kept = plan;
  auto planAs = [&](TinyModel tiny, const std::string &name) {
    planTwoIslands(tiny);
    letOneGoOn();
    writePlan(plan, folder / name);
    plan = kept;
    savePlan();
  };
  planAs({.tensorParallel = 2}, "cut.plan");
  planAs({}, "small.plan");
  const std::vector<std::string> saves = {"--checkpoint-dir", folder / "c",
                                          "--checkpoint-every", "4"};
  std::vector<std::string> pauses =
      pausing({{0, 0, 0, 20},
               {1, 0, 0, 10},
               {1, 0, 1, 19},
               /*the third life:*/ {1, 0, 2, 20}});
  auto words = [&](const std::string &name, const std::string &file) {
    std::vector<std::string> all = site(name, {"--server", address("north")});
    all[1] = folder / file;
    all.insert(all.end(), saves.begin(), saves.end());
    all.insert(all.end(), pauses.begin(), pauses.end());
    return all;
  };
  auto ranksOfSouth = [&] {
    std::size_t ranks = 0;
    for (pid_t pid : commands("rank"))
      ranks += readAll("/proc/" + std::to_string(pid) + "/cmdline")
                   .find(std::string("--island") + '\0' + "1" + '\0') !=
               std::string::npos;
    return ranks;
  };
  pid_t server = startServer();
  pid_t north = start(words("north", "p.plan"));
  pid_t south = start(words("south", "p.plan"));
  auto lose = [&] {
    kill(south, SIGKILL);
    finish(south);
    EXPECT_TRUE(eventually([&] { return ranksOfSouth() == 0; }));
  };
  auto areStopped = [&](std::size_t count) {
    EXPECT_TRUE(eventually([&] { return stopped().size() == count; })) << log();
  };
  EXPECT_TRUE(eventually([&] {
    return log().find("\"island\":1,\"path\"") != std::string::npos;
  })) << log();
  EXPECT_TRUE(eventually([&] { return stopped().size() == 1; })) << log();
  lose();
  areStopped(1); // the north, alone
  south = start(words("south", "cut.plan"));
  areStopped(2);
  EXPECT_EQ(ranksOfSouth(), 2u);
  lose();

  // With fewer ranks; first by mistake under another plan.
  plan.mutable_server()->set_deadline_seconds(61);
  writePlan(plan, folder / "other.plan");
  Outcome refused = finish(start(words("south", "other.plan")));
  EXPECT_EQ(refused.status, 1) << refused.errors;
  EXPECT_NE(refused.errors.find(
                "site: error: parameter server at " + address("north") +
                " refused the greeting of rank 0 of island 1 "
                "(wrong run): the plan is not one of this run "
                "(deadline in seconds: expected '60', got '61')"),
            std::string::npos)
      << refused.errors;
  EXPECT_NE(refused.errors.find("\"stranger_refused\""), std::string::npos);
  south = start(words("south", "small.plan"));
  areStopped(2);
  EXPECT_EQ(ranksOfSouth(), 1u);
  for (pid_t rank : stopped())
    kill(rank, SIGCONT);
  for (pid_t pid : {south, north, server})
    EXPECT_EQ(finish(pid).status, 0) << log();
  for (int life : {1, 2})
    EXPECT_NE(log().find("{\"event\":\"begin\",\"incarnation\":" +
                         std::to_string(life) +
                         ",\"island\":1,\"site\":\"south\",\"step\":8"),
              std::string::npos)
        << log();
  std::size_t last = log().rfind("\"outer_step\"");
  ASSERT_NE(last, std::string::npos);
  EXPECT_NE(log().find("\"islands\":[0,1]", last), std::string::npos) << log();
  EXPECT_EQ(savedTable(0), savedTable(1)) << "all have the last version";
  expectNothingLeft();
}

/// A site that was in no plan: the job ends, and goes on under a new plan with
/// the site. A server's state of the old plan is refused, and it is said why.
TEST_F(SiteMembers, ANewSiteJoinsUnderANewPlan) {
  Plan both = plan;
  plan.mutable_islands()->RemoveLast();
  plan.mutable_server()->set_quorum(1);
  plan.mutable_training()->set_global_batch(plan.islands(0).batch());
  savePlan();
  std::vector<std::string> words = arguments(kSteps / 2);
  words.insert(words.end(), {"--checkpoint-dir", folder / "north-saved"});
  ASSERT_EQ(run(words).status, 0) << log();
  pid_t old = startServer();
  EXPECT_TRUE(eventually(
      [&] { return std::filesystem::exists(folder / "server/log-0"); }));
  kill(old, SIGTERM);
  finish(old);
  plan = both;
  savePlan();
  std::filesystem::remove(folder / "stderr");
  Outcome refused = finish(startServer());
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.errors.find("/server/log-0': is of another plan; quorum: "
                                "expected '2', got '1'; islands: expected '2', "
                                "got '1'; island 1: expected 'at south, "),
            std::string::npos)
      << refused.errors;
  std::filesystem::remove(folder / "stderr");
  pid_t south = start(site("south", {"--server", address("north"),
                                     "--checkpoint-dir", folder / "saved"}));
  pid_t north =
      start(site("north", {"--address", address("north"), "--resume",
                           "--checkpoint-dir", folder / "north-saved"}));
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  Losses losses = lossesOf(log());
  EXPECT_EQ(losses.size(), kSteps) << log();
  EXPECT_EQ(losses.count({1, kSteps / 2}), 1u);
  expectNothingLeft();
}

} // namespace
