//===- LayerTimesTest.cpp - reading measured layer times ------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/LayerTimes.h"

#include <gtest/gtest.h>

#include <random>

using namespace tombolo;

namespace {

const std::string kHeader =
    "model,chip,microbatch,tensor_parallel,first_layer,last_layer,"
    "forward_seconds,backward_seconds,update_seconds\n";

std::string errorOf(const std::string &text) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto rows = readLayerTimes("t.csv", text, "m", "c", stream);
  EXPECT_EQ(rows.has_value(),
            stream.str().find(": error: ") == std::string::npos);
  return stream.str();
}

TEST(LayerTimesFileTest, ReadsTheRowsOfOneModelAndChip) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto rows = readLayerTimes("t.csv",
                             kHeader + "m,c,1,2,0,3,0.5,3e-06,0.25\r\n"
                                       "other,c,1,1,0,3,9,9,9\n"
                                       "m,other,1,1,0,3,9,9,9\n"
                                       "\n"
                                       " m , c , 4 , 1 , 0 , 0 , 1 , , 0.0",
                             "m", "c", stream);
  ASSERT_TRUE(rows.has_value()) << stream.str();
  ASSERT_EQ(rows->size(), 2u);
  planning::LayerTimes first{0, 3, {2, 1, {0.5, 3e-06, 0.25}}};
  planning::LayerTimes second{0, 0, {1, 4, {1, 0, 0}}};
  EXPECT_EQ((*rows)[0], first);
  EXPECT_EQ((*rows)[1], second);
}

TEST(LayerTimesFileTest, NamesThePlaceOfAFault) {
  const std::pair<const char *, const char *> cases[] = {
      {"m,c,1,1,0,3,1,1\n", "t.csv:2:1: error: expected 9 fields, got 8\n"},
      {"m,c,0,1,0,3,1,1,1\n",
       "t.csv:2:5: error: expected a whole number of at least 1 as "
       "'microbatch', got '0'\n"},
      {"m,c,1,1,4,3,1,1,1\n", "t.csv:2:11: error: expected a whole number of "
                              "at least 4 as 'last_layer', got '3'\n"},
      {"m,c,1,1,-1,3,1,1,1\n", "t.csv:2:9: error: expected a whole number of "
                               "at least 0 as 'first_layer', got '-1'\n"},
      {"x,y,1,1,0,3,1,fast,1\n",
       "t.csv:2:15: error: expected seconds as 'backward_seconds', got "
       "'fast'; leave the field empty where nothing was measured\n"},
      {"m,c,1,1,0,3,-1,1,1\n",
       "t.csv:2:13: error: expected seconds as 'forward_seconds', got '-1'; "
       "leave the field empty where nothing was measured\n"},
      {"m,c,1,1,0,3,nan,1,1\n",
       "t.csv:2:13: error: expected seconds as 'forward_seconds', got 'nan'; "
       "leave the field empty where nothing was measured\n"},
      {"m,c,1,1,0,3,1,1,1\nm,c,1,1,3,3,1,1,1\n",
       "t.csv:3:1: error: layers 3 to 3 at microbatch 1 and tensor_parallel 1 "
       "were given before, in part or whole\n"},
      {"m,d,1,1,0,3,1,1,1\n",
       "t.csv:1:1: error: no layer times of model 'm' on chip 'c'; chips that "
       "are there: d\n"},
      {"n,c,1,1,0,3,1,1,1\n", "t.csv:1:1: error: no layer times of model 'm'; "
                              "models that are there: n\n"}};
  for (auto [rows, expected] : cases)
    EXPECT_EQ(errorOf(kHeader + rows), expected);
  EXPECT_EQ(errorOf(""),
            "t.csv:1:1: error: the file is empty, expected a line of "
            "columns\n");
  EXPECT_EQ(errorOf("a,b\n"),
            "t.csv:1:1: error: expected a column 'model' in the first line\n");
  EXPECT_EQ(errorOf(std::string("a\0b", 3)),
            "t.csv:1:2: error: not a text file\n");
}

TEST(LayerTimesFileTest, RefusesTimesThatFallWithTheMicrobatch) {
  EXPECT_EQ(errorOf(kHeader + "m,c,4,1,2,5,0.25,2,1\n"
                              "m,c,1,1,0,3,0.5,1,1\n"),
            "t.csv:2:1: error: times must grow with the microbatch: forward of "
            "layers 2 to 3 at tensor_parallel 1 takes 0.25 s at microbatch 4, "
            "0.5 s at microbatch 1; measure again, or leave the field empty\n");
  // Over a microbatch at which the block was not measured.
  EXPECT_EQ(errorOf(kHeader + "m,c,1,2,0,3,1,0.5,1\nm,c,2,2,0,3,1,,1\n"
                              "m,c,4,2,0,3,1,0.25,1\n"),
            "t.csv:4:1: error: times must grow with the microbatch: backward "
            "of layers 0 to 3 at tensor_parallel 2 takes 0.25 s at microbatch "
            "4, 0.5 s at microbatch 1; measure again, or leave the field "
            "empty\n");
  // Updates do not depend on it; degrees and other blocks are other things.
  EXPECT_EQ(errorOf(kHeader + "m,c,1,1,0,3,1,1,1\nm,c,2,1,0,3,1,1,0.5\n"
                              "m,c,2,2,0,3,0.5,0.5,1\n"
                              "m,c,4,1,4,4,0.5,0.5,1\n"),
            "");
  // A tenth of a time is noise.
  EXPECT_EQ(errorOf(kHeader + "m,c,1,1,0,3,1,1,1\nm,c,2,1,0,3,0.91,1,1\n"), "");
}

// As of heads and embeddings in tables that others measured.
TEST(LayerTimesFileTest, WarnsWhereAFallIsNoise) {
  EXPECT_EQ(errorOf(kHeader + "m,c,1,4,33,33,0.001226,0.0005,1\n"
                              "m,c,2,4,33,33,0.000478,0.0006,1\n"
                              "m,c,4,4,33,33,0.0004,0.0007,1\n"),
            "t.csv:3:1: warning: 2 times fall by more than a tenth, though "
            "less than 2 ms, where the microbatch grows, which is taken for "
            "noise of the measurement; most of all, forward of layers 33 to "
            "33 at tensor_parallel 4 takes 0.000478 s at microbatch 2, "
            "0.001226 s at microbatch 1\n");
}

// Whatever is in the file: rows or a fault, never a crash.
TEST(LayerTimesFileTest, SurvivesDamage) {
  std::string whole = kHeader;
  for (int row = 0; row < 6; ++row)
    whole += "m,c," + std::to_string(row + 1) + ",1,0,25,0.5,0.25,0.125\n";
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 3; ++i) {
      size_t place = random() % damaged.size();
      switch (random() % 3) {
      case 0:
        damaged[place] = static_cast<char>(random() % 256);
        break;
      case 1:
        damaged.erase(place, random() % 20);
        break;
      default:
        damaged.insert(place, damaged.substr(random() % damaged.size(), 9));
      }
      if (damaged.empty())
        damaged = ",";
    }
    errorOf(damaged);
  }
}

} // namespace
