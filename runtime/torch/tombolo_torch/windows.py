"""Segment ops on windows over space (docs/PlanFormat.md): convolutions, pools, batch
normalisation."""

import math

import torch
import torch.nn.functional as F

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAXIMUM = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class _Padding:
    """Elements of `value` before and behind each dimension of space."""

    def __init__(self, attributes, value=0.0):
        self.low, self.high, self.value = attributes["low"], attributes["high"], value
        self.widths = [width for pair in reversed(list(zip(self.low, self.high)))
                       for width in pair]

    def add(self, x):
        return F.pad(x, self.widths, value=self.value) if any(self.widths) else x

    def remove(self, x):
        for i, (low, high) in enumerate(zip(self.low, self.high)):
            x = x.narrow(i + 2, low, x.size(i + 2) - low - high)
        return x

    def shape(self, shape):
        return (*shape[:2], *(size + low + high for size, low, high
                              in zip(shape[2:], self.low, self.high)))


def conv(attributes, shapes):
    padding, function = _Padding(attributes), _CONV[len(attributes["strides"])]
    options = dict(stride=tuple(attributes["strides"]), dilation=tuple(attributes["dilations"]),
                   groups=attributes["groups"])
    return lambda x, w: function(padding.add(x), w, **options)


def _conv_backward(attributes, dy, x, w, mask):
    space = len(attributes["strides"])
    return torch.ops.aten.convolution_backward(
        dy.contiguous(), x, w, None, attributes["strides"], [0] * space, attributes["dilations"],
        False, [0] * space, attributes["groups"], mask)


def conv_backward_input(attributes, shapes):
    padding = _Padding(attributes)

    def kernel(dy, w):
        x = dy.new_zeros(padding.shape(shapes[0]))  # only its shape counts
        return padding.remove(_conv_backward(attributes, dy, x, w, [True, False, False])[0])
    return kernel


def conv_backward_weight(attributes, shapes):
    padding = _Padding(attributes)

    def kernel(dy, x):
        w = dy.new_zeros(shapes[0])  # only its shape counts
        return _conv_backward(attributes, dy, padding.add(x), w, [False, True, False])[1]
    return kernel


def _pooling(attributes):
    """The pool as a function that PyTorch differentiates."""
    kernel, strides = tuple(attributes["kernel"]), tuple(attributes["strides"])
    space = len(kernel)
    if not attributes.get("average", False):
        padding, function = _Padding(attributes, -math.inf), _MAXIMUM[space]
        dilations = tuple(attributes["dilations"])
        return lambda x: function(padding.add(x), kernel, strides, 0, dilations)
    padding, function = _Padding(attributes), _MEAN[space]
    if attributes.get("count_padding", False):
        return lambda x: function(padding.add(x), kernel, strides)

    def mean(x):  # of the elements inside x
        inside = function(padding.add(x.new_ones((1, 1) + x.shape[2:])), kernel, strides)
        return function(padding.add(x), kernel, strides) / inside
    return mean


def pool(attributes, shapes):
    return _pooling(attributes)


def pool_backward(attributes, shapes):
    function = _pooling(attributes)

    def kernel(dy, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x), x, dy.contiguous())[0]
    return kernel


def _spread(vector, x):
    """One number for each channel, so that it broadcasts."""
    return vector.view([1, -1] + [1] * (x.dim() - 2))


def batch_norm(attributes, shapes):
    epsilon = attributes["epsilon"]

    def kernel(x, gamma, beta):
        rows = [0, *range(2, x.dim())]
        mean = x.mean(rows)
        variance = x.var(rows, unbiased=False)
        h = (x - _spread(mean, x)) * _spread((variance + epsilon).rsqrt(), x)
        return h * _spread(gamma, x) + _spread(beta, x), mean, variance
    return kernel


def batch_norm_backward(attributes, shapes):
    epsilon = attributes["epsilon"]

    def kernel(dy, x, gamma, mean, variance):
        rows = [0, *range(2, x.dim())]
        rstd = (variance + epsilon).rsqrt()
        h = (x - _spread(mean, x)) * _spread(rstd, x)
        dgamma, dbeta = (dy * h).sum(rows), dy.sum(rows)
        count = x.numel() / x.size(1)
        dx = _spread(gamma * rstd, x) * (dy - _spread(dbeta / count, x)
                                         - h * _spread(dgamma / count, x))
        return dx, dgamma, dbeta
    return kernel
