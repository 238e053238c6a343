//===- ChipProfileTest.cpp - chips with a profile -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Topology.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

using namespace tombolo;

namespace {

const char kOneSite[] = "chips:\n"
                      "  - name: a\n"
                      "    tflops: {f32: 1}\n"
                      "    memory_gib: 8\n"
                      "    memory_gbytes_per_second: 100\n"
                      "    profile: {file: a.yaml}\n"
                      "sites:\n"
                      "  - name: here\n"
                      "    pools: [{name: p, chip: a, nodes: 1, "
                      "chips_per_node: 4}]\n";

const char kProfile[] =
    "tombolo_profile: 1\n"
    "chip: a\n"
    "fit: {precision: f32, runs: 9, shapes: 2, error_percent: 3.5}\n"
    "efficiency: {matmul: 0.5, memory: 0.25, launch_us: 3, corrections: "
    "[{tensor_parallel: 2, gflops: 4, mbytes: 0.5, ratio: 0.75}]}\n"
    "intra_node: {gbits_per_second: 40, latency_us: 7}\n";

class ChipProfile : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "profileXXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
  }
  void TearDown() override {
    std::remove((folder + "/a.yaml").c_str());
    std::remove((folder + "/sites.yaml").c_str());
    std::remove(folder.c_str());
  }
  std::optional<TopologyFile> read(const std::string &profile) {
    std::ofstream(folder + "/a.yaml") << profile;
    std::ofstream(folder + "/sites.yaml") << kOneSite;
    llvm::raw_string_ostream stream(errors);
    errors.clear();
    return readTopologyFile(folder + "/sites.yaml", stream);
  }
  std::string folder, errors;
};

/// A profile with one piece replaced.
std::string with(const std::string &piece, const std::string &other) {
  std::string text = kProfile;
  size_t at = text.find(piece);
  EXPECT_NE(at, std::string::npos) << piece;
  return text.replace(at, piece.size(), other);
}

} // namespace

TEST_F(ChipProfile, GivesConstantsAndWires) {
  auto sites = read(kProfile);
  ASSERT_TRUE(sites) << errors;
  const planning::Chip &chip = sites->topology.chips[0];
  EXPECT_EQ(chip.matmulEfficiency, 0.5);
  EXPECT_EQ(chip.memoryEfficiency, 0.25);
  EXPECT_EQ(chip.overheads.launchUs, 3);
  EXPECT_EQ(chip.overheads.exposedReduction, 1);
  ASSERT_EQ(chip.overheads.corrections.size(), 1u);
  EXPECT_EQ(chip.overheads.corrections[0].ratio, 0.75);
  ASSERT_TRUE(sites->topology.sites[0].pools[0].intraNode);
  EXPECT_EQ(sites->topology.sites[0].pools[0].intraNode->gbitsPerSecond, 40);
}

TEST_F(ChipProfile, NamesWhatIsWrong) {
  const std::tuple<const char *, const char *, const char *> cases[] = {
      {"chip: a\n", "chip: b\n",
       "a.yaml:2:7: error: the profile is of chip 'b', expected 'a'"},
      {"profile: 1", "profile: 2", "expected version 1, got 2"},
      {"launch_us", "launch", "unknown key 'launch'"},
      {"gbits_per_second: 40, ", "", "missing required key"},
      {"latency_us: 7", "latency_us: -7", "a latency that is not negative"},
      {"matmul: 0.5", "matmul: 5", "efficiency 'matmul' must be above 0"},
      {"launch_us: 3", "launch_us: -3", "'launch_us' must not be negative"},
      {"ratio: 0.75", "ratio: 0", "ratio from 0.1 to 10, got ratio 0"},
  };
  for (auto [piece, other, expected] : cases) {
    EXPECT_FALSE(read(with(piece, other)));
    EXPECT_NE(errors.find(expected), std::string::npos)
        << "expected " << expected << "\ngot " << errors;
  }
}
