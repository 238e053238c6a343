//===- LaunchTest.cpp - what launchers say of a process -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/launch/Launch.h"

#include "Expect.h"

#include <map>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

using Set = std::map<std::string, std::string>;

std::optional<Launch> find(const Set &set,
                           const std::string &launcher = "auto") {
  return findLaunch(launcher,
                    [&](const std::string &name) -> std::optional<std::string> {
                      auto found = set.find(name);
                      if (found == set.end())
                        return std::nullopt;
                      return found->second;
                    });
}

const Set kSlurm = {{"SLURM_JOB_ID", "1234"},
                    {"SLURM_STEP_ID", "2"},
                    {"SLURM_PROCID", "5"},
                    {"SLURM_NTASKS", "8"},
                    {"SLURM_LOCALID", "1"},
                    {"SLURM_JOB_NODELIST", "a[1-9]"},
                    {"SLURM_STEP_NODELIST", "a[07-08,12],b1"}};
const Set kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "3"},
                      {"OMPI_COMM_WORLD_SIZE", "4"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
const Set kTorchrun = {{"RANK", "1"},
                       {"WORLD_SIZE", "2"},
                       {"LOCAL_RANK", "0"},
                       {"MASTER_ADDR", "node0"},
                       {"MASTER_PORT", "29500"}};
const Set kKubernetes = {{"JOB_COMPLETION_INDEX", "1"},
                         {"TOMBOLO_PROCESSES", "3"},
                         {"TOMBOLO_MEETING", "north-0.north:7100"}};

Set operator+(Set a, const Set &b) {
  for (const auto &[name, value] : b)
    a[name] = value;
  return a;
}
Set without(Set a, const std::string &name) {
  a.erase(name);
  return a;
}

void expectLaunch(const std::optional<Launch> &launch, const char *launcher,
                  std::uint64_t number, std::uint64_t count,
                  std::uint64_t local) {
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, launcher);
  EXPECT_EQ(launch->number, number);
  EXPECT_EQ(launch->count, count);
  EXPECT_EQ(launch->localNumber, local);
}

TEST(Launch, EachEnvironmentIsKnown) {
  EXPECT_FALSE(find({}));
  auto slurm = find(kSlurm);
  expectLaunch(slurm, "slurm", 5, 8, 1);
  EXPECT_EQ(slurm->meeting, "a07:29746"); // 20000 + (16 * 1234 + 2) % 10000
  EXPECT_FALSE(slurm->isOneMachine);
  auto torchrun = find(kTorchrun);
  expectLaunch(torchrun, "torchrun", 1, 2, 0);
  EXPECT_EQ(torchrun->meeting, "node0:29500");
  // Where torchrun itself listens there, the port behind it.
  EXPECT_EQ(
      find(kTorchrun + Set{{"TORCHELASTIC_USE_AGENT_STORE", "True"}})->meeting,
      "node0:29501");
  auto kubernetes = find(kKubernetes);
  expectLaunch(kubernetes, "kubernetes", 1, 3, 0);
  EXPECT_EQ(kubernetes->meeting, "north-0.north:7100");
}

// On one machine Open MPI's processes meet at loopback; it has no place for
// those of several.
TEST(Launch, OpenMpiMeetsOnOneMachine) {
  auto openMpi = find(kOpenMpi);
  expectLaunch(openMpi, "openmpi", 3, 4, 3);
  EXPECT_TRUE(openMpi->isOneMachine);
  EXPECT_TRUE(openMpi->meeting.starts_with("127.0.0.1:")) << openMpi->meeting;
  auto several = find(kOpenMpi + Set{{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(several->meeting, "");
}

// A step on one node, and the script of a job, which is no step.
TEST(Launch, SlurmStepsAndScripts) {
  auto step = find(kSlurm + Set{{"SLURM_STEP_NODELIST", "a07"}});
  EXPECT_TRUE(step->isOneMachine);
  EXPECT_EQ(step->meeting, "127.0.0.1:29746");
  EXPECT_FALSE(find(without(kSlurm, "SLURM_STEP_ID")));
}

TEST(Launch, HostLists) {
  EXPECT_EQ(firstHost("login"), "login");
  EXPECT_EQ(firstHost("a,b[1-2]"), "a");
  EXPECT_EQ(firstHost("gpu[07-09,12],b"), "gpu07");
  EXPECT_EQ(firstHost("rack[3,5]-n[00-17]-ib"), "rack3-n00-ib");
  expectError([] { firstHost("gpu[1-"); }, "expected a list of hosts");
  expectError([] { firstHost("gpu[]"); }, "expected a list of hosts");
}

// mpirun or torchrun in a job of Slurm or a pod: they have started this one.
TEST(Launch, TheInnermostCounts) {
  expectLaunch(find(kSlurm + kOpenMpi), "openmpi", 3, 4, 3);
  expectLaunch(find(kKubernetes + kTorchrun), "torchrun", 1, 2, 0);
  expectLaunch(find(kSlurm + kOpenMpi, "slurm"), "slurm", 5, 8, 1);
  EXPECT_FALSE(find(kSlurm + kOpenMpi, "none"));
}

TEST(Launch, RefusesWhatCannotBe) {
  expectError([] { find(without(kTorchrun, "WORLD_SIZE")); },
              "the environment of torchrun lacks WORLD_SIZE");
  expectError([] { find(without(kSlurm, "SLURM_PROCID")); },
              "the environment of slurm lacks SLURM_PROCID");
  expectError([] { find(without(kKubernetes, "TOMBOLO_MEETING")); },
              "lacks TOMBOLO_MEETING");
  expectError(
      [] {
        find(kTorchrun + Set{{"RANK", "one"}});
      },
      "RANK: expected a number of at most 1099511627776, got 'one'");
  expectError([] { find(kTorchrun + Set{{"RANK", "-1"}}); }, "got '-1'");
  expectError(
      [] {
        find(kTorchrun + Set{{"RANK", "2"}});
      },
      "expected a process number below the number of processes, 2, "
      "got 2");
  expectError(
      [] {
        find(kTorchrun + Set{{"RANK", "99999999999999999999"}});
      },
      "got '99999999999999999999'");
  expectError([] { find(kTorchrun + kOpenMpi); },
              "for torchrun this is process 1 of 2, for openmpi process 3 of "
              "4; say which one counts: --launcher torchrun");
  expectError([] { find(kTorchrun, "slurm"); },
              "--launcher slurm: expected to be started by it");
}

TEST(Launch, Addresses) {
  using std::chrono::milliseconds;
  EXPECT_EQ(resolveAddress("10.1.2.3:70", milliseconds(0)), "10.1.2.3:70");
  EXPECT_EQ(resolveAddress("localhost:70", milliseconds(0)), "127.0.0.1:70");
  expectError([] { resolveAddress("nobody.invalid:70", milliseconds(0)); },
              "cannot find the host of 'nobody.invalid:70'");
  expectError([] { resolveAddress("7000", milliseconds(0)); },
              "expected an address like");
  EXPECT_EQ(addressTowards("127.0.0.1:70"), "127.0.0.1");
}

} // namespace
