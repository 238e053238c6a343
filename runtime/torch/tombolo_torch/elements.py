"""Elements of a tensor by ranges (begin, length, count, stride) of its row-major whole:
`count` runs of `length`, `stride` apart."""

import torch

def take(whole, ranges):
    """The elements of ranges of the row-major whole, in order."""
    return torch.cat([run_view(whole, one).reshape(-1) for one in ranges])


def run_view(whole, one):
    begin, length, count, stride = one
    return whole.as_strided((count, length), (stride, 1), whole.storage_offset() + begin)
