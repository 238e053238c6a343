dist.strategy global_batch 8 {
  dist.island on ["north"] batch 8 microbatch 2 schedule "interleaved" chunks 5 {
    dist.stage blocks 4 recompute "none" {
      dist.replicas on "north/a" count 1 tensor_parallel 1 share 1
    }
  }
}
