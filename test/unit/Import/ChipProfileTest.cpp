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
  std::optional<TopologyFile> read(const std::string &profile,
                                   const std::string &sites = kOneSite) {
    std::ofstream(folder + "/a.yaml") << profile;
    std::ofstream(folder + "/sites.yaml") << sites;
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

namespace {

/// As tombolo-profile writes it.
const char kMeasured[] =
    "tombolo_profile: 2\n"
    "chip: \"a\"\n"
    "machine: {processor: \"p\", cores: 2, memory_gib: 8, system: \"s\",\n"
    "          device: cpu, ranks: 2, threads: 1}\n"
    "peak: {tflops: {f32: 0.5}, memory_gbytes_per_second: 20}\n"
    "efficiency: {matmul: 0.5, memory: 0.8, kernel_us: 0.1, ring_rate: 0.4,\n"
    "             ring_latency: 2, message_part: 0.8}\n"
    "intra_node: {gbits_per_second: 16, latency_us: 30}\n"
    "links:\n"
    "  messages:\n"
    "    - {bytes: 1024, us: 30, quartiles_us: [29, 31], runs: 9}\n"
    "    - {bytes: 4096, us: 32, quartiles_us: [29, 35], runs: 9}\n"
    "  all_reduces:\n"
    "    - {bytes: 1024, us: 60, quartiles_us: [59, 61], runs: 9}\n"
    "  in_training:\n"
    "    - {messages: 2, bytes: 512, calls: 8, us: 70, quartiles_us: [65, "
    "81], runs: 9}\n"
    "models:\n"
    "  - hash: "
    "\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"\n"
    "    precision: f32\n"
    "    functions:\n"
    "      - block: \"b\"\n"
    "        function: forward\n"
    "        microbatch: 1\n"
    "        tensor_parallel: 2\n"
    "        parts:\n"
    "          - {us: 100, quartiles_us: [90, 110], runs: 9}\n"
    "          - {us: 50, quartiles_us: [49, 51], runs: 9}\n"
    "      - block: \"b\"\n"
    "        function: forward\n"
    "        microbatch: 2\n"
    "        tensor_parallel: 2\n"
    "        parts:\n"
    "          - {us: 300, quartiles_us: [290, 310], runs: 9}\n"
    "    updates:\n"
    "      - {optimizer: adamw, parameters: 1000, us: 2, quartiles_us: [1, 3], "
    "runs: 9}\n";

std::string replaced(std::string text, const std::string &piece,
                     const std::string &other) {
  size_t at = text.find(piece);
  EXPECT_NE(at, std::string::npos) << piece;
  return text.replace(at, piece.size(), other);
}

} // namespace

TEST_F(ChipProfile, GivesWhatWasMeasured) {
  auto sites = read(kMeasured);
  ASSERT_TRUE(sites) << errors;
  const planning::Chip &chip = sites->topology.chips[0];
  ASSERT_EQ(chip.functionTimes.size(), 2u);
  const planning::FunctionTime &row = chip.functionTimes[0];
  EXPECT_EQ(row.call.block, "b");
  EXPECT_EQ(row.call.function, planning::BlockFunction::Forward);
  EXPECT_EQ(row.call.tensorParallel, 2u);
  EXPECT_EQ(row.call.precision, planning::Precision::F32);
  ASSERT_EQ(row.partSeconds.size(), 2u);
  EXPECT_DOUBLE_EQ(row.partSeconds[0], 100e-6);
  ASSERT_EQ(chip.updateTimes.size(), 1u);
  EXPECT_EQ(chip.updateTimes[0].stateBytes, 8u);
  EXPECT_DOUBLE_EQ(chip.updateTimes[0].seconds, 2e-6);
  EXPECT_EQ(chip.overheads.ringRate, 0.4);
  EXPECT_EQ(chip.overheads.ringLatency, 2);
  EXPECT_EQ(chip.overheads.messagePart, 0.8);
  // sites.yaml states other peaks: the same rates are other parts of them.
  EXPECT_EQ(chip.tflopsF32, 1);
  EXPECT_DOUBLE_EQ(chip.matmulEfficiency, 0.25);
  EXPECT_DOUBLE_EQ(chip.memoryEfficiency, 0.16);
}

TEST_F(ChipProfile, PointsAtWhatWasMeasuredWrongly) {
  const std::tuple<const char *, const char *, const char *> cases[] = {
      {"us: 100,", "us: -100,", "a.yaml:26:13: error: forward of block 'b'"},
      {"us: 100,", "us: -100,", "a time above 0 us"},
      {"us: 100,", "seconds: 100,",
       "a.yaml:26:14: error: unknown key 'seconds'"},
      {"{us: 100, ", "{", "a.yaml:26:13: error: missing required key 'us'"},
      {"us: 100,", "us: 100ms,", "a.yaml:26:18: error: "},
      {"us: 300", "us: 30", "a.yaml:28:9: error: times must grow with the"},
      {"us: 32,", "us: 3,", "a.yaml:12:25: error: times must grow with the"},
      {"bytes: 4096", "bytes: 1024", "expected ascending bytes"},
      {"us: 60", "us: 0", "expected a time above 0 us"},
      {"us: 70", "us: 0", "expected a time above 0 us"},
      {"messages: 2", "messages: 0", "as many as a ring sends"},
      {"message_part: 0.8", "message_part: 0", "'message_part'"},
      {"function: forward", "function: back", "got 'back'"},
      {"microbatch: 2", "microbatch: 1", "was given before"},
      {"microbatch: 2", "microbatch: 0", "'microbatch' must be from 1"},
      {"0011223344", "00", "expected 64 hexadecimal digits"},
      {"precision: f32", "precision: f16", "expected f32 or bf16, got 'f16'"},
      {"adamw", "adam", "expected adamw, sgd or momentum, got 'adam'"},
      {"parameters: 1000", "parameters: 0", "an update needs parameters"},
      {"{f32: 0.5}", "{f32: -0.5}", "'f32' must be positive"},
      {"ring_rate: 0.4", "ring_rate: 0", "'ring_rate'"},
      {"\"a\"", "\"b\"", "the profile is of chip 'b', expected 'a'"},
  };
  for (auto [piece, other, expected] : cases) {
    EXPECT_FALSE(read(replaced(kMeasured, piece, other))) << other;
    EXPECT_NE(errors.find(expected), std::string::npos)
        << "expected " << expected << "\ngot " << errors;
  }
}

TEST_F(ChipProfile, StandsInForPeaksThatAreLeftOut) {
  std::string bare = replaced(kOneSite, "    tflops: {f32: 1}\n", "");
  bare = replaced(bare, "    memory_gbytes_per_second: 100\n", "");
  auto sites = read(kMeasured, bare);
  ASSERT_TRUE(sites) << errors;
  const planning::Chip &chip = sites->topology.chips[0];
  EXPECT_EQ(chip.tflopsF32, 0.5);
  EXPECT_FALSE(chip.tflopsBF16);
  EXPECT_EQ(chip.memoryGbytesPerSecond, 20);
  EXPECT_EQ(chip.matmulEfficiency, 0.5);
  EXPECT_FALSE(read(kProfile, bare));
  EXPECT_NE(errors.find("missing required key 'tflops'"), std::string::npos)
      << errors;
}

TEST_F(ChipProfile, NamesWhatIsWrong) {
  const std::tuple<const char *, const char *, const char *> cases[] = {
      {"chip: a\n", "chip: b\n",
       "a.yaml:2:7: error: the profile is of chip 'b', expected 'a'"},
      {"profile: 1", "profile: 3", "expected version 1 or 2, got 3"},
      {"launch_us", "launch", "unknown key 'launch'"},
      {"gbits_per_second: 40, ", "", "missing required key"},
      {"latency_us: 7", "latency_us: -7", "'latency_us' must not be negative"},
      {"matmul: 0.5", "matmul: 5", "'matmul' must be above 0"},
      {"launch_us: 3", "launch_us: -3", "'launch_us' must not be negative"},
      {"ratio: 0.75", "ratio: 0",
       "'ratio' must be at least 0.1 and at most 10, got 0"},
  };
  for (auto [piece, other, expected] : cases) {
    EXPECT_FALSE(read(with(piece, other)));
    EXPECT_NE(errors.find(expected), std::string::npos)
        << "expected " << expected << "\ngot " << errors;
  }
}
