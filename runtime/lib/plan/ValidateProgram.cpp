//===- ValidateProgram.cpp - instructions and their addresses -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ValidateParts.h"

#include <algorithm>
#include <set>

namespace tombolo::runtime::detail {

using namespace plan::v1;

namespace {

using Wide = __int128;

/// The extremes of all terms of one variable together.
std::pair<Wide, Wide> termExtremes(const std::vector<const Term *> &terms,
                                   Span values, const std::string &place) {
  auto at = [&](const Term &term, Wide value) {
    value += term.offset();
    if (term.modulus()) {
      if (value < 0)
        throw Error(place, ": takes a negative number modulo ", term.modulus());
      value %= term.modulus();
    }
    return value * term.factor();
  };
  if (terms.size() == 1) {
    const Term &term = *terms.front();
    Wide low = at(term, values.first), high = at(term, values.last);
    if (term.modulus()) {
      Wide begin = Wide(values.first) + term.offset();
      Wide end = Wide(values.last) + term.offset();
      if (begin / term.modulus() != end / term.modulus()) {
        // It wraps, so it takes both 0 and modulus - 1.
        low = 0;
        high = (static_cast<Wide>(term.modulus()) - 1) * term.factor();
      }
    }
    return {std::min(low, high), std::max(low, high)};
  }
  constexpr std::uint64_t kEnumerated = 1 << 12;
  if (values.last - values.first >= kEnumerated)
    throw Error(place, ": several terms over a variable of ",
                values.last - values.first + 1, " values, at most ",
                kEnumerated, " are supported");
  Wide low = 0, high = 0;
  for (std::uint64_t v = values.first; v <= values.last; ++v) {
    Wide sum = 0;
    for (const Term *term : terms)
      sum += at(*term, static_cast<Wide>(v));
    low = v > values.first ? std::min(low, sum) : sum;
    high = v > values.first ? std::max(high, sum) : sum;
  }
  return {low, high};
}

/// Where an instruction stands. Most plans have no fault: their places are not
/// put together.
class Place {
public:
  Place(std::string text, bool isNamed)
      : text(std::move(text)), isNamed(isNamed) {}
  Place operator+(std::string_view part) const {
    return isNamed ? Place(text + std::string(part), true) : Place({}, false);
  }
  operator const std::string &() const { return text; }
  operator std::string_view() const { return text; }

private:
  std::string text;
  bool isNamed;
};

class ProgramCheck {
public:
  ProgramCheck(const Plan &plan, const Program &program,
               const std::vector<ProgramUse> &uses)
      : plan(plan), program(program), uses(uses) {
    ranks.tensorIndex = tensorIndices(uses);
    ranks.replica = replicas(uses);
  }

  void run(const Place &place) {
    body(program.step(), place + ": step", 0, 1);
    work = 0;
    body(program.finish(), place + ": finish", 0, 1);
    work = 0;
    body(program.evaluate(), place + ": evaluate", 0, 1);
  }

private:
  using Body = google::protobuf::RepeatedPtrField<Instruction>;

  void body(const Body &instructions, const Place &place, int depth,
            std::uint64_t iterations) {
    if (depth > kMaxDepth)
      throw Error(place, ": loops are nested more than ", kMaxDepth, " deep");
    // A loop's iteration takes time even when nothing stands in it.
    work += times(iterations,
                  static_cast<std::uint64_t>(instructions.size()) + (depth > 0),
                  place);
    if (work > kMaxWork)
      throw Error(place, ": more than ", kMaxWork,
                  " instructions and iterations in a step");
    for (int i = 0; i < instructions.size(); ++i)
      instruction(instructions[i], place + "[" + std::to_string(i) + "]", depth,
                  iterations);
  }

  void instruction(const Instruction &step, const Place &place, int depth,
                   std::uint64_t iterations) {
    if (step.has_guard()) {
      const Guard &guard = step.guard();
      if (guard.modulus() == 0 || guard.remainder() >= guard.modulus())
        throw Error(place,
                    ": guard: expected a remainder below the modulus, "
                    "got ",
                    guard.remainder(), " modulo ", guard.modulus());
    }
    for (const Wait &wait : step.waits()) {
      semaphore(wait.semaphore(), place);
      Extremes e = extremes(wait.value(), here(), place + ": wait");
      if (e.high > static_cast<std::int64_t>(kMaxCount))
        throw Error(place, ": waits for ", e.high, ", which is out of reach");
    }
    for (std::uint32_t signal : step.signals())
      semaphore(signal, place);
    if (step.action_case() == Instruction::kLoop) {
      loop(step, place, depth, iterations);
      return;
    }
    lane(step, place);
    switch (step.action_case()) {
    case Instruction::kCall:
      call(step.call(), place + ": call");
      break;
    case Instruction::kLoad:
      load(step.load(), place + ": load");
      break;
    case Instruction::kStamp:
      stamp(step.stamp(), place + ": stamp");
      break;
    case Instruction::kSend:
      transfer(step.send(), place + ": send");
      break;
    case Instruction::kReceive:
      transfer(step.receive(), place + ": receive");
      break;
    case Instruction::kCollective:
      collective(step.collective(), place + ": collective");
      break;
    case Instruction::kPush:
    case Instruction::kApply: {
      const Exchange &exchange = step.has_push() ? step.push() : step.apply();
      if (!plan.has_server())
        throw Error(place,
                    ": exchanges a fragment, but the plan has no server");
      if (exchange.fragment() >= plan.server().fragments())
        throw Error(place, ": fragment ", exchange.fragment(),
                    " does not exist, there are ", plan.server().fragments());
      if (step.has_guard())
        turn(step.guard(), exchange.fragment(), step.has_apply(), place);
      break;
    }
    default:
      throw Error(place, ": does nothing");
    }
  }

  /// That a fragment has its turn in the steps in which its island counts on
  /// it (docs/Server.md).
  void turn(const Guard &guard, std::uint64_t fragment, bool applies,
            const Place &place) {
    for (const ProgramUse &use : uses) {
      std::uint64_t steps = IslandSteps(plan, use.islandIndex).inRound();
      std::uint64_t after = applies ? plan.server().overlap_steps() : 0;
      std::uint64_t expected =
          (fragment * steps / plan.server().fragments() + after) % steps;
      if (guard.modulus() != steps || guard.remainder() != expected)
        throw Error(place, ": guard: expected ", expected, " modulo ", steps,
                    ", the inner_steps of island ", use.islandIndex, ", got ",
                    guard.remainder(), " modulo ", guard.modulus());
    }
  }

  void loop(const Instruction &step, const Place &place, int depth,
            std::uint64_t iterations) {
    const Loop &loop = step.loop();
    if (step.waits_size() || step.signals_size() || step.has_guard())
      throw Error(place, ": a loop neither waits nor signals nor has a guard");
    if (loop.count() == 0 || loop.count() > kMaxCount)
      throw Error(place, ": unusable loop count ", loop.count());
    if (loop.variable() >= kMaxVariables)
      throw Error(place, ": loop variable ", loop.variable(),
                  " is too large a number");
    if (!variables.insert(loop.variable()).second)
      throw Error(place, ": loop variable ", loop.variable(),
                  " stands twice in the program");
    std::uint64_t first = 0, last = 0;
    if (loop.has_first()) {
      Extremes e = extremes(loop.first(), here(), place + ": loop: first");
      if (e.low < 0 || e.high > static_cast<std::int64_t>(kMaxCount))
        throw Error(place, ": a loop that begins at ", e.low, " to ", e.high,
                    ", expected 0 to ", kMaxCount);
      first = static_cast<std::uint64_t>(e.low);
      last = static_cast<std::uint64_t>(e.high);
    }
    if (iterations > kMaxWork / loop.count())
      throw Error(place, ": the loops around run more than ", kMaxWork,
                  " times");
    ranks.loops[loop.variable()] = {first, last + loop.count() - 1};
    body(loop.body(), place + ".loop", depth + 1, iterations * loop.count());
    ranks.loops.erase(loop.variable());
  }

  /// What is the same on all ranks of the class: when things happen.
  Scope here() const { return {ranks.loops, std::nullopt, std::nullopt}; }

  void semaphore(std::uint32_t index, const Place &place) const {
    if (index >= program.semaphores())
      throw Error(place, ": semaphore ", index, " does not exist, there are ",
                  program.semaphores());
  }

  void lane(const Instruction &step, const Place &place) const {
    bool fits = false;
    switch (step.action_case()) {
    case Instruction::kCall:
    case Instruction::kStamp:
    case Instruction::kLoad:
      fits = step.lane() == LANE_COMPUTE;
      break;
    case Instruction::kSend:
      fits =
          step.lane() == LANE_SEND_FORWARD || step.lane() == LANE_SEND_BACKWARD;
      break;
    case Instruction::kReceive:
      fits = step.lane() == LANE_RECEIVE_FORWARD ||
             step.lane() == LANE_RECEIVE_BACKWARD;
      break;
    case Instruction::kCollective:
      fits = step.lane() == LANE_COLLECTIVE;
      break;
    case Instruction::kPush:
    case Instruction::kApply:
      fits = step.lane() == LANE_EXCHANGE;
      break;
    default:
      throw Error(place, ": has no action");
    }
    if (!fits)
      throw Error(place, ": stands on the wrong lane ",
                  Lane_IsValid(step.lane()) ? Lane_Name(step.lane())
                                            : std::to_string(step.lane()));
  }

  void range(const Expr &address, std::uint64_t bytes, std::uint64_t alignment,
             const Place &place) const {
    Extremes e = extremes(address, ranks, place);
    std::uint64_t arena = program.arena_bytes();
    if (e.low < 0 || static_cast<std::uint64_t>(e.high) > arena ||
        bytes > arena - static_cast<std::uint64_t>(e.high))
      throw Error(place, ": bytes ", e.low, " to ", e.high, " + ", bytes,
                  " lie outside the arena of ", arena);
    if (!isAligned(address, alignment))
      throw Error(place, ": is not always a multiple of ", alignment);
  }

  void call(const Call &call, const Place &place) {
    if (call.segment() >= static_cast<unsigned>(plan.segments_size()))
      throw Error(place, ": segment ", call.segment(),
                  " does not exist, there are ", plan.segments_size());
    const Segment &segment = plan.segments(static_cast<int>(call.segment()));
    if (call.arguments_size() != segment.arguments_size())
      throw Error(place, " '", segment.name(), "': expected ",
                  segment.arguments_size(), " arguments, got ",
                  call.arguments_size());
    const std::vector<std::uint64_t> &needed = alignments(call.segment());
    for (int i = 0; i < call.arguments_size(); ++i)
      range(call.arguments(i), segment.arguments(i).bytes(),
            needed[static_cast<std::size_t>(i)],
            place + " '" + segment.name() + "': argument " + std::to_string(i));
    if (segment.workspace_bytes() > 0)
      range(call.workspace(), segment.workspace_bytes(), 64,
            place + " '" + segment.name() + "': workspace");
    aliases(call, segment, place);
  }

  /// Memory that is written must not be reached through another argument.
  /// Decided where the two addresses differ by a constant; the compiler's own
  /// verification covers the rest.
  void aliases(const Call &call, const Segment &segment,
               const Place &place) const {
    auto overlap = [](const Expr &a, std::uint64_t bytesA, const Expr &b,
                      std::uint64_t bytesB) {
      if (a.terms_size() != b.terms_size() || a.divisor() != b.divisor())
        return false;
      for (int i = 0; i < a.terms_size(); ++i)
        if (a.terms(i).coordinate() != b.terms(i).coordinate() ||
            a.terms(i).variable() != b.terms(i).variable() ||
            a.terms(i).factor() != b.terms(i).factor() ||
            a.terms(i).offset() != b.terms(i).offset() ||
            a.terms(i).modulus() != b.terms(i).modulus())
          return false;
      // Rounded down they do not differ by a constant, unless by none.
      if (a.divisor() > 1)
        return a.constant() == b.constant();
      Wide beginA = a.constant(), beginB = b.constant();
      return beginA < beginB + bytesB && beginB < beginA + bytesA;
    };
    for (int i = 0; i < call.arguments_size(); ++i) {
      const Argument &one = segment.arguments(i);
      for (int k = 0; k < i; ++k) {
        const Argument &other = segment.arguments(k);
        if (one.access() == ACCESS_READ && other.access() == ACCESS_READ)
          continue;
        if (overlap(call.arguments(i), one.bytes(), call.arguments(k),
                    other.bytes()))
          throw Error(place, " '", segment.name(), "': arguments ", k, " and ",
                      i, " overlap and one is written");
      }
      if (segment.workspace_bytes() > 0 &&
          overlap(call.arguments(i), one.bytes(), call.workspace(),
                  segment.workspace_bytes()))
        throw Error(place, " '", segment.name(), "': argument ", i,
                    " overlaps the workspace");
    }
  }

  void microbatch(const Expr &number, const Place &place) const {
    Extremes e = extremes(number, here(), place + ": microbatch");
    for (const ProgramUse &use : uses)
      if (e.low < 0 ||
          static_cast<std::uint64_t>(e.high) >= use.minMicrobatches)
        throw Error(place, ": microbatch ", e.low < 0 ? e.low : e.high,
                    " does not exist: a replica of island ", use.islandIndex,
                    " stage ", use.stage, " group ", use.group, " computes ",
                    use.minMicrobatches);
  }

  void load(const Load &load, const Place &place) const {
    const Model &model = plan.model();
    unsigned known =
        static_cast<unsigned>(model.inputs_size()) + model.has_label();
    if (load.input() >= known)
      throw Error(place, ": input ", load.input(), " does not exist");
    const Input &input =
        load.input() == static_cast<unsigned>(model.inputs_size())
            ? model.label()
            : model.inputs(static_cast<int>(load.input()));
    std::uint64_t sample = times(elementCount(input.dims(), place),
                                 elementBytes(input.dtype()), place);
    std::uint64_t most = 1;
    for (const ProgramUse &use : uses)
      most = std::max(most, use.island->microbatch());
    range(load.address(), times(sample, most, place),
          elementBytes(input.dtype()), place);
    microbatch(load.microbatch(), place);
  }

  void stamp(const Stamp &stamp, const Place &place) const {
    range(stamp.address(), 32, 8, place);
    microbatch(stamp.microbatch(), place);
    Extremes e = extremes(stamp.block(), here(), place + ": block");
    if (e.low < 0 || e.high >= (1 << 24))
      throw Error(place, ": block ", e.low < 0 ? e.low : e.high,
                  " is out of reach");
  }

  void transfer(const Transfer &transfer, const Place &place) const {
    if (transfer.bytes() == 0 || transfer.bytes() > kMaxBytes)
      throw Error(place, ": unusable size ", transfer.bytes());
    range(transfer.address(), transfer.bytes(), 2, place);
    microbatch(transfer.microbatch(), place);
    for (const ProgramUse &use : uses) {
      if (transfer.stage() >= static_cast<unsigned>(use.island->stages_size()))
        throw Error(place, ": stage ", transfer.stage(),
                    " does not exist in island ", use.islandIndex);
      if (transfer.stage() == use.stage)
        throw Error(place, ": the other side is the stage itself");
      const Stage &other =
          use.island->stages(static_cast<int>(transfer.stage()));
      std::uint64_t least = other.groups(0).tensor_parallel(), most = least;
      for (const ReplicaGroup &group : other.groups()) {
        least = std::min(least, group.tensor_parallel());
        most = std::max(most, group.tensor_parallel());
      }
      if (!transfer.has_tensor_index()) {
        if (least != use.tensorParallel || most != use.tensorParallel)
          throw Error(place, ": stages ", use.stage, " and ", transfer.stage(),
                      " differ in tensor-parallel degree (", use.tensorParallel,
                      " and ", least == use.tensorParallel ? most : least,
                      "), and the transfer names no tensor index");
        continue;
      }
      Scope rank{{}, Span{0, use.tensorParallel - 1}, use.replicas};
      Extremes e =
          extremes(transfer.tensor_index(), rank, place + ": tensor_index");
      if (e.low < 0 || static_cast<std::uint64_t>(e.high) >= least)
        throw Error(place, ": tensor_index ", e.low < 0 ? e.low : e.high,
                    " does not exist: stage ", transfer.stage(), " has ",
                    least);
    }
  }

  void collective(const Collective &collective, const Place &place) const {
    bool sums = false, parts = true;
    switch (collective.kind()) {
    case Collective::KIND_ALL_REDUCE_SUM:
      sums = true;
      parts = false;
      break;
    case Collective::KIND_REDUCE_SCATTER_SUM:
      sums = true;
      break;
    case Collective::KIND_ALL_GATHER:
    case Collective::KIND_ALL_TO_ALL:
      break;
    default:
      throw Error(place, ": unknown kind ",
                  static_cast<int>(collective.kind()));
    }
    std::uint64_t size = elementBytes(collective.dtype());
    if (size == 0)
      throw Error(place, ": unknown dtype ",
                  static_cast<int>(collective.dtype()));
    if (sums && collective.dtype() != DTYPE_F32 &&
        collective.dtype() != DTYPE_BF16)
      throw Error(place, ": expected f32 or bf16, got ",
                  dtypeName(collective.dtype()));
    if (collective.elements() == 0)
      throw Error(place, ": holds no elements");
    range(collective.address(), times(collective.elements(), size, place), size,
          place);
    for (const ProgramUse &use : uses) {
      std::uint64_t members = groupSize(collective, use, place);
      if (parts && collective.elements() % members != 0)
        throw Error(place, ": ", collective.elements(),
                    " elements are no equal parts for ", members, " ranks");
    }
  }

  /// The ranks of the stages that share something with the program's.
  static std::uint64_t sharersOf(const Collective &collective,
                                 const ProgramUse &use, const Place &place) {
    if (collective.stages_size() < 2)
      throw Error(place, ": expected two stages or more, got ",
                  collective.stages_size());
    std::uint64_t size = 0;
    std::int64_t before = -1;
    bool inside = false;
    for (std::uint32_t stage : collective.stages()) {
      if (stage <= before)
        throw Error(place, ": expected stages in ascending order");
      before = stage;
      if (stage >= static_cast<unsigned>(use.island->stages_size()))
        throw Error(place, ": stage ", stage, " does not exist");
      inside |= static_cast<int>(stage) == static_cast<int>(use.stage);
      for (const ReplicaGroup &group :
           use.island->stages(static_cast<int>(stage)).groups()) {
        if (group.tensor_parallel() != use.tensorParallel)
          throw Error(place, ": stages ", use.stage, " and ", stage,
                      " differ in tensor-parallel degree (", use.tensorParallel,
                      " and ", group.tensor_parallel(), ")");
        size += group.count();
      }
    }
    if (!inside)
      throw Error(place, ": stage ", use.stage, " is not in the group");
    return size;
  }

  static std::uint64_t groupSize(const Collective &collective,
                                 const ProgramUse &use, const Place &place) {
    std::uint64_t size = 0;
    if (collective.group() == Collective::GROUP_STAGES) {
      if (collective.kind() != Collective::KIND_ALL_REDUCE_SUM)
        throw Error(place, ": stages share by all_reduce_sum only");
      return sharersOf(collective, use, place);
    }
    if (collective.stages_size() > 0)
      throw Error(place, ": stages are of another group");
    switch (collective.group()) {
    case Collective::GROUP_TENSOR:
      return use.tensorParallel;
    case Collective::GROUP_REPLICAS:
      for (const ReplicaGroup &group : use.inStage().groups()) {
        if (group.tensor_parallel() != use.tensorParallel)
          throw Error(place, ": the replicas of stage ", use.stage,
                      " differ in tensor-parallel degree (", use.tensorParallel,
                      " and ", group.tensor_parallel(), ")");
        size += group.count();
      }
      return size;
    case Collective::GROUP_ISLAND:
      for (const Stage &stage : use.island->stages())
        for (const ReplicaGroup &group : stage.groups())
          size += group.count() * group.tensor_parallel();
      return size;
    default:
      throw Error(place, ": unknown group ",
                  static_cast<int>(collective.group()));
    }
  }

  /// The alignment each argument of a segment needs, from the values in it.
  const std::vector<std::uint64_t> &alignments(std::uint32_t index) {
    auto [entry, fresh] = aligned.try_emplace(index);
    if (fresh) {
      const Segment &segment = plan.segments(static_cast<int>(index));
      entry->second.assign(static_cast<std::size_t>(segment.arguments_size()),
                           1);
      for (const Value &value : segment.values())
        if (value.storage_case() == Value::kArgument)
          entry->second[value.argument()] = std::max(
              entry->second[value.argument()], elementBytes(value.dtype()));
    }
    return entry->second;
  }

  static constexpr std::uint32_t kMaxVariables = 1 << 16;
  const Plan &plan;
  const Program &program;
  const std::vector<ProgramUse> &uses;
  Scope ranks;
  std::uint64_t work = 0; // of the phase, so far
  std::set<std::uint32_t> variables;
  std::map<std::uint32_t, std::vector<std::uint64_t>> aligned;
};

} // namespace

Extremes extremes(const Expr &expr, const Scope &scope,
                  const std::string &place) {
  if (std::int64_t value = expr.constant();
      expr.terms().empty() && expr.divisor() <= 1 && value >= 0 &&
      value <= static_cast<std::int64_t>(kMaxBytes))
    return {value, value};
  // A coordinate is one variable, a loop's another.
  using Variable = std::pair<Coordinate, std::uint32_t>;
  std::map<Variable, std::vector<const Term *>> byVariable;
  std::map<Variable, Span> values;
  for (const Term &term : expr.terms()) {
    Variable variable{term.coordinate(), 0};
    Span span;
    switch (term.coordinate()) {
    case COORDINATE_UNSPECIFIED: {
      variable.second = term.variable();
      auto loop = scope.loops.find(term.variable());
      if (loop == scope.loops.end())
        throw Error(place, ": variable ", term.variable(),
                    " belongs to no loop around");
      span = loop->second;
      break;
    }
    case COORDINATE_TENSOR_INDEX:
    case COORDINATE_REPLICA: {
      const std::optional<Span> &known = term.coordinate() == COORDINATE_REPLICA
                                             ? scope.replica
                                             : scope.tensorIndex;
      if (!known)
        throw Error(place, ": must be the same on all ranks of the class, but "
                           "names a rank's coordinate");
      span = *known;
      break;
    }
    default:
      throw Error(place, ": unknown coordinate ",
                  static_cast<int>(term.coordinate()));
    }
    byVariable[variable].push_back(&term);
    values[variable] = span;
  }
  if (expr.divisor() > kMaxBytes)
    throw Error(place, ": a divisor is too large");
  // |factor * value| < 2^63 * 2^64 fits; more terms than that do not add up to
  // an overflow because each variable's sum is bounded before it is added.
  constexpr Wide kBound = static_cast<Wide>(1) << 62;
  Wide low = expr.constant(), high = low;
  for (const Term &term : expr.terms())
    if (term.factor() > static_cast<std::int64_t>(kMaxBytes) ||
        term.factor() < -static_cast<std::int64_t>(kMaxBytes) ||
        term.offset() > static_cast<std::int64_t>(kMaxBytes) ||
        term.offset() < -static_cast<std::int64_t>(kMaxBytes) ||
        term.modulus() > kMaxBytes)
      throw Error(place, ": a factor, offset or modulus is too large");
  for (const auto &[variable, terms] : byVariable) {
    if (terms.size() > 64)
      throw Error(place, ": more than 64 terms of one variable");
    auto [least, most] = termExtremes(terms, values.at(variable), place);
    low += least;
    high += most;
    if (low < -kBound || high > kBound)
      throw Error(place, ": the value overflows 64 bits");
  }
  if (low < -kBound || high > kBound)
    throw Error(place, ": the value overflows 64 bits");
  auto down = [&](Wide value) {
    auto divisor = static_cast<Wide>(expr.divisor());
    if (divisor > 1)
      value = value / divisor - (value % divisor < 0);
    return static_cast<std::int64_t>(value);
  };
  return {down(low), down(high)};
}

bool isAligned(const Expr &expr, std::uint64_t alignment) {
  // What is a multiple of both is divided without a rest.
  Wide unit =
      static_cast<Wide>(alignment) * std::max<std::uint64_t>(expr.divisor(), 1);
  auto multiple = [&](std::int64_t value) { return value % unit == 0; };
  if (!multiple(expr.constant()))
    return false;
  for (const Term &term : expr.terms())
    if (!multiple(term.factor()))
      return false;
  return true;
}

void validateProgram(const Plan &plan, const Program &program,
                     const std::vector<ProgramUse> &uses,
                     const std::string &place) {
  validateMemory(plan, program, uses, place);
  if (program.semaphores() > (1u << 20))
    throw Error(place, ": too many semaphores: ", program.semaphores());
  std::uint64_t arena = program.arena_bytes();
  if (arena < 16 || program.stats_address() > arena - 8 ||
      program.stats_address() % 4 != 0)
    throw Error(place, ": stats_address ", program.stats_address(),
                " is no place for two f32");
  if (program.updates_address() > arena - 8 ||
      program.updates_address() % 8 != 0)
    throw Error(place, ": updates_address ", program.updates_address(),
                " is no place for an i64");
  if (program.has_tensor_index_address() &&
      (program.tensor_index_address() > arena - 8 ||
       program.tensor_index_address() % 8 != 0))
    throw Error(place, ": tensor_index_address ",
                program.tensor_index_address(), " is no place for an i64");
  if (program.has_gradient_squares_address() !=
      (plan.training().clip_gradient_norm() > 0))
    throw Error(place, ": gradient_squares_address and the training's "
                       "clip_gradient_norm go together");
  if (program.has_gradient_squares_address() &&
      (program.gradient_squares_address() > arena - 4 ||
       program.gradient_squares_address() % 4 != 0))
    throw Error(place, ": gradient_squares_address ",
                program.gradient_squares_address(), " is no place for an f32");
  try {
    ProgramCheck(plan, program, uses).run(Place({}, /*isNamed=*/false));
  } catch (const Error &) {
    ProgramCheck(plan, program, uses).run(Place(place, /*isNamed=*/true));
    throw;
  }
}

} // namespace tombolo::runtime::detail
