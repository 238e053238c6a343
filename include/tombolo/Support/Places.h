//===- Places.h - where in a file an op comes from -------------*- C++ -*-===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_SUPPORT_PLACES_H
#define TOMBOLO_SUPPORT_PLACES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/Location.h"

#include <string>

namespace tombolo {

/// The place of what a path such as `islands[0].stages[2].blocks` names in the
/// file that ops are built from; the nearest around it when it is not there.
using PlaceOf = llvm::function_ref<mlir::Location(const std::string &path)>;

/// The location of an op built from `path` that knows the places of its keys,
/// too, so that a later fault points at the key.
inline mlir::Location placeWithKeys(PlaceOf placeOf, const std::string &path,
                                    llvm::ArrayRef<llvm::StringRef> keys) {
  mlir::Location place = placeOf(path);
  mlir::Builder builder(place.getContext());
  llvm::SmallVector<mlir::NamedAttribute> places;
  for (llvm::StringRef key : keys) {
    mlir::Location at =
        placeOf(path.empty() ? key.str() : path + "." + key.str());
    if (at != place)
      places.push_back(builder.getNamedAttr(key, mlir::LocationAttr(at)));
  }
  if (places.empty())
    return place;
  return mlir::FusedLoc::get({place}, builder.getDictionaryAttr(places),
                             place.getContext());
}

/// The place of a key of an op with this location; the op's when it is not
/// known.
inline mlir::Location placeOfKey(mlir::Location place, llvm::StringRef key) {
  if (auto fused = llvm::dyn_cast<mlir::FusedLoc>(place))
    if (auto keys =
            llvm::dyn_cast_or_null<mlir::DictionaryAttr>(fused.getMetadata()))
      if (auto at = keys.getAs<mlir::LocationAttr>(key))
        return at;
  return place;
}

/// The n-th op of a kind in a region of one block, or null.
template <typename OpTy>
mlir::Operation *nthOp(mlir::Region &region, uint64_t n) {
  for (OpTy op : region.getOps<OpTy>())
    if (n-- == 0)
      return op;
  return nullptr;
}

/// Follows a path such as `islands[0].stages[2].blocks` from `root`, step by
/// step: `inner(op, key, index)` is the op that a step leads to, null where the
/// key is one of the op's own. The location of what the path names.
inline mlir::Location locatePath(
    mlir::Operation *root, llvm::StringRef path,
    llvm::function_ref<mlir::Operation *(mlir::Operation *op,
                                         llvm::StringRef key, uint64_t index)>
        inner) {
  mlir::Operation *found = root;
  while (!path.empty()) {
    auto [step, rest] = path.split('.');
    path = rest;
    auto [key, number] = step.split('[');
    uint64_t index = 0;
    if (number.consumeInteger(10, index))
      index = 0;
    mlir::Operation *next = inner(found, key, index);
    if (!next)
      return placeOfKey(found->getLoc(), key);
    found = next;
  }
  return found->getLoc();
}

} // namespace tombolo

#endif // TOMBOLO_SUPPORT_PLACES_H
