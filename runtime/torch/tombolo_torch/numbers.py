"""Arithmetic of 64-bit words, as the C++ runtime draws and permutes with."""

import torch

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(key):
    """splitmix64's finalizer: a bijection of 64-bit numbers."""
    key = key + _GOLDEN & _MASK
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    key = (key ^ key >> 27) * 0x94D049BB133111EB & _MASK
    return key ^ key >> 31


def _signed(word):
    return word - 2**64 if word >= 2**63 else word


def _shifted(x, bits):
    """Of i64, as if it had no sign."""
    return x >> bits & (1 << 64 - bits) - 1


def _mix_all(x):
    x = x + _signed(_GOLDEN)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def hash_name(name):
    """FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & _MASK
    return value


def normal(seed, name, elements):
    """normal(0, 0.02) of the numbers of a parameter's elements, whatever its layout."""
    key = mix(mix(seed) ^ hash_name(name))
    bits = _mix_all(elements * _signed(_GOLDEN) + _signed(key))
    u = (_shifted(bits, 32).double() + 0.5) * 2.0**-32
    v = (bits & 0xFFFFFFFF).double() * 2.0**-32
    return (0.02 * torch.sqrt(-2 * torch.log(u)) * torch.cos(2 * torch.pi * v)).float()


def permuted(number, samples, seed):
    """Which sample stands at place `number`: each pass is permuted anew; as it is without a
    seed."""
    if seed is None:
        return number
    turn, value = divmod(number, samples)
    key = mix(seed + mix(turn) & _MASK)
    half = 1
    while 1 << 2 * half < samples:
        half += 1
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for step in range(4):
            left, right = right, left ^ mix(key ^ mix(right * 4 + step & _MASK)) & mask
        value = left << half | right
        if value < samples:
            return turn * samples + value
