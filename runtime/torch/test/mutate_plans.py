#!/usr/bin/python3
"""Runs plans with random faults, as if they had been validated: each must train or end with
an exception, which the program makes an error of, and never by a signal.

    mutate_plans.py PLAN MODEL DATA FIRST_SEED COUNT

Each is run in a process of its own, with bounds on its time and memory: a plan that takes
for ever or needs all memory is what the validator stops, and no fault here. Prints the seed
and the faults of what fails."""

import collections
import os
import random
import resource
import signal
import sys

from google.protobuf.descriptor import FieldDescriptor

from tombolo_torch.__main__ import parse
from tombolo_torch.rank import Rank
from tombolo_torch.schema import plan_pb2 as pb

_SECONDS = 15
_MOST_BYTES = 6 << 30
_INTEGERS = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64,
             FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64,
             FieldDescriptor.CPPTYPE_ENUM)
# What a rank executes.
_PARTS = ("model", "segments", "programs", "islands")


def scalars(message, path=""):
    """(message, field, index or None, path) of each scalar that is set."""
    for field, value in message.ListFields():
        where = f"{path}/{field.name}"
        repeated = field.label == FieldDescriptor.LABEL_REPEATED
        for index, item in enumerate(value if repeated else [value]):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                yield from scalars(item, f"{where}[{index}]" if repeated else where)
            else:
                yield message, field, index if repeated else None, where


def another(field, old, rng):
    if field.cpp_type in _INTEGERS:
        new = rng.choice([0, 1, old + 1, old - 1, old * 2, old + 64, -old, 2**31 - 1, 2**62,
                          rng.randrange(2**31), old ^ 1 << rng.randrange(20)])
        return new
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not old
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return rng.choice([0.0, -1.0, float("nan"), 1e300, old * 2])
    return old[:len(old) // 2] if rng.random() < 0.5 else old * 2


def mutate(plan, rng):
    """Plants one to three faults; says which."""
    places = [place for place in scalars(plan) if place[3].split("/")[1].split("[")[0] in _PARTS]
    faults = []
    for message, field, index, path in rng.choices(places, k=rng.choice([1, 1, 2, 3])):
        value = getattr(message, field.name)
        new = another(field, value if index is None else value[index], rng)
        try:
            if index is None:
                setattr(message, field.name, new)
            else:
                value[index] = new
            faults.append(f"{path}: {str(new)[:40]}")
        except (ValueError, TypeError):
            pass  # the field does not hold it
    return faults


def run(plan, options):
    """How it ends: 'trained', 'refused', 'bounds', or by which signal."""
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        try:
            Rank(plan, options, lambda event: None, lambda: False).run()
            os._exit(0)
        except MemoryError:
            os._exit(2)
        except Exception:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        which = os.WTERMSIG(status)
        return "bounds" if which == signal.SIGALRM else f"signal {which}"
    return ["trained", "refused", "bounds"][os.WEXITSTATUS(status)]


def main(path, model, data, first, count):
    original = pb.Plan()
    with open(path, "rb") as file:
        original.ParseFromString(file.read())
    options = parse(["rank", path, "--validated", "", "--model", model, "--data", data, "--steps",
                     "1", "--island", "0", "--rank", "0"])
    ends = collections.Counter()
    for seed in range(int(first), int(first) + int(count)):
        plan = pb.Plan()
        plan.CopyFrom(original)
        faults = mutate(plan, random.Random(seed))
        end = run(plan, options)
        ends[end] += 1
        if end.startswith("signal"):
            print(f"seed {seed}: {end}: {faults}", file=sys.stderr)
    print(", ".join(f"{end}: {number}" for end, number in sorted(ends.items())))
    return any(end.startswith("signal") for end in ends)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
