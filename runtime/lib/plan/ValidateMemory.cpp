//===- ValidateMemory.cpp - regions, parameters, owners -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ValidateParts.h"

#include "tombolo/runtime/plan/Parameters.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace tombolo::runtime::detail {

using namespace plan::v1;

namespace {

// They are listed one by one, so a plan must not name more than fit memory.
constexpr std::uint64_t kMaxRuns = std::uint64_t{1} << 24;

/// The number of elements that lie on each rank; `lastIndex` is the largest
/// tensor-parallel index.
std::uint64_t validateSlices(const ParameterFamily &family,
                             std::uint64_t elements, std::uint64_t lastIndex,
                             const std::string &place) {
  if (family.slices_size() == 0)
    return elements;
  std::uint64_t sum = 0;
  for (const Slice &slice : family.slices()) {
    if (slice.length() == 0 || slice.count() == 0)
      throw Error(place, ": empty slice");
    if (slice.count() > 1 && slice.stride() < slice.length())
      throw Error(place, ": slice runs of ", slice.length(),
                  " elements overlap at stride ", slice.stride());
    std::uint64_t reach =
        (slice.count() > 1 ? times(slice.count() - 1, slice.stride(), place)
                           : 0) +
        slice.length() + times(lastIndex, slice.tensor_stride(), place);
    if (slice.begin() > elements || reach > elements - slice.begin())
      throw Error(place, ": slice reaches element ", slice.begin(), " + ",
                  reach, " of ", elements);
    sum += slice.length() * slice.count();
    if (sum > elements)
      throw Error(place, ": the slices hold more elements than the parameter");
  }
  return sum;
}

std::uint64_t replicasOf(const Stage &stage) {
  std::uint64_t replicas = 0;
  for (const ReplicaGroup &group : stage.groups())
    replicas += group.count();
  return replicas;
}

void validateNames(const Names &names, const ParameterFamily &family,
                   const std::string &place) {
  if (names.listed_size() > 0) {
    if (static_cast<std::uint32_t>(names.listed_size()) != family.count())
      throw Error(place, ": expected ", family.count(), " names, got ",
                  names.listed_size());
    for (const std::string &name : names.listed())
      checkName(name, place);
    return;
  }
  if (family.count() > 1 && names.step() == 0)
    throw Error(place, ": a pattern of ", family.count(),
                " names needs a step");
  if (names.first() > kMaxCount || names.step() > kMaxCount)
    throw Error(place, ": name numbers are too large");
  checkName(names.prefix() + names.suffix(), place);
}

} // namespace

/// The bytes of the region 'parameters' that the state is of.
static std::pair<std::uint64_t, std::uint64_t>
stateRange(const StateRegion &state, const Region &parameters) {
  if (state.bytes() == 0)
    return {state.begin(), parameters.bytes()};
  std::uint64_t end = 0;
  if (__builtin_add_overflow(state.begin(), state.bytes(), &end))
    end = ~std::uint64_t{0};
  return {state.begin(), end};
}

void validateMemory(const Plan &plan, const Program &program,
                    const std::vector<ProgramUse> &uses,
                    const std::string &place) {
  std::uint64_t arena = program.arena_bytes();
  if (arena == 0 || arena > kMaxBytes)
    throw Error(place, ": unusable arena of ", arena, " bytes");
  const Region *parameters = nullptr;
  for (const Region &region : program.regions()) {
    std::string at = place + ": region '" + region.name() + "'";
    checkName(region.name(), at);
    if (region.offset() > arena || region.bytes() > arena - region.offset())
      throw Error(at, ": bytes ", region.offset(), " + ", region.bytes(),
                  " lie outside the arena of ", arena);
    if (region.name() == "parameters") {
      if (parameters)
        throw Error(at, ": stands twice");
      parameters = &region;
    }
  }
  std::map<std::string, std::vector<std::pair<std::uint64_t, std::uint64_t>>>
      stateRanges; // by suffix, begin and end
  for (const StateRegion &state : program.states()) {
    std::string at = place + ": state '" + state.name() + "'";
    checkName(state.name(), at);
    if (!parameters)
      throw Error(at, ": needs a region 'parameters'");
    auto [first, end] = stateRange(state, *parameters);
    if (first > parameters->bytes() || end < first ||
        end > parameters->bytes() || first % 4 != 0 || end % 4 != 0)
      throw Error(at, ": bytes ", first, " to ", end,
                  " are no part of the region 'parameters' of ",
                  parameters->bytes());
    for (auto [otherFirst, otherEnd] : stateRanges[state.name()])
      if (first == otherFirst || (first < otherEnd && otherFirst < end))
        throw Error(at, ": stands twice");
    stateRanges[state.name()].push_back({first, end});
    std::uint64_t bytes = state.part_bytes() ? state.part_bytes() : end - first;
    if (state.offset() > arena || bytes > arena - state.offset())
      throw Error(at, ": lies outside the arena of ", arena, " bytes");
    if (state.offset() % 4 != 0 || state.part_bytes() % 4 != 0)
      throw Error(at, ": offset or part_bytes is no multiple of 4");
  }
  std::set<std::string> seen;
  std::uint64_t runs = 0; // of elements, over all parameters
  for (int i = 0; i < program.parameters_size(); ++i) {
    const ParameterFamily &family = program.parameters(i);
    std::string at = place + ": parameter family " + std::to_string(i);
    if (family.count() == 0 || family.count() > kMaxRanks)
      throw Error(at, ": unusable count ", family.count());
    validateNames(family.names(), family, at + ": names");
    validateNames(family.initializers(), family, at + ": initializers");
    if (family.dtype() != DTYPE_F32)
      throw Error(at, ": expected f32, got ", dtypeName(family.dtype()));
    std::uint64_t elements = elementCount(family.dims(), at);
    std::uint64_t bytes = times(
        validateSlices(family, elements, tensorIndices(uses).last, at), 4, at);
    std::uint64_t familyRuns = family.slices_size() == 0 ? 1 : 0;
    for (const Slice &slice : family.slices())
      familyRuns += slice.count();
    runs += times(familyRuns, family.count(), at);
    if (runs > kMaxRuns)
      throw Error(at, ": the program's parameters lie in more than ", kMaxRuns,
                  " pieces");
    if (family.address() % 4 != 0 || family.stride() % 4 != 0)
      throw Error(at, ": address or stride is no multiple of 4");
    if (family.count() > 1 && family.stride() < bytes)
      throw Error(at, ": parameters of ", bytes, " bytes overlap at stride ",
                  family.stride());
    std::uint64_t reach =
        (family.count() > 1 ? times(family.count() - 1, family.stride(), at)
                            : 0) +
        bytes;
    if (family.address() > arena || reach > arena - family.address())
      throw Error(at, ": bytes ", family.address(), " + ", reach,
                  " lie outside the arena of ", arena);
    if (family.trainable()) {
      if (!parameters || family.address() < parameters->offset() ||
          family.address() + reach > parameters->offset() + parameters->bytes())
        throw Error(at, ": trainable, but not in the region 'parameters'");
      std::uint64_t begin = family.address() - parameters->offset();
      std::uint64_t end = begin + reach;
      for (const auto &[name, ranges] : stateRanges)
        if (std::none_of(ranges.begin(), ranges.end(), [&](const auto &range) {
              return range.first <= begin && end <= range.second;
            }))
          throw Error(at, ": no state '", name, "' is of bytes ", begin, " to ",
                      end, " of the region 'parameters'");
      for (const StateRegion &state : program.states())
        for (const ProgramUse &use : uses) {
          auto [first, last] = stateRange(state, *parameters);
          if (state.part_bytes() && first <= begin && end <= last &&
              times(replicasOf(use.inStage()), state.part_bytes(), at) <
                  end - first)
            throw Error(at, ": bytes up to ", end - first,
                        " of the region "
                        "'parameters', but the state '",
                        state.name(), "' is held of ",
                        replicasOf(use.inStage()), " x ", state.part_bytes(),
                        " only");
        }
      std::uint32_t fragments =
          plan.has_server() ? plan.server().fragments() : 1;
      std::uint64_t members = 0;
      for (const FragmentMembers &some : family.fragments()) {
        if (some.fragment() >= fragments)
          throw Error(at, ": fragment ", some.fragment(),
                      " does not exist, there are ", fragments);
        members += some.count();
      }
      if (family.fragments_size() > 0 && members != family.count())
        throw Error(at, ": its fragments have ", members,
                    " parameters, expected ", family.count());
    } else if (family.fragments_size() > 0) {
      throw Error(at, ": is frozen, but in a fragment");
    }
    for (std::uint64_t k = 0; k < family.count(); ++k)
      if (!seen.insert(nameAt(family.names(), k)).second)
        throw Error(at, ": '", nameAt(family.names(), k),
                    "' stands twice in the program");
  }
}

void validateHostBytes(const Plan &plan, const Program &program,
                       const std::string &place) {
  std::uint64_t host = 0;
  for (const LocalParameter &parameter : expandParameters(program)) {
    if (!plan.has_server() || !parameter.trainable)
      continue;
    bool compressed =
        plan.server().compression() != Server::COMPRESSION_NONE &&
        plan.server().compression() != Server::COMPRESSION_UNSPECIFIED;
    bool trainsOn =
        plan.server().overlap_steps() > 0 ||
        plan.server().quorum() < static_cast<unsigned>(plan.islands_size());
    host += parameter.localElements *
            (8 + (trainsOn ? 4 : 0) + (parameter.owner && compressed ? 8 : 0));
    if (host > kMaxBytes)
      throw Error(place, ": holds too many elements");
  }
  if (program.host_bytes() != host)
    throw Error(
        place, ": expected host_bytes of ", host,
        " (with a server 8 for each trainable element, 4 more when training "
        "goes on during an exchange, and 8 more for each that it owns when "
        "pushes are compressed), got ",
        program.host_bytes());
}

namespace {

/// Elements [begin, begin + length), and the same again wherever the steps
/// lead: what a slice is on all tensor-parallel indices.
struct Piece {
  std::uint64_t begin = 0;
  std::uint64_t length = 0;
  /// Stride and count (above 1), by stride.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> steps;

  /// Joins what lies side by side.
  void join() {
    while (!steps.empty() && steps.front().first == length) {
      length *= steps.front().second;
      steps.erase(steps.begin());
    }
  }
};

/// `slice` on the indices 0 ... degree - 1, or on one where all hold the same.
Piece pieceOf(const Slice &slice, std::uint64_t degree) {
  Piece piece{slice.begin(), slice.length(), {}};
  if (slice.tensor_stride() && degree > 1)
    piece.steps.push_back({slice.tensor_stride(), degree});
  if (slice.count() > 1)
    piece.steps.push_back({slice.stride(), slice.count()});
  std::sort(piece.steps.begin(), piece.steps.end());
  piece.join();
  return piece;
}

/// Joins pieces that repeat alike, side by side: the parts of a fused weight.
void joinPieces(std::vector<Piece> &pieces) {
  auto order = [](const Piece &a, const Piece &b) {
    return std::tie(a.steps, a.begin) < std::tie(b.steps, b.begin);
  };
  for (;;) {
    std::sort(pieces.begin(), pieces.end(), order);
    std::vector<Piece> joined;
    for (Piece &piece : pieces) {
      Piece *last = joined.empty() ? nullptr : &joined.back();
      if (last && last->steps == piece.steps &&
          last->begin + last->length == piece.begin)
        last->length += piece.length;
      else
        joined.push_back(std::move(piece));
    }
    for (Piece &piece : joined)
      piece.join();
    bool done = joined.size() == pieces.size();
    pieces = std::move(joined);
    if (done)
      return;
  }
}

using Interval = std::pair<std::uint64_t, std::uint64_t>; // begin, end

/// `budget`: intervals that may still be listed.
void listIntervals(const Piece &piece, std::size_t step, std::uint64_t begin,
                   std::uint64_t &budget, const std::string &place,
                   std::vector<Interval> &to) {
  if (step == piece.steps.size()) {
    if (budget-- == 0)
      throw Error(place, ": the slices of its owners are too many pieces");
    to.push_back({begin, begin + piece.length});
    return;
  }
  auto [stride, count] = piece.steps[step];
  for (std::uint64_t i = 0; i < count; ++i)
    listIntervals(piece, step + 1, begin + i * stride, budget, place, to);
}

} // namespace

void validateOwners(const Plan &plan, std::uint32_t islandIndex) {
  const Island &island = plan.islands(static_cast<int>(islandIndex));
  std::string place = "island " + std::to_string(islandIndex);
  struct Whole {
    std::vector<std::uint64_t> dims;
    std::vector<Piece> owned;
    bool trainable = false;
  };
  std::map<std::string, Whole> all;
  for (int s = 0; s < island.stages_size(); ++s)
    for (int g = 0; g < island.stages(s).groups_size(); ++g) {
      const ReplicaGroup &group = island.stages(s).groups(g);
      const Program &program = plan.programs(static_cast<int>(group.program()));
      for (const ParameterFamily &family : program.parameters()) {
        // Replica 0 of the stage owns; see ownsParameter.
        std::vector<Piece> owned;
        if (family.owner() && g == 0) {
          for (const Slice &slice : family.slices())
            owned.push_back(pieceOf(slice, group.tensor_parallel()));
          if (family.slices_size() == 0)
            owned.push_back({0, elementCount(family.dims(), place), {}});
          joinPieces(owned);
        }
        std::vector<std::uint64_t> dims(family.dims().begin(),
                                        family.dims().end());
        for (std::uint64_t k = 0; k < family.count(); ++k) {
          std::string name = nameAt(family.names(), k);
          auto [entry, fresh] = all.try_emplace(name);
          Whole &whole = entry->second;
          if (!fresh &&
              (whole.dims != dims || whole.trainable != family.trainable()))
            throw Error(place, ": parameter '", name,
                        "' differs between stages");
          whole.dims = dims;
          whole.trainable = family.trainable();
          whole.owned.insert(whole.owned.end(), owned.begin(), owned.end());
        }
      }
    }
  std::uint64_t budget = kMaxRuns;
  std::vector<Interval> owned;
  for (auto &[name, whole] : all) {
    if (!whole.trainable)
      continue;
    std::string at = place + ": parameter '" + name + "'";
    joinPieces(whole.owned);
    owned.clear();
    for (const Piece &piece : whole.owned)
      listIntervals(piece, 0, piece.begin, budget, at, owned);
    std::sort(owned.begin(), owned.end());
    std::uint64_t elements = elementCount(whole.dims, place), next = 0;
    for (auto [begin, end] : owned) {
      if (begin != next)
        throw Error(at, ": element ", std::min(begin, next), " has ",
                    begin > next ? "no owner" : "two owners");
      next = end;
    }
    if (next != elements)
      throw Error(at, ": element ", next, " has no owner");
  }
}

} // namespace tombolo::runtime::detail
