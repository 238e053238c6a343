//===- TopoOps.td - ops of the topo dialect -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_TOPO_IR_TOPOOPS_TD
#define TOMBOLO_DIALECT_TOPO_IR_TOPOOPS_TD

include "tombolo/Dialect/Topo/IR/TopoDialect.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"

class Topo_Container<string mnemonic, list<Trait> traits = []>
    : Topo_Op<mnemonic, !listconcat([IsolatedFromAbove, NoTerminator,
                         NoRegionArguments, SingleBlock, SymbolTable], traits)>;

def Topo_TopologyOp : Topo_Container<"topology"> {
  let summary = "everything that one sites.yaml describes";
  let description = [{
    Holds `topo.chip`, `topo.layer_times`, `topo.function_time`,
    `topo.update_time`, `topo.site` and `topo.link` ops and
    nothing else. A
    module has at most one. Chips and sites share one table of names.

    ```mlir
    topo.topology {
      topo.chip @fast {matmul_efficiency = 0.6, memory_efficiency = 0.8,
                       memory_gbytes_per_second = 2039.0, memory_gib = 80.0,
                       tflops_bf16 = 312.0, tflops_f32 = 19.5}
      topo.site @north {
        topo.pool @a of @fast nodes 2 chips_per_node 8 nics_per_node 8
            {inter_gbits_per_second = 200.0, inter_latency_us = 8.0,
             intra_gbits_per_second = 2400.0, intra_latency_us = 3.0}
      }
    }
    ```
  }];
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "attr-dict-with-keyword $body";
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins)>];
  let hasRegionVerifier = 1;
}

def Topo_ChipOp : Topo_Op<"chip", [Symbol, HasParent<"TopologyOp">]> {
  let summary = "a type of chip";
  let description = [{
    Peak rates in 1e12 FLOP/s, one for each precision that the chip supports;
    at least one is given. An efficiency is the fraction of the peak that is
    reached, in (0, 1]. `overheads` are the figures of `planning::Overheads` in
    their order, `corrections` four figures for each correction.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name,
                       OptionalAttr<F64Attr>:$tflops_f32,
                       OptionalAttr<F64Attr>:$tflops_bf16,
                       F64Attr:$memory_gib,
                       F64Attr:$memory_gbytes_per_second,
                       F64Attr:$matmul_efficiency,
                       F64Attr:$memory_efficiency,
                       OptionalAttr<F64Attr>:$price_per_hour,
                       OptionalAttr<DenseF64ArrayAttr>:$overheads,
                       OptionalAttr<DenseF64ArrayAttr>:$corrections);
  let assemblyFormat = "$sym_name attr-dict";
  let hasVerifier = 1;
}

def Topo_LayerTimesOp : Topo_Op<"layer_times", [HasParent<"TopologyOp">]> {
  let summary = "measured seconds of some of the model's blocks";
  let description = [{
    Each of the blocks `first_block` to `last_block` took so long, called once
    on one microbatch, on each of `tensor_parallel` chips of this type: its
    forward, its whole backward, the update of its parameters once a step. A
    time that is missing was not measured.

    ```mlir
    topo.layer_times @fast blocks 2 to 24 microbatch 1 tensor_parallel 1
        {backward_seconds = 0.0117, forward_seconds = 0.0049,
         update_seconds = 0.0066}
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$chip, I64Attr:$first_block,
                       I64Attr:$last_block, I64Attr:$microbatch,
                       I64Attr:$tensor_parallel,
                       OptionalAttr<F64Attr>:$forward_seconds,
                       OptionalAttr<F64Attr>:$backward_seconds,
                       OptionalAttr<F64Attr>:$update_seconds);
  let assemblyFormat = [{
    $chip `blocks` $first_block `to` $last_block `microbatch` $microbatch
    `tensor_parallel` $tensor_parallel attr-dict
  }];
  let hasVerifier = 1;
}

def Topo_FunctionTimeOp : Topo_Op<"function_time", [HasParent<"TopologyOp">]> {
  let summary = "measured seconds of a function of a model's block";
  let description = [{
    One call of a function (`forward`, `backward_input`, `backward_weight`) on
    one microbatch, on one of `tensor_parallel` chips of this type, takes
    `seconds`: one number for each part between its collectives, which are not
    in them. `model` is the model's hash.

    ```mlir
    topo.function_time @core "block_1" "forward" microbatch 4
        tensor_parallel 1 seconds [1.25e-3] {model = "9f..", precision = "f32"}
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$chip, StrAttr:$block,
                       StrAttr:$function, I64Attr:$microbatch,
                       I64Attr:$tensor_parallel, DenseF64ArrayAttr:$seconds,
                       StrAttr:$model, StrAttr:$precision);
  let assemblyFormat = [{
    $chip $block $function `microbatch` $microbatch
    `tensor_parallel` $tensor_parallel `seconds` $seconds attr-dict
  }];
  let hasVerifier = 1;
}

def Topo_UpdateTimeOp : Topo_Op<"update_time", [HasParent<"TopologyOp">]> {
  let summary = "measured seconds of an optimizer's update";
  let description = [{
    An update of so many parameters, each with `state_bytes` bytes of optimizer
    state.

    ```mlir
    topo.update_time @core parameters 1048576 state_bytes 8 seconds 1.5e-3
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$chip, I64Attr:$parameters,
                       I64Attr:$state_bytes, F64Attr:$seconds);
  let assemblyFormat = [{
    $chip `parameters` $parameters `state_bytes` $state_bytes
    `seconds` $seconds attr-dict
  }];
  let hasVerifier = 1;
}

def Topo_SiteOp : Topo_Container<"site", [Symbol, HasParent<"TopologyOp">]> {
  let summary = "one data centre";
  let description = [{
    Holds `topo.pool` ops, at most one `topo.hosts`, and `topo.fabric` ops.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name)>];
  let hasRegionVerifier = 1;
}

def Topo_PoolOp : Topo_Op<"pool", [Symbol, HasParent<"SiteOp">]> {
  let summary = "the like chips of one site";
  let description = [{
    `intra_*` is the wire between the chips of one node (per chip, each
    direction), `inter_*` the wire between nodes (per network card, each
    direction; the chips of a node share its cards equally). A rate and its
    latency are given together. Where chips are cores of their hosts, or shares
    of them, chip i of a node computes on core i mod `cores_per_node`, and shares
    it equally with what else runs there: other chips, messages, exchanges;
    absent: each chip has its own.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$chip,
                       I64Attr:$nodes, I64Attr:$chips_per_node,
                       I64Attr:$nics_per_node,
                       OptionalAttr<I64Attr>:$cores_per_node,
                       OptionalAttr<F64Attr>:$intra_gbits_per_second,
                       OptionalAttr<F64Attr>:$intra_latency_us,
                       OptionalAttr<F64Attr>:$inter_gbits_per_second,
                       OptionalAttr<F64Attr>:$inter_latency_us);
  let assemblyFormat = [{
    $sym_name `of` $chip `nodes` $nodes `chips_per_node` $chips_per_node
    `nics_per_node` $nics_per_node attr-dict
  }];
  let hasVerifier = 1;
}

def Topo_HostsOp : Topo_Op<"hosts", [HasParent<"SiteOp">]> {
  let summary = "machines of a site where servers and the gateway may live";
  let arguments = (ins I64Attr:$count, F64Attr:$memory_gib,
                       OptionalAttr<F64Attr>:$disk_gbytes_per_second,
                       OptionalAttr<StrAttr>:$address);
  let assemblyFormat = "$count attr-dict";
  let hasVerifier = 1;
}

def Topo_FabricOp : Topo_Op<"fabric", [HasParent<"SiteOp">]> {
  let summary = "the wire between pools of a site, per network card";
  let description = [{
    With `between` it holds for that pair of pools, else for every pair that
    has none of its own.
  }];
  let arguments = (ins OptionalAttr<FlatSymbolRefAttr>:$first,
                       OptionalAttr<FlatSymbolRefAttr>:$second,
                       F64Attr:$gbits_per_second, F64Attr:$latency_us);
  let assemblyFormat = "(`between` $first^ `,` $second)? attr-dict";
  let hasVerifier = 1;
}

def Topo_LinkOp : Topo_Op<"link", [HasParent<"TopologyOp">]> {
  let summary = "a line between two sites";
  let description = [{
    Full duplex: the rate holds in each direction and is shared by all flows
    between the two. `loss` is the fraction of packets lost, in [0, 1).
  }];
  let arguments = (ins FlatSymbolRefAttr:$first, FlatSymbolRefAttr:$second,
                       F64Attr:$gbits_per_second, F64Attr:$rtt_ms,
                       F64Attr:$loss);
  let assemblyFormat = "$first `,` $second attr-dict";
  let hasVerifier = 1;
}

#endif // TOMBOLO_DIALECT_TOPO_IR_TOPOOPS_TD
