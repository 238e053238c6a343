//===- Engine.cpp - which instruction may start on which lane -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/engine/Engine.h"

#include "tombolo/runtime/plan/Layout.h"

#include <algorithm>

namespace tombolo::runtime {

using namespace plan::v1;
using Code = CompiledProgram::Code;

Lane counterpart(Lane lane) {
  switch (lane) {
  case LANE_SEND_FORWARD:
    return LANE_RECEIVE_FORWARD;
  case LANE_RECEIVE_FORWARD:
    return LANE_SEND_FORWARD;
  case LANE_SEND_BACKWARD:
    return LANE_RECEIVE_BACKWARD;
  default:
    return LANE_SEND_BACKWARD;
  }
}

bool isActive(const Instruction &instruction, std::uint64_t step) {
  if (!instruction.has_guard())
    return true;
  const Guard &guard = instruction.guard();
  return (step + 1) % guard.modulus() == guard.remainder();
}

CompiledProgram::CompiledProgram(const Program &program)
    : source(program), waiting(program.semaphores(), 0) {
  for (Lane lane : kLanes) {
    add(program.step(), lane, lanes[0][indexOf(lane)]);
    add(program.finish(), lane, lanes[1][indexOf(lane)]);
    add(program.evaluate(), lane, lanes[2][indexOf(lane)]);
  }
}

/// Returns whether every instruction added has a guard.
bool CompiledProgram::add(
    const google::protobuf::RepeatedPtrField<Instruction> &body, Lane lane,
    std::vector<Code> &to) {
  bool guarded = true;
  for (const Instruction &instruction : body) {
    if (!instruction.has_loop()) {
      if (instruction.lane() != lane)
        continue;
      Code code{Code::Run};
      code.instruction = &instruction;
      for (const Wait &wait : instruction.waits())
        waiting.at(wait.semaphore()) |= bitOf(lane);
      to.push_back(code);
      guarded &= instruction.has_guard();
      continue;
    }
    const Loop &loop = instruction.loop();
    variableCount = std::max(variableCount, loop.variable() + 1);
    auto begin = static_cast<std::uint32_t>(to.size());
    Code code{Code::LoopBegin};
    code.variable = loop.variable();
    code.count = loop.count();
    code.first = loop.has_first() ? &loop.first() : nullptr;
    to.push_back(code);
    bool inner = add(loop.body(), lane, to);
    if (to.size() == begin + 1) { // nothing of this lane inside
      to.pop_back();
      continue;
    }
    guarded &= inner;
    auto end = static_cast<std::uint32_t>(to.size());
    to[begin].other = end;
    to[begin].guarded = inner;
    code.kind = Code::LoopEnd;
    code.other = begin;
    to.push_back(code);
  }
  return guarded;
}

const std::vector<Code> &CompiledProgram::code(Phase phase, Lane lane) const {
  return lanes[static_cast<std::size_t>(phase)][indexOf(lane)];
}

Engine::Engine(const CompiledProgram &program)
    : compiled(program), semaphores(program.program().semaphores()) {
  for (Cursor &cursor : cursors)
    cursor.variables.resize(program.variables());
  begin(Phase::Step, 0);
}

void Engine::begin(Phase newPhase, std::uint64_t newStep) {
  phase = newPhase;
  step = newStep;
  std::fill(semaphores.begin(), semaphores.end(), 0);
  for (Lane lane : kLanes) {
    Cursor &cursor = cursors[indexOf(lane)];
    cursor.code = &compiled.code(phase, lane);
    cursor.at = 0;
    settle(cursor, step);
  }
}

bool Engine::anyActive(const std::vector<Code> &code, std::uint32_t begin,
                       std::uint32_t end, std::uint64_t step) {
  for (std::uint32_t i = begin; i < end; ++i)
    if (code[i].kind == Code::Run && isActive(*code[i].instruction, step))
      return true;
  return false;
}

std::int64_t Engine::firstOf(const Code &loop, const Cursor &cursor) {
  return loop.first ? evaluate(*loop.first, cursor.variables) : 0;
}

/// Moves the lane to its next instruction that is to run.
void Engine::settle(Cursor &cursor, std::uint64_t step) {
  const std::vector<Code> &code = *cursor.code;
  cursor.waits.clear();
  cursor.met = 0;
  while (cursor.at < code.size()) {
    const Code &here = code[cursor.at];
    switch (here.kind) {
    case Code::Run:
      if (isActive(*here.instruction, step)) {
        // Asked for often, and the same until the lane moves on.
        for (const Wait &wait : here.instruction->waits())
          if (std::int64_t needed = evaluate(wait.value(), cursor.variables);
              needed > 0)
            cursor.waits.push_back(
                {wait.semaphore(), static_cast<std::uint64_t>(needed)});
        return;
      }
      ++cursor.at;
      break;
    case Code::LoopBegin:
      cursor.variables[here.variable] = firstOf(here, cursor);
      // A loop in which nothing runs is not counted through.
      if (here.guarded && !anyActive(code, cursor.at, here.other, step))
        cursor.at = here.other + 1;
      else
        ++cursor.at;
      break;
    case Code::LoopEnd:
      if (static_cast<std::uint64_t>(++cursor.variables[here.variable] -
                                     firstOf(here, cursor)) < here.count)
        cursor.at = here.other + 1;
      else
        ++cursor.at;
      break;
    }
  }
}

Engine::Next Engine::next(Lane lane) const {
  const Cursor &cursor = cursors[indexOf(lane)];
  Next next;
  if (cursor.at >= cursor.code->size())
    return next;
  next.instruction = (*cursor.code)[cursor.at].instruction;
  next.position = cursor.at;
  next.variables = cursor.variables;
  next.state = Next::Ready;
  if (!ready(lane)) {
    next.state = Next::Blocked;
    next.semaphore = cursor.waits[cursor.met].semaphore;
    next.needed = static_cast<std::int64_t>(cursor.waits[cursor.met].needed);
  }
  return next;
}

LaneSet Engine::complete(Lane lane) {
  Cursor &cursor = cursors[indexOf(lane)];
  LaneSet touched = bitOf(lane);
  for (std::uint32_t signal :
       (*cursor.code)[cursor.at].instruction->signals()) {
    ++semaphores[signal];
    touched |= compiled.waitingOn(signal);
  }
  ++cursor.at;
  settle(cursor, step);
  return touched;
}

bool Engine::done() const {
  return std::all_of(cursors.begin(), cursors.end(), [](const Cursor &cursor) {
    return cursor.at >= cursor.code->size();
  });
}

} // namespace tombolo::runtime
