"""What Tombolo's training is compared with: a GPT and a Llama in plain torch.nn,
their ONNX exports, and short reference implementations of the inner and outer training."""

import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, hidden, heads, length, mask):
        super().__init__()
        self.heads = heads
        self.mask_kind = mask
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)
        if mask == "buffer":
            self.register_buffer(
                "mask", torch.tril(torch.ones(length, length)).view(1, 1, length, length)
            )

    def forward(self, x):
        b, t, c = x.size()
        q, k, v = self.qkv(x).split(c, dim=2)
        q = q.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        k = k.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        v = v.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        if self.mask_kind == "buffer":
            mask = self.mask[:, :, :t, :t]
        else:
            mask = torch.tril(torch.ones(t, t, device=x.device))
        scores = scores.masked_fill(mask == 0, float("-inf"))
        y = F.softmax(scores, dim=-1) @ v
        return self.proj(y.transpose(1, 2).contiguous().view(b, t, c))


class Layer(nn.Module):
    def __init__(self, hidden, heads, length, mask, gelu):
        super().__init__()
        self.ln1 = nn.LayerNorm(hidden)
        self.attn = Attention(hidden, heads, length, mask)
        self.ln2 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, 4 * hidden)
        self.down = nn.Linear(4 * hidden, hidden)
        self.gelu = gelu

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        h = self.up(self.ln2(x))
        h = F.gelu(h) if self.gelu == "erf" else new_gelu(h)
        return x + self.down(h)


def new_gelu(x):
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class GPT(nn.Module):
    """A GPT as people write it; `mask` is "buffer" or "tril", `gelu` "erf" or
    "tanh"; `tied` shares the token embedding with the head."""

    def __init__(self, layers=2, hidden=32, heads=4, vocab=64, length=16, mask="buffer",
                 gelu="erf", tied=False, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.length = length
        self.wte = nn.Embedding(vocab, hidden)
        self.wpe = nn.Embedding(length, hidden)
        self.h = nn.ModuleList(
            [Layer(hidden, heads, length, mask, gelu) for _ in range(layers)]
        )
        self.ln_f = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0.0, 0.05)
        if tied:
            self.head.weight = self.wte.weight

    def forward(self, tokens):
        positions = torch.arange(0, tokens.size(1), device=tokens.device).unsqueeze(0)
        x = self.wte(tokens) + self.wpe(positions)
        for layer in self.h:
            x = layer(x)
        return self.head(self.ln_f(x))


class RMSNorm(nn.Module):
    def __init__(self, hidden, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


class LlamaAttention(nn.Module):
    """`rotary` says where the angles come from: "computed" in forward, from the
    buffer "inv_freq", or as "tables" of cosines and sines, which are buffers."""

    def __init__(self, hidden, heads, kv_heads, length, rotary, theta=10000.0):
        super().__init__()
        self.heads, self.kv_heads, self.width = heads, kv_heads, hidden // heads
        self.rotary, self.theta = rotary, theta
        self.wq = nn.Linear(hidden, hidden, bias=False)
        self.wk = nn.Linear(hidden, kv_heads * self.width, bias=False)
        self.wv = nn.Linear(hidden, kv_heads * self.width, bias=False)
        self.wo = nn.Linear(hidden, hidden, bias=False)
        if rotary == "inv_freq":
            self.register_buffer("inv_freq", self.frequencies())
        elif rotary == "tables":
            cos, sin = self.angles(torch.arange(length), self.frequencies())
            self.register_buffer("cos", cos)
            self.register_buffer("sin", sin)

    def frequencies(self):
        return 1.0 / self.theta ** (torch.arange(0, self.width, 2).float() / self.width)

    def angles(self, positions, frequencies):
        angles = positions.float().unsqueeze(1) * frequencies.unsqueeze(0)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    def repeated(self, x):
        """The heads of keys and values, one for each head of queries."""
        times = self.heads // self.kv_heads
        b, h, t, w = x.size()
        return x[:, :, None].expand(b, h, times, t, w).reshape(b, h * times, t, w)

    def forward(self, x):
        b, t, c = x.size()
        q = self.wq(x).view(b, t, self.heads, self.width).transpose(1, 2)
        k = self.wk(x).view(b, t, self.kv_heads, self.width).transpose(1, 2)
        v = self.wv(x).view(b, t, self.kv_heads, self.width).transpose(1, 2)
        if self.rotary == "tables":
            cos, sin = self.cos[:t], self.sin[:t]
        else:
            frequencies = self.inv_freq if self.rotary == "inv_freq" else self.frequencies()
            cos, sin = self.angles(torch.arange(t, device=x.device), frequencies)
        q = q * cos + rotate_half(q) * sin
        k = k * cos + rotate_half(k) * sin
        k, v = self.repeated(k), self.repeated(v)
        scores = (q @ k.transpose(2, 3)) / math.sqrt(self.width)
        positions = torch.arange(t, device=x.device)
        later = positions.unsqueeze(1) < positions.unsqueeze(0)
        scores = scores.masked_fill(later, float("-inf"))
        y = F.softmax(scores, dim=-1) @ v
        return self.wo(y.transpose(1, 2).contiguous().view(b, t, c))


class LlamaLayer(nn.Module):
    def __init__(self, hidden, ffn, *attention):
        super().__init__()
        self.attention_norm, self.ffn_norm = RMSNorm(hidden), RMSNorm(hidden)
        self.attention = LlamaAttention(hidden, *attention)
        self.gate = nn.Linear(hidden, ffn, bias=False)
        self.up = nn.Linear(hidden, ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        y = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """A Llama as people write it: RMSNorm, rotary embedding, grouped-query attention,
    SwiGLU."""

    def __init__(self, layers=2, hidden=32, heads=4, kv_heads=2, ffn=48, vocab=64, length=16,
                 rotary="computed", seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.length = length
        self.embedding = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList(
            [LlamaLayer(hidden, ffn, heads, kv_heads, length, rotary)
             for _ in range(layers)])
        self.norm = RMSNorm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0.0, 0.05)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def export_onnx(model, path, opset=17, training=False):
    """Writes `model` as torch.onnx.export does by default, or with training mode
    and no constant folding, which keeps names and ties."""
    tokens = torch.zeros(2, model.length, dtype=torch.int64)
    options = {}
    if training:
        options = dict(training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False)
    torch.onnx.export(
        model, (tokens,), path, input_names=["tokens"], output_names=["logits"],
        dynamic_axes={"tokens": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=opset, **options)


class Samples:
    """Sample k is tokens [k T, k T + T], wrapping at the end (design of the
    token file)."""

    def __init__(self, tokens, length):
        self.tokens = np.asarray(tokens)
        self.length = length

    def batch(self, first, count):
        rows = []
        for k in range(first, first + count):
            at = (k * self.length + np.arange(self.length + 1)) % len(self.tokens)
            rows.append(self.tokens[at])
        rows = torch.from_numpy(np.stack(rows).astype(np.int64))
        return rows[:, :-1], rows[:, 1:]


def token_losses(model, inputs, labels):
    logits = model(inputs)
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), labels.reshape(-1), reduction="sum")


def adamw(model, lr, eps=1e-8, weight_decay=0.01):
    return torch.optim.AdamW(model.parameters(), lr=lr, eps=eps, weight_decay=weight_decay)


class Trainer:
    """One island: whole-batch steps. `mutation` plants one deliberate fault."""

    def __init__(self, model, samples, batch, lr, mutation=None, microbatch=None, optimizer=None):
        self.model, self.samples, self.batch = model, samples, batch
        self.mutation, self.microbatch = mutation, microbatch
        self.optimizer = optimizer or adamw(model, lr, eps=1e-6 if mutation == "epsilon" else 1e-8)
        if mutation == "bias frozen":
            model.h[0].up.bias.requires_grad_(False)

    def step(self, first):
        inputs, labels = self.samples.batch(first, self.batch)
        if self.mutation == "microbatch twice":
            inputs[-self.microbatch:] = inputs[: self.microbatch]
            labels[-self.microbatch:] = labels[: self.microbatch]
        self.optimizer.zero_grad()
        loss = token_losses(self.model, inputs, labels) / labels.numel()
        loss.backward()
        if self.mutation == "gradient dropped":
            self.model.h[-1].attn.proj.weight.grad.zero_()
        self.optimizer.step()
        return loss.item()


def train(model, samples, batch, steps, lr=1e-3, **kwargs):
    trainer = Trainer(model, samples, batch, lr, **kwargs)
    return [trainer.step(n * batch) for n in range(steps)]


def codec(x, compression):
    """What the other side makes of x: blocks of 256 elements in a row, with one scale each."""
    if compression == "none":
        return x
    if compression == "bf16":
        return x.to(torch.bfloat16).float()
    most = {"int8": 127, "int4": 7}[compression]
    blocks = F.pad(x.reshape(-1), (0, -x.numel() % 256)).view(-1, 256)
    scale = blocks.abs().amax(1, keepdim=True) / most
    whole = (blocks / torch.where(scale > 0, scale, 1.0)).round()
    return (whole * scale).view(-1)[: x.numel()].view_as(x)


def fragments_of(model, count):
    """The names of a GPT's parameters in `count` groups of consecutive blocks, the
    largest as small as can be."""
    blocks = {}
    for name, p in model.named_parameters():
        block = ({"wte": -1, "wpe": -1}.get(name.split(".")[0], len(model.h))
                 if not name.startswith("h.") else int(name.split(".")[1]))
        blocks.setdefault(block, []).append((name, p.numel()))
    units = [blocks[block] for block in sorted(blocks)]
    sizes = [sum(size for _, size in unit) for unit in units]

    def largest(ends):
        return max(sum(sizes[a:b]) for a, b in zip((0, *ends), (*ends, len(units))))

    ends = min(itertools.combinations(range(1, len(units)), count - 1), key=largest)
    return [[name for unit in units[a:b] for name, _ in unit]
            for a, b in zip((0, *ends), (*ends, len(units)))]


def train_islands(make_model, samples, batches, inner_steps, steps, lr=1e-3, outer_lr=0.7,
                  momentum=0.9, nesterov=True, fragments=1, overlap=0, compression="none",
                  adamw=None, own_inner_steps=None, schedule=None, mutation=None):
    """The outer algorithm (docs/Server.md) where every island is in time: each fragment is
    pushed every `inner_steps` steps, or those of `own_inner_steps`, and what comes back is
    taken in `overlap` steps later. `steps` are of an island with `inner_steps`.
    `adamw`: settings of torch.optim.AdamW, which takes the outer steps instead.
    `schedule`: the learning rate by (part of) a step of an island with `inner_steps`.
    `mutation` plants one deliberate fault. Returns the losses of each island and the final
    global parameters."""
    in_round = own_inner_steps or [inner_steps] * len(batches)
    islands = [Trainer(make_model(), samples, batch, lr) for batch in batches]
    local = [dict(t.model.named_parameters()) for t in islands]
    start = {n: p.detach().clone() for n, p in local[0].items()}
    server = dict(start)  # the newest version of each parameter
    zeros = lambda: {n: torch.zeros_like(p) for n, p in start.items()}
    outer = {}  # by parameter: it and its AdamW
    velocity, owed = zeros(), zeros()
    groups = fragments_of(islands[0].model, fragments)
    pushes = {}    # by fragment and round: of each island what it pushed, and its steps
    versions = {}  # by fragment and round, which has made it
    losses = [[] for _ in batches]

    def lossy(x, error, name):
        """encode(x + e), decoded; e becomes what that has lost."""
        x = x + error[name]
        sent = codec(x, compression)
        error[name] = torch.zeros_like(x) if mutation == "no error feedback" else x - sent
        return sent

    def outer_update(name, d):
        """What the outer optimizer takes off the parameter, with d as its gradient."""
        if adamw is None:
            velocity[name] = momentum * velocity[name] + d
            return outer_lr * (d + momentum * velocity[name] if nesterov else velocity[name])
        if name not in outer:
            parameter = torch.nn.Parameter(server[name].clone())
            outer[name] = parameter, torch.optim.AdamW([parameter], **adamw)
        parameter, optimizer = outer[name]
        parameter.data.copy_(server[name])  # what has been published of it
        parameter.grad = d
        optimizer.step()
        return server[name] - parameter.detach()

    def close(f, round_):
        """When all have pushed, in the order of islands."""
        members = pushes[f, round_]
        if len(members) < len(batches):
            return
        done = [members[i][1] for i in range(len(batches))]
        tokens = [n * batch for n, batch in zip(done, batches)]
        weights = [t / sum(tokens) * (sum(done) / len(done) / n) for t, n in zip(tokens, done)]
        if mutation == "equal weights":
            weights = [1 / len(batches)] * len(batches)
        if mutation == "steps not scaled":
            weights = [t / sum(tokens) for t in tokens]
        for name in groups[f]:
            d = 0
            for i, weight in enumerate(weights):
                d = d + weight * members[i][0][name]
            server[name] = server[name] - lossy(outer_update(name, d), owed, name)
        versions[f, round_] = {name: server[name] for name in groups[f]}

    def run(i):
        """One island; stops where it has to wait for a version."""
        base, errors = dict(start), zeros()
        under_way = {}  # by fragment: the island's parameters at the push
        pushed_at, rounds = [0] * fragments, [0] * fragments
        last = steps // inner_steps * in_round[i] + steps % inner_steps

        def push(f, steps_done):
            under_way[f] = {name: local[i][name].detach().clone() for name in groups[f]}
            deltas = {name: lossy(base[name] - value, errors, name)
                      for name, value in under_way[f].items()}
            pushes.setdefault((f, rounds[f]), {})[i] = deltas, steps_done - pushed_at[f]
            pushed_at[f] = steps_done
            close(f, rounds[f])

        def apply(f):
            if f not in under_way:
                return
            while (f, rounds[f]) not in versions:
                yield
            at_push = under_way.pop(f)
            with torch.no_grad():
                for name, value in versions[f, rounds[f]].items():
                    since = 0 if mutation == "overlap lost" else local[i][name] - at_push[name]
                    local[i][name].copy_(value + since)
                    base[name] = value
            rounds[f] += 1

        for n in range(last):
            round_, inside = divmod(n, in_round[i])
            first = round_ * sum(h * batch for h, batch in zip(in_round, batches))
            first += sum(h * batch for h, batch in zip(in_round[:i], batches))
            if schedule:
                for group in islands[i].optimizer.param_groups:
                    group["lr"] = schedule((n + 1) * inner_steps / in_round[i])
            losses[i].append(islands[i].step(first + inside * batches[i]))
            for f in range(fragments):
                if (n + 1) % in_round[i] == f * in_round[i] // fragments:
                    push(f, n + 1)
            for f in range(fragments):
                if (n + 1 - overlap) % in_round[i] == f * in_round[i] // fragments:
                    yield from apply(f)
        for f in range(fragments):
            yield from apply(f)
            if pushed_at[f] != last:
                push(f, last)
                yield from apply(f)

    under_way = [run(i) for i in range(len(batches))]
    while under_way:
        under_way = [one for one in under_way if next(one, under_way) is not under_way]
    return losses, server


def largest_relative_difference(measured, reference):
    assert len(measured) == len(reference), (len(measured), len(reference))
    return max(abs(a - b) / abs(b) for a, b in zip(measured, reference))
