"""One worker: program, device, lanes (the C++ one is runtime/lib/exec/Rank.cpp)."""

import math
import os
import signal
import time

import torch

from . import checkpoint as checkpoints
from . import codec
from .checkpoint import Checkpoint
from .data import open_dataset
from .device import Device
from .engine import LaneRunner
from .errors import BAD_INPUT, Error, FAILED, MOST_MESSAGE, USAGE
from .exchange import Exchange
from .layout import (IslandSteps, Layout, check_steps, expand_parameters, first_sample,
                     has_own_inner_steps, leased_samples, state_part)
from .links import VERSION, Links
from .model import OnnxModel
from .planfile import all_instructions, check_ops
from .schema import plan_pb2 as pb
from .segment import Arena, PreparedSegment

_OUTER_MOMENTUM = "outer_momentum"


class Rank:
    """Reads and checks everything that does not need the other ranks; `run` connects and
    trains. `tell(event)` writes a line; `told()`: this process was told to end."""

    def __init__(self, plan, options, tell, told):
        self.plan, self.options, self.tell, self.told = plan, options, tell, told
        if options.island >= len(plan.islands):
            raise Error(f"island {options.island} does not exist: the plan has "
                        f"{len(plan.islands)}")
        self.island = plan.islands[options.island]
        self.layout = Layout(self.island)
        self.me = self.layout.coordinates(options.rank)
        if len(self.layout.ranks) > 1 and not options.rendezvous:
            raise Error(f"island {options.island} has {len(self.layout.ranks)} ranks; give "
                        "--rendezvous ADDRESS so that they meet", USAGE)
        if plan.HasField("server") and not options.server:
            raise Error("the plan has a parameter server; give --server ADDRESS")
        check_steps(plan, options.steps)
        self.program = plan.programs[self.me.program]
        check_ops(plan, self.program)
        self.parameters = expand_parameters(self.program, self.me.tensor_index)
        self.by_name = {parameter.name: parameter for parameter in self.parameters}
        first = self.island.stages[self.me.stage].groups[0]
        self.stage_owns = {parameter.name for parameter in expand_parameters(
            plan.programs[first.program], 0) if parameter.owner}
        before = sum(len(Layout(plan.islands[i]).ranks) for i in range(options.island))
        told = options.local_rank is not None
        self._set_threads(options.local_rank if told else before + options.rank)
        self.device = Device(options.device, options.local_rank if told else options.rank,
                             options.backend)
        # Numbers of steps here are the island's own, those of options and folders the job's.
        self.count = IslandSteps(plan, options.island)
        self.steps = self.count.of_job(options.steps)
        self.first_step = self.loaded_step = self.current_step = 0
        self.samples_before = 0
        self.finishing = self.is_stopped = False
        self.evaluating = None  # the first sample of the batch
        self.resumed = self.exchange = self.links = None
        self._prepare()

    def _set_threads(self, number):
        threads = self.options.threads or 1
        torch.set_num_threads(threads)
        if self.options.pin:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[(number * threads + i) % len(cores)]
                                     for i in range(threads)})

    # -------------------------------------------------------- before the first step

    def _prepare(self):
        self.arena = Arena(self.program.arena_bytes, self.device.torch)
        if self.program.HasField("tensor_index_address"):
            self.arena.flat(self.program.tensor_index_address, 1, pb.DTYPE_I64).fill_(
                self.me.tensor_index)
        called = {i.call.segment for i in all_instructions(self.program)
                  if i.WhichOneof("action") == "call"}
        self.segments = {number: PreparedSegment(self.plan.segments[number], self.arena)
                         for number in sorted(called)}
        self.samples = None
        if any(i.WhichOneof("action") == "load" for i in all_instructions(self.program)):
            self.samples = open_dataset(self.options.data, self.options.token_bytes,
                                        self.options.shuffle, self.plan.model)
        self._prepare_evaluation()
        self._load_model()
        self.lanes = LaneRunner(self.program, self.me, self.execute, self.device.lane)

    def _prepare_evaluation(self):
        """Every rank reads the held-out data: all of them have to know how much it is."""
        self.held_out, self.ignored_label = None, None
        path = self.options.eval_data
        if not path:
            return
        if not self.program.evaluate:
            raise Error("the plan has no program to evaluate by; plan it again")
        self.held_out = open_dataset(path, self.options.token_bytes, None, self.plan.model)
        for segment in self.plan.segments:
            for op in segment.ops:
                if op.opcode in (pb.OPCODE_CROSS_ENTROPY, pb.OPCODE_CROSS_ENTROPY_MERGE):
                    for attribute in op.attributes:
                        if attribute.name == "ignore_index":
                            self.ignored_label = attribute.integer
        # The labels of what fills the last batch up do not count.
        self.held_out_samples = self.held_out.size()
        if self.ignored_label is None or self.plan.model.label.dtype != pb.DTYPE_I64:
            self.held_out_samples -= self.held_out_samples % self.island.batch
        if self.held_out_samples == 0:
            raise Error(f"'{path}': expected at least {self.island.batch} samples, as many as a "
                        f"batch, got {self.held_out.size()}")

    def _load_model(self):
        options = self.options
        model = OnnxModel(options.model)
        if model.hash() != self.plan.model_hash:
            raise Error(f"'{options.model}': expected the model the plan was made for (hash "
                        f"{self.plan.model_hash.hex()[:16]}), got another "
                        f"({model.hash().hex()[:16]}); plan it again with tombolo-plan")
        found = None
        if options.checkpoint_dir and options.resume:
            found = checkpoints.to_resume(options.checkpoint_dir, options.island,
                                          options.resume_step)
        elif options.checkpoint_dir:
            found = next(filter(None, (checkpoints.latest(folder, options.island)
                                       for folder in self._checkpoint_folders())), None)
        if found and not options.resume:
            raise Error(f"'{found}': the folder already holds a checkpoint; give --resume to go "
                        "on from it, or another --checkpoint-dir or --checkpoint-copy")
        if options.resume and not found:
            raise Error(f"'{options.checkpoint_dir}': holds no checkpoint of island "
                        f"{options.island} to resume from")
        if found:
            self._load_checkpoint(found)
            return
        for parameter in self.parameters:
            self.write(parameter, model.parameter(parameter, options.init))

    def read(self, parameter):
        """The local elements, on the host and apart from the arena."""
        values = self.arena.flat(parameter.address, parameter.local_elements)
        self.device.finish()
        return values.to("cpu", copy=True)

    def write(self, parameter, values):
        self.arena.flat(parameter.address, parameter.local_elements).copy_(values)
        self.device.finish()

    def states(self, parameter):
        """(state, what of it lies here) of the optimizer's states of a parameter."""
        if parameter.trainable:
            for state in self.program.states:
                part = state_part(self.program, state, parameter, self.me.replica)
                if part is not None:
                    yield state, part

    # ------------------------------------------------------------- one instruction

    def execute(self, instruction, variables):
        getattr(self, "_" + instruction.kind)(instruction, variables)
        # What waits for it may be another lane's, in another stream.
        if instruction.signals:
            self.device.finish()

    def _call(self, instruction, variables):
        addresses = [value(variables) for value in instruction.arguments]
        addresses.append(instruction.exprs["workspace"](variables))
        self.segments[instruction.action.segment].run(tuple(addresses))

    def _send(self, instruction, variables):
        data = self.arena.raw(instruction.exprs["address"](variables), instruction.action.bytes)
        self.links.send(instruction, instruction.exprs["microbatch"](variables), data)

    def _receive(self, instruction, variables):
        data = self.arena.raw(instruction.exprs["address"](variables), instruction.action.bytes)
        self.links.receive(instruction, instruction.exprs["microbatch"](variables), data)

    def _collective(self, instruction, variables):
        self.links.collective(instruction.action, self.arena,
                              instruction.exprs["address"](variables))

    def _push(self, instruction, variables):
        self.exchange.begin_push(instruction.action.fragment, self._steps_done())

    def _apply(self, instruction, variables):
        fragment = instruction.action.fragment
        if not self.exchange.apply(fragment, self._steps_done()):
            return
        for parameter in self.parameters:
            if parameter.trainable and parameter.fragment == fragment:
                for _, part in self.states(parameter):
                    self.arena.flat(part.address, part.local_elements).zero_()

    def _steps_done(self):
        return self.current_step + (not self.finishing)

    def _first_sample_of(self, step):
        """What a resumed run has used before under another plan shifts all samples."""
        return self.samples_before + first_sample(self.plan, self.options.island, step)

    def _microbatch(self, instruction, variables):
        return self.layout.deals[self.me.stage].microbatch(
            self.me.replica, instruction.exprs["microbatch"](variables))

    def _load(self, instruction, variables):
        source, model = instruction.action.input, self.plan.model
        is_label = source == len(model.inputs)
        described = model.label if is_label else model.inputs[source]
        first = (self._first_sample_of(self.current_step) if self.evaluating is None
                 else self.evaluating)
        first += self._microbatch(instruction, variables) * self.island.microbatch
        rows = [self._sample(source, number, is_label)
                for number in range(first, first + self.island.microbatch)]
        self.arena.view(described.dtype, instruction.exprs["address"](variables),
                        (len(rows), *described.dims)).copy_(torch.stack(rows))

    def _sample(self, source, number, is_label):
        if self.evaluating is None:
            return self.samples.sample(source, number)
        if number < self.held_out_samples:
            return self.held_out.sample(source, number)
        filler = self.held_out.sample(source, 0)
        return torch.full_like(filler, self.ignored_label) if is_label else filler

    def _stamp(self, instruction, variables):
        first = self._microbatch(instruction, variables) * self.island.microbatch
        first += sum(self.plan.islands[i].batch for i in range(self.options.island))
        step = self.current_step if self.evaluating is None else -1
        seed = self.options.seed
        words = [seed - 2**64 if seed >= 2**63 else seed, step, first,
                 instruction.exprs["block"](variables)]
        self.arena.flat(instruction.exprs["address"](variables), 4, pb.DTYPE_I64).copy_(
            torch.tensor(words))

    # --------------------------------------------------------------- around steps

    def _stats(self):
        return self.arena.flat(self.program.stats_address, 2).tolist()

    @property
    def _reports(self):
        return (self.me.stage + 1 == len(self.island.stages) and self.me.replica == 0
                and self.me.tensor_index == 0)

    def _report(self, seconds):
        if not self._reports:
            return
        loss, weight = self._stats()
        # A step of weight zero has no loss; it changes nothing either.
        line = {"step": self.current_step, "island": self.options.island,
                "loss": _finite(loss / weight if weight > 0 else 0.0), "seconds": seconds,
                "tokens": self.island.batch * self.plan.model.tokens_per_sample}
        if self.program.HasField("gradient_squares_address"):
            squares = self.arena.flat(self.program.gradient_squares_address, 1).item()
            # Of a sum that is no number there is no root either.
            line["grad_norm"] = (_finite(math.sqrt(squares) / weight if squares >= 0 else squares)
                                 if weight > 0 else 0.0)
        self.tell(line)

    def _check_loss(self):
        """Every rank has the island's sums, so that all end in the same step."""
        loss, weight = self._stats()
        value = loss / weight if weight else loss
        if not math.isfinite(value):
            raise Error(f"step {self.current_step}: the loss is {value}; train with --executor "
                        "native and --check-numerics to learn which op made it so", FAILED)

    def _evaluate_held_out(self, steps_done):
        """The loss of all held-out samples, batch by batch."""
        loss = weight = 0.0
        for first in range(0, self.held_out_samples, self.island.batch):
            self.evaluating = first
            self.lanes.run("evaluate", self.current_step)
            some = self._stats()
            loss, weight = loss + some[0], weight + some[1]
        self.evaluating = None
        if not self._reports:
            return
        line = {"event": "eval", "step": steps_done, "island": self.options.island,
                "loss": _finite(loss / weight if weight > 0 else 0.0),
                "samples": self.held_out_samples, "tokens": round(weight)}
        left_out = self.held_out.size() - self.held_out_samples
        if left_out:
            line["samples_left_out"] = left_out
        self.tell(line)

    def _is_evaluation_step(self, steps_done):
        every = self.options.eval_every
        return self.held_out is not None and (
            steps_done == self.steps or self._is_due(every, steps_done))

    def _is_due(self, every, steps_done):
        """Whether the job has come to a multiple of `every` with this step."""
        return every > 0 and (self.count.progress(steps_done) // every
                              != self.count.progress(steps_done - 1) // every)

    def _note_stop(self, steps_done):
        """Under a server all islands end after the same step, as if no more had been asked
        for."""
        if self.exchange is None:
            return
        if self.options.rank == 0 and self.options.checkpoint_dir and self.told():
            self.exchange.request_stop()
        stop = self.exchange.stop_step()
        if stop is None or stop >= self.steps:
            return
        if stop < steps_done:
            raise Error(f"island {self.options.island} has done {steps_done} steps, but the run "
                        f"was to end after {stop}", FAILED)
        self.steps, self.is_stopped = stop, True

    def _start_exchange(self):
        if not self.plan.HasField("server"):
            return
        exchanged = [(parameter, parameter.owned_by(self.me)) for parameter in self.parameters
                     if parameter.trainable]
        self.exchange = Exchange(self.plan, self.options, exchanged, self.read, self.write,
                                 self.tell)
        if self.resumed:
            self._resume_exchange(self.resumed)
        self.resumed = None
        # All ranks install the same version: another island's push may have closed a round in
        # between that this island was a member of before its restart.
        while True:
            begun = self.exchange.begin(self.first_step)
            if self.links.agree(begun):
                break
        # What the others have synchronised at the end counts as another round.
        self.first_step = min(begun, self.steps, self.exchange.stop_step() or self.steps)

    def run(self):
        self.tell({"event": "ready", "island": self.options.island, "rank": self.options.rank})
        try:
            self._run()
        finally:
            if self.exchange:
                self.exchange.abort()

    def _run(self):
        identity = (f"plan {self.plan.checksum.hex()[:16]} on {len(self.layout.ranks)} ranks with "
                    f"version {VERSION} of the torch executor, backend {self.device.backend}")
        self.links = Links(self.plan, self.layout, self.options, self.device, identity)
        self._start_exchange()
        self._note_stop(self.first_step)
        if self.options.events_fd >= 0:
            self.tell({"event": "training"})
        for self.current_step in range(self.first_step, self.steps):
            if self.current_step >= self.steps:
                break  # the run ends early
            if self.options.pause_at == self.current_step:
                os.kill(os.getpid(), signal.SIGSTOP)
            start = time.monotonic()
            self.lanes.run("step", self.current_step)
            self._report(time.monotonic() - start)
            self._check_loss()
            if self._end_of_step(self.current_step + 1):
                return
        self.current_step = max(self.first_step, self.steps)
        self.finishing = True
        if self.first_step < self.steps:
            self.lanes.run("finish", self.current_step)
        if self.exchange:
            self.exchange.end(self.current_step)
        if self._is_checkpoint_step(self.steps) and self.loaded_step < self.steps:
            self.save_checkpoint(self.steps, ends=True)
        # What is saved and exported: islands have come to the last version.
        if self._is_evaluation_step(self.steps) and self.first_step < self.steps:
            self._evaluate_held_out(self.steps)
        # Nobody closes its connections while another still waits on them.
        self.links.barrier()
        is_removed = self.exchange is not None and self.exchange.is_removed()
        if (self.is_stopped or is_removed) and self.options.rank == 0:
            self._tell_stopped(self.steps, "island_left" if is_removed else "stopped")

    def _end_of_step(self, steps_done):
        """Evaluates and saves, where that is due. Returns whether the run ends here."""
        self._note_stop(steps_done)
        if steps_done == self.steps:
            return False
        if self._is_evaluation_step(steps_done):
            self._evaluate_held_out(steps_done)
        gently = bool(self.options.checkpoint_dir) and self.exchange is None
        ends = gently and self.links.from_first(self.told())
        if ends or self._is_checkpoint_step(steps_done):
            self.save_checkpoint(steps_done, ends)
        if ends:
            self.links.barrier()
            if self.options.rank == 0:
                self._tell_stopped(steps_done)
        return ends

    def _tell_stopped(self, steps_done, event="stopped"):
        self.tell({"event": event, "island": self.options.island,
                   "step": self.count.to_job(steps_done)})

    # ---------------------------------------------------------------- checkpoints

    def _load_checkpoint(self, folder):
        self.resumed = checkpoint = Checkpoint(folder)
        info = checkpoint.info
        if info.model_hash != self.plan.model_hash:
            raise Error(f"'{folder}': was written for another model")
        # Another island's, as this one's is lost: the version that it was on, and fresh
        # optimizer state, as whoever joins without a snapshot has.
        lent = self.options.island != info.island and self.options.island < len(info.batches)
        for parameter in self.parameters:
            base = f"{parameter.name}/outer_base"
            self.write(parameter, checkpoint.read(
                base if lent and checkpoint.has(base) else parameter.name, parameter))
            for _, part in [] if lent else self.states(parameter):
                self.write(part, checkpoint.read(part.name, part))
        # Where samples are dealt as before each island goes on where it was. Else all go on
        # behind what has been dealt, so that nothing is used twice.
        here = self._dealing()
        deals_alike = ((here.inner_steps, here.batches, here.own_inner_steps)
                       == (info.inner_steps, info.batches, info.own_inner_steps))
        # Of islands with other inner steps than before whole rounds alone are at one place
        # for all.
        step = info.step
        if not deals_alike and here.own_inner_steps:
            step -= step % here.inner_steps
        if step > self.options.steps:
            raise Error(f"'{folder}': is of step {step}, beyond --steps {self.options.steps}; "
                        "give at least as many steps")
        self.first_step = self.loaded_step = (
            info.island_step if deals_alike and self.options.island == info.island
            else self.count.of_job(step))
        self.samples_before = (
            info.next_sample - first_sample(self.plan, info.island, info.island_step)
            if deals_alike and info.island < len(info.batches)
            else info.free_sample - first_sample(self.plan, 0,
                                                 IslandSteps(self.plan, 0).of_job(step)))
        updates = 0 if lent else info.updates
        if self.first_step != info.island_step:  # of an island with another H
            updates = updates * self.first_step // max(1, info.island_step)
        self.arena.flat(self.program.updates_address, 1, pb.DTYPE_I64).fill_(updates)

    def _dealing(self):
        own = has_own_inner_steps(self.plan)
        return checkpoints.Info(
            inner_steps=self.plan.server.inner_steps if self.plan.HasField("server") else 0,
            batches=[island.batch for island in self.plan.islands],
            own_inner_steps=[IslandSteps(self.plan, i).in_round
                             for i in range(len(self.plan.islands)) if own])

    def _kept_of(self, point, steps_done):
        """What a snapshot has of a fragment, beside the parameters."""
        kept = []
        if point.steps_done != steps_done or point.pushed_step is not None:
            kept.append("outer_base")
        if self.plan.server.compression != codec.NONE:
            kept.append("outer_error")
        if point.pushed_step is not None:
            kept.append("outer_pushed")
        return kept

    def _keeps_outer_momentum(self):
        """Not AdamW's: without the second moment and the count of outer steps it would mean
        something else."""
        return (self.options.island == 0
                and self.plan.server.outer.kind != pb.Server.Outer.KIND_ADAMW)

    def _resume_exchange(self, checkpoint):
        info = checkpoint.info
        trainable = [parameter for parameter in self.parameters if parameter.trainable]
        for parameter in trainable if self._keeps_outer_momentum() else []:
            name = f"{parameter.name}/{_OUTER_MOMENTUM}"
            if parameter.owned_by(self.me) and checkpoint.has(name):
                self.exchange.set_outer_momentum(parameter.name, checkpoint.read(name, parameter))
        if (info.island != self.options.island or info.contract != self.options.contract
                or len(info.points) != self.plan.server.fragments):
            return
        for parameter in trainable:
            for what in self._kept_of(info.points[parameter.fragment], info.island_step):
                if what != "outer_error" or parameter.owned_by(self.me):
                    self.exchange.set_kept(what, parameter.name, checkpoint.read(
                        f"{parameter.name}/{what}", parameter))
        self.exchange.set_points(info.points)

    def _is_pushing(self, steps_done):
        """A push is under way behind so many steps, in the course of the plan."""
        server = self.plan.server
        for fragment in range(server.fragments):
            offset = fragment * server.inner_steps // server.fragments
            since = (steps_done - offset) % server.inner_steps
            if since < server.overlap_steps and since < steps_done:
                return True
        return False

    def _saved_behind(self):
        """How many steps behind whole rounds islands with inner steps of their own save, all
        after the same rounds: when the push at the end of a round has ended, or at that end
        where the next one would be under way by then."""
        server = self.plan.server
        is_quiet = server.fragments == 1 or all(
            IslandSteps(self.plan, i).in_round // server.fragments > server.overlap_steps
            for i in range(len(self.plan.islands)))
        return server.overlap_steps if is_quiet else 0

    def _is_checkpoint_step(self, steps_done):
        every = self.options.checkpoint_every
        if not self.options.checkpoint_dir:
            return False
        if steps_done == self.steps:
            return True
        if every == 0 or every >= self.count.to_job(self.steps):
            return False
        if has_own_inner_steps(self.plan):
            round_, behind = divmod(steps_done, self.count.in_round)
            return (round_ > 0 and behind == self._saved_behind()
                    and self.plan.server.inner_steps * round_ // every
                    != self.plan.server.inner_steps * (round_ - 1) // every)
        turn = self.plan.server.inner_steps if self.plan.HasField("server") else 0
        # Behind the first round, when all is in its course.
        if all(self._is_pushing(step) for step in range(2 * turn, 3 * turn)):
            return steps_done % every == 0
        if self._is_pushing(steps_done):
            return False
        due = steps_done
        while due % every and due > 1 and self._is_pushing(due - 1):
            due -= 1
        return due % every == 0

    def _saved(self, steps_done):
        """(name, parameter, function that gives its elements) of what this rank saves."""
        saved = []

        def save(parameter):
            saved.append((parameter.name, parameter, lambda: self.read(parameter)))
        for parameter in self.parameters:
            owned = parameter.owned_by(self.me)
            # Of a state that lies in parts every replica of the stage saves its own.
            owns_part = (parameter.name in self.stage_owns
                         and (parameter.split or self.me.tensor_index == 0))
            if owned:
                save(parameter)
            for state, part in self.states(parameter):
                if owns_part if state.part_bytes else owned:
                    save(part)
        if self.exchange is None:
            return saved
        points = self.exchange.points()
        for parameter in self.parameters:
            if not parameter.trainable or not parameter.owned_by(self.me):
                continue

            def add(what, values, parameter=parameter):
                saved.append((f"{parameter.name}/{what}", parameter, values))
            if self._keeps_outer_momentum():
                add(_OUTER_MOMENTUM,
                    lambda name=parameter.name: self.exchange.outer_momentum(name))
            for what in self._kept_of(points[parameter.fragment], steps_done):
                add(what, lambda what=what, name=parameter.name: self.exchange.kept(what, name))
        return saved

    def _checkpoint_folders(self):
        """That of checkpoints, then that of their copies."""
        return list(filter(None, (self.options.checkpoint_dir, self.options.checkpoint_copy)))

    def save_checkpoint(self, steps_done, ends):
        """One that cannot be written ends the run only where the run ends anyway."""
        step = self.count.to_job(steps_done)
        for number, directory in enumerate(self._checkpoint_folders()):
            folder = checkpoints.folder_of(directory, self.options.island, step)
            whole, failure = self._save_in(directory, folder, steps_done)
            event = {"step": step, "island": self.options.island}
            if failure and ends and number == 0:
                raise Error(str(failure))
            if failure:
                self.tell({"event": "checkpoint_failed", **event, "rank": self.options.rank,
                           "message": str(failure)[:MOST_MESSAGE]})
            elif whole and self.options.rank == 0:
                self.tell({"event": "checkpoint_copied" if number else "checkpoint", **event,
                           "path": folder})

    def _save_in(self, directory, folder, steps_done):
        """Whether all ranks have written theirs, and what has kept this one from it."""
        options = self.options
        # All have passed the barrier behind the generation before: nobody writes.
        if options.rank == 0:
            checkpoints.discard_manifest(folder)
            checkpoints.discard_unfinished(directory, options.island)
        self.links.barrier()
        failure = _failure_of(
            lambda: checkpoints.write_shard(folder, options.rank, self._saved(steps_done)))
        whole = self.links.agree(int(not failure)) and not failure
        if options.rank == 0 and whole:
            info = self._dealing()
            info.model_hash, info.contract = self.plan.model_hash, self.options.contract
            info.points = self.exchange.points() if self.exchange else []
            info.island, info.step = options.island, self.count.to_job(steps_done)
            info.island_step = steps_done
            info.updates = int(self.arena.flat(self.program.updates_address, 1, pb.DTYPE_I64))
            info.next_sample = self._first_sample_of(steps_done)
            info.free_sample = self.samples_before + leased_samples(self.plan, info.step)
            failure = _failure_of(
                lambda: checkpoints.write_manifest(folder, len(self.layout.ranks), info))
        self.links.barrier()
        return whole, failure


def _failure_of(write):
    """What went wrong with the files, if anything."""
    try:
        write()
    except OSError as error:
        return error
    except Error as error:
        if error.status != BAD_INPUT:
            raise
        return error
    return None


def _finite(value):
    return value if math.isfinite(value) else None
