//===- DistOps.td - ops of the dist dialect -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_IR_DISTOPS_TD
#define TOMBOLO_DIALECT_DIST_IR_DISTOPS_TD

include "tombolo/Dialect/Dist/IR/DistDialect.td"
include "tombolo/Dialect/Dist/IR/DistPlacementOps.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/RegionKindInterface.td"

def Dist_StrategyOp : Dist_Container<"strategy"> {
  let summary = "one complete strategy";
  let description = [{
    Holds one or more `dist.island` ops, at most one `dist.server` and, for
    stages of several chips per replica, `dist.sharding`. The
    search leaves several in a module, best first; `dist-select-strategy` keeps
    one. `global_batch` is in samples per inner step over all islands.

    The search adds `predicted`, the figures of the strategy by the names of
    `tombolo-plan --json` and, for each island, stage and group of replicas,
    their times and memory;
    and `search`, the number of `candidates`, the
    `lower_bound` in seconds per step, whether the best is `optimal`,
        and the figures of all that were kept as `alternatives`
            .

    ```mlir dist.strategy global_batch 128 {
      dist.island on ["north"] batch 128 microbatch 4 schedule "1f1b" chunks 1 {
        dist.stage blocks 5 recompute "none" {
          dist.replicas on "north/a" count 2 tensor_parallel 1 share 1
        }
        dist.stage blocks 3 recompute "full" {
          dist.replicas on "north/a" count 2 tensor_parallel 1 share 1
        }
      }
    }
    ```
  }];
  let arguments = (ins I64Attr:$global_batch,
                       OptionalAttr<DictionaryAttr>:$predicted,
                       OptionalAttr<DictionaryAttr>:$search);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `global_batch` $global_batch
    (`predicted` $predicted^)? (`search` $search^)?
    attr-dict-with-keyword $body
  }];
  let hasRegionVerifier = 1;
}

def Dist_ShardingOp : Dist_Op<"sharding", [HasParent<"StrategyOp">]> {
  let summary = "how a kind of block lies on the chips of a replica";
  let description = [{
    The seeds of `dist-propagate-shardings` for block number `block`, the first
    of its kind, in stages of `tensor_parallel` chips per replica. A state is
    `[]`, whole on every chip, or `[dim, outer]`: dimension `dim` is seen as
    [outer, tensor_parallel, rest] and chip i has [:, i, :]. `parameters` are
    named as in that block; `inputs` are its data arguments and `outputs` its
    results, in order; what is missing is whole.

    Each of `ops` says what one op does: [function, op, choice, outer] with the
    function 0 (forward), 1 (backward by input) or 2 (backward by weight), the
    op's place in it, and choice a factor of the op's sharding rule, -1 for none
    or -2 - l for its linear set l.

    ```mlir
    dist.sharding block 1 tensor_parallel 2
        parameters {"h.0.attn.qkv.weight" = array<i64: 1, 3>}
        inputs [array<i64>] outputs [array<i64>] ops [array<i64: 0, 4, 2, 1>]
    ```
  }];
  let arguments = (ins I64Attr:$block, I64Attr:$tensor_parallel,
                       DictionaryAttr:$parameters,
                       TypedArrayAttrBase<DenseI64ArrayAttr, "states">:$inputs,
                       TypedArrayAttrBase<DenseI64ArrayAttr, "states">:$outputs,
                       TypedArrayAttrBase<DenseI64ArrayAttr, "choices">:$ops);
  let assemblyFormat = [{
    `block` $block `tensor_parallel` $tensor_parallel `parameters` $parameters
    `inputs` $inputs `outputs` $outputs `ops` $ops attr-dict
  }];
  let hasVerifier = 1;
}

def Dist_IslandOp : Dist_Container<"island", [HasParent<"StrategyOp">]> {
  let summary = "chips that hold one whole model and train synchronously";
  let description = [{
    Holds its `dist.stage` ops in the order of the model. `batch` and
    `microbatch` are in samples; the schedule is one of `gpipe`, `1f1b`,
    `interleaved`, `zero-bubble`. `inner_steps` are its own in a round of the
    `dist.server`, where they are not the server's.
  }];
  let arguments = (ins StrArrayAttr:$sites, I64Attr:$batch,
                       I64Attr:$microbatch, StrAttr:$schedule, I64Attr:$chunks,
                       OptionalAttr<I64Attr>:$inner_steps);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `on` $sites `batch` $batch `microbatch` $microbatch `schedule` $schedule
    `chunks` $chunks (`inner_steps` $inner_steps^)?
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
}

def Dist_StageOp : Dist_Container<"stage", [HasParent<"IslandOp">]> {
  let summary = "consecutive blocks and the replicas that hold them";
  let description = [{
    `recompute` is `none`, `full`, or as text how many of the first blocks run
    their forward again in the backward pass. With several chunks the stage's
    blocks are divided over them, the first ones having one more where that
    does not divide; chunk c of all stages follows chunk c - 1 of all. Holds one or
    more `dist.replicas`.
  }];
  let arguments = (ins I64Attr:$blocks, StrAttr:$recompute,
                       UnitAttr:$optimizer_sharding);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `blocks` $blocks `recompute` $recompute
    (`optimizer_sharding` $optimizer_sharding^)? attr-dict-with-keyword $body
  }];
  let extraClassDeclaration = [{
    /// Chips per replica: of the first ones, which all must agree with where
    /// functions are made for the stage.
    int64_t getTensorParallel();
    /// How many of the stage's first blocks run their forward once more.
    int64_t getRecomputedBlocks();
  }];
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
}

def Dist_ReplicasOp : Dist_Op<"replicas", [HasParent<"StageOp">]> {
  let summary = "equal replicas of a stage on one pool";
  let description = [{
    `count` replicas of `tensor_parallel` chips of pool `site/pool`; each takes
    `share` consecutive microbatches in a turn. `call_seconds`, where chips have
    times of their own: what a call of each function of a block takes, forward,
    backward by input and by weight, by the blocks' names, and `update`, that of
    all parameters (planning::CallSeconds).
  }];
  let arguments = (ins StrAttr:$pool, I64Attr:$count,
                       I64Attr:$tensor_parallel, I64Attr:$share,
                       OptionalAttr<DictionaryAttr>:$call_seconds);
  let assemblyFormat = [{
    `on` $pool `count` $count `tensor_parallel` $tensor_parallel
    `share` $share attr-dict
  }];
  let hasVerifier = 1;
}

def Dist_ServerOp : Dist_Container<"server", [HasParent<"StrategyOp">]> {
  let summary = "how islands exchange what they learned";
  let description = [{
    Each island pushes after `inner_steps` inner steps, or after as many as it
    has of its own; training goes on for `overlap_steps` of them meanwhile, which
    are fewer. Holds one `dist.fragment` for each fragment whose place is
    decided. `momentum` of `adamw` is its beta 1; it alone has `beta2`,
    `epsilon` and `weight_decay`.
  }];
  let arguments = (ins I64Attr:$inner_steps, I64Attr:$fragments,
                       I64Attr:$overlap_steps, StrAttr:$compression,
                       StrAttr:$outer_optimizer, F64Attr:$outer_learning_rate,
                       F64Attr:$outer_momentum,
                       OptionalAttr<F64Attr>:$outer_beta2,
                       OptionalAttr<F64Attr>:$outer_epsilon,
                       OptionalAttr<F64Attr>:$outer_weight_decay,
                       I64Attr:$quorum,
                       F64Attr:$deadline_seconds,
                       OptionalAttr<StrAttr>:$witness);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `inner_steps` $inner_steps `fragments` $fragments
    `overlap_steps` $overlap_steps `compression` $compression
    `outer` $outer_optimizer `learning_rate` $outer_learning_rate
    `momentum` $outer_momentum
    (`beta2` $outer_beta2^ `epsilon` $outer_epsilon
     `weight_decay` $outer_weight_decay)?
    `quorum` $quorum
    `deadline_seconds` $deadline_seconds (`witness` $witness^)?
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
}

def Dist_FragmentOp : Dist_Op<"fragment", [HasParent<"ServerOp">]> {
  let summary = "where a fragment of the parameters is kept";
  let arguments = (ins I64Attr:$index, StrAttr:$primary,
                       OptionalAttr<StrAttr>:$backup);
  let assemblyFormat = [{
    $index `primary` $primary (`backup` $backup^)? attr-dict
  }];
  let hasVerifier = 1;
}

#endif // TOMBOLO_DIALECT_DIST_IR_DISTOPS_TD
