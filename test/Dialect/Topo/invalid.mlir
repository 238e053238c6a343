// RUN: tombolo-opt %s -split-input-file -verify-diagnostics

// A topology holds nothing else.
// expected-error @below {{holds only chips, measured times, sites and links, got 'builtin.module'}}
topo.topology {
  // expected-note @below {{here}}
  builtin.module {}
}

// -----

// A chip has a rate.
topo.topology {
  // expected-error @below {{expected 'tflops_f32' or 'tflops_bf16'}}
  topo.chip @c {matmul_efficiency = 0.5, memory_efficiency = 0.8, memory_gbytes_per_second = 1.0, memory_gib = 1.0}
}

// -----

// Rates are positive.
topo.topology {
  // expected-error @below {{expected a positive 'memory_gib'}}
  topo.chip @c {matmul_efficiency = 0.5, memory_efficiency = 0.8, memory_gbytes_per_second = 1.0, memory_gib = -1.0, tflops_f32 = 1.0}
}

// -----

// An efficiency is a fraction.
topo.topology {
  // expected-error @below {{expected 'matmul_efficiency' in (0, 1]}}
  topo.chip @c {matmul_efficiency = 62.0, memory_efficiency = 0.8, memory_gbytes_per_second = 1.0, memory_gib = 1.0, tflops_f32 = 1.0}
}

// -----

// Layer times are those of a chip.
topo.topology {
  // expected-error @below {{expected a topo.chip 'c'}}
  topo.layer_times @c blocks 0 to 3 microbatch 1 tensor_parallel 1 {forward_seconds = 1.0}
}

// -----

// A block has three functions.
topo.topology {
  // expected-error @below {{expected forward, backward_input or backward_weight, got 'backward'}}
  topo.function_time @c "b" "backward" microbatch 1 tensor_parallel 1 seconds [1.0] {model = "9f", precision = "f32"}
  topo.chip @c {matmul_efficiency = 1.0, memory_efficiency = 1.0, memory_gbytes_per_second = 1.0, memory_gib = 1.0, tflops_f32 = 1.0}
}

// -----

// Updates are of a chip.
topo.topology {
  // expected-error @below {{expected a topo.chip 'c'}}
  topo.update_time @c parameters 1 state_bytes 8 seconds 1.0
}

// -----

// Blocks ascend.
topo.topology {
  // expected-error @below {{expected blocks from 0 in ascending order, got 3 to 2}}
  topo.layer_times @c blocks 3 to 2 microbatch 1 tensor_parallel 1
}

// -----

// A time that is there was measured.
topo.topology {
  // expected-error @below {{expected a positive 'forward_seconds', got 0}}
  topo.layer_times @c blocks 0 to 3 microbatch 1 tensor_parallel 1 {forward_seconds = 0.0}
}

// -----

// A pool has nodes.
topo.topology {
  topo.site @s {
    // expected-error @below {{expected a positive 'nodes', got -1}}
    topo.pool @p of @c nodes -1 chips_per_node 1 nics_per_node 1
  }
}

// -----

// Cores are for several chips.
topo.topology {
  topo.site @s {
    // expected-error @below {{expected at most 2 'cores_per_node', as there are chips in a node, got 3}}
    topo.pool @p of @c nodes 1 chips_per_node 2 nics_per_node 1 {cores_per_node = 3 : i64}
  }
}

// -----

// A wire has both figures.
topo.topology {
  topo.site @s {
    // expected-error @below {{expected 'intra_gbits_per_second' and 'intra_latency_us' together}}
    topo.pool @p of @c nodes 1 chips_per_node 1 nics_per_node 1 {intra_latency_us = 1.0}
  }
}

// -----

// One fabric is for all pairs.
topo.topology {
  // expected-error @below {{has more than one fabric for every pair of pools}}
  topo.site @s {
    topo.fabric {gbits_per_second = 1.0, latency_us = 1.0}
    topo.fabric {gbits_per_second = 1.0, latency_us = 1.0}
  }
}

// -----

// A latency is not negative.
topo.topology {
  topo.site @s {
    // expected-error @below {{expected 'latency_us' of at least 0}}
    topo.fabric {gbits_per_second = 1.0, latency_us = -1.0}
  }
}

// -----

// Not everything is lost.
topo.topology {
  // expected-error @below {{expected 'loss' in [0, 1)}}
  topo.link @a, @b {gbits_per_second = 1.0, rtt_ms = 1.0, loss = 1.0}
}

// -----

// A line has two ends.
topo.topology {
  // expected-error @below {{joins site 'a' with itself}}
  topo.link @a, @a {gbits_per_second = 1.0, rtt_ms = 1.0, loss = 0.0}
}
