// RUN: tombolo-opt %s -split-input-file -verify-diagnostics

// A strategy has islands.
// expected-error @below {{expected at least one island}}
dist.strategy global_batch 8 {
}

// -----

// The islands share the whole batch.
// expected-error @below {{the islands' batches must add up to global_batch 8, got 6}}
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 6 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
}

// -----

// Schedules have names.
dist.strategy global_batch 8 {
  // expected-error @below {{expected schedule gpipe, 1f1b, interleaved or zero-bubble, got "fast"}}
  dist.island on ["s"] batch 8 microbatch 1 schedule "fast" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
}

// -----

// An island has stages.
dist.strategy global_batch 8 {
  // expected-error @below {{expected at least one stage}}
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
  }
}

// -----

// A stage has replicas.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    // expected-error @below {{expected at least one dist.replicas}}
    dist.stage blocks 1 recompute "none" {
    }
  }
}

// -----

// Recomputation is a word or a number.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    // expected-error @below {{expected recompute none, full or a number of blocks, got "some"}}
    dist.stage blocks 1 recompute "some" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
}

// -----

// A pool belongs to a site.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      // expected-error @below {{expected a pool as "site/pool", got "p"}}
      dist.replicas on "p" count 1 tensor_parallel 1 share 1
    }
  }
}

// -----

// An exchange ends before the next begins; fragments are placed once.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-error @below {{expected overlap_steps below inner_steps 4, got 4}}
  dist.server inner_steps 4 fragments 1 overlap_steps 4 compression "none" outer "sgd" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 {
  }
}

// -----

dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  dist.server inner_steps 4 fragments 1 overlap_steps 0 compression "none" outer "sgd" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 {
    dist.fragment 0 primary "s"
    // expected-error @below {{places fragment 0 a second time}}
    dist.fragment 0 primary "s"
  }
}

// -----

// Figures are whole or not there.
// expected-error @below {{expected 'predicted' to have every figure of every island, stage and group}}
dist.strategy global_batch 8 predicted {step_seconds = 1.0} {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
}

// -----

// AdamW alone has a second moment.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-error @below {{expected beta2, epsilon and weight_decay with outer optimizer adamw and with no other, got "sgd"}}
  dist.server inner_steps 4 fragments 1 overlap_steps 0 compression "none" outer "sgd" learning_rate 0.001 momentum 0.9 beta2 0.999 epsilon 1.0e-8 weight_decay 0.01 quorum 1 deadline_seconds 60.0 {
  }
}

// -----

// And needs its constants.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-error @below {{expected beta2, epsilon and weight_decay with outer optimizer adamw and with no other, got "adamw"}}
  dist.server inner_steps 4 fragments 1 overlap_steps 0 compression "none" outer "adamw" learning_rate 0.001 momentum 0.9 quorum 1 deadline_seconds 60.0 {
  }
}

// -----

// What an island exchanges beside its own inner steps takes fewer of them.
dist.strategy global_batch 8 {
  // expected-error @below {{expected inner_steps above overlap_steps 2, got 2}}
  dist.island on ["s"] batch 8 microbatch 1 schedule "1f1b" chunks 1 inner_steps 2 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-note @below {{of this server}}
  dist.server inner_steps 4 fragments 1 overlap_steps 2 compression "none" outer "sgd" learning_rate 0.001 momentum 0.9 quorum 1 deadline_seconds 60.0 {
  }
}

// -----

// Fragments have one order on islands of unequal inner steps.
dist.strategy global_batch 8 {
  dist.island on ["s"] batch 4 microbatch 1 schedule "1f1b" chunks 1 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "s/p" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-error @below {{expected inner_steps of at least the number of fragments, as an island has its own, 3, got 2}}
  dist.island on ["t"] batch 4 microbatch 1 schedule "1f1b" chunks 1 inner_steps 2 {
    dist.stage blocks 1 recompute "none" {
      dist.replicas on "t/p" count 1 tensor_parallel 1 share 1
    }
  }
  // expected-note @below {{of this server}}
  dist.server inner_steps 4 fragments 3 overlap_steps 1 compression "none" outer "sgd" learning_rate 0.001 momentum 0.9 quorum 1 deadline_seconds 60.0 {
  }
}
