// RUN: tombolo-opt --dist-place-servers -split-input-file -verify-diagnostics %s

// More fragments than anybody could mean are refused, not placed one by one.
dist.strategy global_batch 1 {
  dist.island on ["north"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-error @below {{expected at most 65536 fragments, got 281474976710656}}
  dist.server inner_steps 4 fragments 281474976710656 overlap_steps 0 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 {
  }
}

// -----

// A fragment beyond their number has no place to be.
dist.strategy global_batch 1 {
  dist.island on ["north"] batch 1 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
  dist.server inner_steps 4 fragments 2 overlap_steps 0 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 {
    // expected-error @below {{expected an index below 2, got 2}}
    dist.fragment 2 primary "north"
  }
}
