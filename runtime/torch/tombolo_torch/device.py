"""The device of a rank, and how its lanes work side by side."""

import contextlib
import importlib

import torch

from .errors import Error

# What torch.distributed has for each; `--backend` names others.
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "ccl", "npu": "hccl", "musa": "mccl",
            "mlu": "cncl"}


class Device:
    """`cpu`, or an accelerator under the name that PyTorch has for it: `cuda`, `cuda:1`, or one
    whose vendor's package `torch_NAME` adds it, like `npu`. An index that is not given is
    that of the rank on its machine.

    On an accelerator every lane works in a stream of its own, so that transfers run beside
    compute; what a lane has started is complete before it signals.
    """

    def __init__(self, name, index, backend):
        kind, _, given = name.partition(":")
        self.kind = kind
        if kind == "cpu":
            self.torch, self.module = torch.device("cpu"), None
        else:
            self.module = self._module(kind)
            count = self.module.device_count()
            which = given or str(index % max(1, count))
            if not which.isdigit() or int(which) >= count:
                raise Error(f"--device {name}: PyTorch finds {count} devices of that kind here")
            self.torch = torch.device(kind, int(which))
            self.module.set_device(self.torch)
            self.streams = {}
        self.backend = backend or BACKENDS.get(kind)
        if self.backend is None:
            raise Error(f"--device {name}: which torch.distributed backend it has is not known; "
                        "give --backend NAME")
        # f32 is f32: no shorter mantissas in products.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    @staticmethod
    def _module(kind):
        if not hasattr(torch, kind):
            try:
                importlib.import_module(f"torch_{kind}")
            except ImportError:
                pass
        module = getattr(torch, kind, None)
        if not hasattr(module, "device_count") or not module.is_available():
            raise Error(f"--device {kind}: PyTorch {torch.__version__} has no such device here; "
                        "expected cpu, or an accelerator that this PyTorch or its vendor's "
                        f"package torch_{kind} has")
        return module

    @contextlib.contextmanager
    def lane(self, lane):
        """Where a lane's thread works."""
        if self.module is None:
            yield
            return
        self.module.set_device(self.torch)
        if lane not in self.streams:
            self.streams[lane] = self.module.Stream()
        with self.module.stream(self.streams[lane]):
            yield
            self.finish()

    def finish(self):
        """What this thread has started is complete."""
        if self.module is not None:
            self.module.current_stream().synchronize()
