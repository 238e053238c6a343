"""Checkpoints: safetensors shards and a JSON manifest written last, as the C++ runtime
writes and reads them (docs/Operations.md, runtime/Checkpoint.h)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import struct

import torch

from .elements import run_view, take
from .errors import Error
from .files import InputFile, OutputFile, read_file, sha256, sync_folder, write_file

_MANIFEST = "manifest.json"
_FORMAT = "tombolo-checkpoint-1"
_MOST_MANIFEST = 1 << 30
_MOST_ELEMENTS = 1 << 50
_MOST_RUNS = 1 << 26


@dataclasses.dataclass
class FragmentPoint:
    """Where a fragment of an island with a server stands (docs/Server.md, Snapshot)."""
    version: int = 0
    steps_done: int = 0
    pushed_step: int | None = None


@dataclasses.dataclass
class Info:
    model_hash: bytes = b""
    island: int = 0
    step: int = 0
    updates: int = 0
    next_sample: int = 0
    free_sample: int = 0
    inner_steps: int = 0
    batches: list = dataclasses.field(default_factory=list)
    # Where an island has its own: those of every island, and what this one has done.
    own_inner_steps: list = dataclasses.field(default_factory=list)
    island_step: int = 0
    contract: bytes = b""
    points: list = dataclasses.field(default_factory=list)


# --------------------------------------------------------------------- folders


def folder_of(directory, island, step):
    return os.path.join(directory, f"island-{island}", f"step-{step}")


def generations(island_folder):
    """(step, folder) of each that has a manifest, the newest first."""
    names = os.listdir(island_folder) if os.path.isdir(island_folder) else []
    return sorted(((int(name[5:]), os.path.join(island_folder, name)) for name in names
                   if re.fullmatch("step-[0-9]{1,19}", name)
                   and os.path.exists(os.path.join(island_folder, name, _MANIFEST))),
                  reverse=True)


def latest(directory, island):
    for _, folder in generations(os.path.join(directory, f"island-{island}")):
        try:
            _read_manifest(folder)
            return folder
        except Error:
            pass  # a damaged one does not count; the one before is kept for this
    return None


def to_resume(directory, island, step):
    """The folder that an island goes on from: its own, or, of an island that the run before
    did not have, that of island 0; where it has none of its own at `step`, that of the first
    island that has."""
    own = _own(directory, island, step)
    if own or step is None:
        return own
    names = os.listdir(directory) if os.path.isdir(directory) else []
    others = sorted(int(name[7:]) for name in names if re.fullmatch("island-[0-9]{1,9}", name))
    return next(filter(None, (_own(directory, other, step) for other in others)), None)


def _own(directory, island, step):
    def find(number):
        if step is None:
            return latest(directory, number)
        folder = folder_of(directory, number, step)
        return folder if os.path.exists(os.path.join(folder, _MANIFEST)) else None
    if island > 0:
        first = find(0)
        try:
            if first and len(Checkpoint(first).info.batches) <= island:
                return first
        except Error:
            pass  # of its damage island 0 is told; this one has its own
    return find(island)


def discard_manifest(folder):
    path = os.path.join(folder, _MANIFEST)
    if os.path.exists(path):
        os.unlink(path)
        sync_folder(folder)


def discard_unfinished(directory, island):
    """Generations without a manifest; what an interrupted write has left."""
    parent = os.path.join(directory, f"island-{island}")
    for name in os.listdir(parent) if os.path.isdir(parent) else []:
        folder = os.path.join(parent, name)
        if re.fullmatch(r"step-[0-9]{1,19}\.tmp-.*", name):
            shutil.rmtree(folder, ignore_errors=True)
        elif not re.fullmatch("step-[0-9]{1,19}", name):
            continue
        elif not os.path.exists(os.path.join(folder, _MANIFEST)):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for file in os.listdir(folder):
                if ".tmp-" in file or file.endswith(".part.json"):
                    os.unlink(os.path.join(folder, file))


# --------------------------------------------------------------------- writing


def _dump(value):
    """The canonical text, over which the manifest's checksum is taken."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _raw(tensor):
    """The bytes of an f32 tensor of the host."""
    flat = tensor.contiguous().view(-1)
    return memoryview(flat.numpy()).cast("B") if flat.numel() else b""


def write_shard(folder, rank, tensors):
    """`tensors`: (name, parameter, function that gives its local elements on the host)."""
    os.makedirs(folder, exist_ok=True)
    sync_folder(os.path.dirname(folder))
    part = {"tensors": []}
    if tensors:
        header, offset = {"__metadata__": {"format": "tombolo"}}, 0
        for name, parameter, _ in tensors:
            size = parameter.local_elements * 4
            whole = parameter.local_elements == parameter.elements
            header[name] = {"dtype": "F32", "data_offsets": [offset, offset + size],
                            "shape": list(parameter.dims) if whole else [parameter.local_elements]}
            offset += size
        text = _dump(header)
        text += b" " * (-len(text) % 8)  # data stays aligned
        part["file"] = f"rank-{rank}.safetensors"
        with OutputFile(os.path.join(folder, part["file"])) as out:
            text = struct.pack("<Q", len(text)) + text
            out.write(text)
            part["header_bytes"] = len(text)
            part["header_sha256"] = hashlib.sha256(text).hexdigest()
            for name, parameter, values in tensors:
                data = _raw(values())
                part["tensors"].append({
                    "name": name, "dims": list(parameter.dims), "offset": out.written,
                    "ranges": [list(one) for one in parameter.ranges],
                    "sha256": hashlib.sha256(data).hexdigest()})
                out.write(data)
            out.commit()
    write_file(os.path.join(folder, f"rank-{rank}.part.json"), _dump(part))


def write_manifest(folder, ranks, info):
    """Makes a generation of what all ranks have written, and keeps the one before."""
    parts = [os.path.join(folder, f"rank-{rank}.part.json") for rank in range(ranks)]
    shards = [json.loads(read_file(path, _MOST_MANIFEST)) for path in parts]
    manifest = {
        "format": _FORMAT, "model_hash": info.model_hash.hex(), "island": info.island,
        "step": info.step, "updates": info.updates, "next_sample": info.next_sample,
        "free_sample": info.free_sample, "inner_steps": info.inner_steps,
        "batches": info.batches, "shards": [shard for shard in shards if "file" in shard]}
    if info.own_inner_steps:
        manifest["island_step"] = info.island_step
        manifest["own_inner_steps"] = info.own_inner_steps
    if info.points:
        manifest["contract"] = info.contract.hex()
        manifest["fragments"] = [
            {"version": point.version, "steps_done": point.steps_done,
             **({} if point.pushed_step is None else {"pushed_step": point.pushed_step})}
            for point in info.points]
    manifest["checksum"] = sha256(_dump(manifest)).hex()
    text = json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False)
    write_file(os.path.join(folder, _MANIFEST), text.encode() + b"\n")
    for path in parts:
        os.unlink(path)
    parent = os.path.dirname(folder)
    sync_folder(parent)  # durable before anything older goes
    for _, old in generations(parent)[2:]:
        discard_manifest(old)  # first: a half-removed generation must not count
        shutil.rmtree(old, ignore_errors=True)


# --------------------------------------------------------------------- reading


def _read_manifest(folder):
    path = os.path.join(folder, _MANIFEST)
    try:
        manifest = json.loads(read_file(path, _MOST_MANIFEST))
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("checksum"), str):
        raise Error(f"'{path}': not a checkpoint's manifest, or damaged")
    checksum = manifest.pop("checksum")
    if checksum != sha256(_dump(manifest)).hex():
        raise Error(f"'{path}': the checksum does not match, it is damaged")
    if manifest.get("format") != _FORMAT:
        raise Error(f"'{path}': expected format '{_FORMAT}'")
    return manifest


@dataclasses.dataclass
class _Part:
    file: str
    offset: int
    sha256: str
    ranges: list
    elements: int


class Checkpoint:
    def __init__(self, folder):
        self.folder = folder
        self.place = f"'{os.path.join(folder, _MANIFEST)}'"
        manifest = _read_manifest(folder)
        self.tensors, self.runs = {}, 0
        self.headers = {}  # of shards: how many bytes, and their SHA-256
        try:
            self.info = self._info(manifest)
            for shard in manifest["shards"]:
                self._shard(shard)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Error(f"{self.place}: a field is missing or of the wrong kind: {error}")

    def _count(self, value):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
            raise Error(f"{self.place}: expected a count, got {str(value)[:60]}")
        return value

    def _digest(self, text):
        if not re.fullmatch("[0-9a-f]{64}", text):
            raise Error(f"{self.place}: expected 64 hexadecimal digits, got '{text}'")
        return bytes.fromhex(text)

    def _info(self, m):
        info = Info(self._digest(m["model_hash"]), *(self._count(m[key]) for key in (
            "island", "step", "updates", "next_sample", "free_sample", "inner_steps")),
            [self._count(batch) for batch in m["batches"]])
        info.island_step = info.step
        if "island_step" in m:
            info.island_step = self._count(m["island_step"])
            info.own_inner_steps = [self._count(steps) for steps in m["own_inner_steps"]]
        # Earlier versions had the checksum of the plan's file in the contract's place.
        if "fragments" not in m or "contract" not in m:
            return info
        info.contract = self._digest(m["contract"])
        for fragment in m["fragments"]:
            pushed = fragment.get("pushed_step")
            point = FragmentPoint(self._count(fragment["version"]),
                                  self._count(fragment["steps_done"]),
                                  None if pushed is None else self._count(pushed))
            last = info.island_step
            if not point.steps_done <= (last if pushed is None else pushed) <= last:
                raise Error(f"{self.place}: a fragment is beyond the checkpoint's step")
            info.points.append(point)
        return info

    def _shard(self, shard):
        file = shard["file"]
        if not file or "/" in file:
            raise Error(f"{self.place}: a shard's file name '{file}' is no plain name")
        if "header_sha256" in shard:  # not in those of earlier versions
            self._digest(shard["header_sha256"])
            self.headers[file] = self._count(shard["header_bytes"]), shard["header_sha256"]
        for entry in shard["tensors"]:
            name, dims = entry["name"], tuple(self._count(dim) for dim in entry["dims"])
            whole = math.prod(dims)
            if whole > _MOST_ELEMENTS:
                raise Error(f"{self.place}: '{name}' is too large")
            ranges = [tuple(self._count(number) for number in one) for one in entry["ranges"]]
            for begin, length, count, stride in ranges:
                if count and begin + (count - 1) * stride + length > whole:
                    raise Error(f"{self.place}: '{name}': a range lies outside it")
                self.runs += count
            if self.runs > _MOST_RUNS:
                raise Error(f"{self.place}: more than {_MOST_RUNS} ranges")
            elements = sum(length * count for _, length, count, _ in ranges)
            if elements > whole:
                raise Error(f"{self.place}: '{name}': its ranges overlap")
            known, parts = self.tensors.setdefault(name, (dims, []))
            if known != dims:
                raise Error(f"{self.place}: '{name}' has two shapes")
            self._digest(entry["sha256"])
            parts.append(_Part(file, self._count(entry["offset"]), entry["sha256"], ranges,
                               elements))

    def has(self, name):
        return name in self.tensors

    def read(self, name, parameter):
        """The elements of tensor `name` that lie here as the parameter's ranges say."""
        if name not in self.tensors:
            raise Error(f"'{self.folder}': holds no '{name}'; it was written for another model "
                        "or optimizer")
        dims, parts = self.tensors[name]
        if dims != parameter.dims:
            raise Error(f"'{self.folder}': '{name}' has another shape than the plan")
        whole = torch.empty(parameter.elements)
        covered = torch.zeros(parameter.elements, dtype=torch.bool)
        for part in parts:
            values, at = self._part(name, part), 0
            for one in part.ranges:
                _, length, count, _ = one
                mark = run_view(covered, one)
                if mark.any():
                    raise Error(f"{self.place}: '{name}': its ranges overlap")
                mark.fill_(True)
                run_view(whole, one).copy_(values[at:at + length * count].view(count, length))
                at += length * count
        here = take(covered, parameter.ranges)
        if not here.all():
            raise Error(f"'{self.folder}': holds {int(here.sum())} of the {here.numel()} elements "
                        f"of '{name}' that are needed")
        return take(whole, parameter.ranges)

    def _part(self, name, part):
        file = InputFile(os.path.join(self.folder, part.file))
        if part.file in self.headers:
            size, checksum = self.headers.pop(part.file)  # once
            if hashlib.sha256(file.read(0, size)).hexdigest() != checksum:
                raise Error(f"'{file.path}': its header is damaged: its checksum does not match")
        data = file.read(part.offset, part.elements * 4)
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise Error(f"'{file.path}': '{name}' is damaged: its checksum does not match")
        return torch.frombuffer(data, dtype=torch.float32) if data else torch.empty(0)
