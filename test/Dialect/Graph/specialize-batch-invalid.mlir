// RUN: tombolo-opt %s -verify-diagnostics -graph-specialize-batch=batch=0

// expected-error @below {{batch must be at least 1, got 0}}
module {
}
