"""Reads a plan.

The C++ validator has proved the plan before this executor starts (tombolo-run passes the
checksum of what it has proved). What is checked here is that this is the same file, of a
format that this executor knows, and made of ops that it has. Beyond that nothing relies on
the proof for the safety of memory: every address becomes a view that PyTorch checks against
the arena (segment.py).
"""

from . import ops
from .errors import Error
from .files import read_file, sha256
from .schema import plan_pb2 as pb

FORMAT_VERSION = 1
_CHECKSUM_HEAD = b"\xc2\x3e\x20"
_CHECKSUM_BYTES = len(_CHECKSUM_HEAD) + 32
_MOST_BYTES = 2**31 - 1


def read_plan(path, validated):
    """`validated`: the checksum of the plan that the C++ validator has accepted."""
    data = read_file(path, _MOST_BYTES)
    body, end = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if len(data) < _CHECKSUM_BYTES or not end.startswith(_CHECKSUM_HEAD):
        raise Error(f"'{path}': not a plan, or cut off: expected a checksum at the end; "
                    "write it again with tombolo-plan")
    checksum = end[len(_CHECKSUM_HEAD):]
    if checksum != sha256(body):
        raise Error(f"'{path}': the checksum does not match, the file is damaged; "
                    "write it again with tombolo-plan")
    plan = pb.Plan()
    try:
        plan.ParseFromString(data)
    except Exception:
        raise Error(f"'{path}': not a plan: the message cannot be read")
    if plan.format_version != FORMAT_VERSION:
        raise Error(f"'{path}': expected plan format version {FORMAT_VERSION}, got "
                    f"{plan.format_version}; write it again with this version's tombolo-plan")
    if checksum != validated:
        raise Error(f"'{path}': expected the plan with checksum {validated.hex()[:16]}, which "
                    f"was validated, got {checksum.hex()[:16]}: the file has changed, or "
                    "differs between hosts")
    return plan


def instructions(body):
    """All instructions but loops, in the plan's order."""
    for instruction in body:
        if instruction.WhichOneof("action") == "loop":
            yield from instructions(instruction.loop.body)
        else:
            yield instruction


def all_instructions(program):
    for body in (program.step, program.finish, program.evaluate):
        yield from instructions(body)


def check_ops(plan, program):
    """Names what this executor does not have, before anything starts."""
    called = {i.call.segment for i in all_instructions(program)
              if i.WhichOneof("action") == "call"}
    unknown = {}
    for number in sorted(called):
        if number >= len(plan.segments):
            raise Error(f"segment {number} does not exist, the plan has {len(plan.segments)}")
        segment = plan.segments[number]
        for place, op in enumerate(segment.ops):
            if op.opcode not in ops.KERNELS:
                unknown.setdefault(op.opcode, f"segment '{segment.name}', op {place}")
    if unknown:
        names = ", ".join(f"{_name(opcode)} (first in {place})"
                          for opcode, place in unknown.items())
        raise Error("the torch executor does not have these ops of the plan: " + names)


def _name(opcode):
    try:
        return pb.Opcode.Name(opcode)[len("OPCODE_"):].lower()
    except ValueError:
        return f"opcode {opcode}"
