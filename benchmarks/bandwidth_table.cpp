//===- bandwidth_table.cpp - the line that synchronisation needs ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Compares planning::neededGbits with a table of published figures:
//
//   cmake --build --preset dev --target bandwidth-table
//   build/dev/bin/bandwidth-table streaming_diloco_table4.csv
//
// The columns are those of arXiv 2501.18512, Table 4: model (1B, 10B, 100B),
// layers, step_seconds, method, and the Gbit/s for 50, 80, 90, 95 and 99 %.
// Assumptions, for the whole table: planning/Bandwidth.h with H = 100,
// fragments of 3 layers, one overlapped step, 16 or 4 bits for each parameter.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Bandwidth.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

using namespace tombolo::planning;

int main(int argc, char **argv) {
  std::ifstream file(argc == 2 ? argv[1] : "");
  std::string line;
  if (!std::getline(file, line)) {
    std::cerr << "usage: bandwidth-table TABLE.csv\n";
    return 2;
  }
  constexpr double kUtilisations[] = {0.5, 0.8, 0.9, 0.95, 0.99};
  const double grid = std::log(1.2069);
  int cells = 0, near = 0;
  while (std::getline(file, line)) {
    std::vector<std::string> values;
    std::stringstream stream(line);
    for (std::string value; std::getline(stream, value, ',');)
      values.push_back(value);
    if (values.size() != 9)
      continue;
    const std::string &method = values[3];
    auto has = [&](const char *word) {
      return method.find(word) != std::string::npos;
    };
    LayerSynchronisation what;
    what.parameters = std::stod(values[0]) * 1e9; // 10B
    what.layers = std::stoul(values[1]);
    what.stepSeconds = std::stod(values[2]);
    what.innerSteps = method == "data-parallel" ? 1 : 100;
    what.fragments = has("streaming") ? what.layers / 3 : 1;
    what.overlapSteps = has("overlap") ? 1 : 0;
    what.bitsPerParameter = has("fp4") ? 4 : 16;
    std::printf("%-5s %-22s", values[0].c_str(), method.c_str());
    for (int i = 0; i < 5; ++i) {
      double here = neededGbits(what, kUtilisations[i]);
      double published = std::stod(values[static_cast<size_t>(4 + i)]);
      double steps = std::log(here / published) / grid;
      ++cells;
      near += std::abs(steps) <= 1;
      std::printf("  %7.2f (%6.1f)%c", here, published,
                  std::abs(steps) <= 1 ? ' ' : '!');
    }
    std::printf("\n");
  }
  if (cells == 0) {
    std::cerr << argv[1]
              << ": expected rows of nine cells, as the published "
                 "table has them, found none\n";
    return 1;
  }
  std::printf("%d of %d cells within one step of the grid (factor 1.2069): "
              "%.1f %%\n",
              near, cells, 100.0 * near / cells);
  return 0;
}
