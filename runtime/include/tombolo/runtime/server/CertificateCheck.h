//===- CertificateCheck.h - whether a side's own files will do --*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Who is refused in a handshake often is not told why. What can be found out
// without the other side is found before anything begins.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_CERTIFICATECHECK_H
#define TOMBOLO_RUNTIME_SERVER_CERTIFICATECHECK_H

#include "tombolo/runtime/Tls.h"

namespace tombolo::runtime {

/// Throws Error (status 1) unless the key is that of the certificate, and the
/// certificate is in date and signed by the authority, as `openssl verify` has
/// it.
void checkCertificates(const TlsFiles &files);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_CERTIFICATECHECK_H
