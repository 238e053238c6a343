//===- HostWork.h - what exchanges take of cores that train -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_HOSTWORK_H
#define TOMBOLO_RUNTIME_LIB_SIM_HOSTWORK_H

#include "Fold.h"

#include <functional>

namespace tombolo::runtime::sim {

/// An element in a push or a published update, with the scales that blocks of
/// 256 share.
double bytesPerElement(plan::v1::Server::Compression compression);

/// Calls `visit` for each rank of the island that pushes, with how many
/// elements it owns, by fragment.
void forEachOwner(
    const plan::v1::Plan &plan, const Fold &fold,
    const std::function<void(std::uint64_t rank,
                             const std::vector<double> &elements)> &visit);

/// Seconds of a core that each exchange of a fragment takes from each class of
/// ranks, by class and fragment: 0 where chips are not cores of their hosts.
/// What ranks push and pull takes the core that they are on, the server's work
/// all cores of a node at its site alike, where the site has no `hosts` for it.
std::vector<std::vector<double>> exchangeSeconds(const plan::v1::Plan &plan,
                                                 std::uint32_t island,
                                                 const Fold &fold,
                                                 const Places &places);

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_HOSTWORK_H
