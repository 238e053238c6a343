#!/usr/bin/python3
"""Runs segments on files of raw values with PyTorch, as segment-run does with a device
(runtime/test/device/SegmentRun.cpp, which has the format).

    segment_run.py (SEGMENT FOLDER)...
"""

import os
import sys

import torch
from google.protobuf import text_format

from tombolo_torch.errors import Error
from tombolo_torch.schema import plan_pb2 as pb
from tombolo_torch.segment import Arena, PreparedSegment

_ALIGNMENT = 64


def run(path, folder):
    with open(path) as file:
        segment = text_format.Parse(file.read(), pb.Segment())
    addresses, end = [], 0
    for size in [*(argument.bytes for argument in segment.arguments), segment.workspace_bytes]:
        addresses.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    arena = Arena(end, torch.device("cpu"))
    for argument, address in zip(segment.arguments, addresses):
        given = os.path.join(folder, argument.name + ".in")
        if os.path.exists(given):
            with open(given, "rb") as file:
                data = bytearray(file.read())
            arena.raw(address, len(data)).copy_(torch.frombuffer(data, dtype=torch.uint8))
    PreparedSegment(segment, arena).run(tuple(addresses))
    for argument, address in zip(segment.arguments, addresses):
        if argument.access != pb.ACCESS_READ:
            with open(os.path.join(folder, argument.name + ".out"), "wb") as file:
                file.write(arena.raw(address, argument.bytes).numpy().tobytes())


def main(words):
    """The exit status; an error does not keep the segments after it from running."""
    status = 0
    torch.set_num_threads(1)
    for path, folder in zip(words[0::2], words[1::2]):
        try:
            run(path, folder)
        except Error as error:
            print(f"{path}: error: {error}", file=sys.stderr)
            status = status or error.status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
