//===- BandwidthTest.cpp --------------------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Bandwidth.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace tombolo::planning;

// With one layer nothing overlaps: n steps of computing, one exchange.
TEST(Bandwidth, OneLayerWaits) {
  LayerSynchronisation what;
  what.parameters = 1e9;
  what.stepSeconds = 0.5;
  what.innerSteps = 10;
  // 16 Gbit at 32 Gbit/s: half a second each 5 seconds.
  EXPECT_NEAR(computeUtilisation(what, 32), 5 / 5.5, 1e-9);
  EXPECT_NEAR(neededGbits(what, 5 / 5.5), 32, 1e-6);
  // A whole step to hide it in.
  what.overlapSteps = 1;
  EXPECT_NEAR(computeUtilisation(what, 32), 1, 1e-12);
}

// Data parallelism over a slow line: all but the first layer's backward is
// hidden behind the exchange, which is exposed from then on.
TEST(Bandwidth, SlowLineHidesTheBackwardPass) {
  LayerSynchronisation what;
  what.layers = 24;
  what.parameters = 1e9;
  what.stepSeconds = 0.1;
  double exchange = 16.0 / 40; // seconds at 40 Gbit/s
  double hidden = 0.1 * 2 / 3 * 23 / 24;
  EXPECT_NEAR(computeUtilisation(what, 40), 0.1 / (0.1 + exchange - hidden),
              1e-9);
}

// Table 4 of the paper stands on a grid of factor 1.2069: some of its cells.
TEST(Bandwidth, PublishedCells) {
  auto near = [](LayerSynchronisation what, double utilisation,
                 double published) {
    double steps =
        std::log(neededGbits(what, utilisation) / published) / std::log(1.2069);
    EXPECT_LE(std::abs(steps), 1) << "published " << published;
  };
  near({24, 1e9, 16, 0.1, 1, 1, 0}, 0.5, 86.8);      // data parallel, 1 B
  near({48, 1e10, 16, 0.8, 100, 1, 0}, 0.9, 16.0);   // DiLoCo, 10 B
  near({108, 1e11, 16, 4.9, 100, 36, 0}, 0.95, 11);  // streaming, 100 B
  near({108, 1e11, 16, 4.9, 100, 36, 1}, 0.99, 5.2); // overlapped
  near({24, 1e9, 4, 0.1, 100, 8, 1}, 0.99, 3.0);     // in 4 bits
}
