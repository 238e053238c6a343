"""Samples to train on: token files, and safetensors files of inputs and labels
(runtime/Dataset.h)."""

import json
import math
import struct

import torch

from .errors import Error, USAGE
from .files import InputFile
from .numbers import permuted
from .schema import plan_pb2 as pb
from .segment import DTYPES, ELEMENT_BYTES

_MOST_HEADER = 100_000_000
_NAMES = {"F32": pb.DTYPE_F32, "BF16": pb.DTYPE_BF16, "I32": pb.DTYPE_I32, "I64": pb.DTYPE_I64,
          "BOOL": pb.DTYPE_BOOL}
_INTEGERS = (pb.DTYPE_I32, pb.DTYPE_I64)


def open_dataset(path, token_bytes, shuffle, model):
    if path.endswith(".safetensors"):
        return TensorFile(path, shuffle, model)
    return TokenFile(path, token_bytes, shuffle, model)


class TokenFile:
    """Sample k is tokens [k T, k T + T]: T inputs and, shifted by one, T labels."""

    def __init__(self, path, token_bytes, shuffle, model):
        self.length = model.tokens_per_sample
        sources = [*model.inputs, *([model.label] if model.HasField("label") else [])]
        fits = (model.vocabulary and len(model.inputs) == 1 and model.HasField("label")
                and all(source.dtype in _INTEGERS and list(source.dims) == [self.length]
                        for source in sources))
        if not fits:
            raise Error(f"'{path}': a token file feeds only models of one token input and token "
                        f"labels, the plan's has {len(model.inputs)} inputs; give a file "
                        "NAME.safetensors with a tensor for each input and the label")
        if token_bytes not in (2, 4):
            raise Error(f"--token-bytes: expected 2 or 4, got {token_bytes}", USAGE)
        file = InputFile(path)
        if file.size % token_bytes:
            raise Error(f"'{path}': expected tokens of {token_bytes} bytes, got a file of "
                        f"{file.size} bytes; is --token-bytes right?")
        self.count = file.size // token_bytes
        if self.count < self.length + 1:
            raise Error(f"'{path}': expected at least {self.length + 1} tokens (one sample and "
                        f"its last label), got {self.count}")
        self.dtypes = [DTYPES[source.dtype] for source in sources]
        self.shuffle, self.bits = shuffle, 8 * token_bytes
        self.words = torch.frombuffer(
            file.map(), dtype={2: torch.int16, 4: torch.int32}[token_bytes])
        self._check(path, model.vocabulary)

    def _check(self, path, vocabulary):
        piece = 1 << 20
        for at in range(0, self.count if vocabulary < 1 << self.bits else 0, piece):
            tokens = self._tokens(at, min(piece, self.count - at))
            bad = (tokens >= vocabulary).nonzero()
            if bad.numel():
                first = int(bad[0])
                raise Error(f"'{path}': token {int(tokens[first])} at position {at + first} is "
                            f"not below the vocabulary of {vocabulary}")

    def _tokens(self, first, count):
        return self.words[first:first + count].long() & (1 << self.bits) - 1

    def sample(self, source, number):
        """Of input `source`, the label being the last."""
        place = permuted(number, max(self.count // self.length, 1), self.shuffle)
        at = place * self.length % self.count
        row = self._tokens(at, self.length + 1)
        while row.numel() <= self.length:  # wraps at the end
            row = torch.cat([row, self._tokens(0, self.length + 1 - row.numel())])
        return row[source:source + self.length].to(self.dtypes[source])

    def size(self):
        return (self.count - 1) // self.length


class TensorFile:
    """Sample k is row k of each tensor."""

    def __init__(self, path, shuffle, model):
        self.path, self.shuffle = path, shuffle
        self.file = InputFile(path)
        tensors = self._read_header()
        self.sources, self.samples = [], 0
        for source in [*model.inputs, *([model.label] if model.HasField("label") else [])]:
            self._bind(source, tensors)
        if not self.sources:
            self._fail("the model reads no data")

    def _fail(self, what):
        raise Error(f"'{self.path}': {what}")

    def _read_header(self):
        if self.file.size < 8:
            self._fail(f"expected a safetensors file, got {self.file.size} bytes")
        length, = struct.unpack("<Q", self.file.read(0, 8))
        if length > min(_MOST_HEADER, self.file.size - 8):
            self._fail(f"expected a safetensors file, but its header would have {length} bytes, "
                       f"the file has {self.file.size}")

        def once(pairs):
            names = [name for name, _ in pairs]
            for name in names:
                if names.count(name) > 1:
                    self._fail(f"tensor '{name}' stands twice")
            return dict(pairs)
        try:
            header = json.loads(self.file.read(8, length), object_pairs_hook=once)
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            self._fail("expected a safetensors file, but its header is no JSON object")
        return {name: self._entry(name, entry, 8 + length) for name, entry in header.items()
                if name != "__metadata__"}

    def _entry(self, name, entry, begin):
        def is_count(value):
            return isinstance(value, int) and not isinstance(value, bool) and value >= 0
        good = (isinstance(entry, dict) and isinstance(entry.get("dtype"), str)
                and all(isinstance(entry.get(key), list) and all(map(is_count, entry[key]))
                        for key in ("shape", "data_offsets")) and len(entry["data_offsets"]) == 2)
        if not good:
            self._fail(f"tensor '{name}': expected a dtype, a shape and two data_offsets")
        first, last = entry["data_offsets"]
        if first > last or last > self.file.size - begin:
            self._fail(f"tensor '{name}': its data at {first} to {last} is not in the file, which "
                       f"has {self.file.size - begin} bytes of data")
        return entry["dtype"], entry["shape"], begin + first, last - first

    def _bind(self, source, tensors):
        name, dims = source.name, list(source.dims)
        if name not in tensors:
            held = ", ".join(f"'{other}'" for other in tensors)[:200] or "none"
            self._fail(f"holds no tensor '{name}', which the model reads; it holds {held}")
        dtype_name, shape, begin, size = tensors[name]
        dtype = _NAMES.get(dtype_name)
        if dtype != source.dtype and not (dtype in _INTEGERS and source.dtype in _INTEGERS):
            wanted = next(key for key, value in _NAMES.items() if value == source.dtype)
            self._fail(f"tensor '{name}': expected {wanted}, got {dtype_name}")
        if shape[1:] != dims or not shape or shape[0] == 0:
            self._fail(f"tensor '{name}': expected samples of shape {dims} one after the other, "
                       f"got the shape {shape}")
        row = math.prod(dims) * ELEMENT_BYTES[dtype]
        if row * shape[0] != size:
            self._fail(f"tensor '{name}': its shape {shape} of {dtype_name} does not go with its "
                       f"{size} bytes")
        if self.samples not in (0, shape[0]):
            self._fail(f"tensor '{name}' has {shape[0]} samples, '{self.sources[0][0]}' has "
                       f"{self.samples}")
        self.samples = shape[0]
        self.sources.append((name, dtype, source.dtype, dims, begin, row))

    def sample(self, source, number):
        name, given, wanted, dims, begin, row = self.sources[source]
        which = permuted(number, self.samples, self.shuffle) % self.samples
        data = self.file.read(begin + which * row, row)
        if given == pb.DTYPE_BOOL and any(value > 1 for value in data):
            self._fail(f"tensor '{name}': sample {which} has a bool of value {max(data)}")
        values = torch.frombuffer(data, dtype=DTYPES[given]).view(dims)
        narrow = values.to(DTYPES[wanted])
        if given == pb.DTYPE_I64 and wanted == pb.DTYPE_I32 and not torch.equal(
                narrow.long(), values):
            self._fail(f"tensor '{name}': sample {which} has a value that does not fit the "
                       "model's 32 bits")
        return narrow

    def size(self):
        return self.samples
