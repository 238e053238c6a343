"""Dropout whose masks depend on nothing that a layout could change
(docs/PlanFormat.md, Dropout)."""

import math

import torch

_LOW = 0xFFFFFFFF


def _product(word, factor):
    """High and low half of a product of 32-bit words held in i64; PyTorch has no u64, but
    the bits of a product that wraps are the same."""
    wide = word * factor
    return wide >> 32 & _LOW, wide & _LOW


def philox(counter, key):
    """Philox 4x32-10: four words that depend on the four words of `counter` (tensors or
    numbers that broadcast) and the two of `key` alone."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        high_a, low_a = _product(c[0], 0xD2511F53)
        high_b, low_b = _product(c[2], 0xCD9E8D57)
        c = [high_b ^ c[1] ^ k0, low_b, high_a ^ c[3] ^ k1, low_a]
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c


def dropout(attributes, shapes):
    ratio, site = attributes["ratio"], attributes["site"]
    shared = attributes.get("shared", False)
    part = attributes.get("part")
    threshold = math.floor(math.ldexp(ratio, 32) + 0.5)
    scale = 1 / (1 - ratio)
    samples, length = shapes[0][0], math.prod(shapes[0][1:])

    def kernel(x, stamp, index=None):
        seed, step, first, block = stamp.tolist()
        if step < 0:  # evaluation
            return x
        elements = torch.arange(length, device=x.device)
        if index is not None:  # their numbers in the whole sample
            dim, outer, count = part
            run = length // (outer * math.prod(shapes[0][1:dim]))
            elements = (elements // run * count + int(index)) * run + elements % run
        if shared:
            sample = torch.full((1, 1), _LOW, device=x.device)
        else:
            sample = (torch.arange(samples, device=x.device).view(-1, 1) + first) & _LOW
        zeros = torch.zeros_like(elements)
        words = philox([elements // 4 & _LOW, sample, zeros + (step & _LOW),
                        zeros + (block * 256 + site & _LOW)], (seed & _LOW, seed >> 32 & _LOW))
        lane = elements % 4
        word = sum(torch.where(lane == i, words[i], 0) for i in range(4))
        kept = (word >= threshold).view((-1,) + shapes[0][1:])
        return torch.where(kept, x * scale, x.new_zeros(()))
    return kernel
