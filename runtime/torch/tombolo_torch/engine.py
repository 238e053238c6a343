"""Runs a program: lanes side by side, each in the plan's order, meeting at semaphores
(docs/PlanFormat.md, Execution; runtime/engine/Engine.h).

The compute lane runs in the thread that calls `run`, every other lane in one of its own for
the phase. A lane waits for one thing at a time, and plan-verify has proved that under this
rule no lane waits for ever.
"""

import threading

from .errors import Error, PeerError, FAILED
from .layout import expression
from .schema import plan_pb2 as pb

PHASES = ("step", "finish", "evaluate")


class Instruction:
    """One instruction with its expressions made ready for a rank."""

    def __init__(self, message, me):
        self.message = message
        self.kind = message.WhichOneof("action")
        self.action = getattr(message, self.kind)
        self.lane = message.lane
        self.waits = [(wait.semaphore, expression(wait.value, me)) for wait in message.waits]
        self.signals = list(message.signals)
        self.guard = ((message.guard.modulus, message.guard.remainder)
                      if message.HasField("guard") else None)
        fields = ("address", "microbatch", "block", "workspace")
        self.exprs = {name: expression(getattr(self.action, name), me)
                      for name in fields if hasattr(self.action, name)}
        if self.kind == "call":
            self.arguments = [expression(argument, me) for argument in self.action.arguments]

    def is_active(self, step):
        return self.guard is None or (step + 1) % self.guard[0] == self.guard[1]


class _Loop:
    def __init__(self, loop, me, lane):
        self.variable, self.count = loop.variable, loop.count
        self.first = expression(loop.first, me)
        self.body = _compile(loop.body, me, lane)


def _compile(body, me, lane):
    """What of it is of one lane; loops with nothing of it are left out."""
    code = []
    for message in body:
        if message.WhichOneof("action") == "loop":
            loop = _Loop(message.loop, me, lane)
            if loop.body:
                code.append(loop)
        elif message.lane == lane:
            code.append(Instruction(message, me))
    return code


def _any_active(code, step):
    return any(item.is_active(step) if isinstance(item, Instruction)
               else _any_active(item.body, step) for item in code)


def _walk(code, variables, step):
    """The instructions that run, each with `variables` as they are at that moment."""
    for item in code:
        if isinstance(item, Instruction):
            if item.is_active(step):
                yield item
        elif _any_active(item.body, step):
            first = item.first(variables)
            for value in range(first, first + item.count):
                variables[item.variable] = value
                yield from _walk(item.body, variables, step)


def _most_variable(body):
    return max((max(i.loop.variable, _most_variable(i.loop.body)) for i in body
                if i.WhichOneof("action") == "loop"), default=-1)


class LaneRunner:
    """`execute(instruction, variables)` runs one instruction, without locks. `around(lane)`
    gives a context in which a lane's thread works."""

    def __init__(self, program, me, execute, around):
        self.execute, self.around = execute, around
        self.code = {phase: {lane: _compile(getattr(program, phase), me, lane)
                             for lane in pb.Lane.values() if lane != pb.LANE_UNSPECIFIED}
                     for phase in PHASES}
        self.variables = 1 + max(_most_variable(getattr(program, phase)) for phase in PHASES)
        self.semaphores = [0] * program.semaphores
        self.changed = threading.Condition()
        self.failure = None
        self.working = 0  # lanes that are not at the end of the phase

    def run(self, phase, step):
        """Runs a phase to its end. Raises the first error that is no echo of a lost peer,
        or else the first; the runner is then spent."""
        self.semaphores = [0] * len(self.semaphores)
        threads = [threading.Thread(target=self._work, args=(lane, code, step), daemon=True)
                   for lane, code in self.code[phase].items()
                   if code and lane != pb.LANE_COMPUTE]
        self.working = len(threads) + 1
        for thread in threads:
            thread.start()
        self._work(pb.LANE_COMPUTE, self.code[phase][pb.LANE_COMPUTE], step)
        with self.changed:
            # Lanes of a failed phase may hang for a lost peer: they are not waited for.
            self.changed.wait_for(lambda: self.failure or self.working == 0)
            if self.failure:
                raise self.failure

    def _work(self, lane, code, step):
        failure = None
        try:
            with self.around(lane):
                self._run_lane(code, step)
        except Error as error:
            failure = error
        except Exception as error:  # a fault of this program ends the run, too
            failure = Error(f"{type(error).__name__}: {error}", FAILED)
        with self.changed:
            self.working -= 1
            # What went wrong here explains more than a peer's silence.
            if failure and (self.failure is None or (isinstance(self.failure, PeerError)
                                                     and not isinstance(failure, PeerError))):
                self.failure = failure
            self.changed.notify_all()

    def _run_lane(self, code, step):
        variables = [0] * self.variables
        for instruction in _walk(code, variables, step):
            waits = [(semaphore, value(variables)) for semaphore, value in instruction.waits]
            with self.changed:
                self.changed.wait_for(lambda: self.failure or all(
                    self.semaphores[semaphore] >= value for semaphore, value in waits))
                if self.failure:
                    return
            self.execute(instruction, variables)
            if instruction.signals:
                with self.changed:
                    for semaphore in instruction.signals:
                        self.semaphores[semaphore] += 1
                    self.changed.notify_all()
