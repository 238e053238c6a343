# %% [markdown]
# # From a PyTorch module to a running job
#
# Each cell can be run on its own in an editor or a notebook; the whole file is a program:
#
#     pip install --no-build-isolation ./python
#     TOMBOLO_BIN=build/dev/bin python3 examples/walk_through.py
#
# Two unlike sites train a small GPT together. Everything but the line between them is real:
# the ranks, each site's agent and the parameter servers are processes of this machine.

# %% A module of plain PyTorch: logits [batch, T, vocabulary] from tokens [batch, T].
import math
import pathlib
import tempfile

import numpy as np
import torch
import tombolo

EXAMPLES = pathlib.Path(__file__).resolve().parent
WIDTH, HEADS, LAYERS, T, VOCABULARY = 64, 4, 2, 32, 128


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(WIDTH)
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.project = torch.nn.Linear(WIDTH, WIDTH)
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.widen = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = torch.nn.Linear(4 * WIDTH, WIDTH)
        self.register_buffer("mask", torch.tril(torch.ones(T, T)) == 0)

    def attention(self, x):
        split = self.qkv(x).reshape(-1, T, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        scores = query @ key.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)
        weights = torch.softmax(scores.masked_fill(self.mask, -math.inf), dim=-1)
        return self.project((weights @ value).transpose(1, 2).reshape(-1, T, WIDTH))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(torch.nn.functional.gelu(self.widen(self.norm2(x))))


class Gpt(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        torch.nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = torch.nn.Parameter(0.02 * torch.randn(T, WIDTH))
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight  # tied, and stays so

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


torch.manual_seed(0)
module = Gpt()

# %% The model as ONNX: the batch is free, parameters keep their names.
folder = pathlib.Path(tempfile.mkdtemp(prefix="tombolo-walk-through-"))
sample = torch.zeros(2, T, dtype=torch.int64)
model = tombolo.export(module, sample, folder / "gpt.onnx")
print("the model:", model)

# %% A text as tokens: one byte, one token, little-endian uint16.
text = (EXAMPLES / "alice.txt").read_bytes()
data = folder / "tokens.bin"
np.minimum(np.frombuffer(text, np.uint8), VOCABULARY - 1).astype("<u2").tofile(data)

# %% The plan: who does what, and what that will cost.
plan = tombolo.plan(model, EXAMPLES / "two-sites.yaml", global_batch=16, lr=3e-3)
print(plan.text)
for stage in plan.stages:
    print(f"island {stage.island}, stage {stage.stage}: {stage.ranks} ranks of {stage.pool}, "
          f"{stage.arena_bytes / 2**20:.1f} MiB each")
print(f"the search weighed {plan.search.candidates} candidates; "
      f"between the sites {plan.strategy.server.compression}, "
      f"every {plan.strategy.server.inner_steps} steps")

# %% Another strategy: what the search found, with one thing changed.
import dataclasses

server = dataclasses.replace(plan.strategy.server, inner_steps=4, fragments=1, overlap_steps=0,
                             compression="none", placement={})
plan = tombolo.plan(model, EXAMPLES / "two-sites.yaml", global_batch=16, lr=3e-3,
                    strategy=dataclasses.replace(plan.strategy, server=server))
print(f"every {plan.strategy.server.inner_steps} steps: "
      f"{plan.predicted.tokens_per_second:.0f} tokens/s")

# %% On a virtual clock: a thousand rounds, in which one site is lost for a while.
simulation = tombolo.simulate(plan, rounds=1000, fail="north@10+5")
print(f"{simulation.steps} steps in {simulation.seconds:.1f} s, "
      f"goodput {simulation.predicted.goodput:.2f}")
print("\n".join(simulation.log))

# %% For real: every rank, agent and server is a process of this machine.
run = tombolo.run(plan, model, data, steps=40, metrics=folder / "metrics.jsonl",
                  export_onnx=folder / "trained.onnx")
for island in range(2):
    losses = [step.loss for step in run.island(island)]
    print(f"island {island}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
print(sum(event.event == "outer_step" for event in run.events), "outer steps")

# %% As data frames, where pandas is there.
try:
    table = tombolo.frame(run.steps)
    print(table.groupby("island")[["loss", "seconds"]].mean())
except ImportError as missing:
    print(missing)
