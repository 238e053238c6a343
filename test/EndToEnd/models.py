"""The models of test_models.py, as people write them in plain torch.nn, with data to
train on, their losses and how they are exported."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Case:
    """A model with its data. `tensors` has an array [samples, ...] for each input of the
    graph, in order, and for the label, named as in the file that Tombolo reads."""

    label = "labels"
    loss = "cross-entropy"
    flags = ()

    def __init__(self):
        torch.manual_seed(0)
        self.rng = np.random.default_rng(1)

    def inputs(self):
        return [name for name in self.tensors if name != self.label]

    def batch(self, first, count):
        """Samples first ... first + count, wrapping at the end."""
        size = len(next(iter(self.tensors.values())))
        rows = np.arange(first, first + count) % size
        return {name: torch.from_numpy(array[rows]) for name, array in self.tensors.items()}

    def losses(self, model, batch):
        """The sum of weighted losses and the sum of weights."""
        output = model(*[batch[name] for name in self.inputs()])
        labels = batch.get(self.label)
        if self.loss == "mse":
            return F.mse_loss(output, labels, reduction="sum"), labels.numel()
        if self.loss == "bce":
            return (F.binary_cross_entropy_with_logits(output, labels, reduction="sum"),
                    labels.numel())
        if self.loss == "output":
            count = len(next(iter(batch.values())))
            return output * count, count
        return (F.cross_entropy(output.reshape(-1, output.size(-1)), labels.reshape(-1),
                                reduction="sum"), int((labels != -100).sum()))

    def export(self, model, path, opset, training):
        options = {}
        if training:
            options = dict(training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False)
        names = self.inputs()
        batch = self.batch(0, 2)
        output = "loss" if self.loss == "output" else "output"
        axes = {name: {0: "batch"} for name in names}
        if self.loss != "output":
            axes[output] = {0: "batch"}
        torch.onnx.export(
            model, tuple(batch[name] for name in names), path, input_names=names,
            output_names=[output], dynamic_axes=axes, opset_version=opset, **options)


class MLP(nn.Module):
    def __init__(self, inputs=6, hidden=16, outputs=3, layers=3):
        super().__init__()
        sizes = [inputs] + [hidden] * layers
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])])
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.last(x)


class MLPRegression(Case):
    loss = "mse"

    def __init__(self):
        super().__init__()
        x = self.rng.standard_normal((50, 6)).astype(np.float32)
        y = np.sin(x @ self.rng.standard_normal((6, 3))).astype(np.float32)
        self.tensors = {"x": x, "labels": y}

    def make(self):
        torch.manual_seed(0)
        return MLP()


class MLPClassification(MLPRegression):
    """Several yes-or-no questions at once."""

    loss = "bce"
    label = "answers"
    flags = ("--label", "answers")

    def __init__(self):
        super().__init__()
        y = self.tensors.pop("labels")
        self.tensors["answers"] = (y > 0).astype(np.float32)


class OwnLoss(nn.Module):
    """An MLP that computes its loss itself."""

    def __init__(self):
        super().__init__()
        self.mlp = MLP()

    def forward(self, x, y):
        return (self.mlp(x) - y).abs().mean()


class MLPOwnLoss(MLPRegression):
    loss = "output"
    label = None

    def __init__(self):
        super().__init__()
        self.tensors = {"x": self.tensors["x"], "y": self.tensors["labels"]}

    def make(self):
        torch.manual_seed(0)
        return OwnLoss()


def train(case, batch, microbatch, steps, lr=1e-3):
    """Losses of AdamW steps; what a model computes per microbatch (BatchNorm, balancing
    losses) it computes per microbatch."""
    model = case.make()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        parts = [case.losses(model, case.batch(step * batch + first, microbatch))
                 for first in range(0, batch, microbatch)]
        loss = sum(p for p, _ in parts) / sum(w for _, w in parts)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
