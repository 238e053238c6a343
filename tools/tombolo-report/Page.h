//===- Page.h - one file that a browser opens -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_PAGE_H
#define TOMBOLO_REPORT_PAGE_H

#include "PlanJson.h"

#include <string>

namespace tombolo::report {

/// The page (web/, put together when Tombolo is built) with `data` in it. What
/// stands in `data` cannot end the element that it is in, whatever the names;
/// control characters in it are replaced.
std::string makePage(Json data);

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_PAGE_H
