//===- TopoDialect.cpp - ops of the topo dialect and their verifiers ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Topo/IR/Topo.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace tombolo;
using namespace tombolo::topo;

#include "tombolo/Dialect/Topo/IR/TopoDialect.cpp.inc"

void TopoDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "tombolo/Dialect/Topo/IR/TopoOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Figures
//===----------------------------------------------------------------------===//

static LogicalResult positive(Operation *op, StringRef what, double value) {
  if (std::isfinite(value) && value > 0)
    return success();
  return op->emitOpError("expected a positive '") << what << "', got " << value;
}

static LogicalResult positive(Operation *op, StringRef what,
                              std::optional<llvm::APFloat> value) {
  return value ? positive(op, what, value->convertToDouble()) : success();
}

static LogicalResult positiveCount(Operation *op, StringRef what,
                                   uint64_t value) {
  if (static_cast<int64_t>(value) > 0)
    return success();
  return op->emitOpError("expected a positive '")
         << what << "', got " << static_cast<int64_t>(value);
}

static LogicalResult latency(Operation *op, StringRef what, double value) {
  if (std::isfinite(value) && value >= 0)
    return success();
  return op->emitOpError("expected '")
         << what << "' of at least 0, got " << value;
}

static LogicalResult efficiency(Operation *op, StringRef what, double value) {
  if (value > 0 && value <= 1)
    return success();
  return op->emitOpError("expected '") << what << "' in (0, 1], got " << value;
}

/// That a container holds only ops of the named kinds.
template <typename... Allowed>
static LogicalResult holdsOnly(Operation *op, Region &body, StringRef words) {
  for (Operation &inner : body.front())
    if (!isa<Allowed...>(inner)) {
      InFlightDiagnostic error = op->emitOpError("holds only ")
                                 << words << ", got '" << inner.getName()
                                 << "'";
      error.attachNote(inner.getLoc()) << "here";
      return error;
    }
  return success();
}

//===----------------------------------------------------------------------===//
// Containers
//===----------------------------------------------------------------------===//

void TopologyOp::build(OpBuilder &builder, OperationState &state) {
  state.addRegion()->emplaceBlock();
}

LogicalResult TopologyOp::verifyRegions() {
  if (failed(holdsOnly<ChipOp, LayerTimesOp, FunctionTimeOp, UpdateTimeOp,
                       SiteOp, LinkOp>(
          *this, getBody(), "chips, measured times, sites and links")))
    return failure();
  mlir::SymbolTable symbols(*this);
  auto ofChip = [&](auto times) -> LogicalResult {
    if (symbols.lookup<ChipOp>(times.getChip()))
      return success();
    return times.emitOpError("expected a topo.chip '")
           << times.getChip() << "'";
  };
  for (Operation &op : getBody().front()) {
    LogicalResult known =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<LayerTimesOp, FunctionTimeOp, UpdateTimeOp>(ofChip)
            .Default([](Operation *) { return success(); });
    if (failed(known))
      return failure();
  }
  return success();
}

void SiteOp::build(OpBuilder &builder, OperationState &state, StringRef name) {
  state.addAttribute(::mlir::SymbolTable::getSymbolAttrName(),
                     builder.getStringAttr(name));
  state.addRegion()->emplaceBlock();
}

LogicalResult SiteOp::verifyRegions() {
  if (failed(holdsOnly<PoolOp, HostsOp, FabricOp>(*this, getBody(),
                                                  "pools, hosts and fabrics")))
    return failure();
  if (llvm::range_size(getBody().getOps<HostsOp>()) > 1)
    return emitOpError("has more than one topo.hosts");
  unsigned defaults = 0;
  for (FabricOp fabric : getBody().getOps<FabricOp>())
    defaults += !fabric.getFirst();
  if (defaults > 1)
    return emitOpError("has more than one fabric for every pair of pools");
  return success();
}

//===----------------------------------------------------------------------===//
// Leaves
//===----------------------------------------------------------------------===//

LogicalResult ChipOp::verify() {
  if (!getTflopsF32() && !getTflopsBf16())
    return emitOpError("expected 'tflops_f32' or 'tflops_bf16'");
  if (failed(positive(*this, "tflops_f32", getTflopsF32())) ||
      failed(positive(*this, "tflops_bf16", getTflopsBf16())) ||
      failed(positive(*this, "memory_gib", getMemoryGib().convertToDouble())) ||
      failed(positive(*this, "memory_gbytes_per_second",
                      getMemoryGbytesPerSecond().convertToDouble())) ||
      failed(efficiency(*this, "matmul_efficiency",
                        getMatmulEfficiency().convertToDouble())) ||
      failed(efficiency(*this, "memory_efficiency",
                        getMemoryEfficiency().convertToDouble())))
    return failure();
  if (getOverheads() &&
      getOverheads()->size() != planning::Overheads::kFigures)
    return emitOpError("expected ")
           << planning::Overheads::kFigures << " figures in 'overheads', got "
           << getOverheads()->size();
  if (getCorrections() && getCorrections()->size() % 4 != 0)
    return emitOpError("expected four figures for each of 'corrections', got ")
           << getCorrections()->size();
  return positive(*this, "price_per_hour", getPricePerHour());
}

LogicalResult LayerTimesOp::verify() {
  if (failed(positiveCount(*this, "microbatch", getMicrobatch())) ||
      failed(positiveCount(*this, "tensor_parallel", getTensorParallel())) ||
      failed(positive(*this, "forward_seconds", getForwardSeconds())) ||
      failed(positive(*this, "backward_seconds", getBackwardSeconds())) ||
      failed(positive(*this, "update_seconds", getUpdateSeconds())))
    return failure();
  auto first = static_cast<int64_t>(getFirstBlock());
  auto last = static_cast<int64_t>(getLastBlock());
  if (first < 0 || last < first)
    return emitOpError("expected blocks from 0 in ascending order, got ")
           << first << " to " << last;
  return success();
}

LogicalResult FunctionTimeOp::verify() {
  if (failed(positiveCount(*this, "microbatch", getMicrobatch())) ||
      failed(positiveCount(*this, "tensor_parallel", getTensorParallel())))
    return failure();
  if (!planning::parseBlockFunction(getFunction().str()))
    return emitOpError("expected forward, backward_input or backward_weight, "
                       "got '")
           << getFunction() << "'";
  if (getPrecision() != "f32" && getPrecision() != "bf16")
    return emitOpError("expected precision f32 or bf16, got '")
           << getPrecision() << "'";
  if (getSeconds().empty())
    return emitOpError("expected one time at least");
  for (double seconds : getSeconds())
    if (failed(positive(*this, "seconds", seconds)))
      return failure();
  return success();
}

LogicalResult UpdateTimeOp::verify() {
  if (static_cast<int64_t>(getStateBytes()) < 0)
    return emitOpError("expected state bytes that are not negative");
  if (failed(positiveCount(*this, "parameters", getParameters())))
    return failure();
  return positive(*this, "seconds", getSeconds().convertToDouble());
}

LogicalResult PoolOp::verify() {
  if (failed(positiveCount(*this, "nodes", getNodes())) ||
      failed(positiveCount(*this, "chips_per_node", getChipsPerNode())) ||
      failed(positiveCount(*this, "nics_per_node", getNicsPerNode())))
    return failure();
  if (std::optional<uint64_t> cores = getCoresPerNode()) {
    if (failed(positiveCount(*this, "cores_per_node", *cores)))
      return failure();
    if (*cores > getChipsPerNode())
      return emitOpError("expected at most ")
             << getChipsPerNode() << " 'cores_per_node', as there are chips in "
             << "a node, got " << *cores;
  }
  auto wire = [&](StringRef which, std::optional<llvm::APFloat> rate,
                  std::optional<llvm::APFloat> delay) -> LogicalResult {
    if (rate.has_value() != delay.has_value())
      return emitOpError("expected '") << which << "_gbits_per_second' and '"
                                       << which << "_latency_us' together";
    if (!rate)
      return success();
    if (failed(positive(*this, (which + "_gbits_per_second").str(), rate)))
      return failure();
    return latency(*this, (which + "_latency_us").str(),
                   delay->convertToDouble());
  };
  if (failed(wire("intra", getIntraGbitsPerSecond(), getIntraLatencyUs())))
    return failure();
  return wire("inter", getInterGbitsPerSecond(), getInterLatencyUs());
}

LogicalResult HostsOp::verify() {
  if (failed(positiveCount(*this, "count", getCount())) ||
      failed(positive(*this, "memory_gib", getMemoryGib().convertToDouble())))
    return failure();
  return positive(*this, "disk_gbytes_per_second", getDiskGbytesPerSecond());
}

LogicalResult FabricOp::verify() {
  if (getFirst().has_value() != getSecond().has_value())
    return emitOpError("expected two pools or none");
  if (failed(positive(*this, "gbits_per_second",
                      getGbitsPerSecond().convertToDouble())))
    return failure();
  return latency(*this, "latency_us", getLatencyUs().convertToDouble());
}

LogicalResult LinkOp::verify() {
  if (getFirst() == getSecond())
    return emitOpError("joins site '") << getFirst() << "' with itself";
  if (failed(positive(*this, "gbits_per_second",
                      getGbitsPerSecond().convertToDouble())) ||
      failed(latency(*this, "rtt_ms", getRttMs().convertToDouble())))
    return failure();
  double loss = getLoss().convertToDouble();
  if (!(loss >= 0 && loss < 1))
    return emitOpError("expected 'loss' in [0, 1), got ") << loss;
  return success();
}

#define GET_OP_CLASSES
#include "tombolo/Dialect/Topo/IR/TopoOps.cpp.inc"
