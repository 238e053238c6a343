#!/usr/bin/python3
"""Segment ops against PyTorch: forward, autograd, torch.optim. Those of the cpu device,
which the program SEGMENT_RUN runs, or of the torch executor, with its segment_run.py.

    torch_reference.py SEGMENT_RUN [unittest arguments]
"""

import importlib
import math
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch
import torch.nn.functional as F

SEGMENT_RUN = sys.argv.pop(1)


def segment_run(path, folder):
    if not SEGMENT_RUN.endswith(".py"):
        subprocess.run([SEGMENT_RUN, "cpu", path, folder], check=True)
        return
    sys.path.insert(0, os.path.dirname(SEGMENT_RUN))
    module = importlib.import_module(os.path.basename(SEGMENT_RUN)[:-len(".py")])
    if module.main([path, folder]):
        raise AssertionError("a segment failed")


DTYPES = {np.dtype(np.float32): "DTYPE_F32", np.dtype(np.int64): "DTYPE_I64"}


class Segment:
    """A segment under construction and the values of its arguments."""

    def __init__(self):
        self.arguments, self.values, self.ops, self.data = [], [], [], {}

    def argument(self, name, array, access):
        array = np.ascontiguousarray(array)
        self.arguments.append(
            f'arguments {{ name: "{name}" bytes: {array.nbytes} access: ACCESS_{access} }}')
        self.data[name] = array
        return self.view(len(self.arguments) - 1, array.dtype, array.shape)

    def view(self, argument, dtype, dims, strides=(), offset=0):
        fields = [f"dtype: {DTYPES[np.dtype(dtype)]}", f"argument: {argument}",
                  f"byte_offset: {offset}"]
        fields += [f"dims: {d}" for d in dims] + [f"strides: {s}" for s in strides]
        self.values.append("values { " + " ".join(fields) + " }")
        return len(self.values) - 1

    def input(self, name, tensor):
        return self.argument(name, tensor.detach().numpy(), "READ")

    def output(self, name, dims, dtype=np.float32):
        return self.argument(name, np.zeros(dims, dtype), "WRITE")

    def state(self, name, tensor):
        return self.argument(name, tensor.detach().numpy(), "READ_WRITE")

    def op(self, opcode, inputs, outputs, accumulate=False, **attributes):
        text = [f"opcode: OPCODE_{opcode.upper()}"]
        text += [f"inputs: {i}" for i in inputs] + [f"outputs: {o}" for o in outputs]
        for name, value in attributes.items():
            kind = {bool: "flag", int: "integer", float: "real", str: "text"}[type(value)]
            shown = {"flag": str(value).lower(), "text": f'"{value}"'}.get(kind, repr(value))
            text.append(f'attributes {{ name: "{name}" {kind}: {shown} }}')
        if accumulate:
            text.append("accumulate: true")
        self.ops.append("ops { " + " ".join(text) + " }")

    def run(self):
        """Runs it; returns the written arguments by name, as float64 tensors."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "segment.txtpb")
            with open(path, "w") as file:
                file.write("\n".join(['name: "case"'] + self.arguments + self.values + self.ops))
            for name, array in self.data.items():
                array.tofile(os.path.join(folder, name + ".in"))
            segment_run(path, folder)
            results = {}
            for name, array in self.data.items():
                file = os.path.join(folder, name + ".out")
                if os.path.exists(file):
                    results[name] = torch.from_numpy(
                        np.fromfile(file, array.dtype).reshape(array.shape).copy())
            return results


class TorchReference(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)

    def close(self, got, want, relative=2e-6):
        """Within `relative` of the largest element, PyTorch computing in double."""
        self.assertEqual(got.shape, want.shape)
        scale = want.abs().max().item()
        error = (got.double() - want.double()).abs().max().item()
        self.assertLessEqual(error, relative * scale)

    def test_layer_norm(self):
        x = (torch.randn(4, 33, 96) * 2 + 1).requires_grad_()
        gamma, beta = torch.randn(96).requires_grad_(), torch.randn(96).requires_grad_()
        dy = torch.randn(4, 33, 96)
        wide = [t.detach().double().requires_grad_() for t in (x, gamma, beta)]
        y = F.layer_norm(wide[0], (96,), wide[1], wide[2], 1e-5)
        y.backward(dy.double())
        s = Segment()
        vx, vg, vb = s.input("x", x), s.input("gamma", gamma), s.input("beta", beta)
        vdy = s.input("dy", dy)
        vy, mean, rstd = s.output("y", y.shape), s.output("mean", (4, 33)), s.output("rstd", (4, 33))
        dx, dgamma = s.output("dx", x.shape), s.output("dgamma", (96,))
        dbeta = s.output("dbeta", (96,))
        s.op("layer_norm", [vx, vg, vb], [vy, mean, rstd], epsilon=1e-5)
        s.op("layer_norm_backward_input", [vdy, vx, vg, mean, rstd], [dx])
        s.op("layer_norm_backward_weight", [vdy, vx, mean, rstd], [dgamma, dbeta])
        got = s.run()
        self.close(got["y"], y)
        self.close(got["dx"], wide[0].grad)
        self.close(got["dgamma"], wide[1].grad)
        self.close(got["dbeta"], wide[2].grad)

    def test_gelu(self):
        for approximate in ("none", "tanh"):
            x, dy = torch.randn(7, 129) * 3, torch.randn(7, 129)
            wide = x.double().requires_grad_()
            y = F.gelu(wide, approximate=approximate)
            y.backward(dy.double())
            s = Segment()
            vx, vdy = s.input("x", x), s.input("dy", dy)
            vy, dx = s.output("y", x.shape), s.output("dx", x.shape)
            s.op("gelu", [vx], [vy], approximate=approximate)
            s.op("gelu_backward", [vdy, vx], [dx], approximate=approximate)
            got = s.run()
            self.close(got["y"], y)
            self.close(got["dx"], wide.grad)

    def test_softmax(self):
        x, dy = torch.randn(5, 6, 77) * 4, torch.randn(5, 6, 77)
        wide = x.double().requires_grad_()
        y = F.softmax(wide, -1)
        y.backward(dy.double())
        s = Segment()
        vx, vdy = s.input("x", x), s.input("dy", dy)
        vy, dx = s.output("y", x.shape), s.output("dx", x.shape)
        s.op("softmax", [vx], [vy])
        s.op("softmax_backward", [vdy, vy], [dx])
        got = s.run()
        self.close(got["y"], y)
        self.close(got["dx"], wide.grad)

    def test_attention_in_a_fused_qkv_tensor(self):
        """q, k, v are slices of [B, T, 3C] and so are their gradients; o is [B, T, H, D]."""
        for batch, length, heads, depth, causal in ((2, 128, 4, 32, True), (2, 77, 3, 16, True),
                                                    (1, 50, 2, 8, False)):
            width = heads * depth
            qkv, do = torch.randn(batch, length, 3 * width), torch.randn(batch, length, width)
            wide = qkv.double().requires_grad_()
            q, k, v = (t.view(batch, length, heads, depth).transpose(1, 2)
                       for t in wide.split(width, -1))
            scores = q @ k.transpose(-1, -2) / math.sqrt(depth)
            if causal:
                mask = torch.ones(length, length).tril().bool()
                scores = scores.masked_fill(~mask, -math.inf)
            o = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
            o.backward(do.double())
            s = Segment()
            dims = (batch, heads, length, depth)

            def heads_of(value, width_of_row, part=0):
                argument = len(s.arguments) - 1
                return s.view(argument, np.float32, dims,
                              (length * width_of_row, depth, width_of_row, 1), 4 * part * width)

            s.input("qkv", qkv)
            inputs = [heads_of(None, 3 * width, part) for part in range(3)]
            s.input("do", do)
            vdo = heads_of(None, width)
            s.output("o", o.shape)
            vo = heads_of(None, width)
            lse = s.output("lse", (batch, heads, length))
            s.output("dqkv", qkv.shape)
            outputs = [heads_of(None, 3 * width, part) for part in range(3)]
            attributes = {"causal": causal, "scale": 1 / math.sqrt(depth)}
            s.op("attention", inputs, [vo, lse], **attributes)
            s.op("attention_backward", [vdo] + inputs + [vo, lse], outputs, **attributes)
            got = s.run()
            self.close(got["o"], o)
            self.close(got["lse"], scores.logsumexp(-1))
            self.close(got["dqkv"], wide.grad, 4e-6)

    def test_cross_entropy(self):
        logits, labels = torch.randn(6, 9, 257) * 3, torch.randint(0, 257, (6, 9))
        labels[2, 3:] = -100
        wide = logits.double().requires_grad_()
        loss = F.cross_entropy(wide.view(-1, 257), labels.view(-1), reduction="sum",
                               ignore_index=-100)
        loss.backward()
        s = Segment()
        vlogits, vlabels = s.input("logits", logits), s.input("labels", labels)
        outputs = [s.output("loss", (1,)), s.output("weights", (1,)), s.output("lse", (6, 9))]
        dlogits = s.output("dlogits", logits.shape)
        s.op("cross_entropy", [vlogits, vlabels], outputs, ignore_index=-100)
        s.op("cross_entropy_backward", [vlogits, vlabels, outputs[2]], [dlogits],
             ignore_index=-100)
        got = s.run()
        self.close(got["loss"], loss.reshape(1), 5e-7)
        self.assertEqual(got["weights"].item(), (labels != -100).sum().item())
        self.close(got["dlogits"], wide.grad)

    def test_cross_entropy_over_parts_of_the_vocabulary(self):
        logits, labels = torch.randn(5, 8, 264) * 3, torch.randint(0, 264, (5, 8))
        labels[2, 3:] = -100
        wide = logits.double().requires_grad_()
        loss = F.cross_entropy(wide.view(-1, 264), labels.view(-1), reduction="sum",
                               ignore_index=-100)
        loss.backward()
        parts, picked = [], torch.zeros(5, 8)
        for index, part in enumerate(logits.split(66, -1)):
            s = Segment()
            inputs = [s.input("logits", part.contiguous()), s.input("labels", labels),
                      s.input("index", torch.tensor([index]))]
            s.op("cross_entropy_shard", inputs, [s.output("lse", (5, 8)), s.output("own", (5, 8))],
                 ignore_index=-100, count=4)
            got = s.run()
            parts.append(got["lse"])
            picked += got["own"]
        s = Segment()
        inputs = [s.input("parts", torch.stack(parts)), s.input("picked", picked),
                  s.input("labels", labels)]
        s.op("cross_entropy_merge", inputs,
             [s.output("loss", (1,)), s.output("weights", (1,)), s.output("lse", (5, 8))],
             ignore_index=-100)
        merged = s.run()
        self.close(merged["loss"], loss.reshape(1), 5e-7)
        self.assertEqual(merged["weights"].item(), (labels != -100).sum().item())
        self.close(merged["lse"], wide.detach().logsumexp(-1))
        for index, part in enumerate(logits.split(66, -1)):
            s = Segment()
            inputs = [s.input("logits", part.contiguous()), s.input("labels", labels),
                      s.input("lse", merged["lse"]), s.input("index", torch.tensor([index]))]
            s.op("cross_entropy_backward", inputs, [s.output("dlogits", (5, 8, 66))],
                 ignore_index=-100, count=4)
            self.close(s.run()["dlogits"], wide.grad.split(66, -1)[index])

    def test_linear(self):
        """x Wᵀ + b, its gradients by input and (accumulated) by weight."""
        x, w, b = torch.randn(3, 40, 64), torch.randn(96, 64), torch.randn(96)
        dy = torch.randn(3, 40, 96)
        wide = [t.double().requires_grad_() for t in (x, w, b)]
        y = F.linear(*wide)
        y.backward(dy.double())
        s = Segment()
        vx, vw, vb = s.input("x", x), s.input("w", w), s.input("b", b)
        flat_x = s.view(0, np.float32, (120, 64))
        vdy = s.input("dy", dy)
        flat_dy = s.view(3, np.float32, (120, 96))
        vy, dx = s.output("y", y.shape), s.output("dx", x.shape)
        dw = s.state("dw", torch.ones(96, 64))
        s.op("matmul", [vx, vw, vb], [vy], transpose_b=True)
        s.op("matmul", [vdy, vw], [dx])
        s.op("matmul", [flat_dy, flat_x], [dw], accumulate=True, transpose_a=True)
        got = s.run()
        self.close(got["y"], y)
        self.close(got["dx"], wide[0].grad)
        self.close(got["dw"], wide[1].grad + 1)

    def optimize(self, make, opcode, states, **attributes):
        """Five steps; the state passes through files, as through a checkpoint."""
        start = torch.randn(1003)
        param = start.clone().requires_grad_()
        optimizer = make([param])
        mine = {"param": start, **{name: torch.zeros(1003) for name in states}}
        for step in range(1, 6):
            grad = torch.randn(1003)
            param.grad = grad / 24
            optimizer.step()
            s = Segment()
            inputs = [s.state("param", mine["param"]), s.input("grad", grad),
                      s.input("weight", torch.tensor([24.0])),
                      s.input("updates", torch.tensor([step]))]
            inputs += [s.state(name, mine[name]) for name in states]
            s.op(opcode, inputs, [inputs[0]] + inputs[4:], **attributes)
            mine = s.run()
            self.close(mine["param"], param.detach(), 5e-7)
        for name in states:
            self.close(mine[name], optimizer.state[param][name], 5e-7)

    def test_adamw(self):
        self.optimize(lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1), "adamw",
                      ["exp_avg", "exp_avg_sq"], learning_rate=1e-2, beta1=0.9, beta2=0.999,
                      epsilon=1e-8, weight_decay=0.1)

    def test_sgd(self):
        self.optimize(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05), "sgd",
                      ["momentum_buffer"], learning_rate=0.1, momentum=0.9, weight_decay=0.05)
        self.optimize(lambda p: torch.optim.SGD(p, lr=0.1), "sgd", [], learning_rate=0.1,
                      momentum=0.0, weight_decay=0.0)


if __name__ == "__main__":
    unittest.main()
