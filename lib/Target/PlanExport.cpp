//===- PlanExport.cpp - the plan dialect as plan.proto --------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// Message by message what the dialect says; the order of everything is that of
// the module, so equal modules give equal bytes.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Target/PlanExport.h"

#include "PlanPipeline.h"
#include "PlanTimes.h"

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/schema/plan.pb.h"

#include <google/protobuf/arena.h>

#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace tombolo {
namespace {

using namespace plan;

v1::DType toDType(Type type) {
  if (type.isF32())
    return v1::DTYPE_F32;
  if (type.isBF16())
    return v1::DTYPE_BF16;
  if (type.isInteger(32))
    return v1::DTYPE_I32;
  if (type.isInteger(64))
    return v1::DTYPE_I64;
  if (type.isInteger(1))
    return v1::DTYPE_BOOL;
  return v1::DTYPE_UNSPECIFIED;
}

void toExpr(ExprAttr expr, v1::Expr &message) {
  message.set_constant(expr.getConstant());
  for (const Term &term : expr.getTerms()) {
    v1::Term &to = *message.add_terms();
    to.set_variable(term.variable);
    to.set_factor(term.factor);
    to.set_offset(term.offset);
    to.set_modulus(term.modulus);
    to.set_coordinate(static_cast<v1::Coordinate>(term.coordinate));
  }
  if (expr.getDivisor() != 1)
    message.set_divisor(expr.getDivisor());
}

//===----------------------------------------------------------------------===//
// Segments
//===----------------------------------------------------------------------===//

class SegmentExport {
public:
  SegmentExport(SegmentOp segment, v1::Segment &message)
      : segment(segment), message(message) {}

  LogicalResult run() {
    message.set_name(segment.getSymName().str());
    message.set_workspace_bytes(segment.getWorkspaceBytes());
    for (auto [i, argument] :
         llvm::enumerate(segment.getBody().getArguments())) {
      v1::Argument &to = *message.add_arguments();
      to.set_name(cast<StringAttr>(segment.getArgNames()[i]).str());
      to.set_bytes(storageBytes(cast<MemRefType>(argument.getType())));
      to.set_access(static_cast<v1::Access>(segment.getAccess(i)));
    }
    for (Operation &op : segment.getBody().front()) {
      if (isa<ViewOp, WorkspaceOp, ConstantOp>(op))
        continue;
      auto compute = dyn_cast<ComputeOp>(op);
      if (!compute)
        return op.emitError()
               << "'" << op.getName() << "' has no place in a segment";
      if (failed(exportOp(compute)))
        return failure();
    }
    return success();
  }

private:
  LogicalResult exportOp(ComputeOp op) {
    v1::Op &to = *message.add_ops();
    v1::Opcode opcode = v1::OPCODE_UNSPECIFIED;
    if (!v1::Opcode_Parse("OPCODE_" + op.getOpcode().upper(), &opcode) ||
        opcode == v1::OPCODE_UNSPECIFIED)
      return op.emitOpError() << "unknown opcode '" << op.getOpcode() << "'";
    to.set_opcode(opcode);
    to.set_accumulate(op.getAccumulate());
    for (Value value : op.getInputs()) {
      FailureOr<unsigned> index = exportValue(value);
      if (failed(index))
        return failure();
      to.add_inputs(*index);
    }
    for (Value value : op.getOutputs()) {
      FailureOr<unsigned> index = exportValue(value);
      if (failed(index))
        return failure();
      to.add_outputs(*index);
    }
    if (auto settings = op.getSettings())
      for (NamedAttribute entry : *settings)
        exportSetting(entry, *to.add_attributes());
    return success();
  }

  void exportSetting(NamedAttribute entry, v1::Attribute &to) {
    to.set_name(entry.getName().str());
    Attribute value = entry.getValue();
    if (auto flag = dyn_cast<BoolAttr>(value))
      to.set_flag(flag.getValue());
    else if (auto integer = dyn_cast<IntegerAttr>(value))
      to.set_integer(integer.getInt());
    else if (auto real = dyn_cast<FloatAttr>(value))
      to.set_real(real.getValueAsDouble());
    else if (auto text = dyn_cast<StringAttr>(value))
      to.set_text(text.str());
    else
      for (int64_t one : cast<DenseI64ArrayAttr>(value).asArrayRef())
        to.mutable_integers()->add_values(one);
  }

  FailureOr<unsigned> exportValue(Value value) {
    auto known = numbers.find(value);
    if (known != numbers.end())
      return known->second;
    auto type = cast<MemRefType>(value.getType());
    v1::Value to;
    to.set_dtype(toDType(type.getElementType()));
    for (int64_t size : type.getShape())
      to.add_dims(size);
    if (!type.getLayout().isIdentity())
      for (int64_t stride : stridesOf(type))
        to.add_strides(stride);
    int64_t offset = 0;
    Value storage = value;
    while (auto view = storage.getDefiningOp<ViewOp>()) {
      offset += view.getByteOffset();
      storage = view.getSource();
    }
    if (auto argument = dyn_cast<BlockArgument>(storage)) {
      to.set_argument(argument.getArgNumber());
    } else if (auto workspace = storage.getDefiningOp<WorkspaceOp>()) {
      to.set_workspace(true);
      offset += workspace.getByteOffset();
    } else {
      auto constant = storage.getDefiningOp<ConstantOp>();
      if (offset != 0 || !type.getLayout().isIdentity() ||
          storageBytes(type) !=
              storageBytes(cast<MemRefType>(constant.getType())))
        return FailureOr<unsigned>(
            constant.emitOpError("has a view that is no reshape"));
      to.set_constant(bytesOf(constant.getValue()));
    }
    to.set_byte_offset(offset);
    unsigned number = message.values_size();
    *message.add_values() = std::move(to);
    return numbers[value] = number;
  }

  /// Little-endian elements, row-major; a bool is one byte.
  static std::string bytesOf(ElementsAttr attribute) {
    std::string bytes;
    if (auto dense = dyn_cast<DenseElementsAttr>(attribute)) {
      if (dense.getElementType().isInteger(1)) {
        for (bool value : dense.getValues<bool>())
          bytes.push_back(value ? 1 : 0);
        return bytes;
      }
      ArrayRef<char> raw = dense.getRawData();
      int64_t copies = dense.isSplat() ? dense.getNumElements() : 1;
      bytes.reserve(raw.size() * copies);
      for (int64_t i = 0; i < copies; ++i)
        bytes.append(raw.begin(), raw.end());
      return bytes;
    }
    if (auto resource = dyn_cast<DenseResourceElementsAttr>(attribute))
      if (AsmResourceBlob *blob = resource.getRawHandle().getBlob())
        bytes.assign(blob->getData().begin(), blob->getData().end());
    return bytes;
  }

  SegmentOp segment;
  v1::Segment &message;
  llvm::DenseMap<Value, unsigned> numbers;
};

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

class ProgramExport {
public:
  ProgramExport(ProgramOp program, v1::Program &message,
                const llvm::StringMap<unsigned> &segments,
                const llvm::StringMap<unsigned> &inputs)
      : program(program), message(message), segments(segments), inputs(inputs) {
  }

  LogicalResult run() {
    if (!program.getArenaBytes())
      return program.emitOpError(
          "has no arena, run plan-allocate-buffers first");
    message.set_name(program.getSymName().str());
    message.set_arena_bytes(*program.getArenaBytes());
    message.set_host_bytes(program.getHostBytes());
    FailureOr<int64_t> stats = fixed(program, program.getStats());
    FailureOr<int64_t> updates = fixed(program, program.getUpdates());
    if (failed(stats) || failed(updates))
      return failure();
    message.set_stats_address(*stats);
    if (auto squares = program.getGradientSquares()) {
      FailureOr<int64_t> address = fixed(program, *squares);
      if (failed(address))
        return failure();
      message.set_gradient_squares_address(*address);
    }
    message.set_updates_address(*updates);
    if (auto address = program.getTensorIndex()) {
      FailureOr<int64_t> index = fixed(program, *address);
      if (failed(index))
        return failure();
      message.set_tensor_index_address(*index);
    }
    for (auto region : program.getOps<RegionOp>()) {
      v1::Region &to = *message.add_regions();
      to.set_name(region.getRegionName().str());
      to.set_offset(region.getOffset());
      to.set_bytes(region.getBytes());
    }
    for (auto family : program.getOps<ParametersOp>())
      if (failed(exportFamily(family)))
        return failure();
    for (auto state : program.getOps<StateOp>()) {
      FailureOr<int64_t> offset = fixed(state, state.getAddress());
      if (failed(offset))
        return failure();
      v1::StateRegion &to = *message.add_states();
      to.set_name(state.getStateName().str());
      to.set_offset(*offset);
      to.set_part_bytes(state.getPartBytes());
      to.set_begin(state.getBegin());
      to.set_bytes(state.getBytes());
    }
    for (auto semaphore : program.getOps<SemaphoreOp>())
      semaphores.insert({semaphore.getSymName(), semaphores.size()});
    message.set_semaphores(semaphores.size());
    if (failed(exportBody(program.getStep().getBody().front(),
                          *message.mutable_step())))
      return failure();
    if (auto evaluate = program.getEvaluate())
      if (failed(exportBody(evaluate.getBody().front(),
                            *message.mutable_evaluate())))
        return failure();
    return exportBody(program.getFinish().getBody().front(),
                      *message.mutable_finish());
  }

private:
  using Body = google::protobuf::RepeatedPtrField<v1::Instruction>;

  FailureOr<int64_t> fixed(Operation *op, AddressAttr address) {
    if (address.getBuffer() || !address.getOffset().isConstant())
      return FailureOr<int64_t>(op->emitOpError()
                                << "expected a fixed arena address, got "
                                << address);
    return address.getOffset().getConstant();
  }

  LogicalResult toAddress(Operation *op, AddressAttr address, v1::Expr &to) {
    if (address.getBuffer())
      return op->emitOpError() << "expected an arena address, got " << address;
    toExpr(address.getOffset(), to);
    return success();
  }

  static void toNames(Attribute names, v1::Names &to) {
    if (auto pattern = dyn_cast<NamesAttr>(names)) {
      to.set_prefix(pattern.getPrefix().str());
      to.set_suffix(pattern.getSuffix().str());
      to.set_first(pattern.getFirst());
      to.set_step(pattern.getStep());
      return;
    }
    for (Attribute name : cast<ArrayAttr>(names))
      to.add_listed(cast<StringAttr>(name).str());
  }

  LogicalResult exportFamily(ParametersOp family) {
    FailureOr<int64_t> address = fixed(family, family.getAddress());
    if (failed(address))
      return failure();
    v1::ParameterFamily &to = *message.add_parameters();
    toNames(family.getNames(), *to.mutable_names());
    toNames(family.getInitializers(), *to.mutable_initializers());
    to.set_count(family.getCount());
    to.set_address(*address);
    to.set_stride(family.getStride());
    auto type = cast<RankedTensorType>(family.getType());
    to.set_dtype(toDType(type.getElementType()));
    for (int64_t size : type.getShape())
      to.add_dims(size);
    if (auto slices = family.getSlices())
      for (auto slice : slices->getAsRange<SliceAttr>()) {
        v1::Slice &one = *to.add_slices();
        one.set_begin(slice.getBegin());
        one.set_length(slice.getLength());
        one.set_count(slice.getCount());
        one.set_stride(slice.getStride());
        one.set_tensor_stride(slice.getTensorStride());
      }
    to.set_trainable(!family.getFrozen());
    if (auto fragments = family.getFragments())
      for (size_t i = 0; i + 1 < fragments->size(); i += 2) {
        v1::FragmentMembers &members = *to.add_fragments();
        members.set_fragment((*fragments)[i]);
        members.set_count((*fragments)[i + 1]);
      }
    to.set_owner(family.getOwner());
    return success();
  }

  LogicalResult exportBody(Block &body, Body &to) {
    for (Operation &op : body) {
      v1::Instruction &instruction = *to.Add();
      if (auto loop = dyn_cast<LoopOp>(op)) {
        instruction.mutable_loop()->set_variable(loop.getVariable());
        instruction.mutable_loop()->set_count(loop.getCount());
        if (auto first = loop.getFirst())
          toExpr(*first, *instruction.mutable_loop()->mutable_first());
        if (failed(exportBody(loop.getBody().front(),
                              *instruction.mutable_loop()->mutable_body())))
          return failure();
        continue;
      }
      if (failed(exportInstruction(&op, instruction)))
        return failure();
    }
    return success();
  }

  LogicalResult exportInstruction(Operation *op, v1::Instruction &to) {
    auto instruction = cast<InstructionOpInterface>(op);
    to.set_lane(static_cast<v1::Lane>(instruction.getLane()));
    if (auto waits = instruction.getWaits())
      for (auto wait : waits->getAsRange<WaitAttr>()) {
        v1::Wait &message = *to.add_waits();
        message.set_semaphore(
            semaphores.lookup(wait.getSemaphore().getValue()));
        toExpr(wait.getValue(), *message.mutable_value());
      }
    if (auto signals = instruction.getSignals())
      for (auto signal : signals->getAsRange<FlatSymbolRefAttr>())
        to.add_signals(semaphores.lookup(signal.getValue()));
    if (auto guard = instruction.getGuard()) {
      to.mutable_guard()->set_modulus(guard->getModulus());
      to.mutable_guard()->set_remainder(guard->getRemainder());
    }
    if (auto call = dyn_cast<CallOp>(op)) {
      auto segment = segments.find(call.getSegment());
      if (segment == segments.end())
        return op->emitOpError() << "unknown segment " << call.getSegmentAttr();
      v1::Call &message = *to.mutable_call();
      message.set_segment(segment->second);
      for (auto address : call.getAddresses().getAsRange<AddressAttr>())
        if (failed(toAddress(op, address, *message.add_arguments())))
          return failure();
      if (auto workspace = call.getWorkspace())
        return toAddress(op, *workspace, *message.mutable_workspace());
      return success();
    }
    if (auto load = dyn_cast<LoadOp>(op)) {
      auto input = inputs.find(load.getInput());
      if (input == inputs.end())
        return op->emitOpError() << "unknown input '" << load.getInput() << "'";
      v1::Load &message = *to.mutable_load();
      message.set_input(input->second);
      toExpr(load.getMicrobatch(), *message.mutable_microbatch());
      return toAddress(op, load.getAddress(), *message.mutable_address());
    }
    if (auto stamp = dyn_cast<StampOp>(op)) {
      v1::Stamp &message = *to.mutable_stamp();
      toExpr(stamp.getMicrobatch(), *message.mutable_microbatch());
      toExpr(stamp.getBlock(), *message.mutable_block());
      return toAddress(op, stamp.getAddress(), *message.mutable_address());
    }
    if (auto send = dyn_cast<SendOp>(op))
      return exportTransfer(send, *to.mutable_send());
    if (auto receive = dyn_cast<ReceiveOp>(op))
      return exportTransfer(receive, *to.mutable_receive());
    if (auto collective = dyn_cast<CollectiveOp>(op)) {
      v1::Collective &message = *to.mutable_collective();
      v1::Collective::Kind kind;
      if (!v1::Collective::Kind_Parse("KIND_" + collective.getKind().upper(),
                                      &kind))
        return op->emitOpError()
               << "unknown kind '" << collective.getKind() << "'";
      message.set_kind(kind);
      message.set_group(
          static_cast<v1::Collective::Group>(collective.getGroup()));
      if (auto stages = collective.getStages())
        message.mutable_stages()->Assign(stages->begin(), stages->end());
      message.set_elements(collective.getElements());
      message.set_dtype(toDType(collective.getType()));
      return toAddress(op, collective.getAddress(), *message.mutable_address());
    }
    if (auto push = dyn_cast<PushOp>(op))
      to.mutable_push()->set_fragment(push.getFragment());
    else if (auto apply = dyn_cast<ApplyOp>(op))
      to.mutable_apply()->set_fragment(apply.getFragment());
    return success();
  }

  template <typename OpT>
  LogicalResult exportTransfer(OpT op, v1::Transfer &message) {
    message.set_stage(op.getStage());
    message.set_bytes(op.getBytes());
    toExpr(op.getMicrobatch(), *message.mutable_microbatch());
    if (auto index = op.getTensorIndex())
      toExpr(*index, *message.mutable_tensor_index());
    return toAddress(op, op.getAddress(), *message.mutable_address());
  }

  ProgramOp program;
  v1::Program &message;
  const llvm::StringMap<unsigned> &segments;
  const llvm::StringMap<unsigned> &inputs;
  llvm::StringMap<unsigned> semaphores;
};

//===----------------------------------------------------------------------===//
// The rest
//===----------------------------------------------------------------------===//

class PlanExport {
public:
  PlanExport(ModuleOp module, v1::Plan &message)
      : module(module), message(message) {}

  LogicalResult run() {
    message.set_format_version(1);
    if (failed(exportHead()))
      return failure();
    llvm::StringMap<unsigned> segments;
    for (auto segment : module.getOps<SegmentOp>()) {
      segments[segment.getSymName()] = message.segments_size();
      if (failed(SegmentExport(segment, *message.add_segments()).run()))
        return failure();
    }
    FailureOr<PlanTimes> times = PlanTimes::create(module);
    if (failed(times))
      return failure();
    times->exportTopology(message);
    ProgramNumbers programs;
    for (auto program : module.getOps<ProgramOp>())
      for (StringRef chip : times->chipsOf(program)) {
        unsigned number = message.programs_size();
        v1::Program &to = *message.add_programs();
        if (failed(ProgramExport(program, to, segments, inputs).run()))
          return failure();
        auto others = programs[program.getSymName()].size();
        programs[program.getSymName()][chip] = number;
        if (others > 0)
          to.set_name(to.name() + " on " + chip.str());
        times->exportSeconds(chip, program, to);
      }
    for (auto island : module.getOps<IslandOp>())
      if (failed(exportIsland(island, programs, *times)))
        return failure();
    for (auto server : module.getOps<ServerOp>())
      if (failed(exportServer(server)))
        return failure();
    for (auto prediction : module.getOps<PredictionOp>())
      exportPrediction(prediction);
    return success();
  }

private:
  template <typename OpT> OpT only() {
    auto ops = module.getOps<OpT>();
    return llvm::hasSingleElement(ops) ? *ops.begin() : OpT();
  }

  LogicalResult exportHead() {
    auto model = only<ModelOp>();
    auto training = only<TrainingOp>();
    if (!model || !training)
      return module.emitError("expected one plan.model and one plan.training");
    std::string modelHash, topologyHash;
    if (!llvm::tryGetFromHex(model.getModelHash(), modelHash) ||
        !llvm::tryGetFromHex(model.getTopologyHash(), topologyHash))
      return model.emitOpError("expected hashes in hexadecimal digits");
    message.set_model_hash(modelHash);
    message.set_topology_hash(topologyHash);
    v1::Model &to = *message.mutable_model();
    to.set_tokens_per_sample(model.getTokensPerSample());
    to.set_vocabulary(model.getVocabulary());
    for (auto input : model.getBody().getOps<InputOp>()) {
      v1::Input &one =
          input.getLabel() ? *to.mutable_label() : *to.add_inputs();
      one.set_name(input.getInputName().str());
      auto type = cast<RankedTensorType>(input.getType());
      one.set_dtype(toDType(type.getElementType()));
      for (int64_t size : type.getShape())
        one.add_dims(size);
    }
    for (int i = 0; i < to.inputs_size(); ++i)
      inputs[to.inputs(i).name()] = i;
    if (to.has_label())
      inputs[to.label().name()] = to.inputs_size();

    v1::Training &how = *message.mutable_training();
    auto real = [&](StringRef name) {
      return training.getSettings().getAs<FloatAttr>(name).getValueAsDouble();
    };
    how.set_learning_rate(training.getLearningRate().convertToDouble());
    how.set_global_batch(training.getGlobalBatch());
    how.set_precision(training.getPrecision() == "bf16" ? v1::PRECISION_BF16
                                                        : v1::PRECISION_F32);
    if (training.getSettings().contains("clip_gradient_norm"))
      how.set_clip_gradient_norm(real("clip_gradient_norm"));
    if (training.getOptimizer() == "sgd") {
      how.mutable_sgd()->set_momentum(real("momentum"));
      how.mutable_sgd()->set_weight_decay(real("weight_decay"));
    } else {
      how.mutable_adamw()->set_beta1(real("beta1"));
      how.mutable_adamw()->set_beta2(real("beta2"));
      how.mutable_adamw()->set_epsilon(real("epsilon"));
      how.mutable_adamw()->set_weight_decay(real("weight_decay"));
    }
    return success();
  }

  /// By name and type of chip: a program that runs on several types is written
  /// once for each, with its times there.
  using ProgramNumbers = llvm::StringMap<llvm::StringMap<unsigned>>;

  LogicalResult exportIsland(IslandOp island, const ProgramNumbers &programs,
                             const PlanTimes &times) {
    v1::Island &to = *message.add_islands();
    for (Attribute site : island.getSites())
      to.add_sites(cast<StringAttr>(site).str());
    to.set_batch(island.getBatch());
    to.set_microbatch(island.getMicrobatch());
    to.set_inner_steps(island.getInnerSteps().value_or(0));
    if (failed(exportPipeline(island, to)))
      return failure();
    for (auto stage : island.getBody().getOps<StageOp>()) {
      v1::Stage &toStage = *to.add_stages();
      for (auto group : stage.getBody().getOps<ReplicasOp>()) {
        auto program = programs.find(group.getProgram());
        if (program == programs.end())
          return group.emitOpError()
                 << "unknown program " << group.getProgramAttr();
        v1::ReplicaGroup &toGroup = *toStage.add_groups();
        toGroup.set_site(group.getSite().str());
        toGroup.set_pool(group.getPool().str());
        toGroup.set_count(group.getCount());
        toGroup.set_tensor_parallel(group.getTensorParallel());
        toGroup.set_share(group.getShare());
        toGroup.set_program(program->second.lookup(times.chipOf(group)));
      }
    }
    return success();
  }

  LogicalResult exportServer(ServerOp server) {
    v1::Server &to = *message.mutable_server();
    to.set_inner_steps(server.getInnerSteps());
    to.set_overlap_steps(server.getOverlapSteps());
    to.set_fragments(server.getFragments());
    v1::Server::Compression compression;
    if (!v1::Server::Compression_Parse(
            "COMPRESSION_" + server.getCompression().upper(), &compression))
      return server.emitOpError()
             << "unknown compression '" << server.getCompression() << "'";
    to.set_compression(compression);
    v1::Server::Outer::Kind kind;
    if (!v1::Server::Outer::Kind_Parse("KIND_" + server.getOuter().upper(),
                                       &kind))
      return server.emitOpError()
             << "unknown outer optimizer '" << server.getOuter() << "'";
    to.mutable_outer()->set_kind(kind);
    to.mutable_outer()->set_learning_rate(
        server.getLearningRate().convertToDouble());
    to.mutable_outer()->set_momentum(server.getMomentum().convertToDouble());
    bool isAdamW = kind == v1::Server::Outer::KIND_ADAMW;
    auto own = [&](std::optional<APFloat> value) {
      return value ? value->convertToDouble() : 0;
    };
    for (const std::optional<APFloat> &value :
         {server.getBeta2(), server.getEpsilon(), server.getWeightDecay()})
      if (value.has_value() != isAdamW)
        return server.emitOpError("expected beta2, epsilon and weight_decay "
                                  "with outer adamw and with no other");
    to.mutable_outer()->set_beta2(own(server.getBeta2()));
    to.mutable_outer()->set_epsilon(own(server.getEpsilon()));
    to.mutable_outer()->set_weight_decay(own(server.getWeightDecay()));
    to.set_quorum(server.getQuorum());
    to.set_deadline_seconds(server.getDeadlineSeconds().convertToDouble());
    to.set_witness(server.getWitness().str());
    for (auto [primary, backup] :
         llvm::zip(server.getPrimaries(), server.getBackups())) {
      v1::Server::Placement &place = *to.add_placements();
      place.set_primary(cast<StringAttr>(primary).str());
      place.set_backup(cast<StringAttr>(backup).str());
    }
    return success();
  }

  void exportPrediction(PredictionOp op) {
    v1::Prediction &to = *message.mutable_prediction();
    DictionaryAttr values = op.getValues();
    auto real = [&](StringRef name) -> std::optional<double> {
      if (auto value = values.getAs<FloatAttr>(name))
        return value.getValueAsDouble();
      return std::nullopt;
    };
    to.set_step_seconds(real("step_seconds").value_or(0));
    to.set_tokens_per_second(real("tokens_per_second").value_or(0));
    if (auto value = real("equivalent_compute"))
      to.set_equivalent_compute(*value);
    if (auto value = real("equivalent_compute_of_used_chips"))
      to.set_equivalent_compute_of_used_chips(*value);
    to.set_wan_bytes_per_round(real("wan_bytes_per_round").value_or(0));
    to.set_bubble_fraction(real("bubble_fraction").value_or(0));
    auto islands = values.getAs<ArrayAttr>("islands");
    if (!islands)
      return;
    for (auto island : islands.getAsRange<DictionaryAttr>()) {
      v1::IslandPrediction &one = *to.add_islands();
      if (auto seconds = island.getAs<FloatAttr>("step_seconds"))
        one.set_step_seconds(seconds.getValueAsDouble());
      if (auto peaks = island.getAs<DenseI64ArrayAttr>("peak_memory_bytes"))
        for (int64_t bytes : peaks.asArrayRef())
          one.add_peak_memory_bytes(bytes);
      if (auto host = island.getAs<DenseI64ArrayAttr>("host_memory_bytes"))
        for (int64_t bytes : host.asArrayRef())
          one.add_host_memory_bytes(bytes);
    }
  }

  ModuleOp module;
  v1::Plan &message;
  llvm::StringMap<unsigned> inputs;
};

} // namespace

LogicalResult exportSegment(plan::SegmentOp segment,
                            plan::v1::Segment &message) {
  return SegmentExport(segment, message).run();
}

ExportedPlan::ExportedPlan()
    : arena(std::make_unique<google::protobuf::Arena>()),
      plan(
          google::protobuf::Arena::CreateMessage<plan::v1::Plan>(arena.get())) {
}

ExportedPlan::ExportedPlan(ExportedPlan &&) noexcept = default;
ExportedPlan &ExportedPlan::operator=(ExportedPlan &&) noexcept = default;
ExportedPlan::~ExportedPlan() = default;

FailureOr<ExportedPlan> exportPlan(ModuleOp module) {
  ExportedPlan plan;
  if (failed(PlanExport(module, *plan).run()))
    return failure();
  return plan;
}

} // namespace tombolo
