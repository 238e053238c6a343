// RUN: tombolo-opt %s -topo-verify -split-input-file -verify-diagnostics

// There is a topology.
// expected-error @below {{expected one topo.topology, got 0}}
module {}

// -----

// Chips and sites that are named exist; pools have the wires they need.
topo.topology {
  topo.chip @c {matmul_efficiency = 0.5, memory_efficiency = 0.8, memory_gbytes_per_second = 1.0, memory_gib = 1.0, tflops_f32 = 1.0}
  topo.site @a {
    // expected-error @below {{'address' must be HOST:PORT with a port from 1 to 65535, got '10.0.0.1:70000'}}
    topo.hosts 1 {address = "10.0.0.1:70000", memory_gib = 1.0}
    // expected-error @below {{chip 'd' is not defined under 'chips'}}
    topo.pool @p of @d nodes 1 chips_per_node 1 nics_per_node 1
    // expected-error @below {{has several chips in a node and needs 'intra_node'}}
    topo.pool @q of @c nodes 1 chips_per_node 2 nics_per_node 1
    // expected-error @below {{has several nodes and needs 'inter_node'}}
    topo.pool @r of @c nodes 2 chips_per_node 1 nics_per_node 1
    // expected-error @below {{site 'a' has no pool 'z'}}
    topo.fabric between @p, @z {gbits_per_second = 1.0, latency_us = 1.0}
  }
  // expected-error @below {{link to a site 'b' that is not defined}}
  topo.link @a, @b {gbits_per_second = 1.0, rtt_ms = 1.0, loss = 0.0}
}
