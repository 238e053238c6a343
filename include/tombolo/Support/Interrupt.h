//===- Interrupt.h - ends long work early ---------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_SUPPORT_INTERRUPT_H
#define TOMBOLO_SUPPORT_INTERRUPT_H

#include <csignal>

namespace tombolo {

namespace detail {
inline volatile std::sig_atomic_t interrupted = 0;
} // namespace detail

/// Whether SIGINT came since `endWorkOnInterrupt`: whoever can should return the
/// best that it has.
inline bool wasInterrupted() { return detail::interrupted != 0; }

/// From now on the first SIGINT ends long work early; the second one ends the
/// program as ever.
inline void endWorkOnInterrupt() {
  std::signal(SIGINT, [](int) {
    detail::interrupted = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

} // namespace tombolo

#endif // TOMBOLO_SUPPORT_INTERRUPT_H
