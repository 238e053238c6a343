"""Evaluates graph functions and plan segments with PyTorch.

  evaluate.py gradients FILE        the loss and the gradients of a differentiated
                                    module against autograd of its blocks
  evaluate.py covered LIST FILE...  whether a gradient passes each op of the list in
                                    some of the files' models
  evaluate.py chips FILE            block functions of several chips against those
                                    of one, and the bytes their collectives send
  evaluate.py segments FILE FILE    the functions of the first file against the
                                    segments of the same names in the second
  evaluate.py shards FILE           what graph-test-sharding-rules wrote: the
                                    local ops of all chips against the whole op

Files are in MLIR's generic form (--mlir-print-op-generic). The formulas are
those of docs/PlanFormat.md, written down apart from the compiler.
"""

import ast
import math
import re
import sys

import numpy as np
import torch

BATCH = 3
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "i64": torch.int64,
          "i32": torch.int32, "i1": torch.bool}


class Op:
    def __init__(self, results, name, operands, attributes, types):
        self.results, self.name, self.operands = results, name, operands
        self.attributes, self.types = attributes, types

    def attribute(self, key, default=None):
        text = self.attributes
        found = re.search(r'(?<![\w.])' + re.escape(key) + r'(?: = |(?=[,}>]))', text)
        if not found:
            return default
        if not found.group(0).endswith("= "):
            return True
        rest = text[found.end():]
        if rest.startswith("array<"):
            inner = rest[6:rest.index(">")].partition(":")[2]
            return [int(x) for x in inner.split(",") if x.strip()]
        if rest.startswith("dense<"):
            return rest
        if rest[0] == '"':
            return rest[1:rest.index('"', 1)]
        if rest[0] == "@":
            return re.match(r'@("[^"]*"|[\w.$-]+)', rest).group(1).strip('"')
        word = re.match(r"[-+\w.]+", rest).group(0)
        if word in ("true", "false"):
            return word == "true"
        return float(word) if any(c in word for c in ".e") else int(word)


def split(text):
    """Splits at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "<([{") - (c in ")]}" or (c == ">" and text[i - 1] != "-"))
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return parts + [last] if last else parts


def shape_of(type_text):
    """Shape and dtype of a tensor or memref type."""
    inner = type_text[type_text.index("<") + 1:type_text.rindex(">")]
    main, _, encoding = inner.partition(",")
    *dims, element = main.split("x")
    multiple = re.search(r"batch<(\d+)>", encoding)
    batch = BATCH * (int(multiple.group(1)) if multiple else 1)
    return [batch if d == "?" else int(d) for d in dims], DTYPES[element]


class Function:
    def __init__(self, header):
        self.header, self.arguments, self.ops, self.trailer = header, [], [], ""


def parse(path):
    functions, parameters, current = {}, {}, None
    for line in open(path):
        line = line.strip()
        if '"func.func"' in line or '"plan.segment"' in line:
            current = Function(line)
        elif line.startswith("^bb0(") and current:
            for part in split(line[5:line.rindex(")")]):
                name, _, type_text = part.partition(": ")
                current.arguments.append((name, type_text))
        elif line.startswith("})") and current:
            current.trailer = line
            name = re.search(r'sym_name = "([^"]*)"', current.header).group(1)
            functions[name] = current
            current = None
        else:
            match = re.match(r'(?:(%[\w:, %]+) = )?"([\w.]+)"\(([^)]*)\)(.*)$', line)
            if not match:
                continue
            results, name, operands, rest = match.groups()
            attributes, _, types = rest.rpartition(" : (")
            arrow = ("(" + types).rpartition(" -> ")[2]
            types = split(arrow[1:-1] if arrow.startswith("(") else arrow)
            names = []
            for result in (results or "").split(","):
                base, _, count = result.strip().partition(":")
                if count:
                    names += [f"{base}#{i}" for i in range(int(count))]
                elif base:
                    names.append(base)
            op = Op(names, name, [o.strip() for o in operands.split(",") if o.strip()],
                    attributes, types)
            if name == "graph.parameter":
                parameters[op.attribute("sym_name")] = op
            elif current:
                current.ops.append(op)
    return functions, parameters


def constant(text, real):
    value, type_text = re.match(r"dense<(.*?)> : (tensor<[^>]*>)", text).groups()
    shape, dtype = shape_of(type_text)
    if dtype.is_floating_point:
        dtype = real
    data = ast.literal_eval(value.replace("true", "True").replace("false", "False"))
    return torch.tensor(data, dtype=dtype).expand(shape) if not isinstance(data, list) \
        else torch.tensor(data, dtype=dtype).reshape(shape)


def scores(q, k, op):
    s = op.attribute("scale") * q @ k.transpose(-1, -2)
    if op.attribute("causal"):
        t, n = s.shape[-2:]
        s = s.masked_fill(~torch.ones(t, n).tril(n - t).bool(), -math.inf)
    return s


def gelu(x, approximate):
    if approximate == "none":
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gelu_slope(x, approximate):
    if approximate == "none":
        return (0.5 * (1 + torch.erf(x / math.sqrt(2)))
                + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi))
    c = math.sqrt(2 / math.pi)
    t = torch.tanh(c * (x + 0.044715 * x ** 3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)


def own_rows(op, indices, index, size):
    """Positions in part `index` of a table, and which of them it has."""
    assert ((indices >= 0) & (indices < op.attribute("count") * size)).all()
    rows = indices - index * size
    return rows.clamp(0, size - 1), (rows >= 0) & (rows < size)


def gather(op, table, indices, index=None):
    axis, inside = op.attribute("axis"), None
    if index is not None:
        indices, inside = own_rows(op, indices, index, table.shape[axis])
    y = table.index_select(axis, indices.reshape(-1).long()).reshape(
        *table.shape[:axis], *indices.shape, *table.shape[axis + 1:])
    if inside is None:
        return y
    return y * inside.reshape(inside.shape + (1,) * (table.dim() - axis - 1))


def gather_backward(op, gradient, indices, *rest):
    axis, shape = op.attribute("axis"), rest[-1]
    if len(rest) == 2:
        indices, inside = own_rows(op, indices, rest[0], shape[axis])
        gradient = gradient * inside.reshape(inside.shape + (1,) * (len(shape) - axis - 1))
    rows = gradient.movedim(tuple(range(axis, axis + indices.dim())),
                            tuple(range(indices.dim()))) if axis else gradient
    rows = rows.reshape(indices.numel(), *(shape[:axis] + shape[axis + 1:]))
    table = torch.zeros([shape[axis]] + shape[:axis] + shape[axis + 1:], dtype=gradient.dtype)
    table.index_add_(0, indices.reshape(-1).long(), rows)
    return table.movedim(0, axis)


def reduce(op, x, function):
    axes, keep = op.attribute("axes"), op.attribute("keep_dims", False)
    return function(x, dim=axes, keepdim=keep) if axes else x


def layer_norm(op, x, gamma, beta):
    mean = x.mean(-1)
    var = ((x - mean[..., None]) ** 2).mean(-1)
    rstd = 1 / torch.sqrt(var + op.attribute("epsilon"))
    return (x - mean[..., None]) * rstd[..., None] * gamma + beta, mean, rstd


def layer_norm_backward_input(op, dy, x, gamma, mean, rstd):
    g, h = dy * gamma, (x - mean[..., None]) * rstd[..., None]
    return rstd[..., None] * (g - g.mean(-1, keepdim=True)
                              - h * (g * h).mean(-1, keepdim=True))


def layer_norm_backward_weight(op, dy, x, mean, rstd):
    h = (x - mean[..., None]) * rstd[..., None]
    c = x.shape[-1]
    return (dy * h).reshape(-1, c).sum(0), dy.reshape(-1, c).sum(0)


def weigh(op, losses, labels, weights):
    """The sums of token losses and of weights."""
    kept = (labels != op.attribute("ignore_index")).to(losses.dtype)
    weights = kept if weights is None else kept * weights
    return (losses * weights).sum(), weights.sum()


def cross_entropy(op, logits, labels, weights=None):
    lse = torch.logsumexp(logits, -1)
    picked = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return (*weigh(op, lse - picked, labels, weights), lse)


def cross_entropy_backward(op, logits, labels, lse, *rest):
    size = logits.shape[-1]
    # Behind lse: token weights, if any, and the part's number, with `count`.
    index = rest[-1] if op.attribute("count") else 0
    weights = rest[0] if len(rest) > bool(op.attribute("count")) else None
    hot = torch.arange(size) == labels[..., None] - index * size
    kept = (labels != op.attribute("ignore_index"))[..., None]
    if weights is not None:
        kept = kept * weights[..., None]
    return (torch.exp(logits - lse[..., None]) - hot.to(logits.dtype)) * kept


def cross_entropy_shard(op, logits, labels, index):
    kept = labels != op.attribute("ignore_index")
    rows, inside = own_rows(op, torch.where(kept, labels, torch.zeros_like(labels)), index,
                            logits.shape[-1])
    picked = logits.gather(-1, rows[..., None])[..., 0]
    return torch.logsumexp(logits, -1), picked * (inside & kept)


def cross_entropy_merge(op, parts, picked, labels, weights=None):
    lse = torch.logsumexp(parts, 0)
    return (*weigh(op, lse - picked, labels, weights), lse)


def philox(counters, key):
    """Philox 4x32-10: words [n, 4] of counters [n, 4]."""
    c = [counters[:, i].astype(np.uint64) for i in range(4)]
    k, low, half = [np.uint64(word) for word in key], np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> half) ^ c[1] ^ k[0], b & low, (a >> half) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, axis=1)


def dropout(op, x, stamp, index=None):
    seed, step, first, block = (int(word) for word in stamp.reshape(-1))
    ratio, shape = op.attribute("ratio"), list(x.shape)
    d, outer, count = op.attribute("part") or [1, 1, 1]
    shape[d] *= count
    samples, size = shape[0], int(np.prod(shape[1:]))
    e, sample = np.arange(size), np.arange(samples) + first
    if op.attribute("shared"):
        sample[:] = 2 ** 32 - 1
    site = 256 * block + op.attribute("site", 0)
    counters = np.stack(np.broadcast_arrays(
        e[None] // 4, sample[:, None], step % 2 ** 32, site), -1).reshape(-1, 4)
    words = philox(counters, (seed % 2 ** 32, seed >> 32))
    words = words.reshape(samples, size, 4)[:, e, e % 4].reshape(shape)
    kept = torch.from_numpy((words >= round(ratio * 2 ** 32)).astype(np.float64))
    if index is not None:
        seen = kept.reshape(shape[:d] + [outer, count, -1] + shape[d + 1:])
        kept = seen.select(d + 1, int(index)).reshape(x.shape)
    return x * kept / (1 - ratio)


def matmul(op, a, b, bias=None):
    a = a.transpose(-1, -2) if op.attribute("transpose_a") else a
    b = b.transpose(-1, -2) if op.attribute("transpose_b") else b
    return a @ b if bias is None else a @ b + bias


def attention(op, q, k, v):
    s = scores(q, k, op)
    return torch.softmax(s, -1) @ v, torch.logsumexp(s, -1)


def attention_backward(op, do, q, k, v, o, lse):
    p = torch.exp(scores(q, k, op) - lse[..., None])
    dv = p.transpose(-1, -2) @ do
    ds = p * (do @ v.transpose(-1, -2) - (do * o).sum(-1, keepdim=True))
    ds = ds * op.attribute("scale")
    return ds @ k, ds.transpose(-1, -2) @ q, dv


def padded(op, x, value):
    """x with the padding of a window around its dimensions of space."""
    pairs = [n for both in zip(op.attribute("low"), op.attribute("high")) for n in both[::1]]
    turned = [n for i in range(len(pairs) - 2, -1, -2) for n in pairs[i:i + 2]]
    return torch.nn.functional.pad(x, turned, value=value)


def conv(op, x, w):
    function = getattr(torch.nn.functional, f"conv{x.dim() - 2}d")
    return function(padded(op, x, 0.0), w, stride=op.attribute("strides"),
                    dilation=op.attribute("dilations"), groups=op.attribute("groups"))


def pool(op, x):
    functions, space = torch.nn.functional, x.dim() - 2
    kernel, strides = op.attribute("kernel"), op.attribute("strides")
    if not op.attribute("average", False):
        return getattr(functions, f"max_pool{space}d")(
            padded(op, x, -math.inf), kernel, strides, dilation=op.attribute("dilations"))
    mean = getattr(functions, f"avg_pool{space}d")
    y = mean(padded(op, x, 0.0), kernel, strides)
    if not op.attribute("count_padding", False):
        y = y / mean(padded(op, torch.ones_like(x), 0.0), kernel, strides)
    return y


def along_channels(v, x):
    return v.reshape(1, -1, *[1] * (x.dim() - 2))


def batch_norm(op, x, gamma, beta):
    axes = [0, *range(2, x.dim())]
    mean, var = x.mean(axes), x.var(axes, unbiased=False)
    h = (x - along_channels(mean, x)) / torch.sqrt(along_channels(var, x) + op.attribute("epsilon"))
    return h * along_channels(gamma, x) + along_channels(beta, x), mean, var


def batch_norm_backward(op, dy, x, gamma, mean, var):
    axes = [0, *range(2, x.dim())]
    rstd = 1 / torch.sqrt(along_channels(var, x) + op.attribute("epsilon"))
    h = (x - along_channels(mean, x)) * rstd
    dgamma, dbeta = (dy * h).sum(axes), dy.sum(axes)
    count = x.numel() / x.shape[1]
    dx = along_channels(gamma, x) * rstd * (
        dy - along_channels(dbeta, x) / count - h * along_channels(dgamma, x) / count)
    return dx, dgamma, dbeta


def pulled_back(function, at, gradient):
    """The gradient of what function computes, through autograd."""
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at), at, gradient.detach())[0]


COMPUTE = {
    "conv": conv, "pool": pool, "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
    "pool_backward": lambda op, dy, x: pulled_back(lambda at: pool(op, at), x, dy),
    "log_softmax": lambda op, x: torch.log_softmax(x, -1),
    "gather": gather,
    "add": lambda op, x, y: x + y, "sub": lambda op, x, y: x - y,
    "mul": lambda op, x, y: x * y, "div": lambda op, x, y: x / y,
    "pow": lambda op, x, y: x ** y,
    "neg": lambda op, x: -x, "exp": lambda op, x: torch.exp(x),
    "log": lambda op, x: torch.log(x), "sqrt": lambda op, x: torch.sqrt(x),
    "reciprocal": lambda op, x: 1 / x, "tanh": lambda op, x: torch.tanh(x),
    "erf": lambda op, x: torch.erf(x), "sigmoid": lambda op, x: torch.sigmoid(x),
    "relu": lambda op, x: torch.relu(x),
    "softplus": lambda op, x: torch.nn.functional.softplus(x),
    "relu_backward": lambda op, dy, x: dy * (x > 0),
    "hard_swish": lambda op, x: x * (x / 6 + 0.5).clamp(0, 1),
    "hard_swish_backward": lambda op, dy, x:
        dy * torch.where(x < -3, 0 * x, torch.where(x > 3, 0 * x + 1, x / 3 + 0.5)),
    "gelu": lambda op, x: gelu(x, op.attribute("approximate", "none")),
    "gelu_backward": lambda op, dy, x: dy * gelu_slope(x, op.attribute("approximate", "none")),
    "where": lambda op, c, x, y: torch.where(c, x, y),
    "equal": lambda op, x, y: x == y, "less": lambda op, x, y: x < y,
    "reduce_sum": lambda op, x: reduce(op, x, torch.sum),
    "reduce_mean": lambda op, x: reduce(op, x, torch.mean),
    "reduce_max": lambda op, x: reduce(op, x, torch.amax),
    "softmax": lambda op, x: torch.softmax(x, -1),
    "softmax_backward": lambda op, dy, y: y * (dy - (dy * y).sum(-1, keepdim=True)),
    "layer_norm": layer_norm, "layer_norm_backward_input": layer_norm_backward_input,
    "layer_norm_backward_weight": layer_norm_backward_weight,
    "cross_entropy": cross_entropy, "cross_entropy_backward": cross_entropy_backward,
    "cross_entropy_shard": cross_entropy_shard, "cross_entropy_merge": cross_entropy_merge,
    "shard": lambda op, x, index: x[index], "dropout": dropout,
    "matmul": matmul, "attention": attention, "attention_backward": attention_backward,
}


def pad(op, x, shape):
    low = op.attribute("low")
    y = torch.zeros(shape, dtype=x.dtype)
    y[tuple(slice(l, l + n) for l, n in zip(low, x.shape))] = x
    return y


def compute(op, opcode, inputs, shapes):
    if opcode == "copy":
        return [inputs[0].clone()]
    if opcode == "concat":
        return [torch.cat(inputs, op.attribute("axis"))]
    if opcode == "pad":
        return [pad(op, inputs[0], shapes[0])]
    if opcode == "conv_backward_input":
        dy, w = inputs
        return [pulled_back(lambda x: conv(op, x, w), torch.zeros(shapes[0], dtype=dy.dtype), dy)]
    if opcode == "conv_backward_weight":
        dy, x = inputs
        return [pulled_back(lambda w: conv(op, x, w), torch.zeros(shapes[0], dtype=dy.dtype), dy)]
    if opcode == "gather_backward":
        return [gather_backward(op, *inputs, shapes[0])]
    if opcode == "fill":
        return [torch.full(shapes[0], op.attribute("value"))]
    results = COMPUTE[opcode](op, *inputs)
    return list(results) if isinstance(results, tuple) else [results]


def evaluate(op, inputs, real):
    """The results of one op."""
    shapes = [shape_of(t)[0] for t in op.types]
    name = op.name.partition(".")[2]
    if name == "constant":
        return [constant(op.attribute("value"), real)]
    if name == "causal_mask":
        return [torch.ones(shapes[0]).tril(op.attribute("offset", 0)).bool()]
    if name == "reshape":
        return [inputs[0].reshape(shapes[0])]
    if name == "transpose":
        return [inputs[0].permute(op.attribute("permutation"))]
    if name == "broadcast":
        return [inputs[0].expand(shapes[0])]
    if name == "slice":
        first, step = op.attribute("offset"), op.attribute("step", 1)
        index = torch.arange(op.attribute("size")) * step + first
        return [inputs[0].index_select(op.attribute("axis"), index)]
    if name == "split":
        return list(torch.split(inputs[0], op.attribute("sizes"), op.attribute("axis")))
    if name == "cast":
        dtype = shape_of(op.types[0])[1]
        return [inputs[0].to(real if dtype.is_floating_point else dtype)]
    return compute(op, name, inputs, shapes)


def run(function, arguments, real, passed=None):
    values = dict(zip((name for name, _ in function.arguments), arguments))
    for op in function.ops:
        inputs = [values[o] for o in op.operands]
        if op.name == "func.return":
            return inputs
        results = evaluate(op, inputs, real)
        if passed is not None and any(r.requires_grad for r in results):
            passed.add(op.name.partition(".")[2])
        for key, value in zip(op.results, results):
            values[key] = value
    raise AssertionError("a function without a return")


def exchange(op, parts):
    """The results of a collective on all chips."""
    name = op.name.partition(".")[2]
    if name == "tensor_index":
        return [torch.tensor(i) for i in range(len(parts))]
    whole = torch.stack([part[0] for part in parts])
    if name == "all_reduce":
        return [whole.sum(0)] * len(parts)
    if name == "all_gather":
        return [whole] * len(parts)
    if name == "reduce_scatter":
        return list(whole.sum(0))
    if name == "all_to_all":
        return list(whole.transpose(0, 1))
    return None


def run_chips(function, arguments, real):
    """Runs a local function on chips, in step; arguments and results by chip."""
    chips = [dict(zip((name for name, _ in function.arguments), own)) for own in arguments]
    for op in function.ops:
        inputs = [[values[o] for o in op.operands] for values in chips]
        if op.name == "func.return":
            return inputs
        together = op.name in ("graph.tensor_index", "graph.all_reduce", "graph.all_gather",
                               "graph.reduce_scatter", "graph.all_to_all")
        results = [[r] for r in exchange(op, inputs)] if together else \
            [evaluate(op, own, real) for own in inputs]
        for values, own in zip(chips, results):
            for result, type_text in zip(own, op.types):
                assert list(result.shape) == shape_of(type_text)[0], (op.name, result.shape)
            values.update(zip(op.results, own))
    raise AssertionError("a function without a return")


def random(type_text, real, parameter=False):
    shape, dtype = shape_of(type_text)
    if dtype.is_floating_point:
        # Matrices around 0, so that sums stay small; vectors positive.
        centred = parameter and len(shape) > 1
        return torch.rand(shape, dtype=real) * 0.8 + (-0.4 if centred else 0.25)
    return torch.randint(0, 2 if dtype == torch.bool else 4, shape).to(dtype)


def agree(what, got, expected, tolerance):
    assert list(got.shape) == list(expected.shape), (what, got.shape, expected.shape)
    error = (got.double() - expected.double()).abs().max().item() if got.numel() else 0
    scale = max(1.0, expected.double().abs().max().item()) if got.numel() else 1
    assert error <= tolerance * scale, f"{what}: differs by {error}"
    return error / scale


def blocks_of(function):
    attributes = re.search(r"\{arg_attrs = \[(.*?)\], function_type", function.header)
    return split(attributes.group(1)) if attributes else ["{}"] * len(function.arguments)


def loss_of(functions, inputs, values, ops=None):
    """The loss by the blocks' own ops; collects those that gradients pass."""
    known = dict(inputs)
    for op in functions["main"].ops:
        if op.name == "graph.get_parameter":
            known[op.results[0]] = op.attribute("parameter")
        elif op.name == "func.call":
            arguments = [values[known[o]] if isinstance(known[o], str) else known[o]
                         for o in op.operands]
            results = run(functions[op.attribute("callee")], arguments, torch.float64, ops)
            known.update(zip(op.results, results))
        else:
            return known[op.operands[0]]
    raise AssertionError("@main without a return")


def check_gradients(path):
    functions, parameters = parse(path)
    real = torch.float64
    values = {name: random(re.search(r"type = (tensor<[^>]*>)", op.attributes).group(1), real, True)
              .requires_grad_() for name, op in parameters.items()}
    main = functions["main"]
    inputs = dict((name, random(t, real)) for name, t in main.arguments)

    # The blocks' own ops, by autograd.
    ops = set()
    loss = loss_of(functions, inputs, values, ops)
    wanted = torch.autograd.grad(loss, [v for v in values.values()], allow_unused=True)
    wanted = dict(zip(values, wanted))

    # The three functions of each block.
    gradients = {name: torch.zeros_like(v) for name, v in values.items()}
    flow = {}
    with torch.no_grad():
        known, tape = {k: v for k, v in inputs.items()}, []
        for op in main.ops:
            if op.name == "graph.get_parameter":
                known[op.results[0]] = op.attribute("parameter")
                continue
            if op.name != "func.call":
                continue
            callee = op.attribute("callee")
            block = functions[callee]
            arguments = [values[known[o]] if isinstance(known[o], str) else known[o]
                         for o in op.operands]
            results = run(functions[callee + ".forward"], arguments, real)
            outputs, saved = results[:len(op.results)], results[len(op.results):]
            known.update(zip(op.results, outputs))
            tape.append((op, callee, block, arguments, saved))
        agree("loss", known[main.ops[-1].operands[0]], loss.detach(), 1e-12)
        for op, callee, block, arguments, saved in reversed(tape):
            kinds = blocks_of(block)
            n_data = sum("graph.parameter" not in k for k in kinds)
            data, given = arguments[:n_data], arguments[n_data:]
            upstream = [flow[r] for r in op.results if r in flow]
            results = run(functions[callee + ".backward_input"],
                          data + saved + given + upstream, real)
            computed = [i for i in range(n_data) if "graph." not in kinds[i]
                        and data[i].is_floating_point()]
            for i, gradient in zip(computed, results):
                flow[op.operands[i]] = gradient
            carried = results[len(computed):]
            results = run(functions[callee + ".backward_weight"],
                          data + saved + given + upstream + carried, real)
            trained = [i for i in range(n_data, len(kinds)) if '"trainable"' in kinds[i]]
            assert len(trained) == len(results), (callee, trained, len(results))
            for i, gradient in zip(trained, results):
                gradients[known[op.operands[i]]] += gradient
    # Constants of gradients (2/sqrt(pi)) are f32.
    for name, gradient in gradients.items():
        expected = wanted[name] if wanted[name] is not None else torch.zeros_like(gradient)
        agree(f"gradient of {name}", gradient, expected, 1e-7)
    print(f"{len(gradients)} gradients agree")
    check_differences(functions, inputs, values, gradients)
    print("gradients flow through", ", ".join(sorted(ops)))


def check_covered(listed, paths):
    """Whether the models of the files differentiate every op of the list."""
    passed = set()
    for path in paths:
        functions, parameters = parse(path)
        values = {name: random(re.search(r"type = (tensor<[^>]*>)", op.attributes).group(1),
                               torch.float64, True).requires_grad_()
                  for name, op in parameters.items()}
        inputs = dict((name, random(t, torch.float64)) for name, t in functions["main"].arguments)
        loss_of(functions, inputs, values, passed)
    with open(listed) as file:
        missing = set(file.read().split()) - passed
    assert not missing, f"differentiable ops in no test of gradients: {sorted(missing)}"
    print(f"gradients are tested of all {len(passed)} differentiable ops")


def check_differences(functions, inputs, values, gradients):
    """The gradients along random directions against central differences."""
    step, directions = 1e-5, 4
    with torch.no_grad():
        for name, gradient in gradients.items():
            for _ in range(directions):
                direction = torch.randn(gradient.shape, dtype=gradient.dtype)
                ends = [loss_of(functions, inputs,
                                {**values, name: values[name] + sign * step * direction})
                        for sign in (1, -1)]
                slope = (ends[0] - ends[1]) / (2 * step)
                agree(f"slope of {name}", (gradient * direction).sum(), slope, 1e-6)
    print(f"{directions * len(gradients)} slopes agree")


class Memory:
    """Views of bytes."""

    def __init__(self, data, offset=0):
        self.data, self.offset = data, offset

    def view(self, type_text, offset=0):
        shape, dtype = shape_of(type_text)
        dtype = torch.zeros(0, dtype=dtype).numpy().dtype
        strides = re.search(r"strided<\[([^\]]*)\]", type_text)
        if strides and shape:
            steps = [int(s) * dtype.itemsize for s in strides.group(1).split(",")]
        else:
            steps = [int(np.prod(shape[i + 1:])) * dtype.itemsize for i in range(len(shape))]
        return np.ndarray(shape, dtype, self.data, self.offset + offset, steps)


def run_segment(segment, arguments):
    size = int(re.search(r"workspace_bytes = (\d+)", segment.header).group(1))
    # What is read before it is written shows.
    workspace = Memory(np.full(size, 0xFF, np.uint8))
    values = {}
    for (name, type_text), data in zip(segment.arguments, arguments):
        memory = Memory(data.numpy().reshape(-1).view(np.uint8))
        values[name] = (memory, memory.view(type_text))
    for op in segment.ops:
        offset = op.attribute("byte_offset", 0)
        if op.name == "plan.workspace":
            memory = Memory(workspace.data, offset)
            values[op.results[0]] = (memory, memory.view(op.types[0]))
        elif op.name == "plan.view":
            source = values[op.operands[0]][0]
            memory = Memory(source.data, source.offset + offset)
            values[op.results[0]] = (memory, memory.view(op.types[0]))
        elif op.name == "plan.constant":
            values[op.results[0]] = (None, constant(op.attribute("value"), torch.float32).numpy())
        else:
            n_in = int(re.search(r"operandSegmentSizes = array<i32: (\d+)", op.attributes).group(1))
            arrays = [values[o][1] for o in op.operands]
            inputs = [torch.from_numpy(np.array(a)) for a in arrays[:n_in]]
            outputs = arrays[n_in:]
            opcode = op.attribute("opcode")
            results = compute(op, opcode, inputs, [list(o.shape) for o in outputs])
            for i, (out, result) in enumerate(zip(outputs, results)):
                result = result.numpy()
                assert result.shape == out.shape, (opcode, result.shape, out.shape)
                if op.attribute("accumulate") and not (opcode == "cross_entropy" and i == 2):
                    out[...] += result
                else:
                    out[...] = result


def check_segments(functions_path, segments_path):
    functions, _ = parse(functions_path)
    segments, _ = parse(segments_path)
    real = torch.float32
    checked = 0
    for name, function in functions.items():
        if name not in segments:
            continue
        segment = segments[name]
        inputs = [random(t, real) for _, t in function.arguments]
        copies = [i.clone() for i in inputs]
        results = run(function, inputs, real)
        types = [t for _, t in segment.arguments[len(inputs):]]
        memory = [torch.zeros(shape_of(t)[0], dtype=shape_of(t)[1]) + 1 for t in types]
        access = re.findall(r"plan<access (\w+)>", segment.header)[len(inputs):]
        run_segment(segment, copies + memory)
        for i, (got, expected) in enumerate(zip(memory, results)):
            if access[i] == "read_write":
                expected = expected + 1
            agree(f"{name} result {i}", got, expected, 1e-5)
        for before, after in zip(inputs, copies):
            assert torch.equal(before, after), f"{name} changes an argument"
        checked += 1
    print(f"{checked} segments agree")


def put(whole, state, count):
    """What each chip has of a value."""
    if state == "whole":
        return [whole] * count
    if state == "partial":
        parts = [torch.rand_like(whole) - 0.5 for _ in range(count - 1)]
        return parts + [whole - sum(parts)]
    words = state.split()
    d, outer = int(words[1]), int(words[3]) if len(words) > 2 else 1
    shape = list(whole.shape)
    seen = whole.reshape(shape[:d] + [outer, count, -1] + shape[d + 1:])
    shape[d] //= count
    return [seen.select(d + 1, i).reshape(shape) for i in range(count)]


def join(parts, state):
    """The value that chips have."""
    if state == "whole":
        for part in parts[1:]:
            assert torch.equal(part, parts[0]), "not the same on all chips"
        return parts[0]
    if state == "partial":
        return sum(parts)
    words = state.split()
    d, outer = int(words[1]), int(words[3]) if len(words) > 2 else 1
    shape = list(parts[0].shape)
    seen = torch.stack([part.reshape(shape[:d] + [outer, -1] + shape[d + 1:])
                        for part in parts], d + 1)
    shape[d] *= len(parts)
    return seen.reshape(shape)


def check_shards(path):
    """All choices, and all sets of operands in which an op is linear."""
    functions, _ = parse(path)
    real = torch.float64
    choices, sets = {}, {}
    inputs = {}
    for name, function in functions.items():
        if "test.linear" not in function.trailer:
            continue
        op = function.ops[-2]
        values = []
        for i, (_, type_text) in enumerate(function.arguments):
            value = random(type_text, real)
            if value.dtype in (torch.int32, torch.int64):
                value = torch.randint(0, 12, value.shape).to(value.dtype)
                if "cross_entropy" in op.name:
                    value.view(-1)[::5] = -100
            elif value.is_floating_point() and "relu" in op.name:
                value -= 0.6
            values.append(value)
        inputs[name] = values, run(function, values, real)
        choices[name] = 0
        linear = re.search(r"test.linear = \[(.*?)\](?=[,}])", function.trailer).group(1)
        for text in re.findall(r"array<i64: ([^>]*)>", linear):
            numbers = [int(i) for i in text.split(",")]
            parts = [put(v, "partial" if i in numbers else "whole", 3)
                     for i, v in enumerate(values)]
            results = run_chips(function, list(zip(*parts)), real)
            for got, expected in zip(zip(*results), inputs[name][1]):
                agree(f"{name} linear in {numbers}", sum(got), expected, 1e-12)
            sets[name] = sets.get(name, 0) + 1
    for name, function in functions.items():
        of = re.search(r'test.of = "([^"]*)"', function.trailer)
        if not of:
            continue
        states = [re.findall(r'"([^"]*)"', re.search(
            rf"test.{kind} = \[(.*?)\]", function.trailer).group(1))
            for kind in ("operands", "results")]
        count = int(re.search(r"test.count = (\d+)", function.trailer).group(1))
        values, wanted = inputs[of.group(1)]
        # Operands that are constants are not arguments.
        parts = [put(v, state, count) for v, state in zip(values, states[0])]
        results = run_chips(function, list(zip(*parts)), real)
        for got, state, expected in zip(zip(*results), states[1], wanted):
            agree(name, join(list(got), state), expected, 1e-12)
        choices[of.group(1)] += 1
    for name, count in choices.items():
        print(f"{name}: {count} choices, {sets.get(name, 0)} linear sets agree")


def states_of(function, is_result):
    """The states of arguments or results that functions of one chip carry."""
    kind = "res_attrs" if is_result else "arg_attrs"
    text = re.search(kind + r" = \[(.*?\})\](?=[,}])", function.header)
    states = []
    for attributes in split(text.group(1)) if text else []:
        cut = re.search(r"graph.split = array<i64: (\d+), (\d+), (\d+)>", attributes)
        states.append(f"split {cut.group(1)} outer {cut.group(2)}" if cut else
                      "partial" if "graph.partial" in attributes else "whole")
    return states or None


def sent_bytes(function, count):
    """Per kind of collective, what one chip sends by a ring."""
    sent = {}
    for op in function.ops:
        name = op.name.partition(".")[2]
        if name not in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"):
            continue
        shape, dtype = shape_of(op.types[0])
        size = math.prod(shape) * torch.zeros(0, dtype=dtype).element_size()
        if name == "reduce_scatter":
            size *= count
        size = size * (count - 1) // count * (2 if name == "all_reduce" else 1)
        sent[name] = sent.get(name, 0) + size
    return sent


def check_chips(path):
    """Each function NAME.tK, which has lost its dots, against NAME of one chip."""
    functions, _ = parse(path)
    real = torch.float64
    for name, local in functions.items():
        chips = re.search(r"graph.tensor_parallel = (\d+)", local.header + local.trailer)
        if not chips:
            continue
        count = int(chips.group(1))
        whole = functions[name.rpartition(".t")[0]]
        saved = {}
        values = []
        for i, (_, type_text) in enumerate(whole.arguments):
            value = random(type_text, real)
            values.append(value)
        expected = run(whole, values, real)
        states = states_of(local, False) or ["whole"] * len(values)
        parts = [put(v, s, count) for v, s in zip(values, states)]
        results = run_chips(local, list(zip(*parts)), real)
        wanted = states_of(local, True) or ["whole"] * len(expected)
        for i, (got, state, value) in enumerate(zip(zip(*results), wanted, expected)):
            agree(f"{name} result {i}", join(list(got), state), value, 1e-10)
        sent = sent_bytes(local, count)
        print(f"{name}: {len(expected)} results agree; sends",
              ", ".join(f"{n} {b}" for n, b in sorted(sent.items())) or "nothing")


torch.manual_seed(1)
if sys.argv[1] == "gradients":
    check_gradients(sys.argv[2])
elif sys.argv[1] == "covered":
    check_covered(sys.argv[2], sys.argv[3:])
elif sys.argv[1] == "shards":
    check_shards(sys.argv[2])
elif sys.argv[1] == "chips":
    check_chips(sys.argv[2])
else:
    check_segments(sys.argv[2], sys.argv[3])
