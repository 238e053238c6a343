//===- PlanDialect.td - the plan dialect -----------------*- tablegen -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_PLAN_IR_PLANDIALECT_TD
#define TOMBOLO_DIALECT_PLAN_IR_PLANDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::tombolo::plan";
  let summary = "when it happens: segments, and one program per class of ranks";
  let description = [{
    Mirrors runtime/schema/plan.proto one to one, so that exporting is dull.
    Two things are friendlier than in the message until `plan-allocate-buffers`
    has run: addresses name a `plan.buffer` and a slot of it instead of a byte
    of the arena, and semaphores have names throughout.
  }];
  let useDefaultAttributePrinterParser = 1;
  let extraClassDeclaration = [{
    void registerAttributes();
  }];
}

class Plan_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::tombolo::plan";
  let genSpecializedAttr = 0;
}

// The numbers are those of plan.proto.
def Plan_Access : Plan_Enum<"Access", "what a segment does with an argument", [
  I32EnumAttrCase<"Read", 1, "read">,
  I32EnumAttrCase<"Write", 2, "write">,
  I32EnumAttrCase<"ReadWrite", 3, "read_write">]>;
def Plan_Lane : Plan_Enum<"Lane", "what an instruction occupies", [
  I32EnumAttrCase<"Compute", 1, "compute">,
  I32EnumAttrCase<"SendForward", 2, "send_forward">,
  I32EnumAttrCase<"ReceiveForward", 3, "receive_forward">,
  I32EnumAttrCase<"SendBackward", 4, "send_backward">,
  I32EnumAttrCase<"ReceiveBackward", 5, "receive_backward">,
  I32EnumAttrCase<"Collective", 6, "collective">,
  I32EnumAttrCase<"Exchange", 7, "exchange">]>;
def Plan_Group : Plan_Enum<"Group", "who takes part in a collective", [
  I32EnumAttrCase<"Replicas", 1, "replicas">,
  I32EnumAttrCase<"Island", 2, "island">,
  I32EnumAttrCase<"Tensor", 3, "tensor">,
  I32EnumAttrCase<"Stages", 4, "stages">]>;

def Plan_AccessAttr : EnumAttr<Plan_Dialect, Plan_Access, "access">;
def Plan_LaneAttr : EnumAttr<Plan_Dialect, Plan_Lane, "lane">;
def Plan_GroupAttr : EnumAttr<Plan_Dialect, Plan_Group, "group">;

// Signed, as all sizes and numbers here are.
def Plan_I64 : TypedSignlessIntegerAttrBase<I64, "int64_t", "64-bit integer">;

class Plan_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Plan_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def Plan_ExprAttr : Plan_Attr<"Expr", "expr"> {
  let summary = "(constant + sum of factor * ((variable + offset) mod modulus)) / divisor";
  let description = [{
    An integer that depends on the enclosing loops and on where the rank stands
    in its stage; `vN` counts the iterations of `plan.loop N`, `tensor_index` is
    the rank's number in its replica and `replica` its replica's in the stage.
    Modulus 0 means no mod; the divisor of the whole is 1 unless `floordiv`
    stands behind. Examples: `#plan.expr<64 + 128 * v0 + 32 * ((v1 + 2) mod 4)>`,
    `#plan.expr<1 + 2 * tensor_index floordiv 4>`.
  }];
  let parameters = (ins "int64_t":$constant,
                        ArrayRefParameter<"::tombolo::plan::Term">:$terms,
                        "uint64_t":$divisor);
  let genVerifyDecl = 1;
  let hasCustomAssemblyFormat = 1;
  let builders = [
    AttrBuilder<(ins CArg<"int64_t", "0">:$constant), [{
      return $_get($_ctxt, constant, ::llvm::ArrayRef<::tombolo::plan::Term>(), 1);
    }]>,
    AttrBuilder<(ins "int64_t":$constant, "::llvm::ArrayRef<::tombolo::plan::Term>":$terms), [{
      return $_get($_ctxt, constant, terms, 1);
    }]>];
  let extraClassDeclaration = [{
    /// factor * this; the divisor is 1.
    ExprAttr scaledBy(int64_t factor) const;
    ExprAttr plus(int64_t constant) const;
    /// this + other; one of the divisors is 1.
    ExprAttr plus(ExprAttr other) const;
    /// this mod `modulus`: the expression has at most one term, of factor 1 and
    /// without a modulus of its own, and divisor 1.
    ::mlir::FailureOr<ExprAttr> mod(uint64_t modulus) const;
    bool isConstant() const { return getTerms().empty() && getDivisor() == 1; }
  }];
}

def Plan_AddressAttr : Plan_Attr<"Address", "address"> {
  let summary = "where in the arena";
  let description = [{
    `#plan.address<@buffer[slot] + offset>`: `offset` bytes into slot number
    `slot mod slots` of a `plan.buffer`; or, after `plan-allocate-buffers`,
    `#plan.address<offset>`, a byte of the arena.
  }];
  let parameters = (ins OptionalParameter<"::mlir::FlatSymbolRefAttr">:$buffer,
                        OptionalParameter<"::tombolo::plan::ExprAttr">:$slot,
                        "::tombolo::plan::ExprAttr":$offset);
  let hasCustomAssemblyFormat = 1;
  let builders = [
    AttrBuilderWithInferredContext<(ins "::tombolo::plan::ExprAttr":$offset), [{
      return $_get(offset.getContext(), ::mlir::FlatSymbolRefAttr(), ::tombolo::plan::ExprAttr(), offset);
    }]>];
}

def Plan_WaitAttr : Plan_Attr<"Wait", "wait"> {
  let summary = "a semaphore has counted to a value, or further";
  let description = [{ `#plan.wait<@name at v0 + 1>`. }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$semaphore,
                        "::tombolo::plan::ExprAttr":$value);
  let hasCustomAssemblyFormat = 1;
}

def Plan_GuardAttr : Plan_Attr<"Guard", "guard"> {
  let summary = "in inner step n when (n + 1) mod modulus == remainder";
  let parameters = (ins "uint64_t":$modulus, "uint64_t":$remainder);
  let assemblyFormat = "`<` $modulus `,` $remainder `>`";
  let genVerifyDecl = 1;
}

def Plan_WorkAttr : Plan_Attr<"Work", "work"> {
  let summary = "what one call of a segment does, as the planner counts it";
  let description = [{
    `#plan.work<flops 1.2e9, bytes 4096.0, streamed 1024.0, scores 64.0, ops 3.0>`;
    each figure is finite and at least 0.
  }];
  let parameters = (ins "::tombolo::plan::WorkFigures":$figures);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Plan_BlocksAttr : Plan_Attr<"Blocks", "blocks"> {
  let summary = "consecutive blocks of the model that are calls of one function";
  let parameters = (ins "::mlir::StringAttr":$block, "uint64_t":$count);
  let assemblyFormat = "`<` $block `,` $count `>`";
}

def Plan_NamesAttr : Plan_Attr<"Names", "names"> {
  let summary = "prefix + (first + i * step) + suffix";
  let parameters = (ins "::mlir::StringAttr":$prefix, "::mlir::StringAttr":$suffix,
                        "uint64_t":$first, "uint64_t":$step);
  let assemblyFormat = "`<` $prefix `,` $first `,` $step `,` $suffix `>`";
}

def Plan_SliceAttr : Plan_Attr<"Slice", "slice"> {
  let summary = "elements of a parameter: runs of equal length, evenly apart";
  let description = [{
    `#plan.slice<begin, length x count, stride, tensor_stride>`: `count` runs of
    `length` elements of the row-major whole, `stride` elements apart, from
    `begin` + tensor index * `tensor_stride` on.
  }];
  let parameters = (ins "int64_t":$begin, "int64_t":$length, "int64_t":$count,
                        "int64_t":$stride, "int64_t":$tensorStride);
  let assemblyFormat = [{
    `<` $begin `,` $length `by` $count `,` $stride `,` $tensorStride `>`
  }];
  let genVerifyDecl = 1;
}

def Plan_StridedAttr : Plan_Attr<"Strided", "strided", [
    DeclareAttrInterfaceMethods<MemRefLayoutAttrInterface, ["getAffineMap"]>]> {
  let summary = "a memref's strides, some of which are 0";
  let description = [{
    `#plan.strided<[0, 1]>`: the memory of a broadcast. MLIR's own `strided`,
    which all other views have, refuses a stride of 0.
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$strides);
  let assemblyFormat = "`<` `[` $strides `]` `>`";
  let genVerifyDecl = 1;
}

def Plan_AccessArrayAttr : TypedArrayAttrBase<Plan_AccessAttr, "accesses">;
def Plan_AddressArrayAttr : TypedArrayAttrBase<Plan_AddressAttr, "addresses">;
def Plan_WaitArrayAttr : TypedArrayAttrBase<Plan_WaitAttr, "waits">;
def Plan_SignalArrayAttr : TypedArrayAttrBase<FlatSymbolRefAttr, "semaphores">;
def Plan_SliceArrayAttr : TypedArrayAttrBase<Plan_SliceAttr, "slices">;
// Names of a family: a pattern, or one by one.
def Plan_FamilyNames : AnyAttrOf<[Plan_NamesAttr, StrArrayAttr]>;

#endif // TOMBOLO_DIALECT_PLAN_IR_PLANDIALECT_TD
