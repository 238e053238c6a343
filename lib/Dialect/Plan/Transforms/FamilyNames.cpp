//===- FamilyNames.cpp - names that differ in one number ------------ ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "FamilyNames.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace tombolo::plan {

Attribute familyNames(MLIRContext *context, ArrayRef<StringRef> names) {
  Builder builder(context);
  auto listed = [&]() -> Attribute { return builder.getStrArrayAttr(names); };
  if (names.size() < 2)
    return listed();
  // The number begins at the first difference, and as far left as digits go.
  StringRef a = names[0], b = names[1];
  size_t begin = 0;
  while (begin < a.size() && begin < b.size() && a[begin] == b[begin])
    ++begin;
  while (begin > 0 && llvm::isDigit(a[begin - 1]))
    --begin;
  StringRef prefix = a.take_front(begin);
  StringRef suffix =
      a.drop_front(begin).drop_while([](char c) { return llvm::isDigit(c); });
  SmallVector<uint64_t> numbers;
  for (StringRef name : names) {
    uint64_t number;
    StringRef rest = name;
    if (!rest.consume_front(prefix) || !rest.consume_back(suffix) ||
        rest.empty() || (rest.size() > 1 && rest[0] == '0') ||
        rest.size() > 15 || rest.getAsInteger(10, number))
      return listed();
    numbers.push_back(number);
  }
  if (numbers[1] <= numbers[0])
    return listed();
  uint64_t stride = numbers[1] - numbers[0];
  for (size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] != numbers[0] + i * stride)
      return listed();
  return NamesAttr::get(context, builder.getStringAttr(prefix),
                        builder.getStringAttr(suffix), numbers[0], stride);
}

} // namespace tombolo::plan
