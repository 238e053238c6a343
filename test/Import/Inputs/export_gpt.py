"""Exports a GPT of plain torch.nn modules as users do: export_gpt.py FOLDER
writes FOLDER/OPSET-MODE.onnx for opsets 13, 15, 17 and modes default, train."""
import math
import sys
import warnings

import torch
from torch import nn

VOCABULARY, HIDDEN, HEADS, T, LAYERS = 64, 32, 4, 16, 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.proj = nn.Linear(HIDDEN, HIDDEN)
        # tril itself needs opset 14.
        self.register_buffer("mask", torch.ones(T, T).tril().view(1, 1, T, T))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, HEADS, C // HEADS).transpose(1, 2)
            for part in self.qkv(x).split(C, dim=2)
        )
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(C // HEADS)
        scores = scores.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
        mixed = torch.softmax(scores, dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.attn = Attention()
        self.mlp = nn.Sequential(
            nn.Linear(HIDDEN, 4 * HIDDEN), nn.GELU(), nn.Linear(4 * HIDDEN, HIDDEN)
        )

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, HIDDEN)
        self.wpe = nn.Embedding(T, HIDDEN)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.ln_f = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1])
        return self.head(self.ln_f(self.blocks(self.wte(tokens) + self.wpe(positions))))


def main():
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = GPT()
    tokens = torch.randint(0, VOCABULARY, (2, T))
    modes = {
        "default": {},
        "train": dict(
            training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False
        ),
    }
    for opset in (13, 15, 17):
        for mode, options in modes.items():
            torch.onnx.export(
                model,
                tokens,
                f"{sys.argv[1]}/{opset}-{mode}.onnx",
                opset_version=opset,
                input_names=["tokens"],
                output_names=["logits"],
                dynamic_axes={"tokens": {0: "batch", 1: "T"}},
                **options,
            )


main()
