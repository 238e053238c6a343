// RUN: tombolo-opt %s -dist-select-strategy=index=3 -verify-diagnostics

// There must be one to keep.
// expected-error @below {{expected an index below the number of strategies, got 3 of 0}}
module {}
