"""The ONNX model: its hash, and its weights, read where they lie in the file
(runtime/Onnx.h). A file may be larger than what protobuf reads at once, so the graph is
taken out of it without the weights."""

import os
import re

import torch

from .elements import take
from .errors import Error
from .files import InputFile, sha256
from .numbers import normal
from .schema import onnx_subset_pb2 as onnx

_MOST_STRIPPED = 1 << 30
_MOST_ELEMENTS = 1 << 48
_SMALL = 4096
_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16 = 1, 10, 11, 16
_REAL = {_FLOAT: torch.float32, _FLOAT16: torch.float16, _DOUBLE: torch.float64,
         _BFLOAT16: torch.bfloat16}
_BYTES = {2: 1, 3: 1, 9: 1, 4: 2, 5: 2, 10: 2, 16: 2, 1: 4, 6: 4, 12: 4, 11: 8, 7: 8, 13: 8,
          14: 8, 15: 16}


class _Walker:
    """Fields of a message in the wire format, without copying their contents."""

    def __init__(self, data, path):
        self.data, self.path = data, path

    def fail(self, what, at):
        raise Error(f"'{self.path}': not an ONNX model: {what} at byte {at}")

    def varint(self, at, end):
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                self.fail("the file ends", at)
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value & 2**64 - 1, at
        self.fail("a number is too long", at)

    def fields(self, at, end):
        """(number, wire type, start of the tag, start and end of the content) of each."""
        while at < end:
            start = at
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if tag >> 32 or number == 0:
                self.fail("a field tag is damaged", start)
            if wire == 0:
                stop = self.varint(at, end)[1]
            elif wire in (1, 5):
                stop = at + (8 if wire == 1 else 4)
            elif wire == 2:
                size, at = self.varint(at, end)
                stop = at + size
            else:
                self.fail("a field of unknown kind", start)
            if stop > end:
                self.fail("a field is longer than what it lies in, the file is cut off or damaged",
                          start)
            yield number, wire, start, at, stop
            at = stop


def _varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Initializer:
    def __init__(self, tensor, extents, folder, place):
        self.name = tensor.name.decode(errors="replace")
        self.dims, self.data_type, self.place = tuple(tensor.dims), tensor.data_type, place
        self.elements = 1
        for dim in self.dims:
            if dim < 0:
                raise Error(f"{place}: negative dimension {dim}")
            self.elements *= dim
        if self.elements > _MOST_ELEMENTS:
            raise Error(f"{place}: is too large")
        self.bytes = self.elements * _BYTES.get(self.data_type, 0)
        self.location, self.extents, self.absent = None, extents, False
        if tensor.data_location == 1:
            self._locate({pair.key.decode(): pair.value.decode() for pair in tensor.external_data},
                         folder)

    def _locate(self, entries, folder):
        location = entries.get("location", "")
        if not location or os.path.isabs(location) or ".." in location.split("/"):
            raise Error(f"{self.place}: external data location '{location}' must be a path inside "
                        "the model's folder")
        numbers = []
        for key, default in (("offset", 0), ("length", self.bytes)):
            text = entries.get(key, str(default))
            if not re.fullmatch("[0-9]+", text):
                raise Error(f"{self.place}: external {key}: expected a number, got '{text}'")
            numbers.append(int(text))
        offset, length = numbers
        if length != self.bytes:
            raise Error(f"{self.place}: expected {self.bytes} bytes of external data, got {length}")
        self.location = os.path.join(folder, location)
        self.extents = [(offset, offset + length)]
        self.absent = not os.path.exists(self.location)


class OnnxModel:
    def __init__(self, path):
        self.path, self.files = path, {}
        self.file = InputFile(path)
        self.data = self.file.map()
        stripped, located = self._strip(_Walker(self.data, path))
        self.proto = onnx.ModelProto()
        try:
            self.proto.ParseFromString(stripped)
        except Exception:
            raise Error(f"'{path}': not an ONNX model: the graph cannot be read")
        tensors = self.proto.graph.initializer
        if len(tensors) != len(located):
            raise Error(f"'{path}': not an ONNX model: initializers are damaged")
        self.initializers, folder = {}, os.path.dirname(path)
        for tensor, (raw, typed, other) in zip(tensors, located):
            place = f"'{path}': initializer '{tensor.name.decode(errors='replace')}'"
            if any(stop > start for start, stop in raw):
                extents = raw
            else:
                extents = typed
                if other and tensor.data_location != 1:
                    tensor.MergeFromString(other)  # integers belong to the graph
            entry = _Initializer(tensor, extents, folder, place)
            present = sum(stop - start for start, stop in entry.extents)
            if entry.data_type in _REAL and not other and present != entry.bytes:
                raise Error(f"{place}: expected {entry.bytes} bytes of data, got {present}")
            if entry.name in self.initializers:
                raise Error(f"{place}: stands twice")
            self.initializers[entry.name] = entry

    def _strip(self, walker):
        """The model's bytes without the data of its initializers, and where that lies."""
        model, graph, located = [], None, []
        for number, wire, start, begin, end in walker.fields(0, len(self.data)):
            if number != 7 or wire != 2:
                model.append(self.data[start:end])
                continue
            if graph is not None:
                walker.fail("a second graph", start)
            graph = []
            for part, kind, at, first, last in walker.fields(begin, end):
                if part != 5 or kind != 2:
                    graph.append(self.data[at:last])
                    continue
                tensor, where = self._strip_tensor(walker, first, last)
                graph += [b"\x2a", _varint(len(tensor)), tensor]
                located.append(where)
        if graph is None:
            raise Error(f"'{self.path}': not an ONNX model: it holds no graph")
        body = b"".join(graph)
        stripped = b"".join([*model, b"\x3a", _varint(len(body)), body])
        if len(stripped) > _MOST_STRIPPED:
            raise Error(f"'{self.path}': the graph without its weights is over 1 GiB")
        return stripped, located

    def _strip_tensor(self, walker, begin, end):
        out, raw, typed, other = [], [], [], []
        for number, wire, start, first, last in walker.fields(begin, end):
            if number == 9:
                raw = [(first, last)]  # the last one counts, as protobuf has it
            elif number in (4, 10):
                typed.append((first, last))
            elif number in (5, 7, 11):
                other.append(self.data[start:last])
            elif number != 6:  # strings are no weights
                out.append(self.data[start:last])
        return b"".join(out), (raw, typed, b"".join(other))

    def _raw(self, entry):
        file = self.file
        if entry.location:
            if entry.location not in self.files:
                self.files[entry.location] = InputFile(entry.location)
            file = self.files[entry.location]
        return b"".join(file.read(start, stop - start) for start, stop in entry.extents)

    def hash(self):
        """SHA-256 of graph, names and shapes, never of weights."""
        meaning = onnx.ModelMeaning()
        meaning.ParseFromString(self.proto.SerializeToString())
        meaning.DiscardUnknownFields()
        meaning.graph.CopyFrom(self.proto.graph)
        meaning.graph.ClearField("doc_string")
        for node in meaning.graph.node:
            node.ClearField("doc_string")
        for tensor in meaning.graph.initializer:
            integers = self._small_integers(tensor)
            for field in ("doc_string", "float_data", "int32_data", "int64_data", "double_data",
                          "uint64_data", "raw_data", "external_data", "data_location"):
                tensor.ClearField(field)
            if integers:
                tensor.raw_data = integers
        return sha256(meaning.SerializeToString(deterministic=True))

    def _small_integers(self, tensor):
        entry = self.initializers[tensor.name.decode(errors="replace")]
        size = _BYTES.get(entry.data_type, 0)
        if (entry.data_type in _REAL or not 1 <= size <= 8 or entry.absent
                or entry.elements > _SMALL):
            return b""
        if entry.extents:
            return self._raw(entry)
        values = [*tensor.int32_data, *tensor.int64_data, *tensor.uint64_data]
        return b"".join((value & (1 << 8 * size) - 1).to_bytes(size, "little")
                        for value in values)

    # -------------------------------------------------------------- parameters

    def parameter(self, parameter, seed):
        """The elements that lie in a rank's arena, in their order."""
        entry = self.initializers.get(parameter.initializer)
        place = f"'{self.path}': parameter '{parameter.name}'"
        if entry is None:
            raise Error(f"{place}: the model holds no initializer '{parameter.initializer}'")
        if entry.dims != parameter.dims:
            raise Error(f"{place}: the plan and the model differ in its shape")
        if entry.absent and seed is None:
            raise Error(f"{place}: its weights '{entry.location}' do not exist; give --init SEED "
                        "to draw them")
        if not entry.absent and entry.data_type not in _REAL:
            raise Error(f"{place}: expected real numbers, got ONNX data type {entry.data_type}")
        if not entry.absent:
            whole = torch.frombuffer(bytearray(self._raw(entry)), dtype=_REAL[entry.data_type])
            return take(whole, parameter.ranges).float()
        value = self._filling(parameter)
        if value is not None:
            return torch.full((parameter.local_elements,), value)
        return normal(seed, parameter.name, take(torch.arange(entry.elements), parameter.ranges))

    def _filling(self, parameter):
        """What a parameter without weights begins with; None: random numbers."""
        name = parameter.name.lower()
        last = re.split("[./]", name)[-1]
        if "bias" in last or last in ("beta", "b"):
            return 0.0
        if "norm" in name or re.search(r"(^|[./])ln([_0-9][^./]*)?($|[./])", name):
            return 1.0
        for node in self.proto.graph.node:
            op = node.op_type.decode(errors="replace")
            for place, given in enumerate(node.input):
                if given.decode(errors="replace") not in (parameter.initializer, parameter.name):
                    continue
                norm = op in ("LayerNormalization", "BatchNormalization", "InstanceNormalization",
                              "GroupNormalization")
                if norm and place == 1:
                    return 1.0
                if (norm or op in ("Gemm", "Conv")) and place == 2:
                    return 0.0
                if op in ("Add", "Mul") and len(parameter.dims) == 1:
                    return float(op == "Mul")
        return None
