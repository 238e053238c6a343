//===- FragmentImage.h - a fragment as a snapshot holds it ------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_FRAGMENTIMAGE_H
#define TOMBOLO_LIB_SERVER_FRAGMENTIMAGE_H

#include "RecordFile.h"

#include "tombolo/runtime/server/OuterState.h"

#include "tombolo/schema/server.pb.h"

namespace tombolo::runtime {


/// A fragment at one moment, to be written while the fragment goes on: what
/// never changes is shared, the rest copied.
struct FragmentImage {
  server::v1::SavedFragment fields;
  std::shared_ptr<const Version> newest;
  std::vector<std::shared_ptr<const Update>> updates;
  /// Of the directives to a version that is not the newest, in order.
  std::vector<std::shared_ptr<const Version>> told;
  /// Of the contributions with parts, in order.
  std::vector<std::vector<float>> contributions;
};

/// `to` is given spans into the image.
void write(const FragmentImage &image, const RecordSink &to);

/// What follows a record of type Fragment whose head is `fields`. Throws Error
/// when it is not all there. `elements`, `updateBytes`: of this fragment.
FragmentImage readImage(server::v1::SavedFragment fields, RecordReader &from,
                        std::uint64_t elements, std::uint64_t updateBytes);

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_FRAGMENTIMAGE_H
