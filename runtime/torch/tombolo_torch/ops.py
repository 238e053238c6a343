"""The segment ops of docs/PlanFormat.md with PyTorch.

KERNELS has for each opcode a function that makes a kernel of the op's attributes and the
shapes of its outputs. A kernel takes the operands, bf16 ones widened to f32, and returns
what is stored into the outputs, or accumulated there (segment.py). An `Into` has one output
and stores by itself, where PyTorch can do so without a tensor between. The optimizers, whose
outputs are their inputs, return nothing and work in place.
"""

import functools
import math

import torch
import torch.nn.functional as F

from . import windows
from .dropout import dropout
from .errors import Error, FAILED
from .schema import plan_pb2 as pb


def _plain(function):
    """A kernel without attributes."""
    return lambda attributes, shapes: function


def store(output, add, result):
    if add:
        output.add_(result)
    else:
        output.copy_(result)


class Into:
    """A kernel `function(output, add, *operands)`."""

    def __init__(self, function):
        self.function = function


def _direct(function):
    """An elementwise kernel that PyTorch has with `out`."""
    def kernel(output, add, *operands):
        if add or output.dtype != operands[0].dtype:
            store(output, add, function(*operands))
        else:
            function(*operands, out=output)
    return lambda attributes, shapes: Into(kernel)


# --------------------------------------------------------------- data movement


def concat(attributes, shapes):
    axis = attributes["axis"]
    return lambda *parts: torch.cat(parts, axis)


def _index(operand, count):
    index = int(operand)
    if not 0 <= index < count:
        raise Error(f"expected an index in [0, {count}), got {index}", FAILED)
    return index


def shard(x, index):
    return x[_index(index, x.size(0))]


def _rows(indices, index, size, count):
    """Rows of the part of a table that is here, and which of them are: None for all."""
    rows = indices.reshape(-1).long()
    bad = (rows < 0) | (rows >= size * count)
    if bad.any():
        raise Error(f"expected indices in [0, {size * count}), got {int(rows[bad][0])}", FAILED)
    if index is None:
        return rows, None
    rows = rows - _index(index, count) * size
    here = (rows >= 0) & (rows < size)
    return rows.clamp(0, size - 1), here


def _along(mask, axis, rank):
    return mask.view([-1 if d == axis else 1 for d in range(rank)])


def gather(attributes, shapes):
    axis, count = attributes["axis"], attributes.get("count", 1)

    def kernel(table, indices, index=None):
        rows, here = _rows(indices, index, table.size(axis), count)
        found = table.index_select(axis, rows)
        if here is not None:
            found = torch.where(_along(here, axis, found.dim()), found, found.new_zeros(()))
        return found.view(shapes[0])
    return kernel


def gather_backward(attributes, shapes):
    axis, count, dims = attributes["axis"], attributes.get("count", 1), shapes[0]

    def kernel(dy, indices, index=None):
        rows, here = _rows(indices, index, dims[axis], count)
        flat = dy.reshape(dims[:axis] + (rows.numel(),) + dims[axis + 1:])
        if here is not None:
            flat = flat * _along(here, axis, flat.dim())
        return dy.new_zeros(dims).index_add_(axis, rows, flat)
    return kernel


def fill(attributes, shapes):
    value = torch.tensor(attributes["value"], dtype=torch.float64)
    return lambda: value


def pad(attributes, shapes):
    def kernel(x):
        y = x.new_zeros(shapes[0])
        y[tuple(slice(at, at + size) for at, size in zip(attributes["low"], x.shape))] = x
        return y
    return kernel


# ----------------------------------------------------------------- elementwise


def relu_backward(dy, x):
    return torch.where(x > 0, dy, dy.new_zeros(()))


def hard_swish(x):
    return x * (x / 6 + 0.5).clamp(0, 1)


def hard_swish_backward(dy, x):
    slope = torch.where(x < -3, x.new_zeros(()), x / 3 + 0.5)
    return dy * torch.where(x > 3, x.new_ones(()), slope)


def softplus(x):
    return F.softplus(x, threshold=40)  # beyond it log(1 + e^x) is x in f32


def gelu(attributes, shapes):
    approximate = attributes["approximate"]
    return lambda x: F.gelu(x, approximate=approximate)


def gelu_backward(attributes, shapes):
    approximate = attributes["approximate"]
    return lambda dy, x: torch.ops.aten.gelu_backward(dy, x, approximate=approximate)


# ------------------------------------------------------------------ reductions


def _reduce(function):
    def make(attributes, shapes):
        axes = list(attributes["axes"])
        if not axes:  # PyTorch would reduce all
            return lambda x: x
        return lambda x: function(x, axes).view(shapes[0])
    return make


def softmax_backward(dy, y):
    return y * (dy - (dy * y).sum(-1, keepdim=True))


def layer_norm(attributes, shapes):
    epsilon = attributes["epsilon"]

    def kernel(x, gamma, beta):
        y, mean, rstd = torch.native_layer_norm(x, gamma.shape, gamma, beta, epsilon)
        return y, mean.view(x.shape[:-1]), rstd.view(x.shape[:-1])
    return kernel


def _layer_norm_backward(dy, x, gamma, mean, rstd, mask):
    return torch.ops.aten.native_layer_norm_backward(
        dy, x, gamma.shape, mean.unsqueeze(-1), rstd.unsqueeze(-1), gamma, gamma, mask)


def layer_norm_backward_input(dy, x, gamma, mean, rstd):
    return _layer_norm_backward(dy, x, gamma, mean, rstd, [True, False, False])[0]


def layer_norm_backward_weight(dy, x, mean, rstd):
    gamma = x.new_ones(x.shape[-1:])  # only its shape counts
    return _layer_norm_backward(dy, x, gamma, mean, rstd, [False, True, True])[1:]


def _counted(labels, ignore, size):
    """Which labels count; the others as class 0."""
    counted = labels != ignore
    bad = counted & ((labels < 0) | (labels >= size))
    if bad.any():
        raise Error(f"expected labels in [0, {size}) or {ignore}, got {int(labels[bad][0])}",
                    FAILED)
    return counted, torch.where(counted, labels, labels.new_zeros(()))


def _losses(lse, picked, counted, weights):
    w = counted.to(lse.dtype) if weights is None else counted * weights
    loss = torch.where(counted, lse - picked, lse.new_zeros(())) * w
    return loss.sum().view(1), w.sum().view(1), lse


def _stores_losses(kernel, shapes):
    """Loss and weights have one element, in whatever shape."""
    def reshaped(*operands):
        loss, weights, lse = kernel(*operands)
        return loss.view(shapes[0]), weights.view(shapes[1]), lse
    return reshaped


def cross_entropy(attributes, shapes):
    ignore = attributes["ignore_index"]

    def kernel(logits, labels, weights=None):
        counted, safe = _counted(labels, ignore, logits.size(-1))
        picked = logits.gather(-1, safe.unsqueeze(-1)).squeeze(-1)
        return _losses(logits.logsumexp(-1), picked, counted, weights)
    return _stores_losses(kernel, shapes)


def cross_entropy_shard(attributes, shapes):
    ignore, count = attributes["ignore_index"], attributes["count"]

    def kernel(logits, labels, index):
        size = logits.size(-1)
        counted, safe = _counted(labels, ignore, size * count)
        rows = safe - _index(index, count) * size
        here = counted & (rows >= 0) & (rows < size)
        picked = logits.gather(-1, rows.clamp(0, size - 1).unsqueeze(-1)).squeeze(-1)
        return logits.logsumexp(-1), torch.where(here, picked, picked.new_zeros(()))
    return kernel


def cross_entropy_merge(attributes, shapes):
    ignore = attributes["ignore_index"]

    def kernel(parts, picked, labels, weights=None):
        return _losses(parts.logsumexp(0), picked, labels != ignore, weights)
    return _stores_losses(kernel, shapes)


def cross_entropy_backward(attributes, shapes):
    ignore, count = attributes["ignore_index"], attributes.get("count")

    def kernel(logits, labels, lse, *rest):
        rest = list(rest)
        index = rest.pop() if count else None
        size = logits.size(-1)
        counted, safe = _counted(labels, ignore, size * (count or 1))
        rows, here = safe, counted
        if count:
            rows = safe - _index(index, count) * size
            here = counted & (rows >= 0) & (rows < size)
        d = (logits - lse.unsqueeze(-1)).exp()
        d.scatter_add_(-1, rows.clamp(0, size - 1).unsqueeze(-1),
                       -here.to(d.dtype).unsqueeze(-1))
        w = counted.to(d.dtype) if not rest else counted * rest[0]
        # Not a product: an ignored row may hold what is not finite.
        return torch.where(counted.unsqueeze(-1), d * w.unsqueeze(-1), d.new_zeros(()))
    return kernel


# ---------------------------------------------------------------- contractions


def matmul(attributes, shapes):
    transpose_a = attributes.get("transpose_a", False)
    transpose_b = attributes.get("transpose_b", False)

    def kernel(output, add, a, b, bias=None):
        a, b = a.mT if transpose_a else a, b.mT if transpose_b else b
        if bias is None and add and a.dim() == b.dim() == 2:
            output.addmm_(a, b)
        elif bias is None and not add and output.dtype == a.dtype and output.is_contiguous():
            torch.matmul(a, b, out=output)
        else:
            y = torch.matmul(a, b)
            store(output, add, y if bias is None else y.add_(bias))
    return Into(kernel)


@functools.lru_cache(maxsize=64)
def _later(t, keys, device):
    """Which keys stand behind each query."""
    return torch.ones(t, keys, dtype=torch.bool, device=device).triu(keys - t + 1)


def _scores(attributes):
    causal, scale = attributes.get("causal", False), attributes["scale"]

    def scores(q, k):
        s = (q * scale) @ k.mT
        return s.masked_fill_(_later(*s.shape[-2:], s.device), -math.inf) if causal else s
    return scores


def attention(attributes, shapes):
    scores = _scores(attributes)

    def kernel(q, k, v):
        s = scores(q, k)
        lse = s.logsumexp(-1)
        return s.sub_(lse.unsqueeze(-1)).exp_() @ v, lse
    return kernel


def attention_backward(attributes, shapes):
    scores, scale = _scores(attributes), attributes["scale"]

    def kernel(do, q, k, v, o, lse):
        p = scores(q, k).sub_(lse.unsqueeze(-1)).exp_()
        dv = p.mT @ do
        ds = (do @ v.mT).sub_((do * o).sum(-1, keepdim=True)).mul_(p)
        return (ds @ k).mul_(scale), (ds.mT @ q).mul_(scale), dv
    return kernel


# -------------------------------------------------------------------- optimizer


def optimizer_advance(weight, updates):
    return updates + (weight > 0)


class LearningRate:
    """The schedule that an update may have: its rate as a function of t = 1, 2, ..."""

    def __init__(self, attributes):
        self.peak = attributes["learning_rate"]
        self.schedule = attributes.get("schedule")
        self.warmup = attributes.get("warmup_steps", 0)
        self.decay = attributes.get("decay_steps", 0)

    def at(self, t):
        if self.schedule and t < self.warmup:
            return self.peak * (t / self.warmup)
        if self.schedule in (None, "constant"):
            return self.peak
        left = (self.decay - t) / (self.decay - self.warmup) if t < self.decay else 0.0
        if self.schedule == "linear":
            return self.peak * left
        return self.peak * (0.5 * (1 - math.cos(math.pi * left)))


def sgd(attributes, shapes):
    rate, momentum = LearningRate(attributes), attributes["momentum"]
    decay = attributes["weight_decay"]

    def kernel(param, grad, weight, updates, buffer=None):
        if float(weight) == 0:
            return
        t, g = int(updates), grad / weight
        if decay:
            g.add_(param, alpha=decay)
        if buffer is not None:
            if t <= 1:
                buffer.copy_(g)
            else:
                buffer.mul_(momentum).add_(g)
            g = buffer
        param.add_(g, alpha=-rate.at(t))
    return kernel


def adamw(attributes, shapes):
    rate, decay = LearningRate(attributes), attributes["weight_decay"]
    beta1, beta2 = attributes["beta1"], attributes["beta2"]
    epsilon = attributes["epsilon"]

    def kernel(param, grad, weight, updates, average, squares):
        if float(weight) == 0:
            return
        t, g = int(updates), grad / weight
        lr = rate.at(t)
        param.mul_(1 - lr * decay)
        average.mul_(beta1).add_(g, alpha=1 - beta1)
        squares.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        divisor = (squares.sqrt() / math.sqrt(1 - beta2**t)).add_(epsilon)
        param.addcdiv_(average, divisor, value=-lr / (1 - beta1**t))
    return kernel


def square_sum(attributes, shapes):
    scale = attributes["scale"]
    return lambda x: (torch.linalg.vector_norm(x, dtype=torch.float64).square()
                      * scale).view(shapes[0])


def clip_weight(attributes, shapes):
    bound = attributes["max_norm"]

    def kernel(squares, weight):
        s, w = squares.double(), weight.double()
        coefficient = bound / (s.sqrt() / w + 1e-6)
        # A norm that is no number makes the parameters none, as in PyTorch.
        clips = (w != 0) & ~(coefficient >= 1)
        return torch.where(clips, w / coefficient, w)
    return kernel


# Kernels whose operands keep their type; of all others bf16 is widened.
ANY_TYPE = {pb.OPCODE_COPY, pb.OPCODE_CONCAT, pb.OPCODE_SHARD, pb.OPCODE_GATHER, pb.OPCODE_CAST,
            pb.OPCODE_PAD, pb.OPCODE_WHERE, pb.OPCODE_EQUAL, pb.OPCODE_LESS}
# And whose outputs are among their inputs.
IN_PLACE = {pb.OPCODE_SGD, pb.OPCODE_ADAMW}

KERNELS = {
    pb.OPCODE_COPY: _plain(lambda x: x),
    pb.OPCODE_CONCAT: concat,
    pb.OPCODE_SHARD: _plain(shard),
    pb.OPCODE_GATHER: gather,
    pb.OPCODE_GATHER_BACKWARD: gather_backward,
    pb.OPCODE_CAST: _plain(lambda x: x),  # storing casts
    pb.OPCODE_FILL: fill,
    pb.OPCODE_PAD: pad,
    pb.OPCODE_ADD: _direct(torch.add),
    pb.OPCODE_SUB: _direct(torch.sub),
    pb.OPCODE_MUL: _direct(torch.mul),
    pb.OPCODE_DIV: _direct(torch.div),
    pb.OPCODE_POW: _direct(torch.pow),
    pb.OPCODE_NEG: _direct(torch.neg),
    pb.OPCODE_EXP: _direct(torch.exp),
    pb.OPCODE_LOG: _direct(torch.log),
    pb.OPCODE_SQRT: _direct(torch.sqrt),
    pb.OPCODE_RECIPROCAL: _direct(torch.reciprocal),
    pb.OPCODE_TANH: _direct(torch.tanh),
    pb.OPCODE_ERF: _direct(torch.erf),
    pb.OPCODE_SIGMOID: _direct(torch.sigmoid),
    pb.OPCODE_RELU: _plain(torch.relu),
    pb.OPCODE_RELU_BACKWARD: _plain(relu_backward),
    pb.OPCODE_GELU: gelu,
    pb.OPCODE_GELU_BACKWARD: gelu_backward,
    pb.OPCODE_WHERE: _plain(torch.where),
    pb.OPCODE_EQUAL: _plain(torch.eq),
    pb.OPCODE_LESS: _plain(torch.lt),
    pb.OPCODE_SOFTPLUS: _plain(softplus),
    pb.OPCODE_HARD_SWISH: _plain(hard_swish),
    pb.OPCODE_HARD_SWISH_BACKWARD: _plain(hard_swish_backward),
    pb.OPCODE_DROPOUT: dropout,
    pb.OPCODE_REDUCE_SUM: _reduce(torch.sum),
    pb.OPCODE_REDUCE_MEAN: _reduce(torch.mean),
    pb.OPCODE_REDUCE_MAX: _reduce(torch.amax),
    pb.OPCODE_SOFTMAX: _plain(lambda x: x.softmax(-1)),
    pb.OPCODE_SOFTMAX_BACKWARD: _plain(softmax_backward),
    pb.OPCODE_LOG_SOFTMAX: _plain(lambda x: x.log_softmax(-1)),
    pb.OPCODE_LAYER_NORM: layer_norm,
    pb.OPCODE_LAYER_NORM_BACKWARD_INPUT: _plain(layer_norm_backward_input),
    pb.OPCODE_LAYER_NORM_BACKWARD_WEIGHT: _plain(layer_norm_backward_weight),
    pb.OPCODE_CROSS_ENTROPY: cross_entropy,
    pb.OPCODE_CROSS_ENTROPY_BACKWARD: cross_entropy_backward,
    pb.OPCODE_CROSS_ENTROPY_SHARD: cross_entropy_shard,
    pb.OPCODE_CROSS_ENTROPY_MERGE: cross_entropy_merge,
    pb.OPCODE_MATMUL: matmul,
    pb.OPCODE_ATTENTION: attention,
    pb.OPCODE_ATTENTION_BACKWARD: attention_backward,
    pb.OPCODE_CONV: windows.conv,
    pb.OPCODE_CONV_BACKWARD_INPUT: windows.conv_backward_input,
    pb.OPCODE_CONV_BACKWARD_WEIGHT: windows.conv_backward_weight,
    pb.OPCODE_POOL: windows.pool,
    pb.OPCODE_POOL_BACKWARD: windows.pool_backward,
    pb.OPCODE_BATCH_NORM: windows.batch_norm,
    pb.OPCODE_BATCH_NORM_BACKWARD: windows.batch_norm_backward,
    pb.OPCODE_OPTIMIZER_ADVANCE: _plain(optimizer_advance),
    pb.OPCODE_SGD: sgd,
    pb.OPCODE_ADAMW: adamw,
    pb.OPCODE_SQUARE_SUM: square_sum,
    pb.OPCODE_CLIP_WEIGHT: clip_weight,
}
