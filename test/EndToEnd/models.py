"""The models of test_models.py, as people write them in plain torch.nn, with data to
train on, their losses and how they are exported."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import reference


class Case:
    """A model with its data. `tensors` has an array [samples, ...] for each input of the
    graph, in order, and for the label, named as in the file that Tombolo reads."""

    label = "labels"
    loss = "cross-entropy"
    flags = ()
    # Whether to export at opset 11, 13, 15, 17 for training, which keeps names and ties.
    exports = (False, True, False, True)

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


class Zoo(nn.Module):
    """Operators that no model here has else, each on the way to the loss, which the model
    computes itself."""

    def __init__(self, hidden=8, length=6):
        super().__init__()
        self.first = nn.Linear(5, hidden)
        self.prelu = nn.PReLU()
        self.group = nn.GroupNorm(2, hidden)
        self.instance = nn.InstanceNorm1d(hidden, affine=True)
        self.table = nn.Parameter(torch.randn(hidden, hidden) * 0.3)
        self.scales = nn.Parameter(torch.rand(24) + 0.5)
        self.last = nn.Linear(hidden, 7)
        self.register_buffer("weights", torch.linspace(0.5, 1.5, 7))

    def layers(self):
        def turned(function):
            return lambda x: function(x.transpose(1, 2)).transpose(1, 2)
        return [
            F.leaky_relu, self.prelu, lambda x: F.elu(x, 0.7), F.selu, lambda x: F.celu(x, 1.3),
            F.hardsigmoid, F.softsign, F.mish, lambda x: x.clamp(-0.5, 0.8),
            lambda x: x.clamp(min=-0.2), F.relu6, F.hardswish, F.hardtanh,
            turned(self.group), turned(self.instance),
            lambda x: torch.einsum("bth,hk->btk", x, self.table),
            lambda x: torch.einsum("bth,bsh->bts", x, x) @ x / 10,
            lambda x: F.pad(x, (1, -1, 2, 0))[:, :-2],
            turned(lambda x: F.pad(x, (1, 2), mode="reflect")[:, :, 3:]),
            turned(lambda x: F.pad(x, (2, 1), mode="replicate")[:, :, :-3]),
            lambda x: x[:, :1].repeat(1, x.size(1), 1),
            lambda x: torch.logsumexp(x, dim=1, keepdim=True),
            lambda x: torch.norm(x, dim=2, keepdim=True) * x / 5,
            lambda x: torch.norm(x, p=1, dim=2, keepdim=True) * x / 20]

    def forward(self, x, labels):
        x = 2 * self.first(x)                                          # [b, t, h]
        for scale, layer in zip(self.scales, self.layers()):
            x = x + 0.1 * scale * layer(x)
        logits = self.last(x).transpose(1, 2)                          # [b, classes, t]
        hot = F.one_hot(labels.clamp(min=0), 7).to(x.dtype)
        return (F.cross_entropy(logits, labels, ignore_index=-100)
                + F.nll_loss(F.log_softmax(logits, dim=1), labels, self.weights, ignore_index=-100)
                + (logits.transpose(1, 2) - hot).square().mean())


class Operators(Case):
    loss = "output"
    label = None
    flags = ("--freeze", "^weights$")

    def __init__(self):
        super().__init__()
        labels = self.rng.integers(0, 7, (40, 6))
        x = np.eye(7)[labels] @ self.rng.standard_normal((7, 5))
        # As many that do not count in each microbatch, whose means are averaged.
        labels[:, 0] = -100
        self.tensors = {"x": x.astype(np.float32), "targets": labels}

    def make(self):
        torch.manual_seed(0)
        return Zoo()


class Maximum(MLP):
    def forward(self, x):
        return super().forward(x) + torch.amax(self.layers[0](x), dim=1, keepdim=True)


class MLPMaximum(MLPRegression):
    """The maximum over a dimension has no gradient here."""

    def make(self):
        return Maximum()


def following(rng, count, length, vocab):
    """Sequences in which each token follows from the one before."""
    follow = rng.permutation(vocab)
    tokens = np.zeros((count, length), np.int64)
    tokens[:, 0] = rng.integers(0, vocab, count)
    for t in range(1, length):
        tokens[:, t] = follow[tokens[:, t - 1]]
    return tokens


class Language(Case):
    """Predicting the next token."""

    def __init__(self):
        super().__init__()
        tokens = following(self.rng, 40, 13, 48)
        self.tensors = {"tokens": np.ascontiguousarray(tokens[:, :-1]),
                        "labels": np.ascontiguousarray(tokens[:, 1:])}


class GPT2(Language):
    # The default export folds the head's transpose into a parameter of its own.
    exports = (True,) * 4

    def make(self):
        return reference.GPT(vocab=48, length=12, tied=True, gelu="tanh", mask="buffer")


class Llama(Language):
    def make(self):
        return reference.Llama(layers=2, kv_heads=2, vocab=48, length=12)


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


class Attention(nn.Module):
    """Attention of `x` on `memory`, with what `bias` adds to the scores."""

    def __init__(self, hidden, heads, scaled=True):
        super().__init__()
        self.heads, self.width = heads, hidden // heads
        self.scale = self.width ** -0.5 if scaled else 1.0
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))

    def split(self, x):
        return x.view(x.size(0), x.size(1), self.heads, self.width).transpose(1, 2)

    def forward(self, x, memory=None, bias=None):
        memory = x if memory is None else memory
        q, k, v = self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))
        scores = q @ k.transpose(-1, -2) * self.scale
        if bias is not None:
            scores = scores + bias
        y = F.softmax(scores, dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(x.size(0), x.size(1), -1))


class ViTLayer(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Patches by a convolution, a class token, learned positions."""

    def __init__(self, size=16, patch=4, channels=3, hidden=32, heads=4, layers=2, classes=5):
        super().__init__()
        self.patches = nn.Conv2d(channels, hidden, patch, stride=patch)
        count = (size // patch) ** 2
        self.token = nn.Parameter(torch.randn(1, 1, hidden) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, count + 1, hidden) * 0.02)
        self.layers = nn.ModuleList([ViTLayer(hidden, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Images(Case):
    """Small pictures of five kinds."""

    size = 16

    def __init__(self):
        super().__init__()
        labels = self.rng.integers(0, 5, 40)
        kinds = self.rng.standard_normal((5, 3, self.size, self.size))
        noise = self.rng.standard_normal((40, 3, self.size, self.size))
        self.tensors = {"images": (kinds[labels] + noise).astype(np.float32),
                        "labels": labels.astype(np.int64)}


class VisionTransformer(Images):
    def make(self):
        torch.manual_seed(0)
        return ViT()


class BertLayer(nn.Module):
    """Norms behind the sums, as in the original."""

    def __init__(self, hidden, heads):
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x, bias):
        x = self.norm1(x + self.attention(x, bias=bias))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """With a mask for padding, token types, and a pooler that masked-language modelling
    does not use."""

    def __init__(self, vocab=48, length=12, hidden=32, heads=4, layers=2, tied=False):
        super().__init__()
        self.words = nn.Embedding(vocab, hidden)
        self.positions = nn.Embedding(length, hidden)
        self.types = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList([BertLayer(hidden, heads) for _ in range(layers)])
        self.pooler = nn.Linear(hidden, hidden)
        self.transform = nn.Linear(hidden, hidden)
        self.transform_norm = nn.LayerNorm(hidden)
        self.decoder = nn.Linear(hidden, vocab)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0.0, 0.05)
        if tied:
            self.decoder.weight = self.words.weight

    def forward(self, input_ids, attention_mask, token_type_ids):
        positions = torch.arange(input_ids.size(1), device=input_ids.device).unsqueeze(0)
        x = self.words(input_ids) + self.positions(positions) + self.types(token_type_ids)
        x = self.norm(x)
        bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, bias)
        x = self.transform_norm(F.gelu(self.transform(x)))
        return self.decoder(x)


class BertMaskedLanguage(Case):
    tied = False

    def __init__(self):
        super().__init__()
        count, length, vocab = 40, 12, 48
        ids = following(self.rng, count, length, vocab)
        lengths = self.rng.integers(length // 2, length + 1, count)
        inside = np.arange(length) < lengths[:, None]
        chosen = (self.rng.random((count, length)) < 0.3) & inside
        chosen[:, 0] = True
        self.tensors = {
            "input_ids": np.where(chosen, 0, ids),
            "attention_mask": inside.astype(np.int64),
            "token_type_ids": (np.arange(length) >= lengths[:, None] // 2).astype(np.int64),
            "labels": np.where(chosen, ids, -100),
        }

    def make(self):
        torch.manual_seed(0)
        return Bert(tied=self.tied)


class BertTied(BertMaskedLanguage):
    tied = True


class Mixture(nn.Module):
    """All experts are computed and weighted by the gate. What the gate would cost if it
    used some experts more than others is the second result."""

    def __init__(self, hidden, experts):
        super().__init__()
        self.gate = nn.Linear(hidden, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, hidden, 2 * hidden) * 0.1)
        self.down = nn.Parameter(torch.randn(experts, 2 * hidden, hidden) * 0.1)

    def forward(self, x):
        gates = F.softmax(self.gate(x), dim=-1)                      # [b, t, e]
        h = F.silu(x.unsqueeze(1) @ self.up)                         # [b, e, t, 2c]
        y = h @ self.down                                            # [b, e, t, c]
        y = (y * gates.permute(0, 2, 1).unsqueeze(-1)).sum(1)
        share = gates.mean(dim=(0, 1))
        return y, (share * share).sum() * gates.size(-1)


class MoELayer(nn.Module):
    def __init__(self, hidden, heads, experts):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads)
        self.mixture = Mixture(hidden, experts)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        y, balance = self.mixture(self.norm2(x))
        return x + y, balance


class MoE(nn.Module):
    """A small mixture of experts that computes its own loss: cross-entropy and, per
    microbatch, what unequal use of the experts costs."""

    def __init__(self, vocab=32, length=8, hidden=32, heads=2, experts=4, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.positions = nn.Parameter(torch.randn(length, hidden) * 0.05)
        self.layers = nn.ModuleList([MoELayer(hidden, heads, experts) for _ in range(layers)])
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)

    def forward(self, tokens, targets):
        x = self.embedding(tokens) + self.positions
        balance = 0.0
        for layer in self.layers:
            x, more = layer(x)
            balance = balance + more
        logits = self.head(self.norm(x))
        log_p = F.log_softmax(logits, dim=-1)
        # One-hot targets: the loss of each token without an indexed gather.
        token = -(log_p * targets).sum(-1).mean()
        return token + 0.01 * balance


class MixtureOfExperts(Case):
    loss = "output"
    label = None

    def __init__(self):
        super().__init__()
        tokens = following(self.rng, 40, 9, 32)
        self.tensors = {"tokens": tokens[:, :-1],
                        "targets": np.eye(32, dtype=np.float32)[tokens[:, 1:]]}

    def make(self):
        torch.manual_seed(0)
        return MoE()


class T5Norm(nn.Module):
    def __init__(self, hidden, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class T5Layer(nn.Module):
    def __init__(self, hidden, heads, is_decoder):
        super().__init__()
        self.self_norm, self.attention = T5Norm(hidden), Attention(hidden, heads, scaled=False)
        if is_decoder:
            self.cross_norm, self.cross = T5Norm(hidden), Attention(hidden, heads, scaled=False)
        self.norm = T5Norm(hidden)
        self.up = nn.Linear(hidden, 2 * hidden, bias=False)
        self.down = nn.Linear(2 * hidden, hidden, bias=False)
        self.is_decoder = is_decoder

    def forward(self, x, bias, memory=None):
        x = x + self.attention(self.self_norm(x), bias=bias)
        if self.is_decoder:
            x = x + self.cross(self.cross_norm(x), memory=memory)
        return x + self.down(torch.relu(self.up(self.norm(x))))


class T5(nn.Module):
    """An encoder and a decoder with relative position bias; the encoder's result goes to
    every layer of the decoder."""

    def __init__(self, vocab=32, length=8, hidden=32, heads=2, layers=2, buckets=8,
                 shared_bias=True):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.targets = nn.Embedding(vocab, hidden)
        self.encoder = nn.ModuleList([T5Layer(hidden, heads, False) for _ in range(layers)])
        self.decoder = nn.ModuleList([T5Layer(hidden, heads, True) for _ in range(layers)])
        self.encoder_bias = nn.Embedding(buckets, heads)
        self.decoder_bias = nn.Embedding(buckets, heads)
        self.encoder_norm, self.decoder_norm = T5Norm(hidden), T5Norm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        self.register_buffer("buckets", (distance.clamp(-4, 3) + 4).long())
        self.register_buffer("later", torch.triu(torch.full((length, length), -1e9), 1))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0.0, 0.1)

    def forward(self, encoder_ids, decoder_ids):
        bias = self.encoder_bias(self.buckets).permute(2, 0, 1).unsqueeze(0)
        memory = self.embedding(encoder_ids)
        for layer in self.encoder:
            memory = layer(memory, bias)
        memory = self.encoder_norm(memory)
        bias = self.decoder_bias(self.buckets).permute(2, 0, 1).unsqueeze(0) + self.later
        x = self.targets(decoder_ids)
        for layer in self.decoder:
            x = layer(x, bias, memory)
        return self.head(self.decoder_norm(x))


class EncoderDecoder(Case):
    """Turns a sequence round."""

    # What keeps the decoder from looking ahead is a float buffer, and no parameter.
    flags = ("--freeze", "later")

    def __init__(self):
        super().__init__()
        ids = self.rng.integers(1, 32, (40, 8))
        turned = ids[:, ::-1]
        self.tensors = {"encoder_ids": ids,
                        "decoder_ids": np.concatenate([np.zeros((40, 1), np.int64),
                                                       turned[:, :-1]], axis=1),
                        "labels": np.ascontiguousarray(turned)}

    def make(self):
        torch.manual_seed(0)
        return T5()


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.short = None
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                       nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.short is None else self.short(x)))


class ResNet(nn.Module):
    """ResNet-18's plan, with few channels."""

    def __init__(self, width=4, classes=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        layers, inputs = [], width
        for outputs, stride in [(width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)]:
            layers += [Residual(inputs, outputs, stride), Residual(outputs, outputs, 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, images):
        x = self.pool(torch.relu(self.bn1(self.conv1(images))))
        return self.fc(torch.flatten(self.average(self.layers(x)), 1))


class ResNet18(Images):
    # The default export has batch norm as it is after training.
    exports = (True,) * 4
    # 2 x 2 behind the last stride: batch norm over fewer values than a few is chaotic.
    size = 64

    def make(self):
        torch.manual_seed(0)
        return ResNet()
