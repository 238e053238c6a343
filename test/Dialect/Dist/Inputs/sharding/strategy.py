"""Appends a strategy to an imported GPT or Llama: on one chip (south) and on
COUNT chips by the usual split of the parameters (north).

  strategy.py FILE COUNT {plain|sequence}
"""

import re
import sys

path, count, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
text = open(path).read().rstrip()
assert text.endswith("}"), path
parameters = re.findall(r"graph.parameter @(\S+) : tensor<([^>]*)xf32>", text)
boundary = "array<i64: 1, 1>" if kind == "sequence" else "array<i64>"

# By columns, by rows, by vocabulary; a fused QKV weight by heads in its three parts.
SPLITS = [("qkv.weight", "1, 3"), ("qkv.bias", "0, 3"), ("fc.weight", "1, 1"), ("fc.bias", "0, 1"),
          ("attn.proj.weight", "0, 1"), ("mlp.proj.weight", "0, 1"), ("wte.weight", "0, 1"),
          ("embed_tokens.weight", "0, 1"), ("lm_head.weight", "1, 1"), ("o_proj.weight", "0, 1"),
          ("down_proj.weight", "0, 1")] + \
         [(f"{name}_proj.weight", "1, 1") for name in ("q", "k", "v", "gate", "up")]


def splits(names):
    return ", ".join(f'"{name}" = array<i64: {split}>' for name in names
                     for ending, split in SPLITS if name.endswith(ending))


names = [name for name, _ in parameters]
layer = [name for name in names if ".0." in name]
embedding = [name for name in names if re.search(r"wte|wpe|embed", name)]
head = [name for name in names if name not in embedding and not re.search(r"\.\d+\.", name)]
layers = len({re.search(r"\.(\d+)\.", name).group(1) for name in names if re.search(r"\.\d+\.", name)})


def island(site, chips):
    return f"""
  dist.island on ["{site}"] batch 4 microbatch 4 schedule "1f1b" chunks 1 {{
    dist.stage blocks {layers + 2} recompute "none" {{
      dist.replicas on "{site}/a" count 1 tensor_parallel {chips} share 1
    }}
  }}"""


def sharding(block, names, inputs, outputs):
    return (f"  dist.sharding block {block} tensor_parallel {count} parameters {{{splits(names)}}} "
            f"inputs [{inputs}] outputs [{outputs}] ops []\n")


print(text[:-1] + f"""dist.strategy global_batch 8 {{{island("south", 1)}{island("north", count)}
{sharding(0, embedding, "", boundary)}{sharding(1, layer, boundary, boundary)}\
{sharding(layers + 1, head, boundary, "")}}}
}}""")
