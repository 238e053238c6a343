//===- PlanBuilder.cpp - plans by hand, for tests -------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlanBuilder.h"

namespace tombolo::runtime::test {

namespace {

/// Hands out 64-byte aligned parts of an arena.
class Arena {
public:
  std::int64_t take(std::uint64_t bytes) {
    std::uint64_t at = next;
    next = (next + bytes + 63) / 64 * 64;
    return static_cast<std::int64_t>(at);
  }
  std::uint64_t next = 0;
};

struct Sizes {
  std::uint64_t rows;   // microbatch * tokens
  std::uint64_t tokens; // bytes of one microbatch's token ids
  std::uint64_t hidden; // bytes of one microbatch's logits
};

void sgd(SegmentBuilder &b, const TinyModel &model, std::uint64_t n) {
  std::uint32_t param = b.argument("param", n * 4, ACCESS_READ_WRITE);
  std::uint32_t grad = b.argument("grad", n * 4, ACCESS_READ_WRITE);
  std::uint32_t weight = b.argument("weight", 4, ACCESS_READ);
  std::uint32_t updates = b.argument("updates", 8, ACCESS_READ);
  std::uint32_t p = b.value(param, DTYPE_F32, {n});
  std::uint32_t g = b.value(grad, DTYPE_F32, {n});
  std::uint32_t w = b.value(weight, DTYPE_F32, {1});
  std::uint32_t u = b.value(updates, DTYPE_I64, {1});
  Op &op = b.op(OPCODE_SGD, {p, g, w, u}, {p});
  if (model.momentum > 0) {
    std::uint32_t state = b.argument("momentum", n * 4, ACCESS_READ_WRITE);
    std::uint32_t m = b.value(state, DTYPE_F32, {n});
    op.add_inputs(m);
    op.add_outputs(m);
  }
  attribute(op, "learning_rate").set_real(model.learningRate);
  attribute(op, "momentum").set_real(model.momentum);
  attribute(op, "weight_decay").set_real(0);
}

void advance(SegmentBuilder &b) {
  std::uint32_t weight = b.argument("weight", 4, ACCESS_READ);
  std::uint32_t updates = b.argument("updates", 8, ACCESS_READ_WRITE);
  std::uint32_t w = b.value(weight, DTYPE_F32, {1});
  std::uint32_t u = b.value(updates, DTYPE_I64, {1});
  b.op(OPCODE_OPTIMIZER_ADVANCE, {w, u}, {u});
}

void zero(SegmentBuilder &b, std::uint64_t n) {
  std::uint32_t target = b.argument("target", n * 4, ACCESS_WRITE);
  std::uint32_t v = b.value(target, DTYPE_F32, {n});
  attribute(b.op(OPCODE_FILL, {}, {v}), "value").set_real(0);
}

/// `columns` of the table are here.
void gather(SegmentBuilder &b, std::uint64_t rows, std::uint64_t vocabulary,
            std::uint64_t columns) {
  std::uint32_t table =
      b.argument("table", vocabulary * columns * 4, ACCESS_READ);
  std::uint32_t ids = b.argument("ids", rows * 8, ACCESS_READ);
  std::uint32_t out = b.argument("out", rows * columns * 4, ACCESS_WRITE);
  std::uint32_t t = b.value(table, DTYPE_F32, {vocabulary, columns});
  std::uint32_t i = b.value(ids, DTYPE_I64, {rows});
  std::uint32_t o = b.value(out, DTYPE_F32, {rows, columns});
  attribute(b.op(OPCODE_GATHER, {t, i}, {o}), "axis").set_integer(0);
}

/// The rank's columns of dy, which begin at the argument's address.
void gatherBackward(SegmentBuilder &b, std::uint64_t rows,
                    std::uint64_t vocabulary, std::uint64_t columns) {
  std::uint64_t reach = (rows - 1) * vocabulary + columns;
  std::uint32_t dy = b.argument("dy", reach * 4, ACCESS_READ);
  std::uint32_t ids = b.argument("ids", rows * 8, ACCESS_READ);
  std::uint32_t grad =
      b.argument("grad", vocabulary * columns * 4, ACCESS_READ_WRITE);
  std::uint32_t d = b.value(dy, DTYPE_F32, {rows, columns});
  Value &view = *b.segment.mutable_values(static_cast<int>(d));
  view.add_strides(vocabulary);
  view.add_strides(1);
  std::uint32_t i = b.value(ids, DTYPE_I64, {rows});
  std::uint32_t g = b.value(grad, DTYPE_F32, {vocabulary, columns});
  Op &op = b.op(OPCODE_GATHER_BACKWARD, {d, i}, {g});
  attribute(op, "axis").set_integer(0);
  op.set_accumulate(true);
}

/// The parts [k, rows, columns] side by side, as [rows, k columns].
void join(SegmentBuilder &b, std::uint64_t rows, std::uint64_t columns,
          std::uint64_t k) {
  std::uint64_t bytes = k * rows * columns * 4;
  std::uint32_t parts = b.argument("parts", bytes, ACCESS_READ);
  std::uint32_t whole = b.argument("whole", bytes, ACCESS_WRITE);
  std::uint32_t from = b.value(parts, DTYPE_F32, {rows, k, columns});
  Value &view = *b.segment.mutable_values(static_cast<int>(from));
  for (std::uint64_t stride : {columns, rows * columns, std::uint64_t{1}})
    view.add_strides(stride);
  std::uint32_t to = b.value(whole, DTYPE_F32, {rows, k, columns});
  b.op(OPCODE_COPY, {from}, {to});
}

/// Loss and the gradient of the logits, which replaces the logits.
void loss(SegmentBuilder &b, std::uint64_t rows, std::uint64_t vocabulary) {
  std::uint32_t logits =
      b.argument("logits", rows * vocabulary * 4, ACCESS_READ_WRITE);
  std::uint32_t labels = b.argument("labels", rows * 8, ACCESS_READ);
  std::uint32_t stats = b.argument("stats", 8, ACCESS_READ_WRITE);
  b.segment.set_workspace_bytes(rows * 4);
  std::uint32_t x = b.value(logits, DTYPE_F32, {rows, vocabulary});
  std::uint32_t l = b.value(labels, DTYPE_I64, {rows});
  std::uint32_t sum = b.value(stats, DTYPE_F32, {1});
  std::uint32_t weights = b.value(stats, DTYPE_F32, {1}, 4);
  std::uint32_t lse = b.scratch(DTYPE_F32, {rows});
  Op &forward = b.op(OPCODE_CROSS_ENTROPY, {x, l}, {sum, weights, lse});
  attribute(forward, "ignore_index").set_integer(-100);
  forward.set_accumulate(true);
  Op &backward = b.op(OPCODE_CROSS_ENTROPY_BACKWARD, {x, l, lse}, {x});
  attribute(backward, "ignore_index").set_integer(-100);
}

void scale(SegmentBuilder &b, std::uint64_t rows, std::uint64_t vocabulary) {
  std::uint32_t x = b.argument("x", rows * vocabulary * 4, ACCESS_READ);
  std::uint32_t s = b.argument("scale", vocabulary * 4, ACCESS_READ);
  std::uint32_t y = b.argument("y", rows * vocabulary * 4, ACCESS_WRITE);
  std::uint32_t xv = b.value(x, DTYPE_F32, {rows, vocabulary});
  std::uint32_t sv = b.value(s, DTYPE_F32, {vocabulary});
  std::uint32_t yv = b.value(y, DTYPE_F32, {rows, vocabulary});
  b.op(OPCODE_MUL, {xv, sv}, {yv});
}

/// dscale += sum(dy x), dy := dy scale.
void scaleBackward(SegmentBuilder &b, std::uint64_t rows,
                   std::uint64_t vocabulary) {
  std::uint32_t dy = b.argument("dy", rows * vocabulary * 4, ACCESS_READ_WRITE);
  std::uint32_t x = b.argument("x", rows * vocabulary * 4, ACCESS_READ);
  std::uint32_t s = b.argument("scale", vocabulary * 4, ACCESS_READ);
  std::uint32_t grad = b.argument("grad", vocabulary * 4, ACCESS_READ_WRITE);
  b.segment.set_workspace_bytes(rows * vocabulary * 4);
  std::uint32_t dyv = b.value(dy, DTYPE_F32, {rows, vocabulary});
  std::uint32_t xv = b.value(x, DTYPE_F32, {rows, vocabulary});
  std::uint32_t sv = b.value(s, DTYPE_F32, {vocabulary});
  std::uint32_t gv = b.value(grad, DTYPE_F32, {vocabulary});
  std::uint32_t product = b.scratch(DTYPE_F32, {rows, vocabulary});
  b.op(OPCODE_MUL, {dyv, xv}, {product});
  Op &sum = b.op(OPCODE_REDUCE_SUM, {product}, {gv});
  attribute(sum, "axes").mutable_integers()->add_values(0);
  sum.set_accumulate(true);
  b.op(OPCODE_MUL, {dyv, sv}, {dyv});
}

enum SegmentIndex : std::uint32_t {
  kSgdTable,
  kAdvance,
  kZeroTable,
  kGather,
  kGatherBackward,
  kLoss,
  kScale,
  kScaleBackward,
  kSgdScale,
  kZeroScale,
  kZeroStats,
  kJoin,
};

void region(Program &program, const char *name, std::int64_t offset,
            std::uint64_t bytes) {
  Region *region = program.add_regions();
  region->set_name(name);
  region->set_offset(static_cast<std::uint64_t>(offset));
  region->set_bytes(bytes);
}

void parameter(Program &program, const char *name, std::int64_t address,
               std::initializer_list<std::uint64_t> dims) {
  ParameterFamily *family = program.add_parameters();
  family->mutable_names()->add_listed(name);
  family->mutable_initializers()->add_listed(name);
  family->set_count(1);
  family->set_address(static_cast<std::uint64_t>(address));
  family->set_dtype(DTYPE_F32);
  for (std::uint64_t dim : dims)
    family->add_dims(dim);
  family->set_trainable(true);
  family->set_owner(true);
}

/// What a stage's optimizer works on; parts are equal and cover the region.
struct Optimized {
  Optimized(const TinyModel &model, std::uint64_t elements)
      : model(model), elements(elements), part(elements) {
    if (model.shardedOptimizer)
      part = (elements + model.replicas * 16 - 1) / (model.replicas * 16) * 16;
  }
  std::uint64_t padded() const {
    return model.shardedOptimizer ? part * model.replicas : elements;
  }
  const TinyModel &model;
  std::uint64_t elements;
  std::uint64_t part; // updated by one replica
  std::int64_t param = 0, grad = 0, state = 0;
  std::int64_t stats = 0, updates = 0;

  void place(Program &program, Arena &arena) {
    param = arena.take(padded() * 4);
    grad = arena.take(padded() * 4);
    stats = arena.take(64 * model.tensorParallel);
    updates = arena.take(8);
    region(program, "parameters", param, padded() * 4);
    region(program, "gradients", grad, padded() * 4);
    program.set_stats_address(static_cast<std::uint64_t>(stats));
    program.set_updates_address(static_cast<std::uint64_t>(updates));
    if (model.momentum == 0)
      return;
    state = arena.take(part * 4);
    StateRegion *region = program.add_states();
    region->set_name("momentum_buffer");
    region->set_offset(static_cast<std::uint64_t>(state));
    if (model.shardedOptimizer)
      region->set_part_bytes(part * 4);
  }
};

/// Gradients and statistics are zeroed, accumulated over microbatches, reduced,
/// applied. Semaphore 0 counts microbatches ready to reduce, 1 the reductions,
/// 6 the updates.
void update(Program &program, std::uint64_t microbatches, const Optimized &o,
            std::uint32_t segment) {
  Body &step = *program.mutable_step();
  bool sharded = o.model.shardedOptimizer;
  Instruction &reduce = collective(step,
                                   sharded ? Collective::KIND_REDUCE_SCATTER_SUM
                                           : Collective::KIND_ALL_REDUCE_SUM,
                                   Collective::GROUP_REPLICAS, constant(o.grad),
                                   sharded ? o.padded() : o.elements);
  wait(reduce, 0, constant(static_cast<std::int64_t>(microbatches)));
  Instruction &sum = allReduce(step, Collective::GROUP_ISLAND, o.stats, 2);
  signal(sum, 1);
  wait(call(step, kAdvance, {constant(o.stats + 4), constant(o.updates)}), 1,
       constant(1));
  auto partOf = [&](std::int64_t base) {
    return sharded ? plus(constant(base), COORDINATE_REPLICA,
                          static_cast<std::int64_t>(o.part * 4))
                   : constant(base);
  };
  Instruction &apply = call(step, segment,
                            {partOf(o.param), partOf(o.grad),
                             constant(o.stats + 4), constant(o.updates)});
  if (o.model.momentum > 0)
    *apply.mutable_call()->add_arguments() = constant(o.state);
  if (!sharded)
    return;
  signal(apply, 6);
  wait(collective(step, Collective::KIND_ALL_GATHER, Collective::GROUP_REPLICAS,
                  constant(o.param), o.padded()),
       6, constant(1));
}

} // namespace

Plan tinyPlan(const TinyModel &model) {
  Plan plan;
  plan.set_format_version(kPlanFormatVersion);
  plan.set_model_hash(std::string(32, 'm'));
  plan.set_topology_hash(std::string(32, 't'));
  Input *input = plan.mutable_model()->add_inputs();
  input->set_name("ids");
  input->set_dtype(DTYPE_I64);
  input->add_dims(model.tokens);
  *plan.mutable_model()->mutable_label() = *input;
  plan.mutable_model()->mutable_label()->set_name("labels");
  plan.mutable_model()->set_tokens_per_sample(model.tokens);
  plan.mutable_model()->set_vocabulary(model.vocabulary);
  plan.mutable_training()->mutable_sgd();
  plan.mutable_training()->set_learning_rate(model.learningRate);
  plan.mutable_training()->set_global_batch(model.batch);
  plan.mutable_training()->set_precision(PRECISION_F32);

  plan.mutable_training()->mutable_sgd()->set_momentum(model.momentum);
  std::uint64_t k = model.tensorParallel, columns = model.vocabulary / k;
  std::uint64_t v = model.vocabulary, rows = model.microbatch * model.tokens;
  Sizes bytes{rows, rows * 8, rows * v * 4};
  Optimized table(model, v * columns), norm(model, v);
  auto add = [&](const char *name) {
    return SegmentBuilder(*plan.add_segments(), name);
  };
  {
    auto b = add("sgd_table");
    sgd(b, model, table.part);
  }
  {
    auto b = add("advance");
    advance(b);
  }
  {
    auto b = add("zero_table");
    zero(b, table.padded());
  }
  {
    auto b = add("gather");
    gather(b, rows, v, columns);
  }
  {
    auto b = add("gather_backward");
    gatherBackward(b, rows, v, columns);
  }
  {
    auto b = add("loss");
    loss(b, rows, v);
  }
  {
    auto b = add("scale");
    scale(b, rows, v);
  }
  {
    auto b = add("scale_backward");
    scaleBackward(b, rows, v);
  }
  {
    auto b = add("sgd_scale");
    sgd(b, model, norm.part);
  }
  {
    auto b = add("zero_scale");
    zero(b, norm.padded());
  }
  {
    auto b = add("zero_stats");
    zero(b, 2);
  }
  {
    auto b = add("join");
    join(b, rows, columns, k);
  }

  std::uint64_t microbatches = model.batch / model.microbatch / model.replicas;
  std::uint32_t lossInput = 1;

  Program &first = *plan.add_programs();
  first.set_name("stage 0");
  first.set_semaphores(9);
  {
    Arena arena;
    table.place(first, arena);
    std::int64_t ids = arena.take(bytes.tokens * microbatches);
    std::int64_t labels = arena.take(bytes.tokens);
    std::int64_t logits = arena.take(bytes.hidden * 2);
    std::int64_t back = arena.take(bytes.hidden * microbatches);
    std::int64_t work = arena.take(bytes.hidden);
    std::int64_t parts = arena.take(bytes.hidden); // of all tensor indices
    std::int64_t index = arena.take(8);
    first.set_arena_bytes(arena.next);
    parameter(first, "table", table.param, {v, v});
    if (k > 1) {
      Slice *slice = first.mutable_parameters(0)->add_slices();
      slice->set_length(columns);
      slice->set_count(v);
      slice->set_stride(v);
      slice->set_tensor_stride(columns);
      first.set_tensor_index_address(static_cast<std::uint64_t>(index));
    }
    // Each tensor index counts the loss; the island sums the first's.
    Expr stats = constant(table.stats);
    if (k > 1)
      stats = plus(stats, COORDINATE_TENSOR_INDEX, 64);
    Body &step = *first.mutable_step();
    call(step, kZeroTable, {constant(table.grad)});
    call(step, kZeroStats, {stats});
    if (k > 1) // what the others add up
      call(step, kZeroStats, {constant(table.stats)});
    auto idsOf = [&](std::uint32_t variable) {
      return linear(ids, variable, static_cast<std::int64_t>(bytes.tokens));
    };
    auto slot = [&](std::int64_t base, std::uint32_t variable) {
      return linear(base, variable, static_cast<std::int64_t>(bytes.hidden), 0,
                    2);
    };
    if (model.stages == 1) {
      Body &body = loop(step, 0, microbatches);
      load(body, 0, idsOf(0), linear(0, 0, 1));
      load(body, lossInput, constant(labels), linear(0, 0, 1));
      Expr own = slot(logits, 0);
      if (k == 1) {
        call(body, kGather, {constant(table.param), idsOf(0), slot(logits, 0)});
      } else {
        // Semaphores: 7 parts that are here, 8 parts gathered.
        Expr part = plus(constant(parts), COORDINATE_TENSOR_INDEX,
                         static_cast<std::int64_t>(rows * columns * 4));
        signal(call(body, kGather, {constant(table.param), idsOf(0), part}), 7);
        Instruction &all =
            collective(body, Collective::KIND_ALL_GATHER,
                       Collective::GROUP_TENSOR, constant(parts), rows * v);
        signal(wait(all, 7, linear(1, 0, 1)), 8);
        wait(call(body, kJoin, {constant(parts), slot(logits, 0)}), 8,
             linear(1, 0, 1));
        own = plus(own, COORDINATE_TENSOR_INDEX,
                   static_cast<std::int64_t>(columns * 4));
      }
      call(body, kLoss, {slot(logits, 0), constant(labels), stats},
           constant(work));
      signal(call(body, kGatherBackward, {own, idsOf(0), constant(table.grad)}),
             0);
    } else {
      // Forwards and backwards of all microbatches (GPipe): the transfers run
      // beside on lanes of their own. Semaphores: 2 computed, 3 sent, 4
      // received.
      Body &forward = loop(step, 0, microbatches);
      load(forward, 0, idsOf(0), linear(0, 0, 1));
      Instruction &gather = call(
          forward, kGather, {constant(table.param), idsOf(0), slot(logits, 0)});
      wait(gather, 3, linear(-1, 0, 1));
      signal(gather, 2);
      Instruction &send =
          transfer(forward, LANE_SEND_FORWARD, 1, slot(logits, 0), bytes.hidden,
                   linear(0, 0, 1));
      signal(wait(send, 2, linear(1, 0, 1)), 3);
      Body &backward = loop(step, 1, microbatches);
      // All gradients have a place: with fewer, two stages of GPipe with two
      // activations between them would wait for each other.
      Expr gradient = linear(back, 1, static_cast<std::int64_t>(bytes.hidden));
      signal(transfer(backward, LANE_RECEIVE_BACKWARD, 1, gradient,
                      bytes.hidden, linear(0, 1, 1)),
             4);
      Instruction &use = call(backward, kGatherBackward,
                              {gradient, idsOf(1), constant(table.grad)});
      signal(wait(use, 4, linear(1, 1, 1)), 0);
    }
    update(first, microbatches, table, kSgdTable);
  }
  if (model.stages > 1) {
    Program &second = *plan.add_programs();
    second.set_name("stage 1");
    second.set_semaphores(9);
    Arena arena;
    norm.place(second, arena);
    std::int64_t scale = norm.param, grad = norm.grad, stats = norm.stats;
    std::int64_t labels = arena.take(bytes.tokens);
    std::int64_t x = arena.take(bytes.hidden * 2);
    std::int64_t y = arena.take(bytes.hidden * 2);
    std::int64_t work = arena.take(bytes.hidden);
    second.set_arena_bytes(arena.next);
    parameter(second, "norm.weight", scale, {v});
    Body &step = *second.mutable_step();
    call(step, kZeroScale, {constant(grad)});
    call(step, kZeroStats, {constant(stats)});
    auto slot = [&](std::int64_t base) {
      return linear(base, 0, static_cast<std::int64_t>(bytes.hidden), 0, 2);
    };
    Body &body = loop(step, 0, microbatches);
    Instruction &receive = transfer(body, LANE_RECEIVE_FORWARD, 0, slot(x),
                                    bytes.hidden, linear(0, 0, 1));
    signal(wait(receive, 5, linear(-1, 0, 1)), 2);
    load(body, lossInput, constant(labels), linear(0, 0, 1));
    Instruction &forward =
        call(body, kScale, {slot(x), constant(scale), slot(y)});
    wait(wait(forward, 2, linear(1, 0, 1)), 4, linear(-1, 0, 1));
    call(body, kLoss, {slot(y), constant(labels), constant(stats)},
         constant(work));
    Instruction &backward = call(
        body, kScaleBackward,
        {slot(y), slot(x), constant(scale), constant(grad)}, constant(work));
    signal(signal(signal(backward, 3), 5), 0);
    Instruction &send = transfer(body, LANE_SEND_BACKWARD, 0, slot(y),
                                 bytes.hidden, linear(0, 0, 1));
    signal(wait(send, 3, linear(1, 0, 1)), 4);
    update(second, microbatches, norm, kSgdScale);
  }
  Island *island = plan.add_islands();
  island->add_sites("here");
  island->set_batch(model.batch);
  island->set_microbatch(model.microbatch);
  for (std::uint32_t s = 0; s < model.stages; ++s) {
    ReplicaGroup *group = island->add_stages()->add_groups();
    group->set_site("here");
    group->set_pool("p");
    group->set_count(model.replicas);
    group->set_tensor_parallel(k);
    group->set_share(1);
    group->set_program(s);
  }
  return plan;
}

void widenFirstStage(Plan &plan) {
  Stage &stage = *plan.mutable_islands(0)->mutable_stages(0);
  stage.mutable_groups(0)->set_tensor_parallel(2);
  // Two copies of each transfer with one signal between them.
  auto twice = [](Body &body, int at, const auto &change) {
    *body.Add() = body[at];
    for (int i = body.size() - 1; i > at + 1; --i)
      body.SwapElements(i, i - 1);
    body[at].clear_signals();
    for (int i : {0, 1})
      change(body[at + i], i);
  };
  auto half = [](Transfer &transfer, Coordinate coordinate, int index) {
    std::uint64_t bytes = transfer.bytes() / 2;
    transfer.set_bytes(bytes);
    Expr &address = *transfer.mutable_address();
    if (coordinate)
      address = plus(address, coordinate, static_cast<std::int64_t>(bytes));
    else
      address.set_constant(address.constant() +
                           index * static_cast<std::int64_t>(bytes));
  };
  for (Instruction &i : *plan.mutable_programs(0)->mutable_step()) {
    if (!i.has_loop())
      continue;
    for (Instruction &inner : *i.mutable_loop()->mutable_body()) {
      if (inner.has_send()) {
        half(*inner.mutable_send(), COORDINATE_TENSOR_INDEX, 0);
        *inner.mutable_send()->mutable_tensor_index() = constant(0);
      } else if (inner.has_receive()) {
        *inner.mutable_receive()->mutable_tensor_index() = constant(0);
      }
    }
  }
  for (Instruction &i : *plan.mutable_programs(1)->mutable_step()) {
    if (!i.has_loop())
      continue;
    Body &body = *i.mutable_loop()->mutable_body();
    for (int at = 0; at < body.size(); ++at) {
      if (body[at].has_receive())
        twice(body, at++, [&](Instruction &copy, int index) {
          half(*copy.mutable_receive(), COORDINATE_UNSPECIFIED, index);
          *copy.mutable_receive()->mutable_tensor_index() = constant(index);
        });
      else if (body[at].has_send())
        twice(body, at++, [&](Instruction &copy, int index) {
          *copy.mutable_send()->mutable_tensor_index() = constant(index);
        });
    }
  }
}

void addServer(Plan &plan, std::uint64_t innerSteps, const std::string &site) {
  Server &server = *plan.mutable_server();
  server.set_inner_steps(innerSteps);
  server.set_fragments(1);
  server.set_compression(Server::COMPRESSION_NONE);
  server.mutable_outer()->set_kind(Server::Outer::KIND_NESTEROV);
  server.mutable_outer()->set_learning_rate(0.7);
  server.mutable_outer()->set_momentum(0.9);
  // So that a slow machine changes nothing.
  server.set_quorum(static_cast<unsigned>(std::max(1, plan.islands_size())));
  server.set_deadline_seconds(60);
  server.add_placements()->set_primary(site);
  for (Program &program : *plan.mutable_programs()) {
    std::uint32_t updated = program.semaphores();
    program.set_semaphores(updated + 1);
    // The update, or what gathers its parts.
    signal(*program.mutable_step()->rbegin(), updated);
    for (bool finish : {false, true})
      for (bool apply : {false, true}) {
        Instruction *i = finish ? program.add_finish() : program.add_step();
        i->set_lane(LANE_EXCHANGE);
        if (apply)
          i->mutable_apply();
        else
          i->mutable_push();
        if (finish)
          continue;
        i->mutable_guard()->set_modulus(innerSteps);
        wait(*i, updated, constant(1));
      }
    std::uint64_t host = 0;
    for (const ParameterFamily &family : program.parameters()) {
      std::uint64_t bytes = 8 * family.count();
      if (family.slices_size() > 0)
        bytes *= family.slices(0).length() * family.slices(0).count();
      else
        for (std::uint64_t dim : family.dims())
          bytes *= dim;
      host += family.trainable() ? bytes : 0;
    }
    program.set_host_bytes(host);
  }
}

} // namespace tombolo::runtime::test
