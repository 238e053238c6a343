// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages --dist-instantiate-optimizer=lr=0.01 | FileCheck %s
// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages "--dist-instantiate-optimizer=optimizer=sgd momentum=0.9" | FileCheck %s --check-prefix=SGD
// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --dist-partition-stages --dist-instantiate-optimizer=beta1=1.0 2>&1 | FileCheck %s --check-prefix=BETA
// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages "--dist-instantiate-optimizer=schedule=cosine warmup-steps=3 decay-steps=9" | FileCheck %s --check-prefix=COSINE
// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages "--dist-instantiate-optimizer=optimizer=sgd warmup-steps=3" | FileCheck %s --check-prefix=WARMUP
// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --dist-partition-stages "--dist-instantiate-optimizer=schedule=linear warmup-steps=3 decay-steps=3" 2>&1 | FileCheck %s --check-prefix=DECAY
// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --dist-partition-stages --dist-instantiate-optimizer=decay-steps=3 2>&1 | FileCheck %s --check-prefix=CONSTANT
// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --dist-partition-stages --dist-instantiate-optimizer=warmup-steps=-1 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: cat %S/Inputs/model.mlir %s | tombolo-opt --dist-partition-stages --dist-instantiate-optimizer=clip-grad-norm=0.5 | FileCheck %s --check-prefix=CLIP
// RUN: cat %S/Inputs/model.mlir %s | not tombolo-opt --dist-partition-stages --dist-instantiate-optimizer=clip-grad-norm=-1 2>&1 | FileCheck %s --check-prefix=BOUND
// RUN: cat %S/Inputs/model.mlir %s | sed 's/schedule "1f1b" chunks 1/& inner_steps 6/; $ s/}/dist.server inner_steps 4 fragments 1 overlap_steps 0 compression "none" outer "nesterov" learning_rate 0.7 momentum 0.9 quorum 1 deadline_seconds 60.0 { } }/' > %t.own.mlir
// RUN: tombolo-opt %t.own.mlir --dist-partition-stages "--dist-instantiate-optimizer=schedule=cosine warmup-steps=4 decay-steps=10" | FileCheck %s --check-prefix=OWN
// RUN: not tombolo-opt %t.own.mlir --dist-partition-stages "--dist-instantiate-optimizer=warmup-steps=5" 2>&1 | FileCheck %s --check-prefix=UNIT

// A stage's parameters are one vector: 4x4 are 64 bytes, 4x5 are 80, rounded up
// to 128. One function counts and updates, in place.
// CHECK: dist.update @adamw.32 elements 32 states ["exp_avg", "exp_avg_sq"]
// CHECK: dist.update @adamw.48 elements 48 states ["exp_avg", "exp_avg_sq"]
// CHECK: dist.optimizer "adamw" learning_rate 1.000000e-02 {beta1 = {{.*}}, beta2 = {{.*}}, epsilon = {{.*}}, weight_decay = {{.*}}}
// CHECK: func.func private @adamw.32(%[[W:.*]]: tensor<f32>, %[[N:.*]]: tensor<i64>, %[[P:.*]]: tensor<32xf32>, %[[G:.*]]: tensor<32xf32>, %[[A:.*]]: tensor<32xf32>, %[[B:.*]]: tensor<32xf32>) -> (tensor<i64> {plan.in_place = 1 : i64}, tensor<32xf32> {plan.in_place = 2 : i64}, tensor<32xf32> {plan.in_place = 4 : i64}, tensor<32xf32> {plan.in_place = 5 : i64})
// CHECK: %[[NEXT:.*]] = graph.optimizer_advance %[[W]], %[[N]]
// CHECK: graph.adamw %[[P]], %[[G]], %[[W]], %[[NEXT]], %[[A]], %[[B]]
// SGD: dist.update @sgd.32 elements 32 states ["momentum_buffer"]
// SGD: graph.sgd
// BETA: error: beta1: expected a number in [0, 1), got 1

// A schedule stands on the strategy's optimizer and on every update.
// COSINE: dist.optimizer "adamw" {{.*}} {{{.*}}decay_steps = 9 : i64, {{.*}}schedule = "cosine", warmup_steps = 3 : i64{{.*}}}
// COSINE: graph.adamw {{.*}} {{{.*}}decay_steps = 9 : i64, {{.*}}schedule = "cosine", warmup_steps = 3 : i64{{.*}}}
// WARMUP: graph.sgd {{.*}}schedule = "constant", warmup_steps = 3 : i64
// WARMUP-NOT: decay_steps
// DECAY: error: decay-steps: expected more than the 3 warm-up steps, got 3
// CONSTANT: error: decay-steps: a constant learning rate does not decay; choose schedule cosine or linear

// In an island with inner steps of its own the schedule runs as fast as its
// rounds; who cannot have it exactly is told.
// OWN: dist.update @adamw.32.inner6 elements 32
// OWN: dist.optimizer "adamw" {{.*}}decay_steps = 10 : i64, {{.*}}warmup_steps = 4 : i64
// OWN: func.func private @adamw.32.inner6
// OWN: graph.adamw {{.*}} {{{.*}}decay_steps = 15 : i64, {{.*}}warmup_steps = 6 : i64{{.*}}}
// UNIT: error: warmup-steps: expected a multiple of 2, which are whole inner steps of an island that has 6 where the server has 4, got 5

// With clipping the update takes the sum of squares and divides by a weight that
// bounds the norm.
// CLIP: dist.optimizer "adamw" {{.*}}clip_gradient_norm = 5.0
// CLIP: func.func private @adamw.32(%[[W:[a-z0-9]+]]: tensor<f32>, %[[N:[a-z0-9]+]]: tensor<i64>, %[[S:[a-z0-9]+]]: tensor<f32>, %[[P:[a-z0-9]+]]: tensor<32xf32>, %[[G:[a-z0-9]+]]: tensor<32xf32>
// CLIP: %[[D:.*]] = graph.clip_weight %[[S]], %[[W]] {max_norm = 5.000000e-01 : f64}
// CLIP: graph.adamw %[[P]], %[[G]], %[[D]],
// BOUND: error: clip-grad-norm: expected a number that is not negative, got -1
// NEGATIVE: error: warmup-steps: expected a number that is not negative, got -1
dist.strategy global_batch 8 {
  dist.island on ["north"] batch 8 microbatch 2 schedule "1f1b" chunks 1 {
    dist.stage blocks 2 recompute "none" {
      dist.replicas on "north/a" count 2 tensor_parallel 1 share 1
    }
    dist.stage blocks 2 recompute "none" {
      dist.replicas on "north/a" count 2 tensor_parallel 1 share 1
    }
  }
}
