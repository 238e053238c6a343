"""From a PyTorch module to an ONNX file that Tombolo plans."""

from __future__ import annotations

import collections.abc
import inspect
import os
import pathlib
from typing import TYPE_CHECKING, Any

from ._errors import TomboloError

if TYPE_CHECKING:
    import torch


def export(
    module: "torch.nn.Module",
    sample: "torch.Tensor | collections.abc.Sequence[torch.Tensor]",
    path: str | os.PathLike[str] = "model.onnx",
    *,
    input_names: collections.abc.Sequence[str] | None = None,
    output_names: collections.abc.Sequence[str] = ("output",),
    batch_dim: str = "batch",
    opset: int = 17,
) -> pathlib.Path:
    """Writes a PyTorch module as ONNX, for training: parameters keep their names and ties,
    nothing is folded, dropout stays, and the first dimension of every input and output is
    free (`batch_dim`).

    `sample` is a batch as the module's `forward` takes it: a tensor, or a tuple of them for
    several arguments. Inputs are named like these arguments unless `input_names` are given.
    The module's mode and buffers are afterwards as they were before.
    """
    try:
        import torch
    except ImportError:
        raise ImportError("tombolo.export needs PyTorch; install python3-torch, or "
                          "pip install torch") from None
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a path, got {path!r}")
    tensors = (sample,) if isinstance(sample, torch.Tensor) else sample
    if (not isinstance(tensors, (tuple, list)) or not tensors
            or not all(isinstance(one, torch.Tensor) for one in tensors)):
        raise TypeError("sample: expected a tensor, or a tuple of them, got "
                        f"{type(sample).__name__}")
    sizes = {tuple(one.shape[:1]) for one in tensors}
    if len(sizes) != 1 or () in sizes or 0 in sizes.pop():
        raise ValueError("sample: expected a batch: tensors whose first dimensions are equal and "
                         "not 0, got shapes " + ", ".join(str(list(one.shape)) for one in tensors))
    if input_names is None:
        input_names = _argument_names(module, len(tensors))
    if len(input_names) != len(tensors):
        raise ValueError(f"input_names: expected one for each of {len(tensors)} tensors of the "
                         f"sample, got {len(input_names)}")
    # A batch of one may be traced as no batch at all.
    batch = tuple(torch.cat([one, one]) if one.shape[0] == 1 else one for one in tensors)
    names = [*input_names, *output_names]
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False  # which knows no training mode
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    modes = {one: one.training for one in module.modules()}
    try:
        torch.onnx.export(
            module, batch, os.fspath(path), opset_version=opset, input_names=list(input_names),
            output_names=list(output_names), dynamic_axes={name: {0: batch_dim} for name in names},
            training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False, **options)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise TomboloError(f"PyTorch cannot export the module: {error}") from error
    finally:
        # Tracing is a forward pass: running statistics take part in it.
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for one, mode in modes.items():
            one.training = mode
    return pathlib.Path(path)


def _argument_names(module: "torch.nn.Module", count: int) -> list[str]:
    names = [name for name, parameter in inspect.signature(module.forward).parameters.items()
             if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
    if len(names) >= count:
        return names[:count]
    return ["input"] if count == 1 else [f"input_{i}" for i in range(count)]
