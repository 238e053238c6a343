// RUN: tombolo-opt %s | tombolo-opt | FileCheck %s

// Everything that a topology may hold survives printing and parsing.
// CHECK-LABEL: topo.topology {
topo.topology {
  // CHECK: topo.chip @"a100-80" {
  // CHECK-SAME: price_per_hour = 2.000000e+00 : f64
  // CHECK-SAME: tflops_bf16 = 3.120000e+02 : f64
  topo.chip @"a100-80" {matmul_efficiency = 0.62, memory_efficiency = 0.8, memory_gbytes_per_second = 2039.0, memory_gib = 80.0, price_per_hour = 2.0, tflops_bf16 = 312.0, tflops_f32 = 19.5}
  // CHECK: topo.layer_times @"a100-80" blocks 2 to 24 microbatch 1 tensor_parallel 4 {backward_seconds = 1.170000e-02 : f64, forward_seconds = 4.900000e-03 : f64}
  topo.layer_times @"a100-80" blocks 2 to 24 microbatch 1 tensor_parallel 4 {backward_seconds = 0.0117, forward_seconds = 0.0049}
  // CHECK: topo.function_time @"a100-80" "block1" "forward" microbatch 4 tensor_parallel 2 seconds [1.000000e-03, 2.500000e-03] {model = "9f", precision = "f32"}
  topo.function_time @"a100-80" "block1" "forward" microbatch 4 tensor_parallel 2 seconds [1.0e-3, 2.5e-3] {model = "9f", precision = "f32"}
  // CHECK: topo.update_time @"a100-80" parameters 1000 state_bytes 8 seconds 2.500000e-01
  topo.update_time @"a100-80" parameters 1000 state_bytes 8 seconds 0.25
  // CHECK: topo.site @north {
  topo.site @north {
    // CHECK: topo.hosts 2 {address = "10.1.0.1:7000", memory_gib = 5.120000e+02 : f64}
    topo.hosts 2 {address = "10.1.0.1:7000", memory_gib = 512.0}
    // CHECK: topo.pool @a of @"a100-80" nodes 2 chips_per_node 8 nics_per_node 4 {inter_gbits_per_second = 2.000000e+02 : f64
    topo.pool @a of @"a100-80" nodes 2 chips_per_node 8 nics_per_node 4 {inter_gbits_per_second = 200.0, inter_latency_us = 8.0, intra_gbits_per_second = 2400.0, intra_latency_us = 3.0}
    // CHECK: topo.pool @b of @"a100-80" nodes 1 chips_per_node 8 nics_per_node 1 {cores_per_node = 4 : i64
    topo.pool @b of @"a100-80" nodes 1 chips_per_node 8 nics_per_node 1 {cores_per_node = 4 : i64, intra_gbits_per_second = 2400.0, intra_latency_us = 3.0}
    // CHECK: topo.fabric {gbits_per_second = 1.000000e+02 : f64, latency_us = 1.200000e+01 : f64}
    topo.fabric {gbits_per_second = 100.0, latency_us = 12.0}
    // CHECK: topo.fabric between @a, @b
    topo.fabric between @a, @b {gbits_per_second = 50.0, latency_us = 15.0}
  }
  topo.site @south {
    topo.pool @a of @"a100-80" nodes 1 chips_per_node 1 nics_per_node 1
  }
  // CHECK: topo.link @north, @south {gbits_per_second = 1.000000e+01 : f64, loss = 1.000000e-04 : f64, rtt_ms = 3.000000e+01 : f64}
  topo.link @north, @south {gbits_per_second = 10.0, loss = 0.0001, rtt_ms = 30.0}
}
