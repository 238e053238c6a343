//===- PlanOps.td - ops of the plan dialect ----------------*- tablegen -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_PLAN_IR_PLANOPS_TD
#define TOMBOLO_DIALECT_PLAN_IR_PLANOPS_TD

include "tombolo/Dialect/Plan/IR/PlanDialect.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/BuiltinTypes.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Plan_Op<string mnemonic, list<Trait> traits = []>
    : Op<Plan_Dialect, mnemonic, traits>;

class Plan_Container<string mnemonic, list<Trait> traits = []>
    : Plan_Op<mnemonic, !listconcat([NoTerminator, SingleBlock], traits)>;

def Plan_MemRef : MemRefOf<[F32, BF16, I1, I32, I64]>;

//===----------------------------------------------------------------------===//
// Segments
//===----------------------------------------------------------------------===//

def Plan_SegmentOp : Plan_Container<"segment", [Symbol, IsolatedFromAbove]> {
  let summary = "a straight-line piece of compute on memory";
  let description = [{
    The block's arguments are the memory that the caller passes in, as row-major
    memrefs; an i1 element is a byte. `arg_access` tells what becomes of each.
    Scratch memory is `workspace_bytes` long and read through `plan.workspace`.
    `work` says what one call does, as the planner counts it. Without it, the
    bytes of every argument are streamed.

    ```mlir
    plan.segment @f(%x: memref<2x4xf32> read "x", %y: memref<4x2xf32> write "y")
        workspace 64 {
      %xt = plan.view %x[0] : memref<2x4xf32> to memref<4x2xf32, strided<[1, 4]>>
      plan.compute "copy" ins(%xt : memref<4x2xf32, strided<[1, 4]>>) outs(%y : memref<4x2xf32>)
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrArrayAttr:$arg_names,
                       Plan_AccessArrayAttr:$arg_access, Plan_I64:$workspace_bytes,
                       OptionalAttr<Plan_WorkAttr>:$work);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [
    OpBuilder<(ins "::llvm::StringRef":$name, "::llvm::ArrayRef<::llvm::StringRef>":$argumentNames,
                   "::llvm::ArrayRef<::mlir::MemRefType>":$argumentTypes,
                   "::llvm::ArrayRef<::tombolo::plan::Access>":$argumentAccess,
                   CArg<"int64_t", "0">:$workspaceBytes)>];
  let extraClassDeclaration = [{
    ::tombolo::plan::Access getAccess(unsigned argument);
  }];
}

def Plan_ViewOp : Plan_Op<"view", [Pure]> {
  let summary = "another type of the same memory, some bytes further on";
  let description = [{
    `byte_offset` counts from the first byte of the memory that the operand
    views (the argument's or constant's storage starts at the operand).
  }];
  let arguments = (ins Plan_MemRef:$source, Plan_I64:$byte_offset);
  let results = (outs Plan_MemRef:$result);
  let assemblyFormat = "$source `[` $byte_offset `]` attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

def Plan_WorkspaceOp : Plan_Op<"workspace", [Pure, HasParent<"SegmentOp">]> {
  let summary = "a place in the segment's workspace";
  let arguments = (ins Plan_I64:$byte_offset);
  let results = (outs Plan_MemRef:$result);
  let assemblyFormat = "`[` $byte_offset `]` attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Plan_ConstantOp : Plan_Op<"constant", [Pure, HasParent<"SegmentOp">]> {
  let summary = "elements that are known at compile time";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Plan_MemRef:$result);
  let assemblyFormat = "$value attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Plan_ComputeOp : Plan_Op<"compute", [AttrSizedOperandSegments, HasParent<"SegmentOp">]> {
  let summary = "one op of docs/PlanFormat.md";
  let description = [{
    `opcode` is the name in docs/PlanFormat.md. The op's own attributes stand in
    `settings`: integers (i64), reals (f64), booleans, strings, arrays of i64.
  }];
  let arguments = (ins StrAttr:$opcode, Variadic<Plan_MemRef>:$inputs,
                       Variadic<Plan_MemRef>:$outputs, UnitAttr:$accumulate,
                       OptionalAttr<DictionaryAttr>:$settings);
  let assemblyFormat = [{
    $opcode (`ins` `(` $inputs^ `:` type($inputs) `)`)?
    `outs` `(` $outputs `:` type($outputs) `)` (`accumulate` $accumulate^)?
    (`with` $settings^)? attr-dict
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

def Plan_ProgramOp : Plan_Container<"program", [Symbol, SymbolTable, IsolatedFromAbove]> {
  let summary = "what every rank of one class runs";
  let description = [{
    Holds, in this order: buffers (before allocation) or regions, parameters,
    states, semaphores, one `plan.step`, one `plan.finish` and perhaps one
    `plan.evaluate`. `stats` and
    `updates` are the addresses of plan.proto's Program, and so is
    `gradient_squares`, which is there with gradient clipping; `arena_bytes` is
    there after allocation, and so is `host_bytes` (planned host memory outside
    the arena) unless it is 0. A program whose segments want to know the rank's
    tensor-parallel index says where it stands: `tensor_index`.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_AddressAttr:$stats,
                       Plan_AddressAttr:$updates, OptionalAttr<Plan_AddressAttr>:$tensor_index,
                       OptionalAttr<Plan_AddressAttr>:$gradient_squares,
                       OptionalAttr<Plan_I64>:$arena_bytes,
                       DefaultValuedAttr<Plan_I64, "0">:$host_bytes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name `stats` $stats `updates` $updates (`tensor_index` $tensor_index^)?
    (`gradient_squares` $gradient_squares^)?
    (`arena_bytes` $arena_bytes^)? (`host_bytes` $host_bytes^)?
    attr-dict-with-keyword $body
  }];
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    StepOp getStep();
    FinishOp getFinish();
    /// Null when there is none.
    EvaluateOp getEvaluate();
  }];
}

def Plan_BufferOp : Plan_Op<"buffer", [Symbol, HasParent<"ProgramOp">]> {
  let summary = "memory to be placed: `slots` times `slot_bytes`";
  let description = [{
    `region_name` is the part of the arena that it belongs to. Slots are
    multiples of 64 bytes.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$region_name,
                       Plan_I64:$slots, Plan_I64:$slot_bytes);
  let assemblyFormat = "$sym_name `in` $region_name $slots `x` $slot_bytes attr-dict";
  let hasVerifier = 1;
}

def Plan_RegionOp : Plan_Op<"region", [HasParent<"ProgramOp">]> {
  let summary = "a part of the arena";
  let arguments = (ins StrAttr:$region_name, Plan_I64:$offset, Plan_I64:$bytes);
  let assemblyFormat = "$region_name `at` $offset `bytes` $bytes attr-dict";
  let hasVerifier = 1;
}

def Plan_ParametersOp : Plan_Op<"parameters", [HasParent<"ProgramOp">]> {
  let summary = "`count` parameters of one type, `stride` bytes apart";
  let description = [{
    `type` is that of the whole parameter; with `slices` only these of its
    elements lie here, one run behind the other. `fragments` are pairs of a
    fragment and how many of the parameters, in order, it has; without, all are
    in fragment 0.
  }];
  let arguments = (ins Plan_FamilyNames:$names, Plan_FamilyNames:$initializers,
                       Plan_I64:$count, Plan_AddressAttr:$address, Plan_I64:$stride,
                       TypeAttrOf<AnyRankedTensor>:$type,
                       OptionalAttr<Plan_SliceArrayAttr>:$slices, UnitAttr:$frozen,
                       OptionalAttr<DenseI64ArrayAttr>:$fragments, UnitAttr:$owner);
  let assemblyFormat = [{
    $names `from` $initializers `count` $count `at` $address `stride` $stride
    `:` $type (`slices` $slices^)? (`frozen` $frozen^)? (`owner` $owner^)?
    (`fragments` $fragments^)? attr-dict
  }];
  let extraClassDeclaration = [{
    /// Elements of one parameter that lie here.
    int64_t getLocalElements();
  }];
  let hasVerifier = 1;
}

def Plan_StateOp : Plan_Op<"state", [HasParent<"ProgramOp">]> {
  let summary = "optimizer state that lies like the parameters";
  let description = [{
    Of the bytes [begin, begin + bytes) of the region "parameters", or of all
    when `bytes` is 0. With `part_bytes` a rank has the state of these of them
    only: [replica * part_bytes, (replica + 1) * part_bytes).
  }];
  let arguments = (ins StrAttr:$state_name, Plan_AddressAttr:$address,
                       DefaultValuedAttr<Plan_I64, "0">:$part_bytes,
                       DefaultValuedAttr<Plan_I64, "0">:$begin,
                       DefaultValuedAttr<Plan_I64, "0">:$bytes);
  let assemblyFormat = [{
    $state_name `at` $address (`bytes` $bytes^ `from` $begin)? (`part` $part_bytes^)?
    attr-dict
  }];
  let hasVerifier = 1;
}

def Plan_SemaphoreOp : Plan_Op<"semaphore", [Symbol, HasParent<"ProgramOp">]> {
  let summary = "counts completed instructions within a step";
  let arguments = (ins SymbolNameAttr:$sym_name);
  let assemblyFormat = "$sym_name attr-dict";
}

def Plan_StepOp : Plan_Container<"step", [HasParent<"ProgramOp">]> {
  let summary = "one inner step";
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "attr-dict-with-keyword $body";
}

def Plan_FinishOp : Plan_Container<"finish", [HasParent<"ProgramOp">]> {
  let summary = "once, after the last step";
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "attr-dict-with-keyword $body";
}

def Plan_EvaluateOp : Plan_Container<"evaluate", [HasParent<"ProgramOp">]> {
  let summary = "losses of as many samples as a step has, without training";
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "attr-dict-with-keyword $body";
}

def Plan_LoopOp : Plan_Container<"loop"> {
  let summary = "a body, `count` times; `variable` counts from `first` or 0";
  let description = [{
    `first` is an expression of the variables of the loops around. Where a loop
    repeats another one for groups of microbatches, it makes the number of a
    microbatch depend on one variable, so that it can be taken modulo slots.
  }];
  let arguments = (ins Plan_I64:$variable, Plan_I64:$count,
                       OptionalAttr<Plan_ExprAttr>:$first);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $variable `count` $count (`from` $first^)? attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def Plan_InstructionInterface : OpInterface<"InstructionOpInterface"> {
  let cppNamespace = "::tombolo::plan";
  let description = [{
    What all instructions but loops have: a lane, waits, signals and a guard.
  }];
  let methods = [
    InterfaceMethod<"", "::tombolo::plan::Lane", "getLane">,
    InterfaceMethod<"", "void", "setLane", (ins "::tombolo::plan::Lane":$lane)>,
    InterfaceMethod<"", "::std::optional<::mlir::ArrayAttr>", "getWaits">,
    InterfaceMethod<"", "::std::optional<::mlir::ArrayAttr>", "getSignals">,
    InterfaceMethod<"", "void", "setWaitsAttr", (ins "::mlir::ArrayAttr":$waits)>,
    InterfaceMethod<"", "void", "setSignalsAttr", (ins "::mlir::ArrayAttr":$signals)>,
    InterfaceMethod<"", "::std::optional<::tombolo::plan::GuardAttr>", "getGuard">];
}

class Plan_Instruction<string mnemonic, dag own, string format, list<Trait> traits = []>
    : Plan_Op<mnemonic, !listconcat(traits, [Plan_InstructionInterface])> {
  let arguments = !con(own, (ins Plan_LaneAttr:$lane, OptionalAttr<Plan_WaitArrayAttr>:$waits,
                                 OptionalAttr<Plan_SignalArrayAttr>:$signals,
                                 OptionalAttr<Plan_GuardAttr>:$guard));
  let assemblyFormat = format # [{
    `on` $lane (`wait` $waits^)? (`signal` $signals^)? (`guard` $guard^)? attr-dict
  }];
}

def Plan_CallOp : Plan_Instruction<"call",
    (ins FlatSymbolRefAttr:$segment, Plan_AddressArrayAttr:$addresses,
         OptionalAttr<Plan_AddressAttr>:$workspace),
    "$segment $addresses (`workspace` $workspace^)?"> {
  let summary = "runs a segment, or until `plan-lower-segments` a function";
  let description = [{
    Before lowering `segment` names a function of graph ops: one address for
    each argument, then one for each result.
  }];
}

def Plan_LoadOp : Plan_Instruction<"load",
    (ins StrAttr:$input, Plan_AddressAttr:$address, Plan_ExprAttr:$microbatch),
    "$input `to` $address `microbatch` $microbatch"> {
  let summary = "copies the samples of one microbatch into the arena";
}

def Plan_StampOp : Plan_Instruction<"stamp",
    (ins Plan_AddressAttr:$address, Plan_ExprAttr:$microbatch, Plan_ExprAttr:$block),
    "$address `microbatch` $microbatch `block` $block"> {
  let summary = "writes what random masks depend on: four i64";
}

class Plan_Transfer<string mnemonic> : Plan_Instruction<mnemonic,
    (ins Plan_I64:$stage, Plan_AddressAttr:$address, Plan_I64:$bytes, Plan_ExprAttr:$microbatch,
         OptionalAttr<Plan_ExprAttr>:$tensor_index),
    "$stage (`tensor_index` $tensor_index^)? $address `bytes` $bytes `microbatch` $microbatch">;
def Plan_SendOp : Plan_Transfer<"send"> {
  let summary = "one tensor to the replica of another stage with this microbatch";
}
def Plan_ReceiveOp : Plan_Transfer<"receive"> {
  let summary = "one tensor from the replica of another stage with this microbatch";
}

def Plan_CollectiveOp : Plan_Instruction<"collective",
    (ins StrAttr:$kind, Plan_GroupAttr:$group, Plan_AddressAttr:$address,
         Plan_I64:$elements, TypeAttr:$type, OptionalAttr<DenseI64ArrayAttr>:$stages),
    "$kind `over` $group (`` $stages^)? $address `elements` $elements `:` $type"> {
  let summary = "all ranks of a group at once, in place";
  let description = [{
    `kind` is all_reduce_sum, reduce_scatter_sum, all_gather or all_to_all, as
    in plan.proto. `stages` are those of the group `stages`.
  }];
  let hasVerifier = 1;
}

def Plan_PushOp : Plan_Instruction<"push", (ins Plan_I64:$fragment), "$fragment"> {
  let summary = "sends a fragment's change to the server";
}
def Plan_ApplyOp : Plan_Instruction<"apply", (ins Plan_I64:$fragment), "$fragment"> {
  let summary = "waits for the outcome of a fragment's push, if any, and installs it";
}

//===----------------------------------------------------------------------===//
// The rest of the message
//===----------------------------------------------------------------------===//

def Plan_ModelOp : Plan_Container<"model"> {
  let summary = "what one sample is; holds `plan.input` ops, the label (if any) last";
  let arguments = (ins StrAttr:$model_hash, StrAttr:$topology_hash,
                       Plan_I64:$tokens_per_sample, Plan_I64:$vocabulary);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `hash` $model_hash `topology` $topology_hash `tokens_per_sample` $tokens_per_sample
    `vocabulary` $vocabulary attr-dict-with-keyword $body
  }];
}

def Plan_InputOp : Plan_Op<"input", [HasParent<"ModelOp">]> {
  let summary = "an input of the model, as one sample of it";
  let arguments = (ins StrAttr:$input_name, TypeAttrOf<AnyRankedTensor>:$type, UnitAttr:$label);
  let assemblyFormat = "$input_name `:` $type (`label` $label^)? attr-dict";
}

def Plan_TrainingOp : Plan_Op<"training"> {
  let summary = "how the model is trained";
  let description = [{
    `optimizer` is sgd or adamw; `settings` holds its real numbers under the
    names of plan.proto, and the learning rate's schedule if there is one.
  }];
  let arguments = (ins StrAttr:$optimizer, F64Attr:$learning_rate, Plan_I64:$global_batch,
                       StrAttr:$precision, DictionaryAttr:$settings);
  let assemblyFormat = [{
    $optimizer `learning_rate` $learning_rate `global_batch` $global_batch
    `precision` $precision $settings attr-dict
  }];
  let hasVerifier = 1;
}

def Plan_IslandOp : Plan_Container<"island"> {
  let summary = "one island; holds its `plan.stage` ops";
  let description = [{
    `schedule`, and what a `plan.stage` says of its blocks, is what the programs
    were made from: for export to other engines, no executor goes by it.
  }];
  let arguments = (ins StrArrayAttr:$sites, Plan_I64:$batch, Plan_I64:$microbatch,
                       OptionalAttr<Plan_I64>:$inner_steps, OptionalAttr<StrAttr>:$schedule);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sites `batch` $batch `microbatch` $microbatch (`inner_steps` $inner_steps^)?
    attr-dict-with-keyword $body
  }];
}

def Plan_Chunks : TypedArrayAttrBase<
    TypedArrayAttrBase<Plan_BlocksAttr, "runs of blocks">, "chunks of the model">;

def Plan_StageOp : Plan_Container<"stage", [HasParent<"IslandOp">]> {
  let summary = "a stage; holds its `plan.replicas` ops";
  let arguments = (ins OptionalAttr<Plan_Chunks>:$chunks,
                       OptionalAttr<Plan_I64>:$recomputed_blocks,
                       UnitAttr:$optimizer_sharding);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "attr-dict-with-keyword $body";
}

def Plan_ReplicasOp : Plan_Op<"replicas", [HasParent<"StageOp">]> {
  let summary = "equal replicas of a stage that run one program";
  let description = "`call_seconds` is that of the `dist.replicas`, for export.";
  let arguments = (ins StrAttr:$site, StrAttr:$pool, Plan_I64:$count,
                       Plan_I64:$tensor_parallel, Plan_I64:$share, FlatSymbolRefAttr:$program,
                       OptionalAttr<DictionaryAttr>:$call_seconds);
  let assemblyFormat = [{
    $program `on` $site $pool `count` $count `tensor_parallel` $tensor_parallel
    `share` $share attr-dict
  }];
}

def Plan_ServerOp : Plan_Op<"server"> {
  let summary = "the outer synchronisation";
  let arguments = (ins Plan_I64:$inner_steps, Plan_I64:$overlap_steps, Plan_I64:$fragments,
                       StrAttr:$compression, StrAttr:$outer, F64Attr:$learning_rate,
                       F64Attr:$momentum, OptionalAttr<F64Attr>:$beta2,
                       OptionalAttr<F64Attr>:$epsilon, OptionalAttr<F64Attr>:$weight_decay,
                       Plan_I64:$quorum, F64Attr:$deadline_seconds,
                       StrArrayAttr:$primaries, StrArrayAttr:$backups, StrAttr:$witness);
  let assemblyFormat = [{
    `inner_steps` $inner_steps `overlap_steps` $overlap_steps `fragments` $fragments
    `compression` $compression `outer` $outer `learning_rate` $learning_rate
    `momentum` $momentum
    (`beta2` $beta2^ `epsilon` $epsilon `weight_decay` $weight_decay)?
    `quorum` $quorum `deadline_seconds` $deadline_seconds
    `primaries` $primaries `backups` $backups `witness` $witness attr-dict
  }];
}

def Plan_PredictionOp : Plan_Op<"prediction"> {
  let summary = "what the planner foretold, under the names of plan.proto";
  let arguments = (ins DictionaryAttr:$values);
  let assemblyFormat = "$values attr-dict";
}

#endif // TOMBOLO_DIALECT_PLAN_IR_PLANOPS_TD
