//===- PlanBuilder.h - plans by hand, for tests ---------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TEST_PLANBUILDER_H
#define TOMBOLO_RUNTIME_TEST_PLANBUILDER_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <initializer_list>
#include <string>
#include <utility>

namespace tombolo::runtime::test {

using namespace plan::v1;

inline Expr constant(std::int64_t value) {
  Expr expr;
  expr.set_constant(value);
  return expr;
}

/// base + factor * ((variable + offset) mod modulus)
inline Expr linear(std::int64_t base, std::uint32_t variable,
                   std::int64_t factor, std::int64_t offset = 0,
                   std::uint64_t modulus = 0) {
  Expr expr = constant(base);
  Term *term = expr.add_terms();
  term->set_variable(variable);
  term->set_factor(factor);
  term->set_offset(offset);
  term->set_modulus(modulus);
  return expr;
}

/// expr + factor * the rank's coordinate
inline Expr plus(Expr expr, Coordinate coordinate, std::int64_t factor) {
  Term *term = expr.add_terms();
  term->set_coordinate(coordinate);
  term->set_factor(factor);
  return expr;
}

inline Instruction &wait(Instruction &step, std::uint32_t semaphore,
                         Expr value) {
  Wait *wait = step.add_waits();
  wait->set_semaphore(semaphore);
  *wait->mutable_value() = std::move(value);
  return step;
}
inline Instruction &signal(Instruction &step, std::uint32_t semaphore) {
  step.add_signals(semaphore);
  return step;
}

using Body = google::protobuf::RepeatedPtrField<Instruction>;

inline Body &loop(Body &body, std::uint32_t variable, std::uint64_t count) {
  Loop *loop = body.Add()->mutable_loop();
  loop->set_variable(variable);
  loop->set_count(count);
  return *loop->mutable_body();
}
inline Instruction &call(Body &body, std::uint32_t segment,
                         std::initializer_list<Expr> arguments,
                         Expr workspace = constant(0)) {
  Instruction *step = body.Add();
  step->set_lane(LANE_COMPUTE);
  step->mutable_call()->set_segment(segment);
  for (const Expr &argument : arguments)
    *step->mutable_call()->add_arguments() = argument;
  *step->mutable_call()->mutable_workspace() = std::move(workspace);
  return *step;
}
inline Instruction &load(Body &body, std::uint32_t input, Expr address,
                         Expr microbatch) {
  Instruction *step = body.Add();
  step->set_lane(LANE_COMPUTE);
  step->mutable_load()->set_input(input);
  *step->mutable_load()->mutable_address() = std::move(address);
  *step->mutable_load()->mutable_microbatch() = std::move(microbatch);
  return *step;
}
inline Instruction &transfer(Body &body, Lane lane, std::uint32_t stage,
                             Expr address, std::uint64_t bytes,
                             Expr microbatch) {
  Instruction *step = body.Add();
  step->set_lane(lane);
  bool sends = lane == LANE_SEND_FORWARD || lane == LANE_SEND_BACKWARD;
  Transfer *transfer = sends ? step->mutable_send() : step->mutable_receive();
  transfer->set_stage(stage);
  *transfer->mutable_address() = std::move(address);
  transfer->set_bytes(bytes);
  *transfer->mutable_microbatch() = std::move(microbatch);
  return *step;
}
inline Instruction &collective(Body &body, Collective::Kind kind,
                               Collective::Group group, Expr address,
                               std::uint64_t elements) {
  Instruction *step = body.Add();
  step->set_lane(LANE_COLLECTIVE);
  Collective *collective = step->mutable_collective();
  collective->set_kind(kind);
  collective->set_group(group);
  *collective->mutable_address() = std::move(address);
  collective->set_elements(elements);
  collective->set_dtype(DTYPE_F32);
  return *step;
}
inline Instruction &allReduce(Body &body, Collective::Group group,
                              std::int64_t address, std::uint64_t elements) {
  return collective(body, Collective::KIND_ALL_REDUCE_SUM, group,
                    constant(address), elements);
}

/// Builds a segment: arguments, values and ops in the order they are added.
class SegmentBuilder {
public:
  explicit SegmentBuilder(Segment &segment, const std::string &name)
      : segment(segment) {
    segment.set_name(name);
  }
  std::uint32_t argument(const std::string &name, std::uint64_t bytes,
                         Access access) {
    Argument *argument = segment.add_arguments();
    argument->set_name(name);
    argument->set_bytes(bytes);
    argument->set_access(access);
    return static_cast<std::uint32_t>(segment.arguments_size() - 1);
  }
  std::uint32_t value(std::uint32_t argument, DType dtype,
                      std::initializer_list<std::uint64_t> dims,
                      std::uint64_t offset = 0) {
    Value *value = segment.add_values();
    value->set_dtype(dtype);
    for (std::uint64_t dim : dims)
      value->add_dims(dim);
    value->set_argument(argument);
    value->set_byte_offset(offset);
    return static_cast<std::uint32_t>(segment.values_size() - 1);
  }
  std::uint32_t scratch(DType dtype, std::initializer_list<std::uint64_t> dims,
                        std::uint64_t offset = 0) {
    std::uint32_t index = value(0, dtype, dims, offset);
    segment.mutable_values(static_cast<int>(index))->set_workspace(true);
    return index;
  }
  Op &op(Opcode opcode, std::initializer_list<std::uint32_t> inputs,
         std::initializer_list<std::uint32_t> outputs) {
    Op *op = segment.add_ops();
    op->set_opcode(opcode);
    for (std::uint32_t input : inputs)
      op->add_inputs(input);
    for (std::uint32_t output : outputs)
      op->add_outputs(output);
    return *op;
  }

  Segment &segment;
};

inline Attribute &attribute(Op &op, const std::string &name) {
  Attribute *attribute = op.add_attributes();
  attribute->set_name(name);
  return *attribute;
}

/// A small language model that a test can compute by hand: logits =
/// table[token], loss = cross entropy with the next token. `tokens` = T,
/// `vocabulary` = V. One parameter [V, V], SGD without momentum.
///
/// With `stages` 2 the first stage gathers and sends the logits; the second
/// scales them by a parameter [V] (mul), computes the loss and sends the
/// gradient back. `replicas` is the data-parallel degree of each stage.
///
/// With `tensorParallel` k the table is split by columns: each rank gathers its
/// part of the logits, and takes its part of their gradient. With `momentum`
/// there is a state; with `shardedOptimizer` each replica updates a part.
struct TinyModel {
  std::uint64_t tokens = 4;
  std::uint64_t vocabulary = 8;
  std::uint64_t batch = 4;
  std::uint64_t microbatch = 1;
  std::uint64_t replicas = 1;
  std::uint32_t stages = 1;
  std::uint64_t tensorParallel = 1; // with one stage
  bool shardedOptimizer = false;
  double momentum = 0;
  double learningRate = 0.5;
};
Plan tinyPlan(const TinyModel &model);

/// Turns a pipeline of two stages into one whose first stage has two ranks in
/// each replica and whose second has one: each of the two sends half of the
/// logits, and gets the whole gradient.
void widenFirstStage(Plan &plan);

/// Gives a tiny plan a parameter server at `site` with rounds of `innerSteps`
/// inner steps: every program pushes and applies after all that its step does.
void addServer(Plan &plan, std::uint64_t innerSteps,
               const std::string &site = "here");

} // namespace tombolo::runtime::test

#endif // TOMBOLO_RUNTIME_TEST_PLANBUILDER_H
