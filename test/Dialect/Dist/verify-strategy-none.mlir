// RUN: tombolo-opt %s -dist-verify -verify-diagnostics

// There is something to verify.
// expected-error @below {{expected a dist.strategy}}
module {}
