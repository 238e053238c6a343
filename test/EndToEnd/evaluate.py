"""An independent evaluator: runs an ONNX file with PyTorch, one torch call per
node, its float initializers as trainable parameters. Knows nothing of Tombolo."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

TORCH_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.BOOL: torch.bool,
}


def _ints(value):
    return [int(v) for v in value.reshape(-1)]


def _slice(x, starts, ends, axes=None, steps=None):
    index = [slice(None)] * x.dim()
    starts, ends = _ints(starts), _ints(ends)
    axes = _ints(axes) if axes is not None else range(len(starts))
    steps = _ints(steps) if steps is not None else [1] * len(starts)
    for a, s, e, st in zip(axes, starts, ends, steps):
        index[a] = slice(s, e, st)
    return x[tuple(index)]


def _reshape(x, shape):
    shape = [x.size(i) if d == 0 else d for i, d in enumerate(_ints(shape))]
    return x.reshape(shape)


def _gemm(attrs, a, b, c=None):
    a = a.t() if attrs.get("transA") else a
    b = b.t() if attrs.get("transB") else b
    y = attrs.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attrs.get("beta", 1.0) * c


def _unsqueeze(x, axes):
    for a in sorted(_ints(axes)):
        x = x.unsqueeze(a)
    return x


def _split(attrs, x, sizes=None):
    axis = attrs.get("axis", 0)
    if sizes is not None:
        sizes = _ints(sizes)
    else:
        sizes = attrs.get("split") or x.size(axis) // attrs["outputs"]
    return torch.split(x, sizes, axis)


def _reduce_axes(attrs, rest):
    return _ints(rest[0]) if rest else list(attrs["axes"])


def _layer_norm(attrs, x, scale, bias=None):
    shape = x.shape[attrs.get("axis", -1):]
    return F.layer_norm(x, shape, scale, bias, attrs.get("epsilon", 1e-5))


OPS = {
    "Add": lambda at, a, b: a + b,
    "Sub": lambda at, a, b: a - b,
    "Mul": lambda at, a, b: a * b,
    "Div": lambda at, a, b: a // b if not a.is_floating_point() else a / b,
    "Neg": lambda at, a: -a,
    "Cos": lambda at, a: a.cos(),
    "Sin": lambda at, a: a.sin(),
    "Pow": lambda at, a, b: a ** b,
    "Sqrt": lambda at, a: a.sqrt(),
    "Erf": lambda at, a: a.erf(),
    "Sigmoid": lambda at, a: a.sigmoid(),
    "Softplus": lambda at, a: torch.nn.functional.softplus(a),
    "Tanh": lambda at, a: a.tanh(),
    "Identity": lambda at, a: a.clone(),
    "MatMul": lambda at, a, b: a @ b,
    "Gemm": _gemm,
    "Cast": lambda at, a: a.to(TORCH_TYPES[at["to"]]),
    "Concat": lambda at, *xs: torch.cat(xs, at["axis"]),
    "ConstantOfShape": lambda at, s: torch.full(
        _ints(s), at["value"].item() if "value" in at else 0.0,
        dtype=at["value"].dtype if "value" in at else torch.float32),
    "Equal": lambda at, a, b: a == b,
    "Less": lambda at, a, b: a < b,
    "LessOrEqual": lambda at, a, b: a <= b,
    "Expand": lambda at, a, s: a.expand(torch.broadcast_shapes(a.shape, tuple(_ints(s)))),
    "Gather": lambda at, x, i: torch.index_select(
        x, at.get("axis", 0), i.reshape(-1)).reshape(
            x.shape[:at.get("axis", 0)] + i.shape + x.shape[at.get("axis", 0) + 1:]),
    "LayerNormalization": _layer_norm,
    "Range": lambda at, a, b, c: torch.arange(a.item(), b.item(), c.item(), dtype=a.dtype),
    "ReduceMean": lambda at, x, *r: x.mean(_reduce_axes(at, r), keepdim=bool(at.get("keepdims", 1))),
    "Reshape": lambda at, x, s: _reshape(x, s),
    "Shape": lambda at, x: torch.tensor(x.shape, dtype=torch.int64),
    "Slice": lambda at, *xs: _slice(*xs),
    "Softmax": lambda at, x: x.softmax(at.get("axis", -1)),
    "Split": _split,
    "Transpose": lambda at, x: x.permute(at["perm"]),
    "Trilu": lambda at, x, *k: (torch.triu if at.get("upper", 1) else torch.tril)(
        x, k[0].item() if k else 0),
    "Unsqueeze": lambda at, x, a: _unsqueeze(x, a),
    "Where": lambda at, c, a, b: torch.where(c, a, b),
}


def _attribute(a):
    value = onnx.helper.get_attribute_value(a)
    if isinstance(value, onnx.TensorProto):
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    return value


class OnnxModel(nn.Module):
    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        self.nodes = list(graph.node)
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.length = graph.input[0].type.tensor_type.shape.dim[1].dim_value
        self.names, self.constants = [], {}
        for tensor in graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if value.is_floating_point() and value.dim() > 0:
                self.names.append(tensor.name)
                self.register_parameter(str(len(self.names) - 1), nn.Parameter(value))
            else:
                self.constants[tensor.name] = value

    def weights(self):
        return {n: getattr(self, str(i)) for i, n in enumerate(self.names)}

    def forward(self, tokens):
        values = {**self.constants, **self.weights(), self.input: tokens, "": None}
        for node in self.nodes:
            attributes = {a.name: _attribute(a) for a in node.attribute}
            attributes["outputs"] = len(node.output)
            inputs = [values[i] for i in node.input]
            if node.op_type == "Constant":
                results = (attributes["value"],)
            else:
                results = OPS[node.op_type](attributes, *inputs)
                if not isinstance(results, (tuple, list)):
                    results = (results,)
            values.update(zip(node.output, results))
        return values[self.output]
