//===- Passes.td - passes on the plan dialect ---------*- tablegen -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_PLAN_TRANSFORMS_PASSES_TD
#define TOMBOLO_DIALECT_PLAN_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def PlanScheduleMicrobatches : Pass<"plan-schedule-microbatches", "::mlir::ModuleOp"> {
  let summary = "a program for every stage: loops over microbatches and blocks";
  let description = [{
    Turns the `dist.strategy` into the plan's islands, server and training, and
    writes one `plan.program` for each class of ranks. A step zeroes gradients
    and statistics, runs the schedule's loops over microbatches, with a loop
    over the blocks of each run inside, reduces, and updates. Memory is named by
    `plan.buffer`s; calls name functions of graph ops. A slot of a buffer holds
    what belongs to one microbatch; there are as many as microbatches in flight.

    Precondition: the dist passes have run. Postcondition: no dist op, no
    `@main` and no unspecialised block is left. Instructions have lanes, but
    nothing orders lanes against each other yet.
  }];
  let dependentDialects = ["::tombolo::plan::PlanDialect"];
}

def PlanExpandCollectives : Pass<"plan-expand-collectives", "::mlir::ModuleOp"> {
  let summary = "functions with collectives become parts between collectives";
  let description = [{
    A call of a function in which chips of a replica talk to each other becomes
    calls of the function's *parts*, what lies between its collectives, with
    `plan.collective`s over the group `tensor` between them. A function is split
    once, however often it is called. A collective happens in place, where the
    part before leaves its operand; what one part leaves to another lies in the
    memory of a result or in the program's buffer `crossing`. The tensor index
    becomes an argument that is bound to the program's `tensor_index`.

    Precondition: `plan-schedule-microbatches`. Postcondition: no function that
    is called has a collective or asks for the tensor index.
  }];
  let dependentDialects = ["::tombolo::plan::PlanDialect", "::mlir::func::FuncDialect"];
}

def PlanOverlapTransfers : Pass<"plan-overlap-transfers", "::mlir::ModuleOp"> {
  let summary = "semaphores between lanes, and slots so that transfers overlap compute";
  let description = [{
    A receive may run ahead of compute by as many microbatches as its buffer has
    slots to spare, a send may lag behind in the same way; this pass gives each
    boundary buffer one slot more than compute alone needs and orders the lanes
    by semaphores: *filled* (data is there), *free* (compute has read it for the
    last time), *ready* (compute has written it) and *sent*. Collectives inside
    loops start when compute has come to them, and compute goes on until it needs
    what they touch.

    Precondition: `plan-schedule-microbatches`. Postcondition: lanes meet
    wherever one reads what another writes.
  }];
  let dependentDialects = ["::tombolo::plan::PlanDialect"];
}

def PlanLowerSegments : Pass<"plan-lower-segments", "::mlir::ModuleOp"> {
  let summary = "functions of graph ops become segments";
  let description = [{
    Lowers each function that a `plan.call` names, once, and gives each program
    a workspace as large as the largest of its segments needs.

    Postcondition: no function and no graph op but `graph.parameter` is left.
  }];
  let dependentDialects = ["::tombolo::plan::PlanDialect"];
}

def PlanAllocateBuffers : Pass<"plan-allocate-buffers", "::mlir::ModuleOp"> {
  let summary = "one arena for each program";
  let description = [{
    Places each program's buffers, grouped by region, one behind the other, and
    rewrites all addresses to bytes of the arena: base + (slot mod slots) *
    slot_bytes + offset. Everything a buffer holds lives through the step, but
    for the workspace, which all calls share. The arena's size is the planned
    peak.

    Postcondition: no `plan.buffer` is left; `arena_bytes` is set.
  }];
  let dependentDialects = ["::tombolo::plan::PlanDialect"];
}

def PlanVerify : Pass<"plan-verify", "::mlir::ModuleOp"> {
  let summary = "proves that the plan can run";
  let description = [{
    Checks that each program's arena fits its chip, that each transfer has a
    route, that each gradient is reduced exactly once, that each parameter
    element has one owner, that everything a runtime relies on holds
    (`validatePlan`) and that the programs of an island run to their end
    together (`checkProgress`). Changes nothing.

    Precondition: `plan-allocate-buffers`.
  }];
  let options = [
    Option<"message", "message", "bool", "true",
           "check what a runtime relies on, and run the programs against each "
           "other; without it somebody else does">
  ];
}

#endif // TOMBOLO_DIALECT_PLAN_TRANSFORMS_PASSES_TD
