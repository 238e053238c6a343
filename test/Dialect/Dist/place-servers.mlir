// RUN: tombolo-opt --dist-place-servers -split-input-file %s | FileCheck %s

// A fragment without a place goes to the first site with hosts; one that has a
// place keeps it.
// CHECK: dist.fragment 1 primary "west"
// CHECK: dist.fragment 0 primary "south"
topo.topology {
  topo.chip @c {matmul_efficiency = 0.6, memory_efficiency = 0.8, memory_gbytes_per_second = 10.0, memory_gib = 1.0, tflops_f32 = 1.0}
  topo.site @north {
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.site @south {
    topo.hosts 1 {memory_gib = 8.0}
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
}
dist.strategy global_batch 2 {
  dist.island on ["north"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.island on ["south"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "south/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.server inner_steps 4 fragments 2 overlap_steps 0 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 {
    dist.fragment 1 primary "west"
  }
}

// -----

// With three sites that can vote there is a backup: over the fastest line of
// those whose hosts have memory enough. All islands' sites and the backup's are
// four here, so one more is named whose vote decides.
// CHECK: dist.server {{.*}} witness "tiny"
// CHECK: dist.fragment 0 primary "north" backup "west"
// CHECK: dist.fragment 1 primary "north" backup "west"
topo.topology {
  topo.chip @c {matmul_efficiency = 0.6, memory_efficiency = 0.8, memory_gbytes_per_second = 10.0, memory_gib = 1.0, tflops_f32 = 1.0}
  topo.site @north {
    topo.hosts 2 {memory_gib = 8.0}
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.site @south {
    topo.hosts 2 {memory_gib = 8.0}
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.site @east {
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.site @west {
    topo.hosts 2 {memory_gib = 16.0}
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.site @tiny {
    topo.hosts 1 {memory_gib = 1.0}
    topo.pool @a of @c nodes 1 chips_per_node 1 nics_per_node 1
  }
  topo.link @north, @south {gbits_per_second = 1.0, loss = 0.0, rtt_ms = 30.0}
  topo.link @north, @west {gbits_per_second = 10.0, loss = 0.0, rtt_ms = 30.0}
  topo.link @north, @tiny {gbits_per_second = 40.0, loss = 0.0, rtt_ms = 30.0}
  topo.link @north, @east {gbits_per_second = 1.0, loss = 0.0, rtt_ms = 30.0}
}
dist.strategy global_batch 3 {
  dist.island on ["north"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.island on ["south"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "south/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.island on ["east"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "east/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.server inner_steps 4 fragments 2 overlap_steps 0 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 {
  }
}

// -----

// The other fragments are kept where one is that has a backup.
// CHECK: dist.fragment 0 primary "south" backup "north"
// CHECK: dist.fragment 1 primary "south" backup "north"
dist.strategy global_batch 1 {
  dist.island on ["north"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.server inner_steps 4 fragments 2 overlap_steps 0 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 witness "south" {
    dist.fragment 0 primary "south" backup "north"
  }
}
