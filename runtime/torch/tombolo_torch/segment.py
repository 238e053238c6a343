"""The arena, and segments made ready to be called with addresses in it.

A value of a segment becomes a view of the arena, of which PyTorch itself refuses one that
does not lie inside: a wrong address is an error and never touches other memory. The views
of a call are made once for each set of addresses; programs use few.
"""

import collections
import functools

import torch

from . import ops
from .errors import Error, FAILED
from .schema import plan_pb2 as pb

DTYPES = {pb.DTYPE_F32: torch.float32, pb.DTYPE_BF16: torch.bfloat16, pb.DTYPE_I32: torch.int32,
          pb.DTYPE_I64: torch.int64, pb.DTYPE_BOOL: torch.bool}
ELEMENT_BYTES = {pb.DTYPE_F32: 4, pb.DTYPE_BF16: 2, pb.DTYPE_I32: 4, pb.DTYPE_I64: 8,
                 pb.DTYPE_BOOL: 1}

# Calls of one segment whose views are kept; more are made anew each time.
_MOST_BOUND = 4096


def row_major(dims):
    strides, step = [], 1
    for dim in reversed(dims):
        strides.append(step)
        step *= dim
    return strides[::-1]


class Arena:
    """The device memory of a rank: bytes, zeroed at first."""

    def __init__(self, size, device):
        self.size = size
        whole = -(-size // 8) * 8  # a multiple of every element
        self.bytes = torch.zeros(whole, dtype=torch.uint8, device=device)
        self.typed = {dtype: self.bytes.view(kind) for dtype, kind in DTYPES.items()}

    def view(self, dtype, address, dims, strides=None):
        size = ELEMENT_BYTES[dtype]
        if address < 0 or address % size:
            raise Error(f"address {address} is none of elements of {size} bytes", FAILED)
        return self._inside(self.typed[dtype], dims, strides or row_major(dims), address // size)

    def flat(self, address, count, dtype=pb.DTYPE_F32):
        return self.view(dtype, address, (count,))

    def raw(self, address, count):
        """`count` bytes."""
        return self._inside(self.bytes, (count,), (1,), address)

    def _inside(self, base, dims, strides, offset):
        try:
            return torch.as_strided(base, dims, strides, offset)
        except RuntimeError as error:
            raise Error(f"a view of shape {list(dims)} does not lie in the arena of {self.size} "
                        f"bytes: {error}", FAILED)


def attributes_of(op):
    values = {}
    for attribute in op.attributes:
        kind = attribute.WhichOneof("value")
        value = getattr(attribute, kind)
        values[attribute.name] = list(value.values) if kind == "integers" else value
    return values


def _widened(kernel, first):
    """A kernel whose bf16 operands, from its argument `first` on, come as f32."""
    def call(*arguments):
        operands = (x.float() if x.dtype is torch.bfloat16 else x for x in arguments[first:])
        return kernel(*arguments[:first], *operands)
    return call


class PreparedSegment:
    """A segment of the plan for one rank's arena."""

    def __init__(self, segment, arena):
        self.arena, self.name = arena, segment.name
        self.sizes = [argument.bytes for argument in segment.arguments]
        self.workspace_bytes = segment.workspace_bytes
        self.values = [self._value(value) for value in segment.values]
        self.ops = [self._op(segment, place) for place in range(len(segment.ops))]
        self.bound = collections.OrderedDict()

    def _value(self, value):
        """What makes the value's view of addresses, or the constant itself."""
        dims = tuple(value.dims)
        storage = value.WhichOneof("storage")
        if storage == "constant":
            data = torch.frombuffer(bytearray(value.constant), dtype=DTYPES[value.dtype])
            return data.view(dims).to(self.arena.bytes.device)
        which = value.argument if storage == "argument" else len(self.sizes)
        strides = tuple(value.strides) or tuple(row_major(dims))
        return which, value.dtype, value.byte_offset, dims, strides

    def _op(self, segment, place):
        op = segment.ops[place]
        try:
            return self._prepare(segment, op)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise Error(f"segment '{self.name}', op {place}: its values or attributes are not "
                        f"those of the op ({type(error).__name__}: {error})")

    def _prepare(self, segment, op):
        shapes = [tuple(segment.values[number].dims) for number in op.outputs]
        kernel = ops.KERNELS[op.opcode](attributes_of(op), shapes)
        stores = isinstance(kernel, ops.Into)
        kernel = kernel.function if stores else kernel
        if op.opcode not in ops.ANY_TYPE and any(
                segment.values[number].dtype == pb.DTYPE_BF16 for number in op.inputs):
            kernel = _widened(kernel, 2 if stores else 0)
        # The log-sum-exp of a loss is no sum over calls.
        is_loss = op.opcode in (pb.OPCODE_CROSS_ENTROPY, pb.OPCODE_CROSS_ENTROPY_MERGE)
        adds = [op.accumulate and not (is_loss and place == 2) for place in range(len(op.outputs))]
        outputs = () if op.opcode in ops.IN_PLACE else tuple(op.outputs)
        return (kernel, stores, tuple(op.inputs), outputs, adds,
                pb.Opcode.Name(op.opcode)[len("OPCODE_"):].lower())

    def _bind(self, addresses):
        for place, (address, size) in enumerate(zip(addresses, [*self.sizes,
                                                                self.workspace_bytes])):
            if not 0 <= address <= self.arena.size - size:
                raise Error(f"segment '{self.name}': argument {place} at {address} does not lie "
                            f"in the arena of {self.arena.size} bytes", FAILED)
        tensors = []
        for value in self.values:
            if isinstance(value, torch.Tensor):
                tensors.append(value)
            else:
                which, dtype, offset, dims, strides = value
                tensors.append(self.arena.view(dtype, addresses[which] + offset, dims, strides))
        calls = []
        for kernel, stores, inputs, outputs, adds, _ in self.ops:
            operands = [tensors[i] for i in inputs]
            targets = [(tensors[i], add) for i, add in zip(outputs, adds)]
            if stores:
                kernel, targets = functools.partial(kernel, *targets[0]), []
            calls.append((kernel, operands, targets))
        return calls

    def run(self, addresses):
        """`addresses`: of the arguments, then of the workspace."""
        calls = self.bound.get(addresses)
        if calls is None:
            calls = self.bound[addresses] = self._bind(addresses)
            if len(self.bound) > _MOST_BOUND:
                self.bound.popitem(last=False)
        for place, (kernel, inputs, outputs) in enumerate(calls):
            try:
                results = kernel(*inputs)
                if len(outputs) == 1:
                    results = (results,)
                for (output, add), result in zip(outputs, results or ()):
                    ops.store(output, add, result)
            except (Error, RuntimeError) as error:
                raise Error(f"segment '{self.name}', op {place} ({self.ops[place][-1]}): {error}",
                            FAILED)
