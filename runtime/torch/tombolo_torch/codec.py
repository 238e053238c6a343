"""How deltas and updates travel (docs/Server.md, Codec): blocks of up to 256 elements."""

import torch
import torch.nn.functional as F

from .schema import plan_pb2 as pb

BLOCK = 256
_MOST = {pb.Server.COMPRESSION_INT8: 127, pb.Server.COMPRESSION_INT4: 7}
_BLOCK_BYTES = {pb.Server.COMPRESSION_NONE: 4 * BLOCK, pb.Server.COMPRESSION_BF16: 2 * BLOCK,
                pb.Server.COMPRESSION_INT8: 4 + BLOCK, pb.Server.COMPRESSION_INT4: 4 + BLOCK // 2}
NONE = pb.Server.COMPRESSION_NONE


def encoded_bytes(compression, elements):
    whole, rest = divmod(elements, BLOCK)
    if not rest:
        last = 0
    elif compression == pb.Server.COMPRESSION_INT8:
        last = 4 + rest
    elif compression == pb.Server.COMPRESSION_INT4:
        last = 4 + (rest + 1) // 2
    else:
        last = _BLOCK_BYTES[compression] // BLOCK * rest
    return whole * _BLOCK_BYTES[compression] + last


def _bytes(tensor):
    return tensor.contiguous().view(torch.uint8)


def encode(compression, x):
    """The bytes of f32 elements, as a u8 tensor."""
    if compression == NONE:
        return _bytes(x)
    if compression == pb.Server.COMPRESSION_BF16:
        return _bytes(x.bfloat16())
    most = _MOST[compression]
    blocks = F.pad(x, (0, -x.numel() % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(1, keepdim=True)
    finite = largest.isfinite()
    scale = torch.where(finite, largest / most, largest)
    # What is not finite has a scale that is not, and ones: it decodes to what is not finite.
    whole = torch.where(scale > 0, blocks / scale, blocks.new_zeros(())).round()
    whole = torch.where(finite, whole.clamp(-most, most), whole.new_ones(())).to(torch.int8)
    quantised = whole.view(torch.uint8)
    if compression == pb.Server.COMPRESSION_INT4:
        quantised = quantised[:, 0::2] & 15 | quantised[:, 1::2] << 4
    both = torch.cat([_bytes(scale).view(-1, 4), quantised], 1).view(-1)
    return both[:encoded_bytes(compression, x.numel())]


def decode(compression, data, elements):
    """The inverse, of a u8 tensor."""
    data = data.clone()  # where a wider element may begin
    if compression == NONE:
        return data.view(torch.float32)
    if compression == pb.Server.COMPRESSION_BF16:
        return data.view(torch.bfloat16).float()
    size = _BLOCK_BYTES[compression]
    blocks = F.pad(data, (0, -data.numel() % size)).view(-1, size)
    scale = blocks[:, :4].contiguous().view(torch.float32)
    quantised = blocks[:, 4:].contiguous()
    if compression == pb.Server.COMPRESSION_INT4:
        nibbles = torch.stack([quantised & 15, quantised >> 4], 2).view(-1, BLOCK).to(torch.int8)
        whole = torch.where(nibbles > 7, nibbles - 16, nibbles)
    else:
        whole = quantised.view(torch.int8)
    return (whole.float() * scale).view(-1)[:elements]
