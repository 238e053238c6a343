// RUN: tombolo-opt %s -topo-verify -verify-diagnostics | FileCheck %s

// A read-only pass: the topology stays, an island without a line is told of.
// CHECK: topo.topology
topo.topology {
  topo.chip @c {matmul_efficiency = 0.5, memory_efficiency = 0.8, memory_gbytes_per_second = 1.0, memory_gib = 1.0, tflops_f32 = 1.0}
  topo.site @a {
    topo.pool @p of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.site @b {
    topo.pool @p of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  // expected-warning @below {{site 'lone' is not reached from site 'a'}}
  topo.site @lone {
    topo.pool @p of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.link @b, @a {gbits_per_second = 1.0, rtt_ms = 1.0, loss = 0.0}
}
